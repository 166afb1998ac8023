"""Prediction difference against one rerun of the whole network for every channel: `python tests/benchmarks/tracing.py`.

The last layer of a ResNet-18 at 64 px, random weights. The closed form and the batched rerun of the rest trace all
images; the whole network is rerun, an image and a channel at a time, on a sample of pairs, and its seconds for all
pairs follow in proportion. The three take turns. Exits 1 where the closed form is less than twenty times faster,
or where any two of them differ by more than 1e-5.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

import torch
from torch import Tensor, nn

from neuron_consistency.compute import describe_device, resolve_device
from neuron_consistency.models import Classifier, build_model
from neuron_consistency.timing import paired_seconds
from neuron_consistency.tracing import prediction_difference

CLASSES, SIDE, GOAL, TOLERANCE = 100, 64, 20, 1e-5


@torch.no_grad()
def rerun_whole(model: Classifier, images: Tensor, pairs: Tensor) -> Tensor:
    """The prediction difference of some (image, channel) pairs, the network run once more for each of them."""
    whole = model(images).softmax(1)
    classes = whole.argmax(1)
    emptied = 0

    def empty(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        output[:, emptied] = 0

    found = []
    handle = model.layer_module(model.last_layer).register_forward_hook(empty)
    for image, emptied in pairs.tolist():  # noqa: B007, the hook reads it
        without = model(images[image : image + 1]).softmax(1)[0]
        found.append((whole[image] - without)[classes[image]])
    handle.remove()
    return torch.stack(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--sample", type=int, default=256, help="pairs for which the whole network is rerun")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="auto")
    chosen = parser.parse_args()
    device = resolve_device(chosen.device)
    model = build_model("resnet18", num_classes=CLASSES, image_size=SIDE).to(device).eval()
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(chosen.images, 3, SIDE, SIDE, generator=generator).to(device)
    channels = model.layers[model.last_layer]
    pairs = torch.stack([torch.randint(n, (chosen.sample,), generator=generator) for n in (len(images), channels)], 1)
    total = len(images) * channels
    table = paired_seconds(
        {
            "closed form": partial(prediction_difference, model, images, method="closed"),
            "rerun of the rest, batched": partial(prediction_difference, model, images, method="rerun"),
            "rerun of the whole": partial(rerun_whole, model, images, pairs),
        },
        repeats=chosen.repeats,
        device=device,
    )
    table.loc["rerun of the whole"] *= total / len(pairs)
    print(f"{len(images)} images of {SIDE} px, {channels} channels, {describe_device(device)}")
    print(f"(the whole network was rerun for {len(pairs)} of {total} pairs; its seconds are scaled up to all)")
    print(table.round(3).to_string())
    closed = prediction_difference(model, images, method="closed")
    rest = prediction_difference(model, images, method="rerun")
    whole = rerun_whole(model, images, pairs)
    sampled = closed[pairs[:, 0], pairs[:, 1]]
    between, by_hand = float((closed - rest).abs().max()), float((sampled - whole).abs().max())
    print(f"largest difference: {between:.1e} to the batched rerun, {by_hand:.1e} to the whole network's")
    faster = table["ratio"]["rerun of the whole"]
    print(f"the closed form is {faster:.0f} times faster than the whole network's reruns (goal: {GOAL})")
    return int(faster < GOAL or max(between, by_hand) > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
