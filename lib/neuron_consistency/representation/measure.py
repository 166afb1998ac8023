"""What the real and the adversarial images that fire a neuron have in common: LC, CS1, CS2, dummy detectors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.consistency.measure import chance, consistency, unbiased_consistency
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.representation.neurons import MEASURES, NeuronMeasures
from neuron_consistency.responses import JACKKNIFE_GROUPS, LayerResponses, Responses, deal, respond


def top_responses(
    model: Classifier,
    images: ImageSet,
    *,
    device: torch.device,
    share: float = 0.01,
    min_images: int = 20,
    max_images: int = 5000,
    batch_size: int = 256,
    precision: str = "auto",
) -> Responses:
    """The images that fire the neurons of every convolutional layer most, found in one pass over a set.

    A neuron's top images are the ceil(share N) strongest, at least `min_images` and at most `max_images`, the
    strongest first; they are exact. Memory: so many values and places for each channel of all layers, and the
    class counts of `respond` (groups x channels x classes); nothing grows with the number of images beyond
    `max_images` but one label and one prediction an image.

    Args:
        model: a classifier.
        images: real images, or an adversarial set.
        device: where.
        share: of the set, in (0, 1].
        min_images: top images of a small set.
        max_images: cap on the top images of a large one.
        batch_size: images a forward pass.
        precision: of the forward passes.

    Raises:
        ParameterError: share out of range, or min_images outside 1 to max_images.

    Source: P2, LC: "the images that activate it most"; 1 % is ours, so is taking it of each set by itself.
    """
    if not 0 < share <= 1 or not 1 <= min_images <= max_images:
        raise ParameterError(
            f"share={share} must be in (0, 1], min_images={min_images} from 1 to max_images={max_images}"
        )
    count = min(max(math.ceil(share * len(images)), min_images), max_images)
    return respond(
        model,
        images,
        device=device,
        layers=list(model.layers),
        quantile=1 / len(images),
        top_k=count,
        batch_size=batch_size,
        precision=precision,
    )


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Cosine similarity of class histograms; NaN where one is empty.

    Shape:
        first, second: (..., K) counts; result: (...,) float64 in [0, 1], exactly 1 for histograms in proportion.

    Source: P2, CS1 and CS2.
    """
    first, second = first.to(torch.float64), second.to(torch.float64)
    squares = first.square().sum(-1) * second.square().sum(-1)
    return torch.where(squares > 0, (first * second).sum(-1) / squares.sqrt(), torch.nan)


def measure_neurons(
    real: Responses,
    adversarial: Responses,
    targets: Tensor,
    origins: Tensor,
    correlation: Tensor,
    distances: Tensor,
    *,
    near: int = 2,
    purity: float = 0.5,
    draws: int = 20,
    seed: int = 0,
) -> NeuronMeasures:
    """LC, CS1, CS2 and the dummy-detector shares of all neurons of all layers that two passes have read.

    With h(n) the class histogram of a neuron's top real images, LC = p^T A p over it (U: its unbiased form), CS1 its
    cosine with the histogram of the true labels of the neuron's top adversarial images, CS2 with that of their
    targets. Chance of CS1 and CS2: the labels and targets of all adversarial images shuffled.

    A neuron's concept is the class most frequent in h(n), if its share is at least `purity`. A top adversarial image
    "shows" the concept where its true class is within `near` of it in WordNet's tree, and "merely targets" it where
    its target is and its true class is not. Chance: the shares among all adversarial images.

    Args:
        real, adversarial: from `top_responses`, of the same network.
        targets: the target of each adversarial image.
        origins: the place, among the real images, of the image that each adversarial one was made of.
        correlation: A of Eq. 2.
        distances: of the classes, `taxonomy.distance_matrix`.
        near: so far from the concept a class still counts as it.
        purity: share of the top real images from which a concept is clear.
        draws: shuffles behind the chance of CS1 and CS2.
        seed: of the shuffles.

    Shape:
        targets, origins: (M,) int64; correlation, distances: (K, K).

    Raises:
        ParameterError: purity or draws out of range, or targets and origins not one for every adversarial image.

    Source: P2, figures 2 and 4. Which histograms CS1 and CS2 compare, the neuron's concept and the shares that count
    dummy detectors are our reading; the chance levels are ours.
    """
    if not 0 < purity <= 1 or draws < 1:
        raise ParameterError(f"purity={purity} must be in (0, 1] and draws={draws} at least 1")
    images, classes = len(adversarial.labels), adversarial.num_classes
    if len(targets) != images or len(origins) != images:
        raise ParameterError(f"{len(targets)} targets and {len(origins)} origins for {images} adversarial images")
    generator = torch.Generator().manual_seed(seed)
    shuffles = [torch.randperm(images, generator=generator) for _ in range(draws)]
    real_groups = deal(real.labels)
    groups = real_groups[origins]
    named = (adversarial.labels, targets)
    level = chance(real.labels, correlation)
    close = (distances <= near).to(torch.float64)
    joint = torch.bincount(adversarial.labels * classes + targets, minlength=classes**2).view(classes, classes).double()
    by_concept = {
        "shows": close @ joint.sum(1) / images,
        "merely targets": ((1 - close) @ joint * close).sum(1) / images,
    }
    tables, replicates = [], []
    for name in real.layers:
        fired, shown = _Pairs.of(real.layers[name]), _Pairs.of(adversarial.layers[name])
        h = fired.counts(real.labels, classes, real_groups)
        profile, m = h.sum(0), h.sum((0, 2))
        concept, share = profile.argmax(1), profile.amax(1) / m
        clear = torch.where((share >= purity) & (m >= 2), 1.0, torch.nan)
        near_true, near_target = (close[concept[shown.channels], names[shown.images]] for names in named)
        parts = {
            "h": h,
            "true": shown.counts(adversarial.labels, classes, groups),
            "target": shown.counts(targets, classes, groups),
            "shows": shown.sums(near_true, groups),
            "merely targets": shown.sums(near_target * (1 - near_true), groups),
        }
        found = _measures({part: value.sum(0) for part, value in parts.items()}, correlation, clear)
        left_out = [
            _measures({part: value.sum(0) - value[group] for part, value in parts.items()}, correlation, clear)
            for group in range(JACKKNIFE_GROUPS)
        ]
        cs1, cs2 = (
            torch.stack([cosine(profile, shown.counts(names[one], classes)[0]) for one in shuffles]).mean(0)
            for names in named
        )
        chances = {"LC": level.biased(m), "U": torch.full(m.shape, level.unbiased), "CS1": cs1, "CS2": cs2}
        chances |= {part: shares[concept] for part, shares in by_concept.items()}
        columns = {"neuron": torch.arange(len(m)), "m": m, "images": parts["true"].sum((0, 2))}
        columns |= {"concept": concept, "purity": share}
        for part in MEASURES:
            columns |= {part: found[part], f"{part} chance": chances[part]}
        table = pd.DataFrame({column: value.numpy() for column, value in columns.items()})
        table.insert(0, "layer", name)
        tables.append(table)
        replicates.append({part: torch.stack([one[part] for one in left_out]) for part in MEASURES})
    return NeuronMeasures(
        pd.concat(tables, ignore_index=True),
        {part: torch.cat([one[part] for one in replicates], dim=1) for part in MEASURES},
    )


@dataclass(frozen=True)
class _Pairs:
    """The pairs of a neuron of a layer and one of its top images, where it fires at all.

    Shape:
        images, channels: (P,) int64.
    """

    images: Tensor
    channels: Tensor
    neurons: int

    @classmethod
    def of(cls, layer: LayerResponses) -> _Pairs:
        rows, channels = torch.nonzero(layer.top_values > 0, as_tuple=True)
        return cls(layer.top_indices[rows, channels], channels, layer.top_indices.shape[1])

    def counts(self, names: Tensor, classes: int, groups: Tensor | None = None) -> Tensor:
        """How many images of each class a neuron has, by group of images where groups are given.

        Shape:
            names, groups: (N,) int64; result: (JACKKNIFE_GROUPS or 1, neurons, classes) int64.
        """
        place = self._places(groups) * classes + names[self.images]
        parts = 1 if groups is None else JACKKNIFE_GROUPS
        return torch.bincount(place, minlength=parts * self.neurons * classes).view(parts, self.neurons, classes)

    def sums(self, values: Tensor, groups: Tensor) -> Tensor:
        """The sum of the pairs' values for each neuron, by group of images.

        Shape:
            values: (P,) float64; groups: (N,) int64; result: (JACKKNIFE_GROUPS, neurons) float64.
        """
        total = torch.bincount(self._places(groups), values, minlength=JACKKNIFE_GROUPS * self.neurons)
        return total.view(JACKKNIFE_GROUPS, self.neurons)

    def _places(self, groups: Tensor | None) -> Tensor:
        return self.channels if groups is None else groups[self.images] * self.neurons + self.channels


def _measures(parts: dict[str, Tensor], correlation: Tensor, clear: Tensor) -> dict[str, Tensor]:
    """MEASURES from the class counts of each neuron's top images; `clear` is NaN for neurons without a concept."""
    images = parts["true"].sum(-1)
    return {
        "LC": consistency(parts["h"], correlation),
        "U": unbiased_consistency(parts["h"], correlation),
        "CS1": cosine(parts["h"], parts["true"]),
        "CS2": cosine(parts["h"], parts["target"]),
        "shows": clear * parts["shows"] / images,
        "merely targets": clear * parts["merely targets"] / images,
    }
