"""How a network is read: layers through hooks, in eval mode, and the one pass over a set that every measure makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn

from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import DatasetError, ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.runtime import WHOLE, Runtime, precise, this_process

Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]  # (model, images, labels) -> adversarial images
T = TypeVar("T")


class Seen(NamedTuple):
    """A batch as a network saw it.

    Shape:
        places: (B,) int64 on the CPU, where the images stand in their set; images: (B, 3, H, W) in [0, 1], after the
        attack if there is one; labels: (B,) int64, or (B, K) of 0 and 1; logits: (B, K); maps: by layer,
        (B, channels, h, w).
    """

    places: Tensor
    images: Tensor
    labels: Tensor
    logits: Tensor
    maps: dict[str, Tensor]


@contextmanager
def read_layers(model: Classifier, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Within the context, every forward pass of `model` leaves the maps of the layers `names` in the dict.

    A module that a pass calls several times is read at its last call. The hooks are gone when the context ends, after
    an exception too.

    Shape:
        each map: (B, channels, h, w).

    Raises:
        ParameterError: the model has no layer of that name, or is a bare network.
    """
    if names and not isinstance(model, Classifier):
        raise ParameterError(f"the layers of a {type(model).__name__} are not known: make a classifier of it with wrap")
    outputs: dict[str, Tensor] = {}
    given: dict[str, Tensor] = {}

    def note(name: str, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        given[name] = inputs[0].clone() if model.sites[name].copied else inputs[0]

    def keep(name: str, _module: nn.Module, _inputs: object, output: Tensor | Sequence[Tensor]) -> None:
        site = model.sites[name]
        found = output if isinstance(output, Tensor) else output[0]
        if site.before is not None:
            found = given.pop(name)
        elif site.copied:
            found = found.clone()
        outputs[name] = site.as_map(found)

    modules = [(name, model.layer_module(name), model.sites[name].before) for name in names]
    with ExitStack() as hooks:
        for name, module, before in modules:
            if before is not None:
                activation = model.network.get_submodule(before)
                hooks.enter_context(activation.register_forward_pre_hook(partial(note, name)))
            hooks.enter_context(module.register_forward_hook(partial(keep, name)))
        yield outputs


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within the context `model` is in eval mode; then, after an exception too, each module is as it was before."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def check_set(images: ImageSet) -> None:
    """Refuses a set in which no network can be measured.

    Raises:
        ParameterError: it is empty, its pixels are no bytes, or its labels no classes of it.
    """
    name, labels, pixels = f"{images.name} ({images.split})", images.labels, images.pixels
    if not len(images):
        raise ParameterError(f"{name} holds no images: choose others")
    if isinstance(pixels, Tensor) and (pixels.dtype != torch.uint8 or pixels.ndim != 4 or len(pixels) != len(images)):
        said = f"the pixels of {name} are {pixels.dtype} of shape {tuple(pixels.shape)} for {len(images)} images"
        raise ParameterError(f"{said}: a set in memory holds bytes from 0 to 255, uint8 (N, 3, S, S)")
    several = labels.ndim == 2 and labels.shape[1] == images.num_classes
    if not several and (labels.dtype != torch.int64 or labels.min() < 0 or labels.max() >= images.num_classes):
        said = f"the labels of {name} are {labels.dtype} from {labels.min()} to {labels.max()}"
        raise ParameterError(f"{said}: int64 from 0 to {images.num_classes - 1}, one for each class, are needed")


def each_batch(
    model: nn.Module,
    images: ImageSet,
    on: Runtime,
    compute: Callable[[Tensor, Tensor, Tensor], T],
    *,
    shared: bool = False,
    whole: bool = False,
) -> Iterator[tuple[Tensor, T]]:
    """The places of every batch's images in their set, and what `compute(places, batch, labels)` gives for them.

    It runs with the model in eval mode and in the runtime's precision. Nothing stays open between batches, so a caller
    may stop, or fail, anywhere.

    Args:
        shared: the processes of a group deal the batches out among them; `runtime.gather_rows` joins what they find.
        whole: no image may be left out.

    Shape:
        places: (B,) int64 on the CPU; batch: (B, 3, H, W) in [0, 1] and labels, both on the device.

    Raises:
        ParameterError: see `check_set`.
        DatasetError: an image is damaged, or with `whole` was skipped since it is.
    """
    check_set(images)
    model.to(on.device)
    part, seen = this_process() if shared else WHOLE, 0
    for places, batch, labels in images.batches(on.batch_size, device=on.device, part=part):
        with evaluating(model), on.autocast():
            found = compute(places, batch, labels)
        seen += len(places)
        if whole and seen <= int(places[-1]):
            break
        yield places, found
    if whole and seen < len(images):
        said = f"images of {images.name} ({images.split}) are damaged and were skipped"
        raise DatasetError(f"{said}, and a measure of each needs them all: choose the others with subset()")


def over(
    model: nn.Module,
    images: ImageSet,
    on: Runtime,
    *,
    layers: Sequence[str] = (),
    attack: Attack | None = None,
    shared: bool = False,
    whole: bool = False,
) -> Iterator[Seen]:
    """One pass over a set, see `each_batch`: every batch, attacked first if asked, with its logits and some maps.

    Args:
        model: a classifier of [0, 1] images; a `Classifier` where layers are read.
        layers: which layers are read.
        whole: no image may be left out.
        attack: makes the images adversarial, with the model in eval mode too.

    Raises:
        ParameterError: the model has no layer of that name, or does not call it for every batch, or gives NaN; see also
            `check_set`.
    """

    def see(places: Tensor, batch: Tensor, labels: Tensor) -> Seen:
        if attack is not None:
            batch = attack(model, batch, labels)
        with torch.no_grad(), read_layers(cast(Classifier, model), layers) as maps:
            logits = model(batch)
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            raise ParameterError(f"the network gives a {type(logits).__name__}, not logits (B, K): return these alone")
        if missed := [name for name in layers if name not in maps]:
            raise ParameterError(f"the layer {missed[0]} is not called for every image: leave it out of the layers")
        if len(bad := logits.isnan().any(-1).nonzero()):
            first = int(places[int(bad[0])])
            named, of = (first if images.names is None else images.names[first]), type(model).__name__
            said = f"{getattr(model, 'architecture', of)} gives NaN as logits, first for image {named}"
            raise ParameterError(f"{said}: are its weights finite? If they are, try float32")
        return Seen(places, batch, labels, logits, maps)

    for _, seen in each_batch(model, images, on, see, shared=shared, whole=whole):
        yield seen


def class_sums(features: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """The sum of the features of each class, and how many there are.

    Shape:
        features: (B, D); labels: (B,) int64; result: (K, D) and (K,), as `runtime.precise` makes them.
    """
    features = precise(features)
    labels = labels.to(features.device)
    sums = features.new_zeros(classes, features.shape[1])
    return sums.index_add_(0, labels, features), labels.bincount(minlength=classes).double()
