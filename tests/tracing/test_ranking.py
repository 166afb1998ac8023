"""Areas under the curve: against brute force and DeLong, and intervals that hold for images made from one another."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from neuron_consistency.errors import ParameterError
from neuron_consistency.statistics import Estimate
from neuron_consistency.tracing.figures import auroc_intervals
from neuron_consistency.tracing.ranking import auroc


def of(scores: Tensor, sources: Tensor) -> pd.Series[float]:
    """Scores by the image that each came from."""
    return pd.Series(scores.double().numpy(), sources.numpy())


def brute(positives: Tensor, negatives: Tensor) -> float:
    wins = (positives[:, None] > negatives).double() + 0.5 * (positives[:, None] == negatives).double()
    return float(wins.mean())


@settings(max_examples=50)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=9), st.lists(st.integers(0, 4), min_size=1, max_size=9))
def test_the_area_is_the_share_of_pairs_won(positives: list[int], negatives: list[int]) -> None:
    """Ties count half; the interval lies within [0, 1] and holds the area."""
    above, below = torch.tensor(positives).double(), torch.tensor(negatives).double()
    found = auroc(of(above, torch.arange(len(above))), of(below, 100 + torch.arange(len(below))))
    assert found.value == pytest.approx(brute(above, below))
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_unrelated_images_have_delongs_variance() -> None:
    """With every image a source of its own, the standard error is DeLong's (up to M/(M - 1) and N/(N - 1))."""
    generator = torch.Generator().manual_seed(0)
    above, below = torch.randn(300, generator=generator) + 1, torch.randn(200, generator=generator)
    found = auroc(of(above, torch.arange(300)), of(below, 300 + torch.arange(200)))
    won = (above[:, None] > below).double()
    delong = math.sqrt(float(won.mean(1).var() / 300 + won.mean(0).var() / 200))
    by_logit = (math.log(found.high / (1 - found.high)) - math.log(found.low / (1 - found.low))) / (2 * 1.959964)
    assert by_logit * found.value * (1 - found.value) == pytest.approx(delong, rel=0.01)


def test_intervals_cover_the_truth_when_images_come_in_pairs() -> None:
    """A clean image and the adversarial one made from it share what makes both scores high or low."""
    generator = torch.Generator().manual_seed(1)
    truth = 0.5 * (1 + math.erf(1 / math.sqrt(2) / math.sqrt(2)))  # two normals of variance 1, 1 apart
    covered = 0
    sources = torch.arange(60)
    for _ in range(300):
        shared = torch.randn(60, generator=generator)
        clean = 0.8 * shared + 0.6 * torch.randn(60, generator=generator)
        attacked = 1 + 0.8 * shared + 0.6 * torch.randn(60, generator=generator)
        one = auroc(of(attacked, sources), of(clean, sources))
        covered += one.low <= truth <= one.high
    assert 0.92 <= covered / 300 <= 0.985


def test_copies_of_an_image_do_not_narrow_the_interval() -> None:
    generator = torch.Generator().manual_seed(2)
    above, below = torch.randn(40, generator=generator) + 1, torch.randn(40, generator=generator)
    sources = torch.arange(40)
    one = auroc(of(above, sources), of(below, sources))
    ten = auroc(of(above.repeat(10), sources.repeat(10)), of(below, sources))
    assert (ten.value, ten.low, ten.high) == pytest.approx((one.value, one.low, one.high))


def test_paired_differences_are_narrower_than_unpaired() -> None:
    """Two detectors that see the same images differ by less than their intervals suggest; a detector's own is 0."""
    generator = torch.Generator().manual_seed(3)
    above, below = torch.randn(80, generator=generator) + 1, torch.randn(80, generator=generator)
    sources = torch.arange(80)
    one = auroc(of(above, sources), of(below, 80 + sources))
    nearly = auroc(of(above + 0.1 * torch.randn(80, generator=generator), sources), of(below, 80 + sources))
    difference = one.minus(nearly)
    assert difference.value == pytest.approx(one.value - nearly.value)
    assert 0 < difference.high - difference.low < 0.5 * (one.high - one.low)
    assert one.minus(one) == Estimate(0, 0, 0)
    assert one.minus(0.5) == Estimate(one.value - 0.5, one.low - 0.5, one.high - 0.5)
    with pytest.raises(ParameterError, match="same images"):
        one.minus(auroc(of(above[:40], sources[:40]), of(below, 80 + sources)))


def test_perfect_separation_is_not_certain() -> None:
    """Five images told apart of five: so many would be by chance 2.5 times in a hundred at the lower bound."""
    sources = torch.arange(5)
    found = auroc(of(torch.ones(5), sources), of(torch.zeros(5), sources))
    assert (found.value, found.high) == (1, 1)
    assert found.low**5 == pytest.approx(0.025)
    inverse = auroc(of(torch.zeros(5), sources), of(torch.ones(5), sources))
    assert (inverse.value, inverse.low, inverse.high) == pytest.approx((0, 0, 1 - found.low))


def test_no_positive_gives_nan_and_not_an_error() -> None:
    found = auroc(of(torch.zeros(0), torch.arange(0)), of(torch.ones(5), torch.arange(5)))
    assert math.isnan(found.value)
    assert math.isnan(found.low)
    assert (found.positives, found.negatives) == (0, 5)


def test_the_figure_of_areas_has_a_panel_a_network() -> None:
    numbers = {"AUROC": 0.7, "low": 0.6, "high": np.nan, "verdict": ""}
    rows = pd.DataFrame(
        {"model": model, "attack": "FGSM", "detector": detector} | numbers
        for model in ("a", "b", "c")
        for detector in ("mismatch", "softmax")
    )
    assert sum(axis.get_visible() for axis in auroc_intervals(rows).axes) == 3
