"""What every neuron of a layer fires for: one streaming pass over a set of images, clean or attacked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError, require
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import Attack, check_set, over
from neuron_consistency.runtime import Runtime
from neuron_consistency.unfinished import Unfinished

JACKKNIFE_GROUPS = 20  # images are dealt into so many groups, whose counts are kept apart for the jackknife
_TINY = torch.finfo(torch.float32).tiny  # the smallest response that is firing at all, where 0 means silence
MERGE_ROWS = 1024  # responses buffered before they are merged into the running top-k


@dataclass(frozen=True)
class LayerResponses:
    """The neurons of one layer on one set.

    Attributes:
        floor: the smallest response that is firing at all.

    Shape:
        thresholds: (C,), the response from which a neuron counts as active;
        top_values, top_indices: (k, C), the k strongest responses and the images that gave them, strongest
        first, ties by index;
        counts["true"], counts["predicted"]: (JACKKNIFE_GROUPS, C, K) int32, active images by label, by jackknife group.
    """

    thresholds: Tensor
    top_values: Tensor
    top_indices: Tensor
    counts: dict[str, Tensor]
    floor: float = _TINY


@dataclass(frozen=True)
class Responses:
    """One pass: labels and predictions of every image, and the responses of every layer read.

    Shape:
        labels, predictions: (N,) int64.
    """

    labels: Tensor
    predictions: Tensor
    num_classes: int
    layers: dict[str, LayerResponses]

    def named(self, kind: str) -> Tensor:
        """The labels ("true") or the predictions ("predicted") of the images, (N,)."""
        return {"true": self.labels, "predicted": self.predictions}[kind]

    def top_counts(self, layer: str, kind: str, k: int) -> Tensor:
        """Counts of the k strongest images alone, equal in number for every neuron (that fires at all) and set.

        Shape:
            result: (JACKKNIFE_GROUPS, C, K) int32.

        Raises:
            ParameterError: the pass has kept fewer than k images.
        """
        kept = len(self.layers[layer].top_indices)
        if k > kept and k <= len(self.labels):
            raise ParameterError(f"{k} strongest images of a neuron are asked for, but the pass kept top_k={kept}")
        top, floor = self.layers[layer].top_indices[:k], self.layers[layer].floor
        rows, channels = torch.nonzero(self.layers[layer].top_values[:k] >= floor, as_tuple=True)
        counts = torch.zeros(JACKKNIFE_GROUPS, top.shape[1], self.num_classes, dtype=torch.int32)
        _count(counts, deal(self.labels), self.named(kind), top[rows, channels], channels)
        return counts


def deal(labels: Tensor) -> Tensor:
    """The jackknife group of every image: each class is dealt out evenly, in whatever order the images lie.

    A group tied to the image's place would follow the class in a set that runs through its classes in turn.

    Shape:
        labels, result: (N,) int64, result in 0..JACKKNIFE_GROUPS-1.
    """
    groups = torch.empty_like(labels)
    groups[labels.argsort(stable=True)] = torch.arange(len(labels), device=labels.device) % JACKKNIFE_GROUPS
    return groups


def _count(counts: Tensor, groups: Tensor, names: Tensor, indices: Tensor, channels: Tensor) -> None:
    """Adds one to counts[group, channel, label] for every (image index, channel) pair."""
    _, num_channels, num_classes = counts.shape
    flat = (groups[indices] * num_channels + channels) * num_classes + names[indices]
    counts.view(-1).index_add_(0, flat, torch.ones_like(flat, dtype=counts.dtype))


class TopResponses:
    """Running top-k, exact thresholds and class counts of the channels of a layer.

    Without given thresholds, a neuron's threshold is its k-th largest response so far. Images tied with it count as
    active too; their counts are kept apart and dropped whenever the threshold rises. A neuron never fires at a response
    below the floor, so a dead one has no active image. Memory: k x channels responses twice over, and
    JACKKNIFE_GROUPS x channels x classes counts; only a label and a prediction grow with the number of images.

    Args:
        channels: number of neurons.
        groups: the jackknife group of every image.
        names: the labels by kind, filled in for an image before it is added.
        k: how many images make an own threshold.
        keep: how many of the strongest are reported.
        thresholds: those of another set, or None for own ones.
        floor: the smallest response that is firing at all.
    """

    def __init__(
        self,
        channels: int,
        groups: Tensor,
        names: Mapping[str, Tensor],
        *,
        num_classes: int,
        k: int,
        keep: int,
        thresholds: Tensor | None,
        device: torch.device,
        floor: float = _TINY,
    ) -> None:
        self.groups, self.names, self.floor = groups, names, floor
        self.thresholds = thresholds
        self.k, self.keep = k, keep
        self.rows = max(k if thresholds is None else 0, keep)
        self.values = torch.empty(0, channels, device=device)
        self.indices = torch.empty(0, channels, dtype=torch.int64, device=device)
        shape = (JACKKNIFE_GROUPS, channels, num_classes)
        self.counts = {kind: torch.zeros(shape, dtype=torch.int32, device=device) for kind in names}
        self.pending: list[tuple[Tensor, Tensor]] = []

    def add(self, values: Tensor, indices: Tensor) -> None:
        """The responses of a batch, in any order.

        Shape:
            values: (B, C); indices: (B,) int64, the images' places in the set.
        """
        values = values.float()
        if self.thresholds is not None:
            rows, channels = torch.nonzero(values >= self.thresholds.clamp_min(self.floor), as_tuple=True)
            self._add_counts(indices[rows], channels)
        self.pending.append((values, indices[:, None].expand_as(values)))
        if sum(len(pending) for pending, _ in self.pending) >= max(self.rows, MERGE_ROWS):
            self._merge()

    def _add_counts(self, indices: Tensor, channels: Tensor) -> None:
        for kind, counts in self.counts.items():
            _count(counts, self.groups, self.names[kind], indices, channels)

    def _kth(self, values: Tensor) -> Tensor:
        return values[self.k - 1] if len(values) >= self.k else values.new_full(values.shape[1:], -torch.inf)

    def _merge(self) -> None:
        """Keeps the strongest of all responses so far, and the counts that follow."""
        if not self.pending:
            return
        values = torch.cat([self.values, *(value for value, _ in self.pending)])
        indices = torch.cat([self.indices, *(index for _, index in self.pending)])
        self.pending.clear()
        by_index = indices.argsort(dim=0)
        values, indices = values.gather(0, by_index), indices.gather(0, by_index)
        values, by_value = values.sort(dim=0, descending=True, stable=True)
        indices = indices.gather(0, by_value)
        if self.thresholds is None:
            kth = self._kth(values)
            risen = kth > self._kth(self.values)
            for counts in self.counts.values():  # holds the tied images beyond the k-th, until the end
                counts[:, risen] = 0
            tied = (values[self.rows :] == kth) & (kth >= self.floor)
            rows, channels = torch.nonzero(tied, as_tuple=True)
            self._add_counts(indices[self.rows :][rows, channels], channels)
        self.values, self.indices = values[: self.rows].clone(), indices[: self.rows].clone()  # the rest is freed

    def result(self) -> LayerResponses:
        """What has been gathered, on the CPU."""
        self._merge()
        thresholds = self.thresholds
        if thresholds is None:
            thresholds = self.values[min(self.k, len(self.values)) - 1].clamp_min(self.floor)
            rows, channels = torch.nonzero(self.values >= thresholds, as_tuple=True)
            self._add_counts(self.indices[rows, channels], channels)
        values, indices = self.values[: self.keep], self.indices[: self.keep]
        counts = {kind: found.cpu() for kind, found in self.counts.items()}
        return LayerResponses(thresholds.cpu(), values.cpu(), indices.cpu(), counts, self.floor)

    def state(self) -> dict[str, Tensor]:
        """All that another tally needs to go on from here."""
        self._merge()
        return {"values": self.values, "indices": self.indices, **self.counts}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from the `state` of another tally."""
        device = self.values.device
        self.values, self.indices, *counts = (state[name].to(device) for name in ("values", "indices", *self.counts))
        self.counts = dict(zip(self.counts, counts, strict=True))


def respond(
    model: Classifier,
    images: ImageSet,
    on: Runtime,
    *,
    layers: Sequence[str] | None = None,
    quantile: float = 0.005,
    top_k: int = 20,
    thresholds: Mapping[str, Tensor] | None = None,
    attack: Attack | None = None,
    unfinished: Unfinished | None = None,
    report: Callable[[int], object] | None = None,
) -> Responses:
    """One pass of `images`, attacked if asked, through `model` in eval mode.

    A neuron's response to an image is the spatial maximum of its channel. It is active where the response is
    at least its threshold: the k-th largest response of this set with k = max(ceil(quantile N), top_k), or the
    `thresholds` of another set, as for adversarial images. The top_k strongest images are kept in either case. At 0 or
    less a neuron is silent, but for layers whose responses may be negative, such as tokens.

    Args:
        layers: names of the layers read; None is the last one.
        quantile: share of images that activate a neuron, in (0, 1].
        top_k: at least so many images make the threshold, and so many are kept.
        thresholds: by layer, those of the real images.
        attack: makes the images adversarial first.
        unfinished: where the pass keeps how far it has come; None keeps nothing.
        report: called after every batch with its number of images.

    Raises:
        ParameterError: a setting out of range, an unknown layer, thresholds of others, or NaN; see also `check_set`.
        DatasetError, StoreError: images are damaged; the state of a pass is, or cannot be written.

    Source: P1, Eq. 1; P1 leaves "activates" open, the threshold is ours (as Bau et al. 2017 threshold).
    """
    require(0, 1, above=True, quantile=quantile)
    require(1, whole=True, top_k=top_k)
    check_set(images)
    if not isinstance(model, Classifier) or images.labels.ndim != 1:
        raise ParameterError("neurons are read of a Classifier (see wrap), on images that have one label each")
    names = list(layers) if layers is not None else [model.last_layer]
    for name in names:
        model.layer_module(name)  # an unknown one is refused
        if thresholds is not None and (name not in thresholds or thresholds[name].shape != (model.layers[name],)):
            raise ParameterError(f"thresholds of the {model.layers[name]} neurons of {name} are needed, and not there")
    labels = images.labels.to(on.device)
    kinds = {"true": labels, "predicted": torch.zeros_like(labels)}
    groups = deal(labels)
    tops = {
        name: TopResponses(
            model.layers[name],
            groups,
            kinds,
            num_classes=images.num_classes,
            k=min(max(math.ceil(quantile * len(images)), top_k), len(images)),
            keep=min(top_k, len(images)),
            thresholds=None if thresholds is None else thresholds[name].to(on.device),
            device=on.device,
            floor=-math.inf if model.sites[name].signed else _TINY,
        )
        for name in names
    }
    state = unfinished.read(_state(tops, kinds["predicted"])) if unfinished else {}
    begun = int(state.pop("done", torch.zeros(()))) if state else 0
    if report is not None and begun:
        report(begun)
    if begun:
        kinds["predicted"][:begun] = state["predicted"].to(on.device)
        for name in names:
            tops[name].restore({key.removeprefix(f"{name}/"): value for key, value in state.items()})
    rest = images.take(torch.arange(begun, len(images))) if begun else images
    for seen in over(model, rest, on, layers=names, attack=attack, whole=True) if len(rest) else ():
        places = seen.places.to(on.device) + begun
        if seen.logits.shape[1] > images.num_classes:
            outputs = f"{seen.logits.shape[1]} outputs, more than the {images.num_classes} classes of the images"
            raise ParameterError(f"{model.architecture} has {outputs}: give it a head for them")
        kinds["predicted"][places] = seen.logits.argmax(1)
        for name in names:
            tops[name].add(seen.maps[name].amax(dim=(2, 3)), places)
        if report is not None:
            report(len(places))
        if unfinished is not None:
            done = int(places[-1]) + 1
            unfinished.write(lambda done=done: _state(tops, kinds["predicted"][:done]))  # type: ignore[misc]
    found = {name: top.result() for name, top in tops.items()}
    if wrong := [name for name, each in found.items() if not bool((each.top_values < math.inf).all())]:
        raise ParameterError(f"the layer {wrong[0]} gives NaN or infinity: leave it out, or use precision float32")
    return Responses(images.labels.cpu(), kinds["predicted"].cpu(), images.num_classes, found)


def _state(tops: Mapping[str, TopResponses], predicted: Tensor) -> dict[str, Tensor]:
    tallies = {f"{name}/{key}": value for name, top in tops.items() for key, value in top.state().items()}
    return {"done": torch.tensor(len(predicted)), "predicted": predicted, **tallies}
