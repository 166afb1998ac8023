"""Networks dissected beside their chance levels, on real and on adversarial images."""

import copy
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from neuron_consistency.data.broden import BrodenSet
from neuron_consistency.dissection.measure import (
    ImageAttack,
    LayerMaps,
    dissect,
    dissect_beside_chance,
    dissection_size,
    unit_thresholds,
)
from neuron_consistency.dissection.overlap import Overlap
from neuron_consistency.networks.models import Classifier
from neuron_consistency.runtime import Runtime

REAL, SHUFFLED, RANDOM = "real", "real, shuffled labels", "real, random weights"
SAME, ADVERSARIAL = "real, those attacked", "adversarial"


@dataclass(frozen=True)
class Dissected:
    """The last layer of a network, dissected on several sets of images.

    Attributes:
        image_size: the side of the images shown to the network.
        overlaps: by name of the set, REAL first.
        seconds: what all of it took.

    Shape:
        thresholds: (U,), those of the real images.
    """

    image_size: int
    thresholds: Tensor
    overlaps: dict[str, Overlap]
    seconds: float


def with_random_weights(model: Classifier) -> Classifier:
    """A copy of the network with all its modules initialised anew (PyTorch's defaults), from seed 0."""
    copied = copy.deepcopy(model)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for module in copied.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
    return copied


def dissect_with_controls(
    models: Mapping[str, Classifier], broden: BrodenSet, on: Runtime, *,
    attack: ImageAttack, attacked: int = 0, own_thresholds: bool = False,
    image_size: int = 0, quantile: float = 0.005, max_kept: int = 0,
) -> Iterator[tuple[str, Dissected]]:  # fmt: skip
    """The rows of Table 2, network by network: real and adversarial images, and what chance gives.

    Random weights are measured once for each architecture.

    Args:
        models: networks by title.
        broden: the densely labelled set.
        on: where and how they run.
        attack: makes images adversarial, as `attacks.linf.least_likely`.
        attacked: so many of the images are attacked, and measured also as they are; 0 attacks all.
        own_thresholds: the adversarial images' thresholds from themselves, so that as many pixels are above them.
        image_size: the side shown to the networks; 0 is `dissection_size`.
        quantile, max_kept: see `measure.unit_thresholds`.

    Raises:
        ParameterError: see `measure.unit_thresholds` and `measure.dissection_size`.

    Source: P1, Table 2; the chance levels are ours.
    """
    random_weights: dict[str, Overlap] = {}  # by architecture
    part = broden.head(attacked) if attacked else broden
    thresholds_of = partial(unit_thresholds, quantile=quantile, max_kept=max_kept)
    for title, model in models.items():
        began = time.perf_counter()
        layer, architecture = model.last_layer, model.architecture
        size = image_size or dissection_size(model.to(on.device), layer)
        maps_of = partial(LayerMaps, on=on, layer=layer, image_size=size)
        maps = maps_of(model, broden)
        thresholds = thresholds_of(maps)
        real, shuffled = dissect_beside_chance(maps, thresholds=thresholds)
        if architecture not in random_weights:
            blank = maps_of(with_random_weights(model), broden)
            random_weights[architecture] = dissect(blank, thresholds=thresholds_of(blank))
        overlaps = {REAL: real, SHUFFLED: shuffled, RANDOM: random_weights[architecture]}
        if len(part) < len(broden):
            overlaps[SAME] = dissect(maps.head(len(part)), thresholds=thresholds)
        adversarial = maps_of(model, part, attack=attack)
        levels = thresholds_of(adversarial) if own_thresholds else thresholds
        overlaps[ADVERSARIAL] = dissect(adversarial, thresholds=levels)
        yield title, Dissected(size, thresholds, overlaps, time.perf_counter() - began)
