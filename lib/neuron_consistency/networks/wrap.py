"""Any classifier, made one whose layers can be measured and trained."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
import torchvision
from torch import Tensor, nn

from neuron_consistency.errors import ParameterError, require
from neuron_consistency.networks.layers import Call, find_layers, readable, record_calls
from neuron_consistency.networks.models import Classifier, Site
from neuron_consistency.networks.weights import check_finite, first_line

_DRY_IMAGES = 2


def wrap(
    network: nn.Module, *, mean: Sequence[float], std: Sequence[float], layers: Sequence[str] | None = None,
    before: bool = False, image_size: int = 224, name: str = "",
) -> Classifier:  # fmt: skip
    """Makes a classifier of any network that maps images to logits, its layers found by one dry forward pass.

    A layer is a module whose output is a map of channels: (B, C, h, w), (B, h, w, C), or tokens (B, T, C) or (T, B, C),
    which are read as a map without the class and register tokens. `find_layers` says which modules are layers.

    Args:
        mean, std: of the pixels, three each, by which images in [0, 1] are normalised.
        layers: names as `named_modules` gives them, or patterns, where `*` stands for any text between two dots.
            None finds them.
        before: layers that end in an activation module are read at its input. Saturation, as in ReLU6, otherwise ties
            the strongest images. An activation that is a mere function call cannot be seen: name the module before it.
        image_size: side of the images, in pixels.
        name: what figures and tables call the network; its class where none is given.

    Raises:
        ParameterError: mean or std are no three numbers; the network refuses the images, or gives no logits (B, K),
            probabilities, NaN, or others each time; no layer can be read, or one of `layers` is unknown or no map.
        DatasetError: weights are NaN or infinite.

    Source: P1, "neurons" are channels; other networks than its three, and tokens, are ours.
    """
    if not isinstance(network, nn.Module):
        said = f"a {type(network).__name__} is no torch.nn.Module"
        raise ParameterError(f"{said}: build the network, load its weights into it, and give that")
    network = bare(network)
    name = name or type(network).__name__
    require(1, whole=True, image_size=image_size)
    try:
        (r, g, b), deviations = map(float, mean), [float(value) for value in std]
    except (TypeError, ValueError):
        r, g, b, deviations = math.nan, math.nan, math.nan, []
    if (
        len(deviations) != 3
        or not all(0 < value < math.inf for value in deviations)
        or not -1 <= min(r, g, b) <= max(r, g, b) <= 1
    ):
        said = f"mean={mean}, std={std}: give three numbers each, of pixels in [0, 1], those of std above 0"
        raise ParameterError(f"{said}; those of pixels from 0 to 255 are divided by 255")
    mean, std = (r, g, b), deviations
    for key, value in network.state_dict().items():
        if not isinstance(value, Tensor) or value.is_meta or value.is_quantized or nn.parameter.is_lazy(value):
            raise ParameterError(f"{name} is quantised or has no weights yet ({key}): give it weights in float32 first")
    check_finite(network.float(), name)
    device = next(network.parameters(), torch.empty(0)).device
    images = torch.rand(_DRY_IMAGES, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    images = torchvision.transforms.functional.normalize(images, mean, std).to(device)
    failed: Exception | None = None
    for layout in (torch.channels_last, torch.contiguous_format):  # faster; and for code that takes views of its maps
        given = images.contiguous(memory_format=layout)
        network.to(memory_format=layout)  # type: ignore[call-overload]
        try:
            logits, calls = record_calls(network, given)
            alone, again = (record_calls(network, given[:1])[0] for _ in range(2))
            break
        except Exception as error:
            failed = error
    else:
        said = f"{name} refuses images of {image_size} x {image_size} pixels ({first_line(failed or ValueError())})"
        raise ParameterError(f"{said}: try another image_size; one image must do as well as many") from failed
    num_classes = _classes(logits, name)
    if not isinstance(alone, Tensor) or alone.shape != (1, num_classes):
        said = f"{name} gives no logits (1, {num_classes}) for one image alone"
        raise ParameterError(f"{said}: keep the batch in it, with flatten(1) in place of squeeze()")
    if not isinstance(again, Tensor) or not torch.allclose(alone, again, rtol=1e-3, atol=1e-5):
        raise ParameterError(
            f"{name} gives one image other logits each time, in eval mode too, so that attacks could not be measured: "
            "take out what is random (dropout that stays on, random crops), or give it a generator of a fixed seed"
        )
    maps = readable(network, calls, _DRY_IMAGES, before=before)
    if layers is None:
        names = {each for each in find_layers(network, calls, maps) if not _are_logits(maps[each], calls, logits)}
    else:
        names = _chosen(calls, maps, [layers] if isinstance(layers, str) else [str(each) for each in layers], network)
    if not names:
        cure = f"give larger images than image_size={image_size}, or name modules in `layers`"
        raise ParameterError(f"{name} has no layer whose output is a map of channels of 2 x 2 or more: {cure}")
    read = {each: site for each, site in maps.items() if each in names}
    contiguous = layout is torch.contiguous_format
    colours = {"mean": mean, "std": std}
    return Classifier(network, name, read, **colours, num_classes=num_classes, contiguous=contiguous).to(device)


def bare(network: nn.Module) -> nn.Module:
    """The network without DataParallel or torch.compile around it, in which hooks see a part of a batch, or nothing."""
    while inner := network.module if isinstance(network, nn.DataParallel) else getattr(network, "_orig_mod", None):
        network = inner
    return network


def _classes(logits: object, name: str) -> int:
    """The number of classes of the logits of the dry pass."""
    if not isinstance(logits, Tensor):
        what = f"a {type(logits).__name__}"
    elif logits.ndim != 2 or len(logits) != _DRY_IMAGES or logits.shape[1] < 2 or not logits.is_floating_point():
        what = f"{str(logits.dtype).removeprefix('torch.')} of shape {tuple(logits.shape)} for {_DRY_IMAGES} images"
    elif not logits.isfinite().all():
        raise ParameterError(f"{name} gives logits that are NaN or infinite for a random image: check its weights")
    elif bool((logits >= 0).all()) and torch.allclose(logits.sum(1), torch.ones(()).to(logits), atol=1e-4):
        said = f"{name} gives probabilities, not logits: each row sums to 1. On them attacks and P1's Eq. 6 are wrong"
        raise ParameterError(f"{said}: leave out the softmax at its end, or take the logarithm after it")
    else:
        return logits.shape[1]
    raise ParameterError(f"{name} gives {what}, not logits (B, K): wrap it in a module that returns the logits alone")


def _are_logits(site: Site, calls: Sequence[Call], logits: object) -> bool:
    """Whether a layer holds the logits before their mean over space, and so is no hidden one."""
    output = next(call.output for call in reversed(calls) if call.name == site.path)
    if output is None or not isinstance(logits, Tensor) or site.channels != logits.shape[1]:
        return False
    return torch.allclose(site.as_map(output).mean(dim=(2, 3)), logits, rtol=1e-3, atol=1e-5)


def _chosen(calls: Sequence[Call], maps: dict[str, Site], layers: Sequence[str], network: nn.Module) -> set[str]:
    """The names that `layers` asks for, all of them maps."""
    known, chosen = [path for path, _ in network.named_modules()], set[str]()
    outputs = {call.name: call.output for call in calls}
    for asked in layers:
        matched = [path for path in known if _matches(path.split("."), asked.split("."))]
        if not matched:
            close = difflib.get_close_matches(asked, known, n=5, cutoff=0.4) or known[-5:]
            raise ParameterError(f"there is no layer {asked!r} in the network: use one of {', '.join(close)}, ...")
        if not any(path in maps for path in matched):
            output = outputs.get(matched[0])
            what = "is not called, or gives no tensor" if output is None else f"gives shape {tuple(output.shape)}"
            raise ParameterError(f"the module {matched[0]} {what}: a layer is a map of channels of 2 x 2 or more")
        chosen |= maps.keys() & matched
    return chosen


def _matches(path: Sequence[str], pattern: Sequence[str]) -> bool:
    return len(path) == len(pattern) and all(map(fnmatchcase, path, pattern))
