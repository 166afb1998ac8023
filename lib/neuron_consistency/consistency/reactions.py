"""Does the measure react to what must move it: random weights, shuffled labels, images of another size?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.attacks.predictions import accuracy_row
from neuron_consistency.consistency.ambiguity import REAL, Passes
from neuron_consistency.consistency.measure import consistency_row
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import evaluating
from neuron_consistency.responses import respond
from neuron_consistency.runtime import Runtime

BLANK, SHUFFLED, BLANK_SHUFFLED = "random weights", "labels shuffled", "random weights, labels shuffled"


def reaction_table(
    cases: Mapping[str, tuple[Classifier, ImageSet]],
    on: Runtime,
    correlation: Tensor,
    *,
    quantile: float = 0.005,
    top_k: int = 20,
) -> pd.DataFrame:
    """The measure at every layer, for networks and images that differ in one thing.

    Args:
        cases: by name, a network and the images that it is shown.
        quantile, top_k: see `responses.respond`.

    Returns:
        One row a case and layer: case, layer, accuracy in per cent, and the columns of `measure.consistency_row`.

    Source: the sanity checks of Adebayo et al. 2018, which randomise weights and labels, for this measure.
    """
    rows = []
    for name, (model, images) in cases.items():
        responses = respond(model, images, on, layers=list(model.layers), quantile=quantile, top_k=top_k)
        right = accuracy_row(responses.predictions, responses.labels)["accuracy"]
        for layer in model.layers:
            row = consistency_row(responses, layer, correlation, equal_m=top_k)
            rows.append({"case": name, "layer": layer, "accuracy": right} | row)
    return pd.DataFrame(rows)


def null_passes(
    model: Classifier, blank: Classifier, images: ImageSet, on: Runtime, *, quantile: float = 0.005, top_k: int = 20
) -> dict[str, Passes]:
    """The last layer on real images where what it fires for has no meaning: what its U is to be held against.

    Args:
        blank: the same network with random weights.
        quantile, top_k: see `responses.respond`.

    Returns:
        Passes over REAL: of BLANK, of SHUFFLED (the trained network, labels of other images), and of both together.
    """
    mixed = shuffled(images)
    cases = {BLANK: (blank, images), SHUFFLED: (model, mixed), BLANK_SHUFFLED: (blank, mixed)}
    return {
        name: Passes(net.last_layer, {REAL: respond(net, shown, on, quantile=quantile, top_k=top_k)})
        for name, (net, shown) in cases.items()
    }


def shuffled(images: ImageSet, *, seed: int = 0) -> ImageSet:
    """The same images, each under the label of another drawn at random: what they show and are called has no link."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return replace(images, labels=images.labels[order])


@torch.no_grad()
def check_sizes(model: Classifier, sizes: Sequence[int], *, title: str) -> None:
    """Tries images of these sides, before anything is measured.

    Raises:
        ParameterError: a layer of the network has no map left.
    """
    with evaluating(model):
        for size in sizes:
            try:
                model(model.mean.new_zeros(1, 3, size, size))
            except (RuntimeError, ParameterError) as error:
                raise ParameterError(
                    f"sizes={sizes}: images of {size} px leave {title} no maps; use larger ones"
                ) from error
