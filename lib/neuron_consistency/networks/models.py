"""Architectures by name, with normalisation inside, and the layers that the measures read."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torchvision
from torch import Tensor, nn

from neuron_consistency.errors import DatasetError, ParameterError, require
from neuron_consistency.networks.packaged import packaged
from neuron_consistency.networks.weights import check_finite, fill, first_line, read_checkpoint, without_prefix

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
IMAGENET_CLASSES = 1000
SMALL_FORM_BELOW = 128  # pixels: smaller images get the small form
Layers = dict[str, tuple[str, int]]  # by name the path of a module and its channels


class Site(NamedTuple):
    """Where a layer is read, and how what stands there becomes a map of channels.

    Args:
        path: the module whose output is read, as `named_modules` names it.
        form: what the module gives: "map" (B, C, h, w), "channels last" (B, h, w, C), "tokens" (B, T, C) or
            "tokens first" (T, B, C).
        prefix: how many tokens come before those of the patches (class token, registers).
        before: the activation inside the module whose input is read instead of the module's output, or None.
        copied: the network overwrites what is read in place.
        signed: responses may be negative, so that 0 is no silence.
    """

    path: str
    channels: int
    form: str = "map"
    prefix: int = 0
    before: str | None = None
    copied: bool = False
    signed: bool = False

    def as_map(self, output: Tensor) -> Tensor:
        """The output as a map: patches as a square where they are one, else as a column.

        Shape:
            output: see `form`; result: (B, C, h, w).
        """
        if self.form == "channels last":
            return output.permute(0, 3, 1, 2)
        if self.form.startswith("tokens"):
            output = output.transpose(0, 1) if self.form == "tokens first" else output
            patches = output[:, self.prefix :].transpose(1, 2)
            side = math.isqrt(patches.shape[2])
            return patches.reshape(*patches.shape[:2], *((side, side) if side**2 == patches.shape[2] else (-1, 1)))
        return output


class Classifier(nn.Module):
    """A network that takes [0, 1] images and knows the layers a measure may read.

    Attributes:
        architecture: the network's name, one of `ARCHITECTURES` where it is the library's own.
        layers: name -> number of channels, from input to output.
        last_layer: the layer phi of P1's Eq. 5 and 6, which the consistency of neurons is read from.
        num_classes: number of logits; 0 where nobody said it.

    Args:
        layers: by name, path and channels, or a `Site`.
        mean, std: of the pixels, by which images are normalised.
        contiguous: whether the network takes views of its maps, and so cannot have channels last in memory.

    Shape:
        images: (B, 3, H, W) float in [0, 1]. logits: (B, num_classes).

    Raises:
        ParameterError: called on images of another shape, device or precision than the network's, or on one image in
            train mode where batch norm has a single value to normalise.

    Source: P1, "neurons" are the channels of the last convolutional layer.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        architecture: str,
        layers: Mapping[str, tuple[str, int] | Site],
        *,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        num_classes: int = 0,
        contiguous: bool = False,
    ) -> None:
        super().__init__()
        self.contiguous = contiguous
        self.network = network
        self.architecture, self.num_classes = architecture, num_classes
        self.sites = {name: Site(*place) for name, place in layers.items()}
        self.layers = {name: site.channels for name, site in self.sites.items()}
        self.last_layer = list(layers)[-1]
        self.register_buffer("mean", torch.tensor(tuple(mean)).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(tuple(std)).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        exact = torch.promote_types(images.dtype, self.mean.dtype) == self.mean.dtype  # else convolutions refuse them
        fits = images.is_floating_point() and (exact or torch.is_autocast_enabled(images.device.type))
        if not fits or images.device != self.mean.device or images.ndim != 4 or images.shape[1] != 3:
            said = f"images {images.dtype} of shape {tuple(images.shape)} on {images.device}"
            needed = f"{self.mean.dtype} (B, 3, H, W) in [0, 1] on {self.mean.device}"
            raise ParameterError(f"{said}: {needed} is needed, where the network is (both have .to)")
        given = (images - self.mean) / self.std
        try:
            logits: Tensor | tuple[Tensor, ...] = self.network(given.contiguous() if self.contiguous else given)
        except (ValueError, RuntimeError) as error:
            alone = "more than 1 value per channel" in str(error)
            if not alone and not re.search("too small|greater than actual input size", str(error)):
                raise
            said = "batch norm has one value of" if alone else f"{self.architecture} needs more than"
            cure = "batch_size=2 or more" if alone else "a larger image_size"
            raise ParameterError(f"{said} images of {images.shape[2]} x {images.shape[3]} px: take {cure}") from error
        return logits[0] if isinstance(logits, tuple) else logits  # in train mode some add an auxiliary head's

    def layer_module(self, name: str) -> nn.Module:
        """The module whose output is the layer `name`."""
        if name not in self.sites:
            known = ", ".join(self.sites)
            raise ParameterError(f"{self.architecture} has no layer {name!r}: use one of {known}")
        return self.network.get_submodule(self.sites[name].path)


def _relu_layers(network: nn.Module, names: Sequence[str]) -> Layers:
    """The ReLUs of a sequential network, each named and with the channels of the convolution before it."""
    found: list[tuple[str, int]] = []
    channels = 0
    for index, module in enumerate(network.get_submodule("features").children()):
        if isinstance(module, nn.Conv2d):
            channels = module.out_channels
        elif isinstance(module, nn.ReLU):
            found.append((f"features.{index}", channels))
    return dict(zip(names, found, strict=True))


def _with_small_head(build: Callable[..., nn.Module], channels: int, num_classes: int) -> nn.Module:
    """The network that `build` makes, its wide head (nine weights in ten) never allocated."""
    with torch.device("meta"):
        network = build(num_classes=num_classes)
    network.avgpool = nn.AdaptiveAvgPool2d(1)
    network.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(channels, num_classes))
    network.to_empty(device=torch.get_default_device())
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            module.reset_parameters()
    return network


def _alexnet(num_classes: int, small: bool) -> tuple[nn.Module, Layers]:
    build = torchvision.models.alexnet
    network = _with_small_head(build, 256, num_classes) if small else build(num_classes=num_classes)
    return network, _relu_layers(network, [f"relu{i}" for i in range(1, 6)])


def _vgg16(num_classes: int, small: bool) -> tuple[nn.Module, Layers]:
    build, build_small = torchvision.models.vgg16, torchvision.models.vgg16_bn
    network = _with_small_head(build_small, 512, num_classes) if small else build(num_classes=num_classes)
    depths = enumerate((2, 2, 3, 3, 3), start=1)
    return network, _relu_layers(network, [f"conv{block}_{i + 1}" for block, depth in depths for i in range(depth)])


def _resnet(build: Callable[..., nn.Module], width: int, num_classes: int, _small: bool) -> tuple[nn.Module, Layers]:
    stages = {f"layer{stage}": (f"layer{stage}", width * 2**stage // 2) for stage in range(1, 5)}
    return build(num_classes=num_classes), {"conv1": ("relu", 64), **stages}  # its own head is small already


ARCHITECTURES: dict[str, Callable[[int, bool], tuple[nn.Module, Layers]]] = {
    "alexnet": _alexnet,
    "vgg16": _vgg16,
    "resnet18": partial(_resnet, torchvision.models.resnet18, 64),
    "resnet50": partial(_resnet, torchvision.models.resnet50, 256),
}


def _packaged(
    architecture: str, num_classes: int, weights: str | None, seed: int, outputs: Sequence[int] | None
) -> Classifier:
    """A network of a package: as it came, or with other weights and, for other classes than its own, another head."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        known, network, file = packaged(architecture.partition(":")[2])
        if weights == "published":
            fill(network, read_checkpoint(file), known.about)
        named = reversed(list(network.named_modules()))
        head, old = next((path, module) for path, module in named if isinstance(module, nn.Linear))
        if old.out_features != num_classes:
            new = nn.Linear(old.in_features, num_classes)
            if weights == "published" and outputs is not None and old.out_features == IMAGENET_CLASSES:
                new.load_state_dict({name: value[outputs] for name, value in old.state_dict().items()})
            network.set_submodule(head, new)
    layers = {layer: Site(*place) for layer, place in known.layers.items()}
    last, site = layers.popitem()
    if isinstance(network.get_submodule(site.path), nn.ReLU6):  # at 6 the strongest images tie
        site = site._replace(before=site.path)
    layers[last] = site
    return Classifier(network, architecture, layers, mean=known.mean, std=known.std, num_classes=num_classes)


def build_model(
    architecture: str, *, num_classes: int, image_size: int, weights: str | None = None, seed: int = 0,
    outputs: Sequence[int] | None = None,
) -> Classifier:  # fmt: skip
    """A network by name: torchvision's, or its small-image form for images under 128 px.

    The small form has the same convolutions and a head of global average pooling, dropout and one linear map instead
    of the three wide ones (AlexNet, VGG-16). VGG-16 gets batch norm, and convolutions start from He's initialisation,
    without which neither learns in a few epochs. The ResNets are torchvision's in both forms, first max-pool included.

    "packaged:NAME" is a network of `PACKAGED`; its last layer is read before an activation that saturates.

    Args:
        image_size: side of the images it will be trained on, which decides the form.
        weights: None for random ones, "imagenet" for torchvision's (downloaded once), "published" for those that a
            packaged network came with, or the path of a file of them, see `read_checkpoint`.
        seed: of the random initialisation; the global random state is left as it was.
        outputs: which of ImageNet's outputs stand for the classes. A packaged network of ImageNet keeps their rows of
            its head; without them, or from other classes, the head for other classes is random.

    Raises:
        ParameterError: unknown architecture, weights that it does not have, or ImageNet's for other classes.
        DatasetError: the weights cannot be had or do not fit.

    Source: P1, "Training"; P3 adds ResNet-50; the small form is ours.
    """
    require(1, whole=True, num_classes=num_classes, image_size=image_size)
    if weights == ("imagenet" if architecture.startswith("packaged:") else "published"):
        cure = '"published" are those of packaged networks, "imagenet" those of torchvision\'s'
        raise ParameterError(f"{architecture} has no weights {weights!r}: {cure}")
    if architecture.startswith("packaged:"):
        model = _packaged(architecture, num_classes, weights, seed, outputs)
        if weights not in (None, "published"):
            load_weights(model, Path(weights))
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
    if architecture not in ARCHITECTURES:
        raise ParameterError(f"architecture={architecture!r}: use packaged:NAME or one of {', '.join(ARCHITECTURES)}")
    small = image_size < SMALL_FORM_BELOW and weights != "imagenet"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network, layers = ARCHITECTURES[architecture](num_classes, small)
        if small:
            for module in network.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    model = Classifier(network, architecture, layers, num_classes=num_classes)
    if weights == "imagenet":
        if num_classes != IMAGENET_CLASSES:
            raise ParameterError(f"weights='imagenet' are for {IMAGENET_CLASSES} classes, not {num_classes}")
        known = torchvision.models.get_model_weights(architecture)["IMAGENET1K_V1"]
        with downloading(architecture, known.url, "set weights to None"):
            network.load_state_dict(known.get_state_dict(progress=True, check_hash=True))
    elif weights is not None:
        load_weights(model, Path(weights))
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


@contextmanager
def downloading(name: str, url: str, cure: str) -> Iterator[None]:
    """Within the context torchvision's weights are downloaded; where that fails, the error says what else to do.

    Raises:
        DatasetError: the weights cannot be had, or what is cached of them is damaged.
    """
    cached = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    try:
        yield
    except Exception as error:  # of torch.hub, and of what reads a damaged file
        if cached.exists() and not isinstance(error, OSError):
            said = f"{cached}, torch's copy of the weights of {name}, is damaged ({first_line(error)})"
            raise DatasetError(f"{said}: remove this file, and it is downloaded again") from error
        raise DatasetError(
            f"the ImageNet weights of {name} cannot be downloaded ({first_line(error)}): put torchvision's file "
            f"{cached.name} into {cached.parent}, or {cure}"
        ) from error


def load_weights(model: Classifier, path: Path) -> None:
    """Loads a file of weights into `model`, see `read_checkpoint`.

    Raises:
        DatasetError: the file is missing, damaged, or of another network, or its weights are not finite.
    """
    checkpoint = without_prefix(read_checkpoint(path), model.network)
    fill(model.network, checkpoint, model.architecture)
    check_finite(model.network, str(path))
