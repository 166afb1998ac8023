"""Networks dissected beside their chance levels, on real and on adversarial images."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from neuron_consistency.data.broden import BrodenSet
from neuron_consistency.dissection.measure import (
    ImageAttack,
    LayerMaps,
    dissect_beside_chance,
    dissection_size,
    unit_thresholds,
)
from neuron_consistency.dissection.overlap import Overlap
from neuron_consistency.networks.models import Classifier
from neuron_consistency.runtime import Runtime

REAL, RANDOM = "real", "real, random weights"
SAME, ADVERSARIAL = "real, those attacked", "adversarial"


def shuffled(name: str) -> str:
    """The set of images of that name with each image's labels taken from another one."""
    return f"{name}, shuffled labels"


@dataclass(frozen=True)
class Dissected:
    """The last layer of a network, dissected on several sets of images.

    Attributes:
        image_size: the side of the images shown to the network.
        overlaps: by name of the set, REAL first: a single one, of RANDOM one a network. Each set is followed by its
            `shuffled` one with one an exchange, of RANDOM all those of the first network first.
        seconds: what all of it took.

    Shape:
        thresholds: (U,), those of the real images.
    """

    image_size: int
    thresholds: Tensor
    overlaps: dict[str, list[Overlap]]
    seconds: float


def dissect_with_controls(
    models: Mapping[str, Classifier], broden: BrodenSet, on: Runtime, *,
    blank: Callable[[str, int], Classifier], attack: ImageAttack, attacked: int = 0, own_thresholds: bool = False,
    exchanges: int = 10, random_networks: int = 3, image_size: int = 0, quantile: float = 0.005, max_kept: int = 0,
) -> Iterator[tuple[str, Dissected]]:  # fmt: skip
    """The rows of Table 2, network by network: real and adversarial images, and what chance gives for each of them.

    Networks with random weights are measured once for each architecture, in float32: their responses differ so little
    from place to place that rounding makes them equal, and what equals a threshold is outside the mask.

    Args:
        models: networks by title.
        broden: the densely labelled set.
        on: where and how they run.
        blank: gives, by title and seed, a network as its training from scratch starts.
        attack: makes images adversarial, as `attacks.linf.least_likely`.
        attacked: so many of the images are attacked, and measured also as they are; 0 attacks all.
        own_thresholds: the adversarial images' thresholds from themselves, so that as many pixels are above them.
        exchanges: of labels between images, for the chance levels; the same ones before an attack and after it.
        random_networks: so many networks with random weights.
        image_size: the side shown to the networks; 0 is `dissection_size`.
        quantile, max_kept: see `measure.unit_thresholds`.

    Raises:
        ParameterError: see `measure.unit_thresholds` and `measure.dissection_size`.

    Source: P1, Table 2; the chance levels are ours.
    """
    random_weights: dict[str, dict[str, list[Overlap]]] = {}  # by architecture
    part = broden.head(attacked) if attacked else broden
    thresholds_of = partial(unit_thresholds, quantile=quantile, max_kept=max_kept)

    def counted(name: str, *each: tuple[LayerMaps, Tensor]) -> dict[str, list[Overlap]]:
        found = [dissect_beside_chance(maps, thresholds=levels, seeds=range(exchanges)) for maps, levels in each]
        return {name: [own for own, *_ in found], shuffled(name): [one for _, *chance in found for one in chance]}

    for title, model in models.items():
        began = time.perf_counter()
        layer, architecture = model.last_layer, model.architecture
        size = image_size or dissection_size(model.to(on.device), layer)
        maps_of = partial(LayerMaps, on=on, layer=layer, image_size=size)
        maps = maps_of(model, broden)
        thresholds = thresholds_of(maps)
        overlaps = counted(REAL, (maps, thresholds))
        if architecture not in random_weights:
            plain = replace(on, precision="float32")
            blanks = [maps_of(blank(title, seed), broden, on=plain) for seed in range(random_networks)]
            random_weights[architecture] = counted(RANDOM, *((own, thresholds_of(own)) for own in blanks))
        overlaps |= random_weights[architecture]
        if len(part) < len(broden):
            overlaps |= counted(SAME, (maps.head(len(part)), thresholds))
        adversarial = maps_of(model, part, attack=attack)
        levels = thresholds_of(adversarial) if own_thresholds else thresholds
        overlaps |= counted(ADVERSARIAL, (adversarial, levels))
        yield title, Dissected(size, thresholds, overlaps, time.perf_counter() - began)
