"""Any classifier, made one whose layers can be measured and trained."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.layers import Call, find_layers, readable, record_calls
from neuron_consistency.networks.models import Classifier, Site

_DRY_IMAGES = 2


def wrap(
    network: nn.Module,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    layers: Sequence[str] | None = None,
    before: bool = False,
    image_size: int = 224,
    name: str = "",
) -> Classifier:
    """Makes a classifier of any network that maps images to logits, its layers found by one dry forward pass.

    A layer is a module whose output is a map of channels: (B, C, h, w), (B, h, w, C), or tokens (B, T, C), which are
    read as a map without the class and register tokens. `find_layers` says which modules are layers.

    Args:
        mean, std: of the pixels, three each, by which images in [0, 1] are normalised.
        layers: names as `named_modules` gives them, or patterns, where `*` stands for any text between two dots.
            None finds them.
        before: layers that end in an activation module are read at its input. Saturation, as in ReLU6, otherwise ties
            the strongest images. An activation that is a mere function call cannot be seen: name the module before it.
        image_size: side of the images, in pixels.
        name: what figures and tables call the network; its class where none is given.

    Raises:
        ParameterError: mean or std are no three numbers, the network refuses the images or gives no logits (B, K) or
            NaN, no layer can be read, or one of `layers` is unknown or no map.

    Source: P1, "neurons" are channels; other networks than its three, and tokens, are ours.
    """
    name = name or type(network).__name__
    if len(mean) != 3 or len(std) != 3 or not all(value > 0 for value in std):
        raise ParameterError(f"mean={tuple(mean)}, std={tuple(std)}: give three numbers each, those of std above 0")
    placeholder = Classifier(network, name, {"": ("", 0)}, mean=mean, std=std)
    weight = next(network.parameters(), torch.empty(0))
    images = torch.rand(_DRY_IMAGES, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    normalised = ((images - placeholder.mean) / placeholder.std).to(weight.device)
    try:
        logits, calls = record_calls(network, normalised)
    except Exception as error:
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ParameterError(
            f"{name} refuses images of {image_size} x {image_size} pixels ({said}): try another image_size"
        ) from error
    num_classes = _classes(logits, name)
    maps = readable(network, calls, _DRY_IMAGES, before=before)
    if layers is None:
        found = find_layers(network, calls, list(maps))
        names = {each for each in found if not _are_logits(maps[each], calls, logits)}
    else:
        names = _chosen(network, calls, maps, layers, name)
    if not names:
        raise ParameterError(
            f"{name} has no layer whose output is a map of channels of 2 x 2 or more: give larger images "
            f"(image_size={image_size}), or name modules in `layers`"
        )
    read = {each: site for each, site in maps.items() if each in names}
    model = Classifier(network, name, read, mean=mean, std=std, num_classes=num_classes).to(weight.device)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _classes(logits: object, name: str) -> int:
    """The number of classes of the logits of the dry pass."""
    if not isinstance(logits, Tensor):
        what = f"a {type(logits).__name__}"
    elif logits.ndim != 2 or len(logits) != _DRY_IMAGES or logits.shape[1] < 2 or not logits.is_floating_point():
        what = f"{str(logits.dtype).removeprefix('torch.')} of shape {tuple(logits.shape)} for {_DRY_IMAGES} images"
    elif not logits.isfinite().all():
        raise ParameterError(f"{name} gives logits that are NaN or infinite for a random image: check its weights")
    else:
        return logits.shape[1]
    raise ParameterError(f"{name} gives {what}, not logits (B, K): wrap it in a module that returns the logits alone")


def _are_logits(site: Site, calls: Sequence[Call], logits: object) -> bool:
    """Whether a layer holds the logits before their mean over space, and so is no hidden one."""
    output = next(call.output for call in reversed(calls) if call.name == site.path)
    if output is None or not isinstance(logits, Tensor) or site.channels != logits.shape[1]:
        return False
    return torch.allclose(site.as_map(output).mean(dim=(2, 3)), logits, rtol=1e-3, atol=1e-5)


def _chosen(
    network: nn.Module, calls: Sequence[Call], maps: dict[str, Site], layers: Sequence[str], name: str
) -> set[str]:
    """The names that `layers` asks for, all of them maps."""
    known = [path for path, _ in network.named_modules() if path]
    chosen = set[str]()
    for asked in layers:
        parts = asked.split(".")
        matched = [
            path
            for path in known
            if path == asked or (len(words := path.split(".")) == len(parts) and all(map(fnmatchcase, words, parts)))
        ]
        if not matched:
            close = difflib.get_close_matches(asked, known, n=5, cutoff=0.4) or known[-5:]
            raise ParameterError(f"{name} has no layer {asked!r}: use one of {', '.join(close)}, ...")
        readable_ones = [path for path in matched if path in maps]
        if not readable_ones:
            output = next((call.output for call in reversed(calls) if call.name == matched[0]), None)
            what = "is not called, or gives no tensor" if output is None else f"gives shape {tuple(output.shape)}"
            raise ParameterError(f"{matched[0]} of {name} {what}: a layer is a map of channels of 2 x 2 or more")
        chosen |= set(readable_ones)
    return chosen
