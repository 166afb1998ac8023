"""The rate of writing an adversarial set, and what its real size takes: `python benchmarks/adversarial_set.py`.

The set is made of synthetic images on an ensemble of networks of random weights (or ImageNet's), twice: with every
image running through all steps, the slowest there can be and the same for any weights; and stopping early, which
depends on the networks. What P2's 500,000 images take follows by the formulas of `workflow.costs.full_size_table`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import pandas as pd
import torch

from neuron_consistency.attacks.stored_set import AdversarialSet, write_adversarial_set
from neuron_consistency.attacks.targeted import least_likely_targets
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.networks.models import build_model
from neuron_consistency.runtime import Runtime, describe_device
from neuron_consistency.workflow.costs import full_size_table

CLASSES, EACH = 1000, 10  # of ILSVRC; targets an image


def synthetic(images: int, size: int) -> ImageSet:
    """Images of noise."""
    pixels = torch.randint(
        0, 256, (images, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    names = tuple(str(number) for number in range(CLASSES))
    return ImageSet("synthetic", "val", names, names, torch.arange(images) % CLASSES, pixels, f"noise-{images}-{size}")


def main() -> None:
    parser = argparse.ArgumentParser(description="The rate of writing an adversarial set.")
    parser.add_argument("--architectures", nargs="+", default=["alexnet", "vgg16", "resnet18"])
    parser.add_argument("--weights", help="imagenet; random ones by default")
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels")
    parser.add_argument("--images", type=int, default=1000, help="adversarial images made for each row")
    parser.add_argument("--steps", type=int, default=60, help="of Adam, at most")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--devices", type=int, default=1, help="P, equal devices that share the real set")
    parser.add_argument("--price", type=float, default=0.0, help="of one device for an hour")
    given = parser.parse_args()
    on = Runtime.of(given.device, given.precision, given.batch_size)
    models = {
        name: build_model(name, num_classes=CLASSES, image_size=given.size, weights=given.weights)
        for name in given.architectures
    }
    images = synthetic(-(-given.images // EACH), given.size)
    targets = least_likely_targets(list(models.values()), images, on, count=EACH)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        first = torch.arange(min(len(images), -(-given.batch_size // EACH)))
        write_adversarial_set(Path(folder, "warm"), models, images.subset(first), targets[first], on, steps=1)
        for title, stop_early in (("all steps", False), ("stopping early", True)):
            path = Path(folder, title)
            write_adversarial_set(path, models, images, targets, on, steps=given.steps, stop_early=stop_early)
            made = AdversarialSet.open(path)
            full = full_size_table(made, image_size=given.size, devices=[given.devices], price=given.price)
            on_disk = sum(shard.stat().st_size for shard in path.glob("*.safetensors")) / len(made)
            reached = 100 * float(made.success.all(1).float().mean())
            rows.append(full.assign(run=title, **{"reached %": reached, "bytes an image": on_disk}))
    print(
        f"{', '.join(models)} ({given.weights or 'random'} weights), {given.size} px, at most {given.steps} steps, "
        f"{describe_device(on.device)}, {on.precision}"
    )
    print(pd.concat(rows).set_index("run").round(2).to_string())


if __name__ == "__main__":
    main()
