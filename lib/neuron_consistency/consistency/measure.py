"""How consistent neurons are: Eq. 3, its chance level, its unbiased form, and intervals for both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.errors import ParameterError
from neuron_consistency.responses import Responses
from neuron_consistency.statistics import Estimate, jackknife


def consistency(counts: Tensor, correlation: Tensor) -> Tensor:
    """V = p^T A p, with p the class shares of the images that activate a neuron; NaN for fewer than two images.

    V is biased upward when few images activate a neuron: see `chance` and `unbiased_consistency`.

    Shape:
        counts: (..., K) active images of each class; correlation: (K, K) A of Eq. 2; result: (...,) float64.

    Source: P1, Eq. 3; P2 calls it LC.
    """
    counts = counts.to(torch.float64)
    m = counts.sum(-1)
    paired = torch.einsum("...i,ij,...j->...", counts, correlation.to(torch.float64), counts)
    return torch.where(m >= 2, paired / m.square(), torch.nan)


def unbiased_consistency(counts: Tensor, correlation: Tensor) -> Tensor:
    """U = (m V - 1)/(m - 1): the mean correlation of two different active images; NaN for fewer than two.

    Shape:
        counts: (..., K); correlation: (K, K) with a unit diagonal; result: (...,) float64.

    Source: ours; it removes from Eq. 3 the pairs of an image with itself.
    """
    m = counts.sum(-1).to(torch.float64)
    return (m * consistency(counts, correlation) - 1) / (m - 1)


@dataclass(frozen=True)
class Chance:
    """What neurons that fire at random reach on a set.

    Attributes:
        unbiased: s' = (N s - 1)/(N - 1) with s = q^T A q, the chance level of U.
    """

    unbiased: float

    def biased(self, m: Tensor) -> Tensor:
        """The chance level of V for neurons with m active images, 1/m + (1 - 1/m) s'.

        Shape:
            m: (...,); result: (...,) float64.
        """
        m = m.to(torch.float64)
        return torch.where(m >= 2, 1 / m + (1 - 1 / m) * self.unbiased, torch.nan)


def chance(labels: Tensor, correlation: Tensor) -> Chance:
    """The chance level over shuffled labels of the N images of a set.

    Shape:
        labels: (N,) int64; correlation: (K, K).

    Raises:
        ParameterError: fewer than two images.

    Source: ours; exact for finite N (drawing m of N images without replacement).
    """
    if len(labels) < 2:
        raise ParameterError(f"a chance level needs two images or more, not {len(labels)}")
    frequencies = torch.bincount(labels.cpu(), minlength=len(correlation))
    return Chance(float(unbiased_consistency(frequencies, correlation)))


def comparison(one: Estimate, other: Estimate, difference: Estimate | None = None) -> dict[str, float | str]:
    """Two values of U, their difference with its interval, and the verdict: a line of a table.

    Args:
        difference: None takes that of the two.
    """
    found = difference or one.minus(other)
    told = {"U": one.value, "U there": other.value} | found.row("difference", bare=True)
    return told | {"U is": found.verdict(above=0)}


def mean_consistency(counts: Tensor, correlation: Tensor, *, unbiased: bool) -> Estimate:
    """The mean of V or U over neurons, with an interval from a jackknife that leaves out groups of images.

    The same images are left out for all neurons at once, since neurons share images. A bootstrap would be
    wrong here: an image drawn twice pairs with itself at correlation 1.

    Shape:
        counts: (G, C, K), active images by group, neuron and class; correlation: (K, K).

    Source: the measure is P1's; the interval is ours (Shao and Wu 1989, delete-a-group jackknife).
    """
    measure = unbiased_consistency if unbiased else consistency
    total = counts.sum(0)
    neurons = measure(total, correlation)
    kept = ~neurons.isnan()
    if not bool(kept.any()):
        return jackknife(float("nan"), np.full(len(counts), np.nan), 1.0)
    left_out = measure(total - counts, correlation)[:, kept].nanmean(1)
    excluded = 1 - float(kept.double().mean())
    return jackknife(float(neurons[kept].mean()), left_out.numpy(), excluded)


def neuron_table(responses: Responses, layer: str, correlation: Tensor, *, kind: str = "true") -> pd.DataFrame:
    """One row a neuron: m, V, U and their chance levels.

    Shape:
        correlation: (K, K).
    """
    counts = responses.layers[layer].counts[kind].sum(0)
    level = chance(responses.named(kind), correlation)
    m = counts.sum(-1)
    return pd.DataFrame(
        {
            "neuron": np.arange(len(m)),
            "m": m.numpy(),
            "V": consistency(counts, correlation).numpy(),
            "V chance": level.biased(m).numpy(),
            "U": unbiased_consistency(counts, correlation).numpy(),
            "U chance": level.unbiased,
        }
    )


def consistency_row(
    responses: Responses, layer: str, correlation: Tensor, *, kind: str = "true", equal_m: int
) -> dict[str, float]:
    """One line of Table 1: V as the paper has it, its chance, U, its chance, both with intervals, and V and U
    of the `equal_m` strongest images, which no change of m can move.

    Shape:
        correlation: (K, K).
    """
    counts = responses.layers[layer].counts[kind]
    biased = mean_consistency(counts, correlation, unbiased=False)
    unbiased = mean_consistency(counts, correlation, unbiased=True)
    level = chance(responses.named(kind), correlation)
    m = counts.sum((0, 2))
    top = responses.top_counts(layer, kind, equal_m).sum(0)
    return {
        "images": len(responses.labels),
        "m": float(m.double().mean()),
        **biased.row("V"),
        "V chance": float(level.biased(m).nanmean()),
        **unbiased.row("U"),
        "U chance": level.unbiased,
        "V top": float(consistency(top, correlation).nanmean()),
        "U top": float(unbiased_consistency(top, correlation).nanmean()),
        "excluded": unbiased.excluded,
    }
