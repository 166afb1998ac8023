"""What P3's weights cost: K epochs with one pass for the weights against K plain ones, in turns.

`python tests/benchmarks/reweighting.py` trains the same network on the same images both ways, on noise (what is in an
image costs nothing). Exits 1 where the ratio of the seconds is above 1.5.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable

import torch

from neuron_consistency.compute import describe_device, resolve_device, resolve_precision
from neuron_consistency.data.images import ImageSet
from neuron_consistency.models import ARCHITECTURES, build_model
from neuron_consistency.objectives import Objective
from neuron_consistency.timing import paired_seconds
from neuron_consistency.training import Schedule, train
from neuron_consistency.weighting import Weighting

CLASSES, LIMIT = 16, 1.5


def noise(images: int, side: int) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 3, side, side), dtype=torch.uint8, generator=generator)
    names = tuple(str(number) for number in range(CLASSES))
    return ImageSet("noise", "train", names, names, torch.arange(images) % CLASSES, pixels, "noise")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architecture", default="resnet18", choices=list(ARCHITECTURES))
    parser.add_argument("--images", type=int, default=640)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--period", type=int, default=5, help="K: epochs between two passes for the weights")
    parser.add_argument("--steps", type=int, default=1, help="of the attack on the background")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = resolve_device(options.device)
    images = noise(options.images, options.image_size)
    model = build_model(options.architecture, num_classes=CLASSES, image_size=options.image_size)
    schedule = Schedule(epochs=options.period, batch_size=options.batch_size)

    def training(weighting: Weighting | None) -> Callable[[], object]:
        return lambda: train(copy.deepcopy(model), images, Objective(), schedule, device=device, weighting=weighting)

    weighting = Weighting(warm_up=0, period=options.period, steps=options.steps)
    work = {"plain": training(None), "reweighted": training(weighting)}
    table = paired_seconds(work, repeats=options.repeats, device=device)
    print(
        f"{options.architecture}, {options.images} images of {options.image_size} px, K = {options.period}, "
        f"{describe_device(device)}, {resolve_precision(schedule.precision, device)}"
    )
    print(table.round(3).to_string())
    return int(table["ratio"].tolist()[1] > LIMIT)


if __name__ == "__main__":
    raise SystemExit(main())
