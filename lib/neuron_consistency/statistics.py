"""Every mean, share and interval, and the one rule by which an interval settles a question."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from torch import Tensor, from_numpy

Numbers = ArrayLike | Tensor
Words = tuple[str, str, str]

TAIL = 0.025  # what an interval leaves out on each side
LEVEL = 1 - 2 * TAIL
Z = float(stats.norm.ppf(1 - TAIL))

OPEN = "cannot be told"
HOLDS, FAILS = "holds", "fails"
CLAIM = HOLDS, FAILS, OPEN
SIDES = "higher", "lower", OPEN


@dataclass(frozen=True)
class Estimate:
    """A number with its interval of 95 %.

    Attributes:
        excluded: the share of units, such as neurons, that have no value.
        freedom: degrees of freedom of the interval where few units gave it.

    Shape:
        replicates: (G,), the value without each of G groups of images; () if it is not known.
    """

    value: float
    low: float
    high: float
    excluded: float = 0.0
    replicates: np.ndarray = field(default_factory=lambda: np.empty(0), repr=False, compare=False)
    freedom: float = math.inf

    @classmethod
    def read(cls, row: Mapping[Any, Any], name: str) -> Estimate:
        """The estimate that stands in a row of a table, in the columns of `row`."""
        return cls(row[name], *(row[end] for end in ends(row, name)))

    def row(self, name: str, *, bare: bool = False) -> dict[str, float]:
        """The columns `name`, "`name` low" and "`name` high"; `bare` calls the last two "low" and "high"."""
        before = "" if bare else f"{name} "
        return {name: self.value, f"{before}low": self.low, f"{before}high": self.high}

    def minus(self, other: Estimate | float) -> Estimate:
        """The difference to a known number, or to another estimate.

        Where both have replicates, these are of the same groups of images, and the difference is paired. Other
        estimates are taken to be independent.
        """
        if not isinstance(other, Estimate):
            return Estimate(self.value - other, self.low - other, self.high - other, freedom=self.freedom)
        value = self.value - other.value
        if len(self.replicates) and len(other.replicates):
            return jackknife(value, self.replicates - other.replicates, max(self.excluded, other.excluded))
        return _around(value, float(np.hypot(self.value - self.low, other.value - other.low)))

    def verdict(self, *, above: float = -math.inf, below: float = math.inf, words: Words = SIDES) -> str:
        """The first word where the interval lies between `above` and `below`, the second where it lies outside, else
        the third, also where it touches them from outside or a bound of it is NaN.
        """
        if above < self.low and self.high < below:
            return words[0]
        return words[1] if self.high < above or self.low > below else words[2]

    def p(self, *, above: float = -math.inf, below: float = math.inf) -> float:
        """The two-sided p of the claim's line, or the larger of two: below .05 just where the interval leaves it out.

        The interval counts as one of Student's with `freedom` degrees of freedom, as a normal one where that is
        infinite. NaN where a bound of the interval is.
        """
        if math.isnan(self.low) or math.isnan(self.high):
            return math.nan
        found, scale = [0.0], float(stats.t.ppf(1 - TAIL, self.freedom))
        for gap in (self.value - line for line in (above, below) if math.isfinite(line)):
            half = self.value - self.low if gap > 0 else self.high - self.value
            found.append(2 * float(stats.t.sf(scale * abs(gap) / half, self.freedom)) if half > 0 else float(gap == 0))
        return max(found)

    def settles(self, *, above: float = -math.inf, below: float = math.inf) -> dict[str, float | str]:
        """The columns value, low, high and verdict on the claim that the number lies between `above` and `below`."""
        said = self.verdict(above=above, below=below, words=CLAIM)
        return self.row("value", bare=True) | {"verdict": said}


def ends(columns: Container[object], value: str) -> tuple[str, str]:
    """Where a table has the bounds of a column: in "<value> low" and "<value> high", or else in "low" and "high"."""
    return (f"{value} low", f"{value} high") if f"{value} low" in columns else ("low", "high")


def share(hits: Numbers, clusters: Numbers | None = None, *, whole: float = 1.0) -> Estimate:
    """The share of hits with Wilson's interval; NaN of none.

    The members of a cluster, such as the images made from one clean image, succeed or fail together, so they are fewer
    than they seem: their number is divided by the design effect, the variance between clusters over that of
    independent draws. Where all hits are equal, each cluster counts once.

    Args:
        clusters: what each hit belongs to; None if all are independent.
        whole: 1, or 100 for per cent.

    Shape:
        hits: (M,) of 0 and 1; clusters: (M,).
    """
    values = np.asarray(hits, dtype=np.float64)
    if not len(values):
        return Estimate(math.nan, math.nan, math.nan)
    hit, number = int(values.sum()), float(len(values))
    rate = hit / number
    if clusters is not None:
        sums, independent = _cluster_sums(values - rate, clusters), number * rate * (1 - rate)
        effect = float(np.square(sums).sum()) / independent if independent > 0 else number / len(sums)
        number /= max(effect, 1.0)
    scale = 2 * (number + Z**2)
    centre, half = (2 * number * rate + Z**2) / scale, Z / scale * math.sqrt(4 * number * rate * (1 - rate) + Z**2)
    low, high = (centre - half if hit else 0.0), (centre + half if hit < len(values) else 1.0)
    return Estimate(whole * hit / len(values), whole * low, whole * high)


def mean(values: Numbers, clusters: Numbers | None = None, *, level: float = LEVEL, lone: float = math.nan) -> Estimate:
    """The mean with Student's interval; NaN values are left out.

    With clusters the variance is the linearised cluster-robust one, with one degree of freedom less than clusters.

    Args:
        clusters: what each value belongs to; None if all are independent.
        level: of the interval.
        lone: half the interval of a single value, about whose spread nothing is known.

    Shape:
        values, clusters: (N,).
    """
    numbers = np.asarray(values, dtype=np.float64)
    kept = ~np.isnan(numbers)
    numbers = numbers[kept]
    count, value, margin = len(numbers), float(from_numpy(numbers).mean()), lone
    if clusters is not None:
        sums = _cluster_sums(numbers - value, np.asarray(clusters)[kept])
        margin = _student(len(sums), level) * standard_error(sums) / max(count, 1)
    elif count > 1:
        margin = _student(count, level) * float(from_numpy(numbers).std()) / math.sqrt(count)
    return _around(value, margin)


def jackknife(value: float, replicates: np.ndarray, excluded: float = 0.0) -> Estimate:
    """A value with the interval that its replicates give, each of them with one group of images left out.

    Shape:
        replicates: (G,) float64.

    Source: Shao and Wu 1989, the delete-a-group jackknife.
    """
    return replace(_around(value, float(jackknife_margin(replicates))), excluded=excluded, replicates=replicates)


def jackknife_margin(replicates: np.ndarray) -> np.ndarray:
    """Half the interval of `jackknife`, of several values at once.

    Shape:
        replicates: (G, ...) float64; result: (...,).
    """
    groups = len(replicates)
    squares = np.square(replicates - replicates.mean(0)).sum(0)
    return np.asarray(_student(groups) * np.sqrt((groups - 1) / groups * squares))


def over_seeds(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of one jackknife estimate per seed over the same images; its interval covers other images and seeds.

    Source: ours.
    """
    values = [one.value for one in estimates]
    replicates = np.mean([one.replicates for one in estimates], axis=0)
    found = jackknife(float(np.mean(values)), replicates, max(one.excluded for one in estimates))
    return _with_seeds(found, values)


def mean_over_seeds(values: Tensor) -> Estimate:
    """The mean over seeds and images; its interval covers other images and, of several seeds, other seeds.

    Shape:
        values: (S, N), the same images for each of S seeds.
    """
    return _with_seeds(mean(values.mean(0)), values.mean(1).tolist())


def middle(values: Tensor) -> Estimate:
    """The mean of random draws, and the range that holds the middle 95 % of them.

    Shape:
        values: (D,).
    """
    low, high = values.quantile(values.new_tensor([TAIL, 1 - TAIL])).tolist()
    return Estimate(float(values.mean()), low, high)


def pooled(cases: Sequence[Estimate]) -> Estimate:
    """The mean over cases, such as networks, that differ by more than chance; its interval covers other cases.

    Cases without an interval are left out; the only one that is left stands for itself.

    Source: DerSimonian and Laird 1986 for the variance between cases; Knapp and Hartung 2003 for the interval, which is
        never narrower than the one without their factor.
    """
    known = [one for one in cases if not math.isnan(one.low + one.high)]
    if len(known) < 2:
        return known[0] if known else Estimate(math.nan, math.nan, math.nan)
    values = np.array([one.value for one in known])
    errors = np.array([(one.high - one.low) / (2 * Z) for one in known])
    squares = np.square(np.maximum(errors, max(1e-6 * max(np.ptp(values), errors.max()), 1e-9)))
    weights = 1 / squares
    spread = float(weights @ np.square(values - weights @ values / weights.sum()))
    between = (spread - len(known) + 1) / (weights.sum() - np.square(weights).sum() / weights.sum())
    weights = 1 / (squares + max(between, 0.0))
    value = float(weights @ values / weights.sum())
    factor = max(1.0, float(weights @ np.square(values - value)) / (len(known) - 1))
    margin = _student(len(known)) * math.sqrt(factor / weights.sum())
    return replace(_around(value, margin), freedom=len(known) - 1)


def majority(p: Sequence[float]) -> float:
    """The p of "more than half of the cases hold", from those of the cases; NaN of none.

    Shape:
        p: one a case, NaN where it has no interval, which counts as 1.

    Source: Benjamini and Heller 2008, the partial conjunction, in Bonferroni's form.
    """
    if not len(p):
        return math.nan
    needed = len(p) // 2 + 1
    return float(min(1.0, (len(p) - needed + 1) * np.sort(np.nan_to_num(p, nan=1.0))[needed - 1]))


def holm(p: Sequence[float]) -> list[float]:
    """The p of claims that are read together, adjusted: below .05, each holds with all the others at 95 %.

    The smallest counts as often as there are claims, the next once less, and none falls below one before it. NaN, of
    what could not be measured, stays NaN and counts as no claim.

    Source: Holm 1979.
    """
    raw = np.array(p, dtype=np.float64)
    order = raw.argsort(kind="stable")[: np.count_nonzero(~np.isnan(raw))]  # NaN sorts last
    raw[order] = np.maximum.accumulate(np.minimum(raw[order] * np.arange(len(order), 0, -1), 1))
    return [float(one) for one in raw]


def standard_error(parts: np.ndarray) -> float:
    """The standard error of a value that each of S independent units moves by its part; NaN for fewer than two."""
    if len(parts) < 2:
        return math.nan
    return math.sqrt(len(parts) / (len(parts) - 1) * float(np.square(parts).sum()))


def _with_seeds(found: Estimate, values: Sequence[float]) -> Estimate:
    """A mean over seeds whose interval tells what other images could have moved it, widened by the seeds' own spread.

    The same images are measured for every seed, so the two are independent, and their squares add up. The interval has
    the more degrees of freedom the less of its width is due to the few seeds.

    Source: Satterthwaite 1946.
    """
    if len(values) < 2:
        return found
    own = _student(len(values)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    margin = math.hypot(found.high - found.value, own)
    freedom = (len(values) - 1) * (margin / own) ** 4 if own > 0 else math.inf
    return replace(found, low=found.value - margin, high=found.value + margin, freedom=freedom)


def _around(value: float, margin: float) -> Estimate:
    return Estimate(value, value - margin, value + margin)


def _student(count: int, level: float = LEVEL) -> float:
    """How many standard errors of a mean of so many units half an interval is."""
    return float(stats.t.ppf((1 + level) / 2, count - 1))


def _cluster_sums(values: np.ndarray, clusters: Numbers) -> np.ndarray:
    return np.bincount(np.unique(np.asarray(clusters), return_inverse=True)[1], weights=values)
