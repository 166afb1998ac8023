"""The area under the ROC curve of a detector, with an interval for images that come in related pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from neuron_consistency.errors import ParameterError
from neuron_consistency.statistics import TAIL, Estimate, Z, standard_error


@dataclass(frozen=True, kw_only=True)
class Auroc(Estimate):
    """An area under the ROC curve with its interval of 95 %; chance is .5, NaN where a side is empty.

    Attributes:
        value: the chance that a positive scores above a negative, ties counting half.
        low, high: the interval over source images, the network and the detector held fixed.
        positives, negatives: how many of each.

    Shape:
        parts: (S,), what each source image moves the value by, for paired differences.
    """

    positives: int
    negatives: int
    parts: np.ndarray

    def columns(self) -> dict[str, float]:
        """positives, negatives, AUROC, low and high."""
        return {"positives": self.positives, "negatives": self.negatives} | self.row("AUROC", bare=True)

    def minus(self, other: Estimate | float) -> Estimate:
        """The difference to a known number, or to another detector's on the same images, with its paired interval.

        Raises:
            ParameterError: the two are of different images.
        """
        if not isinstance(other, Auroc):
            return super().minus(other)
        if (self.positives, self.negatives, len(self.parts)) != (other.positives, other.negatives, len(other.parts)):
            raise ParameterError("only detectors that saw the same images can be compared in pairs")
        value, margin = self.value - other.value, Z * standard_error(self.parts - other.parts)
        return Estimate(value, value - margin, value + margin)


def auroc(positives: pd.Series[float], negatives: pd.Series[float]) -> Auroc:
    """The area under the ROC curve, and an interval that allows for images made from one another.

    An adversarial image and the clean one it came from are not independent, nor are two made from one image. So
    DeLong's variance is taken over source images: each one's positives and negatives move the value together
    (Obuchowski 1997). The interval is made on the logit scale, which keeps it within [0, 1]. Where the two sides do
    not overlap at all that variance is 0; then the bound is where so many independent pairs would still all agree
    with a chance of 2.5 %.

    Args:
        positives, negatives: scores, higher for what the detector suspects, indexed by the clean image that each came
            from.

    Source: DeLong et al. 1988, by ranks as Sun and Xu 2014; Obuchowski 1997; the bound at perfect separation is ours.
    """
    above, below = positives.to_numpy(np.float64), negatives.to_numpy(np.float64)
    names, places = np.unique([*positives.index, *negatives.index], return_inverse=True)
    if not len(above) or not len(below):
        nothing, parts = (math.nan,) * 3, np.full(len(names), np.nan)
        return Auroc(*nothing, positives=len(above), negatives=len(below), parts=parts)
    ranks = stats.rankdata([*above, *below])  # less those among its own: how many of the others lie below
    won = (ranks[: len(above)] - stats.rankdata(above)) / len(below)
    beaten = 1 - (ranks[len(above) :] - stats.rankdata(below)) / len(above)
    value = float(won.mean())
    parts = np.zeros(len(names))
    np.add.at(parts, places[: len(above)], (won - value) / len(above))
    np.add.at(parts, places[len(above) :], (beaten - value) / len(below))
    low, high = _interval(value, standard_error(parts), min(positives.index.nunique(), len(below)))
    return Auroc(value, low, high, positives=len(above), negatives=len(below), parts=parts)


def _interval(value: float, deviation: float, pairs: int) -> tuple[float, float]:
    if value in (0.0, 1.0):
        reach = TAIL ** (1 / pairs)
        return (reach, 1.0) if value else (0.0, 1 - reach)
    margin = Z * deviation / (value * (1 - value))
    centre = math.log(value / (1 - value))
    low, high = (float(1 / (1 + np.exp(-(centre + shift)))) for shift in (-margin, margin))
    return low, high
