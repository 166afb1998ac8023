"""Passes by hand: which images fire which neurons most."""

from __future__ import annotations

import torch
from torch import Tensor

from neuron_consistency.representation.measure import measure_neurons
from neuron_consistency.representation.neurons import NeuronMeasures
from neuron_consistency.responses import LayerResponses, Responses
from neuron_consistency.taxonomy import correlation

REAL_LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
TRUE = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
AIMS = torch.tensor([2, 2, 3, 3, 0, 0, 1, 1])
FAR = 8 * (1 - torch.eye(4, dtype=torch.int16))  # four classes with nothing in common
FAMILY = torch.tensor([[0, 2, 8, 8], [2, 0, 8, 8], [8, 8, 0, 8], [8, 8, 8, 0]], dtype=torch.int16)  # 0 and 1 siblings


def responses(labels: Tensor, tops: list[list[int]], *, classes: int = 4) -> Responses:
    """A pass by hand: for every neuron its top images, strongest first, all of one number; [] for a dead neuron."""
    kept = max(1, *map(len, tops))
    indices = torch.tensor([top or list(range(kept)) for top in tops]).T
    values = torch.tensor([[1.0] * kept if top else [0.0] * kept for top in tops]).T
    return Responses(labels, labels, classes, {"last": LayerResponses(values[0], values, indices, {})})


def measured(
    real: Responses, adversarial: Responses, targets: Tensor, origins: Tensor, *, distances: Tensor = FAR
) -> NeuronMeasures:
    return measure_neurons(real, adversarial, targets, origins, correlation(distances), distances)
