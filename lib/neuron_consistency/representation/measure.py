"""What the real and the adversarial images that fire a neuron have in common: LC, CS1, CS2, dummy detectors."""

import math
from collections.abc import Sequence
from typing import NamedTuple, Self

import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.consistency.measure import chance, consistency, unbiased_consistency
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError, require
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import check_set
from neuron_consistency.representation.neurons import MEASURES, NeuronMeasures
from neuron_consistency.responses import JACKKNIFE_GROUPS, LayerResponses, Responses, deal, respond
from neuron_consistency.runtime import Runtime


def top_responses(
    model: Classifier, images: ImageSet, on: Runtime, *, share: float, min_images: int, max_images: int
) -> Responses:
    """The images that fire the neurons of every convolutional layer most, found in one pass over a set.

    A neuron's top images are the ceil(share N) strongest, at least `min_images` and at most `max_images`, the
    strongest first; they are exact. Memory: so many values and places for each channel of all layers, and the
    class counts of `respond`; nothing else grows with the number of images but one label and one prediction an image.

    Raises:
        ParameterError: share is not in (0, 1], or min_images is outside 1 to max_images.

    Source: P2, LC: "the images that activate it most"; 1 % is ours, so is taking it of each set by itself.
    """
    require(0, 1, above=True, share=share)
    require(1, whole=True, max_images=max_images)
    require(1, max_images, whole=True, min_images=min_images)
    check_set(images)
    count = min(max(math.ceil(share * len(images)), min_images), max_images)
    return respond(model, images, on, layers=list(model.layers), quantile=1 / len(images), top_k=count)


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
        origins: the place, among the real images, of the image that each adversarial one was made of.
        correlation: A of P1's Eq. 2.
        distances: of the classes, `taxonomy.distance_matrix`.
        draws: shuffles behind the chance of CS1 and CS2.

    Shape:
        targets, origins: (M,) int64; correlation, distances: (K, K).

    Raises:
        ParameterError: purity or draws out of range, or targets and origins not one for every adversarial image.

    Source: P2, figures 2 and 4. Which histograms CS1 and CS2 compare, the neuron's concept and the shares that count
    dummy detectors are our reading; the chance levels are ours.
    """
    require(0, 1, above=True, purity=purity)
    require(1, whole=True, draws=draws)
    labels, images, classes = adversarial.labels, len(adversarial.labels), adversarial.num_classes
    if len(targets) != images or len(origins) != images:
        raise ParameterError(f"{len(targets)} targets and {len(origins)} origins for {images} adversarial images")
    generator = torch.Generator().manual_seed(0)
    shuffles = [torch.randperm(images, generator=generator) for _ in range(draws)]
    groups, level = deal(real.labels)[origins], chance(real.labels, correlation)
    close = (distances <= near).to(torch.float64)
    joint = torch.bincount(labels * classes + targets, minlength=classes**2).view(classes, classes).double()
    by_concept = {
        "shows": close @ joint.sum(1) / images,
        "merely targets": ((1 - close) @ joint * close).sum(1) / images,
    }
    tables, replicates = [], []
    for name, layer in real.layers.items():
        shown = _Pairs.of(adversarial.layers[name])
        h = real.top_counts(name, "true", len(layer.top_indices))
        profile, m = h.sum(0), h.sum((0, 2))
        concept, share = profile.argmax(1), profile.amax(1) / m
        clear = torch.where((share >= purity) & (m >= 2), 1.0, torch.nan)
        near_true, near_target = (close[concept[shown.channels], of[shown.images]] for of in (labels, targets))
        parts = (
            h,
            shown.sums(labels, classes, groups),
            shown.sums(targets, classes, groups),
            shown.sums(torch.zeros_like(labels), 1, groups, near_target * (1 - near_true)),
        )
        concepts = clear[:, None] * close[concept]
        found = _measures([part.sum(0) for part in parts], correlation, concepts)
        left_out = _measures([part.sum(0) - part for part in parts], correlation, concepts)
        cs1, cs2 = (
            torch.stack([cosine(profile, shown.sums(of[one], classes)[0]) for one in shuffles]).mean(0)
            for of in (labels, targets)
        )
        chances = {"LC": level.biased(m), "U": torch.full(m.shape, level.unbiased), "CS1": cs1, "CS2": cs2}
        chances |= {part: shares[concept] for part, shares in by_concept.items()}
        columns = {"neuron": torch.arange(len(m)), "m": m, "images": parts[1].sum((0, 2))}
        columns |= {"concept": concept, "purity": share}
        for measure in MEASURES:
            columns |= {measure: found[measure], f"{measure} chance": chances[measure]}
        table = pd.DataFrame({column: value.numpy() for column, value in columns.items()})
        table.insert(0, "layer", name)
        tables.append(table)
        replicates.append(left_out)
    return NeuronMeasures(
        pd.concat(tables, ignore_index=True),
        {measure: torch.cat([one[measure] for one in replicates], dim=1) for measure in MEASURES},
    )


class _Pairs(NamedTuple):
    """The pairs of a neuron of a layer and one of its top images, where it fires at all.

    Shape:
        images, channels: (P,) int64.
    """

    images: Tensor
    channels: Tensor
    neurons: int

    @classmethod
    def of(cls, layer: LayerResponses) -> Self:
        rows, channels = torch.nonzero(layer.top_values >= layer.floor, as_tuple=True)
        return cls(layer.top_indices[rows, channels], channels, layer.top_indices.shape[1])

    def sums(self, names: Tensor, classes: int, groups: Tensor | None = None, values: Tensor | None = None) -> Tensor:
        """How many images of each class a neuron has, or the sum of the pairs' values, by group where there are groups.

        Shape:
            names, groups: (N,) int64; values: (P,) float64; result: (JACKKNIFE_GROUPS or 1, neurons, classes), int64
            or float64.
        """
        rows = self.channels if groups is None else groups[self.images] * self.neurons + self.channels
        parts = 1 if groups is None else JACKKNIFE_GROUPS
        place = rows * classes + names[self.images]
        return torch.bincount(place, values, parts * self.neurons * classes).view(parts, self.neurons, classes)


def _measures(parts: Sequence[Tensor], correlation: Tensor, concepts: Tensor) -> dict[str, Tensor]:
    """MEASURES from the class counts of each neuron's top images, and how many merely target its concept.

    Shape:
        parts: h and the counts of true and of target classes, (..., neurons, K); how many merely target, (..., neurons,
        1). concepts: (neurons, K) float64, 1 for classes that count as the concept, NaN for neurons without one.
    """
    h, true, target, merely = parts
    images = true.sum(-1)
    return {
        "LC": consistency(h, correlation),
        "U": unbiased_consistency(h, correlation),
        "CS1": cosine(h, true),
        "CS2": cosine(h, target),
        "shows": (concepts * true).sum(-1) / images,
        "merely targets": concepts.amax(-1) * merely.squeeze(-1) / images,
    }
