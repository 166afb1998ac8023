"""Shares, means, intervals and the rule that settles a question: by hand, by other libraries, by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from neuron_consistency.statistics import (
    OPEN,
    SIDES,
    Estimate,
    holm,
    jackknife,
    mean,
    mean_over_seeds,
    middle,
    over_seeds,
    share,
    standard_error,
)


def bounds(found: Estimate) -> tuple[float, float, float]:
    return found.value, found.low, found.high


# estimates


def test_a_row_has_the_columns_of_its_table_and_is_read_back() -> None:
    found = Estimate(0.5, 0.4, 0.7)
    assert found.row("U") == {"U": 0.5, "U low": 0.4, "U high": 0.7}
    assert found.row("AUROC", bare=True) == {"AUROC": 0.5, "low": 0.4, "high": 0.7}
    assert Estimate.read(found.row("U") | {"low": 9}, "U") == found
    assert Estimate.read(found.row("value", bare=True), "value") == found


def test_a_difference_is_paired_where_both_are_of_the_same_images() -> None:
    """What moves both alike moves their difference not at all. Independent intervals add up in squares, and a number
    that is known has none."""
    moves = np.array([-0.3, 0.0, 0.3])
    one, other = jackknife(2.0, 2 + moves, 0.1), jackknife(1.5, 1.5 + moves, 0.2)
    assert bounds(one.minus(other)) == pytest.approx((0.5, 0.5, 0.5))
    assert one.minus(other).excluded == 0.2
    apart = Estimate(2.0, 1.7, 2.3).minus(Estimate(1.5, 1.1, 1.9))
    assert bounds(apart) == pytest.approx((0.5, 0.0, 1.0))
    assert bounds(one.minus(Estimate(0, 0, 0))) == pytest.approx(bounds(one))
    assert bounds(Estimate(2.0, 1.5, 3.0).minus(0.5)) == (1.5, 1.0, 2.5)


@pytest.mark.parametrize(
    ("low", "high", "sides", "expected"),
    [
        (0.1, 0.2, {"above": 0.0}, "holds"),
        (-0.1, 0.2, {"above": 0.0}, "cannot be told"),
        (-0.2, -0.1, {"above": 0.0}, "fails"),
        (-0.2, -0.1, {"below": 0.0}, "holds"),
        (0.97, 1.02, {"above": 0.95, "below": 1.05}, "holds"),
        (0.9, 1.02, {"above": 0.95, "below": 1.05}, "cannot be told"),
        (1.06, 1.2, {"above": 0.95, "below": 1.05}, "fails"),
        (math.nan, math.nan, {"above": 0.0}, "cannot be told"),
        (-math.inf, math.inf, {"above": 0.0}, "cannot be told"),
    ],
)
def test_a_verdict_follows_from_its_interval(low: float, high: float, sides: dict[str, float], expected: str) -> None:
    assert Estimate(low, low, high).settles(**sides)["verdict"] == expected


def test_no_difference_at_all_settles_nothing() -> None:
    """An interval of no width on the line, as of two networks that no attack spares, would read as a failed claim."""
    nothing = Estimate(0.0, 0.0, 0.0)
    assert nothing.settles(above=0) == nothing.row("value", bare=True) | {"verdict": "cannot be told"}
    assert nothing.settles(above=0)["verdict"] == nothing.settles(below=0)["verdict"] == OPEN
    assert nothing.verdict(above=0) == OPEN
    assert [Estimate(sign, sign - 0.5, sign + 0.5).verdict(above=0) for sign in (1, -1)] == list(SIDES[:2])
    assert Estimate(0.0, -1.0, 0.0).verdict(above=0) == OPEN
    assert Estimate(0.6, 0.51, 0.7).verdict(above=0.5, words=("better", "worse", "not shown")) == "better"


def test_the_p_of_a_line_by_hand() -> None:
    """Were p and interval to disagree, a table's words would not fit the intervals beside them."""
    found = Estimate(1.0, 1 - 1.959964, 1 + 2 * 1.959964)  # one standard error down, two up
    assert found.p(above=0) == found.p(below=0) == pytest.approx(0.3173, abs=1e-4)
    assert found.p(above=3) == pytest.approx(0.3173, abs=1e-4)
    assert found.p(above=-2, below=9) == pytest.approx(2 * stats.norm.sf(3))  # the line that is harder to leave out
    assert Estimate(1.0, 0.0, 2.0).p(above=0) == pytest.approx(0.05)
    assert (Estimate(1.0, 1.0, 1.0).p(above=0), Estimate(0.0, 0.0, 0.0).p(above=0)) == (0, 1)
    assert Estimate(1.0, -math.inf, math.inf).p(above=0) == 1
    assert math.isnan(Estimate(1.0, math.nan, math.nan).p(above=0))


@given(value=st.floats(-5, 5), down=st.floats(0.01, 5), up=st.floats(0.01, 5), line=st.floats(-5, 5))
@settings(max_examples=60)
def test_a_p_is_below_a_twentieth_where_the_interval_leaves_the_line_out(
    value: float, down: float, up: float, line: float
) -> None:
    found = Estimate(value, value - down, value + up)
    if min(abs(found.low - line), abs(found.high - line)) > 1e-9:
        assert (found.p(above=line) < 0.05) == (found.low > line or found.high < line)


def test_claims_read_together_by_hand() -> None:
    """Holm 1979: .01 counts four times, .03 then only twice, and .02 may not be surer than .01; what statsmodels gives.

    Were NaN counted, a measure that no set allows would take from the others.
    """
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.02, 0.02, 0.9]) == pytest.approx([0.06, 0.06, 0.9])
    assert holm([0.6, 0.7]) == [1, 1]
    found = holm([math.nan, 0.01, 0.04])
    assert math.isnan(found[0])
    assert found[1:] == pytest.approx([0.02, 0.04])
    assert (holm([]), holm([0.03])) == ([], [0.03])


@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(max_examples=60)
def test_an_adjusted_p_is_no_smaller_keeps_the_order_and_the_smallest_is_bonferronis(p: list[float]) -> None:
    found = holm(p)
    assert all(adjusted >= one for one, adjusted in zip(p, found, strict=True))
    assert sorted(found) == [found[place] for place in np.argsort(p, kind="stable")]
    assert min(found) == pytest.approx(min(1, len(p) * min(p)))


# shares


@given(hits=st.lists(st.booleans(), min_size=1, max_size=60))
@settings(max_examples=60)
def test_an_interval_of_a_share_is_wilsons(hits: list[bool]) -> None:
    """With none or each image a cluster of its own; the share is hits a hundred over images, to the last digit."""
    wilson = stats.binomtest(sum(hits), len(hits)).proportion_ci(method="wilson")
    found = share(torch.tensor(hits))
    assert bounds(found) == pytest.approx((sum(hits) / len(hits), wilson.low, wilson.high), abs=1e-12)
    assert bounds(share(hits, np.arange(len(hits)))) == pytest.approx(bounds(found), abs=1e-9)
    assert share(hits, whole=100).value == 100 * sum(hits) / len(hits)


def test_a_share_by_hand() -> None:
    """2 of 4: 15 % to 85 %. All and none keep their bound, and no image has no share."""
    assert bounds(share(torch.tensor([1, 1, 0, 0]), whole=100)) == pytest.approx((50, 15.0, 85.0), abs=0.1)
    assert (share([1] * 10).high, share([0] * 10).low) == (1, 0)
    assert 0.6 < share([1] * 10).low < 0.8  # ten of ten is not certainty
    assert all(math.isnan(number) for number in bounds(share(torch.zeros(0))))


@given(hits=st.lists(st.booleans(), min_size=2, max_size=30), times=st.integers(2, 10))
@settings(max_examples=60)
def test_copies_of_an_image_count_as_one(hits: list[bool], times: int) -> None:
    """Ten targets that stand or fall together say no more than one: the interval may not shrink."""
    clusters = torch.arange(len(hits))
    again = share(torch.tensor(hits).repeat_interleave(times), clusters.repeat_interleave(times))
    assert bounds(again) == pytest.approx(bounds(share(torch.tensor(hits), clusters)), abs=1e-8)


def test_the_interval_of_clustered_images_covers_as_often_as_it_says() -> None:
    """40 clusters of 10 whose own rates are uniform: a plain interval over 400 would cover in about two of three."""
    generator = torch.Generator().manual_seed(0)
    clusters, covered = torch.arange(40).repeat_interleave(10), 0
    for _ in range(400):
        rates = torch.rand(40, generator=generator)
        found = share(torch.rand(400, generator=generator) < rates[clusters], clusters)
        covered += found.low <= 0.5 <= found.high
    assert 0.91 < covered / 400 < 0.985


# means


def test_an_interval_of_a_mean_is_students() -> None:
    """By hand: mean 2, standard deviation 1, three values, t = 4.3027; at 90 % t = 2.9200. NaN values do not count."""
    margin = 4.30265 / math.sqrt(3)
    assert bounds(mean(torch.tensor([1.0, 2.0, math.nan, 3.0]))) == pytest.approx((2, 2 - margin, 2 + margin), rel=1e-5)
    assert mean([1, 2, 3], level=0.9).high - 2 == pytest.approx(2.91999 / math.sqrt(3), rel=1e-5)


def test_one_value_has_a_mean_and_no_interval() -> None:
    """Its interval is unknown, or without an end where the table says so; of no value not even the mean is known."""
    assert mean([5.0]).value == 5
    assert math.isnan(mean([5.0]).low)
    assert bounds(mean([5.0], lone=math.inf)) == (5, -math.inf, math.inf)
    assert all(math.isnan(number) for number in bounds(mean([])) + bounds(mean([math.nan], lone=math.inf)))
    one_cluster = mean([1.0, 2.0, math.nan], [4, 4, 5])
    assert one_cluster.value == 1.5
    assert math.isnan(one_cluster.low)
    assert math.isnan(mean([math.nan], [0]).value)


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=12), st.integers(1, 4))
def test_copies_of_an_image_add_no_certainty(values: list[float], copies: int) -> None:
    """Ten targets of one image are not ten images: the interval is that of the images."""
    single = np.array(values)
    found = mean(np.repeat(single, copies), np.repeat(np.arange(len(single)), copies))
    margin = stats.t.ppf(0.975, len(single) - 1) * stats.sem(single)
    assert bounds(found) == pytest.approx((single.mean(), single.mean() - margin, single.mean() + margin), abs=1e-9)
    assert bounds(mean(single)) == pytest.approx(bounds(found), abs=1e-9)


def test_a_jackknife_of_a_mean_is_students_interval() -> None:
    """Leaving out one value of a mean at a time gives its standard error exactly."""
    values = np.array([1.0, 2.0, 4.0, 8.0])
    found = jackknife(values.mean(), (values.sum() - values) / 3, 0.25)
    assert bounds(found) == pytest.approx(bounds(mean(values)))
    assert found.excluded == 0.25


def test_a_standard_error_from_parts() -> None:
    """The parts of a mean are the deviations over the number of values: its usual standard error."""
    values = np.array([1.0, 2.0, 4.0, 8.0])
    assert standard_error((values - values.mean()) / 4) == pytest.approx(stats.sem(values))
    assert math.isnan(standard_error(np.zeros(1)))


# seeds


def test_the_mean_over_seeds_keeps_what_images_can_do() -> None:
    """Were replicates not averaged before their spread is taken, images that move all seeds alike would be lost or,
    where they move them apart, be counted twice."""
    alike = [jackknife(value, value + np.array([0.0, 0.2, -0.2])) for value in (1.0, 1.0)]
    assert bounds(over_seeds(alike)) == pytest.approx((1.0, alike[0].low, alike[0].high))
    apart = [jackknife(1.0, 1 + sign * np.array([0.0, 0.2, -0.2]), 0.1) for sign in (1, -1)]
    found = over_seeds(apart)
    assert (found.low, found.high, found.excluded) == pytest.approx((1.0, 1.0, 0.1))
    assert bounds(over_seeds(alike[:1])) == pytest.approx(bounds(alike[0]))


def test_seeds_widen_an_interval_by_their_spread() -> None:
    """By hand: values 1, 2, 3 spread by t = 4.3027 over the root of 3; a margin over images adds up in squares."""
    spread = 4.30265 / math.sqrt(3)
    differing = [jackknife(value, np.full(3, value)) for value in (1.0, 2.0, 3.0)]
    assert over_seeds(differing).high - 2 == pytest.approx(spread, rel=1e-4)
    images = torch.tensor([-1.0, 0.0, 1.0])
    assert bounds(mean_over_seeds(images[None])) == pytest.approx(bounds(mean(images)))
    seeds = images + torch.tensor([1.0, 2.0, 3.0])[:, None]
    margin = math.hypot(spread, spread)  # the images spread as the seeds do
    assert bounds(mean_over_seeds(seeds)) == pytest.approx((2, 2 - margin, 2 + margin), rel=1e-4)


def test_an_interval_of_few_seeds_has_few_degrees_of_freedom() -> None:
    """Read as a normal one, three seeds would be sure of far smaller p than they can give, and Holm would let them be:
    of ten differences of nothing, one is then shown in one family of six, and not of twenty."""
    images, seeds = torch.tensor([-1.0, 0.0, 1.0]), torch.tensor([1.0, 2.0, 3.0])[:, None]
    assert mean_over_seeds(seeds.expand(3, 3)).freedom == pytest.approx(2)
    assert mean_over_seeds(images + seeds).freedom == pytest.approx(2 / 0.5**2)  # half of the square is due to seeds
    assert mean_over_seeds(images.expand(3, 3)).freedom == math.inf == mean_over_seeds(images[None]).freedom
    few = mean_over_seeds(seeds.expand(3, 3))
    assert few.p(above=0) == pytest.approx(float(stats.ttest_1samp([1.0, 2.0, 3.0], 0).pvalue))


def test_the_middle_of_draws_leaves_out_a_fortieth_on_each_side() -> None:
    assert bounds(middle(torch.arange(41.0))) == pytest.approx((20, 1, 39))
