"""How consistent neurons are: P1's Eq. 3, its chance level, its unbiased form, and intervals for both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.errors import ParameterError
from neuron_consistency.responses import Responses
from neuron_consistency.statistics import Estimate, jackknife, jackknife_margin


def consistency(counts: Tensor, correlation: Tensor) -> Tensor:
    """V = p^T A p, with p the class shares of the images that activate a neuron; NaN for fewer than two images.

    V is biased upward when few images activate a neuron: see `chance` and `unbiased_consistency`.

    Shape:
        counts: (..., K) active images of each class; correlation: (K, K) A of P1's Eq. 2; result: (...,) float64.

    Raises:
        ParameterError: the correlation is of another number of classes, or none.

    Source: P1, Eq. 3; P2 calls it LC.
    """
    a = correlation
    if a.shape != counts.shape[-1:] * 2 or not bool(((a >= 0) & (a <= 1)).all()):
        said = f"a correlation of shape {tuple(a.shape)} for counts of {counts.shape[-1]} classes"
        raise ParameterError(f"{said}: it must be (K, K) and in [0, 1], as correlation(distance_matrix(synsets)) is")
    counts = counts.to(torch.float64)
    m = counts.sum(-1)
    paired = torch.einsum("...i,ij,...j->...", counts, correlation.to(torch.float64), counts)
    return torch.where(m >= 2, paired / m.square(), torch.nan)


def unbiased_consistency(counts: Tensor, correlation: Tensor) -> Tensor:
    """U = (m V - 1)/(m - 1): the mean correlation of two different active images; NaN for fewer than two.

    Shape:
        counts: (..., K); correlation: (K, K) with a unit diagonal; result: (...,) float64.

    Source: ours; it removes from P1's Eq. 3 the pairs of an image with itself.
    """
    return _unbiased(consistency(counts, correlation), counts.sum(-1))


def _unbiased(biased: Tensor, m: Tensor) -> Tensor:
    """U from V and the number of active images."""
    m = m.to(torch.float64)
    return (m * biased - 1) / (m - 1)


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
        ParameterError: fewer than two images, or labels that are no rows of the correlation.

    Source: ours; exact for finite N (drawing m of N images without replacement).
    """
    if len(labels) < 2:
        raise ParameterError(f"a chance level needs two images or more, not {len(labels)}")
    if labels.ndim != 1 or labels.is_floating_point() or not 0 <= int(labels.min()) <= labels.max() < len(correlation):
        raise ParameterError(f"labels from {labels.min()} to {labels.max()}: 0 to {len(correlation) - 1} are needed")
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


class Neurons:
    """V and U of every neuron of a layer, and of each also without each group of images, computed once for both.

    Shape:
        counts: (G, C, K), active images by group, neuron and class; correlation: (K, K); m: (C,); V, U: (C,) float64;
        their replicates: (G, C) float64.
    """

    def __init__(self, counts: Tensor, correlation: Tensor) -> None:
        self.total = counts.sum(0)
        self.m = self.total.sum(-1)
        rest = self.total - counts
        self.values = {"V": consistency(self.total, correlation)}
        self.replicates = {"V": consistency(rest, correlation)}
        self.values["U"] = _unbiased(self.values["V"], self.m)
        self.replicates["U"] = _unbiased(self.replicates["V"], rest.sum(-1))

    def mean(self, measure: str) -> Estimate:
        """The mean of V or U over neurons, with an interval from a jackknife that leaves out groups of images.

        The same images are left out for all neurons at once, since neurons share images. A bootstrap would be
        wrong here: an image drawn twice pairs with itself at correlation 1.

        Source: the measure is P1's; the interval is ours (Shao and Wu 1989, delete-a-group jackknife).
        """
        values, replicates = self.values[measure], self.replicates[measure]
        kept = ~values.isnan()
        if not bool(kept.any()):
            return jackknife(float("nan"), np.full(len(replicates), np.nan), 1.0)
        excluded = 1 - float(kept.double().mean())
        return jackknife(float(values[kept].mean()), replicates[:, kept].nanmean(1).numpy(), excluded)

    def margins(self) -> np.ndarray:
        """Half the interval of each neuron's U; NaN where fewer than two images would be left. Shape: (C,)."""
        return jackknife_margin(self.replicates["U"].numpy())


def mean_consistency(counts: Tensor, correlation: Tensor, *, unbiased: bool) -> Estimate:
    """The mean of V or U over neurons, see `Neurons`.

    Shape:
        counts: (G, C, K); correlation: (K, K).
    """
    return Neurons(counts, correlation).mean("U" if unbiased else "V")


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
    responses: Responses,
    layer: str,
    correlation: Tensor,
    *,
    kind: str = "true",
    equal_m: int,
    neurons: Neurons | None = None,
) -> dict[str, float]:
    """One line of Table 1: V as the paper has it, its chance, U, its chance, both with intervals, and V and U
    of the `equal_m` strongest images, which no change of m can move.

    Args:
        neurons: those of this layer and kind of label, where they are known already.

    Shape:
        correlation: (K, K).

    Returns:
        images: of the set; m: the mean number of active images of a neuron; V, U: means over neurons, each with
        "low", "high" and "chance"; "V top", "U top": of the strongest images; excluded: the share of neurons that
        fewer than two images activate.
    """
    neurons = neurons or Neurons(responses.layers[layer].counts[kind], correlation)
    level = chance(responses.named(kind), correlation)
    top = responses.top_counts(layer, kind, equal_m).sum(0)
    unbiased = neurons.mean("U")
    return {
        "images": len(responses.labels),
        "m": float(neurons.m.double().mean()),
        **neurons.mean("V").row("V"),
        "V chance": float(level.biased(neurons.m).nanmean()),
        **unbiased.row("U"),
        "U chance": level.unbiased,
        "V top": float(consistency(top, correlation).nanmean()),
        "U top": float(unbiased_consistency(top, correlation).nanmean()),
        "excluded": unbiased.excluded,
    }
