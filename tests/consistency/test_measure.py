"""The measure of P1's Eq. 3, its chance level, its unbiased form and its intervals."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from neuron_consistency.consistency.measure import (
    chance,
    consistency,
    consistency_row,
    mean_consistency,
    neuron_table,
    unbiased_consistency,
)
from neuron_consistency.errors import ParameterError
from neuron_consistency.responses import JACKKNIFE_GROUPS, LayerResponses, Responses, deal
from neuron_consistency.taxonomy import correlation, distance_matrix


def near(a: Tensor | float, b: Tensor | float) -> bool:
    a, b = (torch.as_tensor(value, dtype=torch.float64) for value in (a, b))
    return torch.allclose(a, b, rtol=1e-10, atol=1e-12, equal_nan=True)


@pytest.fixture
def four() -> Tensor:
    """A of four animals, written down by hand: 0 and 1 siblings (d = 2), 2 and 3 too, d = 4 across; sigma = 2."""
    sibling, cousin = math.exp(-4 / 8), math.exp(-16 / 8)
    return torch.tensor(
        [
            [1, sibling, cousin, cousin],
            [sibling, 1, cousin, cousin],
            [cousin, cousin, 1, sibling],
            [cousin, cousin, sibling, 1],
        ],
        dtype=torch.float64,
    )


def random_correlation(classes: int, seed: int) -> Tensor:
    """A made from places on a line, so that it is symmetric, positive and of unit diagonal as Eq. 2's is."""
    places = torch.rand(classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 6
    return torch.exp(-(places[:, None] - places[None]).square() / 2)


# the measure


def test_animals_of_wordnet_give_the_matrix_made_by_hand() -> None:
    """Two cats under "domestic cat" (1 + 1); two dogs under "hunting dog" (3 + 3); across, up two from a cat to
    "domestic animal" and down five to a dog."""
    wnids = ["n02123045", "n02123394", "n02090721", "n02099601"]  # tabby, Persian, Irish wolfhound, golden retriever
    cats, dogs, across = math.exp(-4 / 8), math.exp(-36 / 8), math.exp(-49 / 8)
    by_hand = torch.tensor(
        [
            [1, cats, across, across],
            [cats, 1, across, across],
            [across, across, 1, dogs],
            [across, across, dogs, 1],
        ],
        dtype=torch.float64,
    )
    a = correlation(distance_matrix(wnids), sigma=2.0)
    assert near(a, by_hand)
    assert near(consistency(torch.tensor([2, 2, 2, 2]), a), (4 + 2 * cats + 2 * dogs + 8 * across) / 16)


def test_one_hot_p_gives_one_and_uniform_p_the_mean_of_a(four: Tensor) -> None:
    assert near(consistency(5 * torch.eye(4), four), torch.ones(4))
    assert near(consistency(torch.full((4,), 3), four), four.mean())


def test_worked_example_by_hand(four: Tensor) -> None:
    """Three images of class 0 and one of class 1: V = (9 + 1 + 6a)/16, U over the 12 ordered pairs (6 + 6a)/12."""
    counts = torch.tensor([3, 1, 0, 0])
    sibling = math.exp(-0.5)
    assert near(consistency(counts, four), (10 + 6 * sibling) / 16)
    assert near(unbiased_consistency(counts, four), (6 + 6 * sibling) / 12)


def test_unbiased_form_is_the_mean_over_pairs_of_different_images() -> None:
    """A brute-force mean over ordered pairs of images, none with itself."""
    a = random_correlation(5, seed=1)
    labels = [0, 0, 1, 3, 4, 4, 4]
    pairs = [float(a[i, j]) for i, j in itertools.permutations(labels, 2)]
    counts = torch.bincount(torch.tensor(labels), minlength=5)
    assert near(unbiased_consistency(counts, a), sum(pairs) / len(pairs))


@pytest.mark.parametrize("counts", [[0, 0, 0, 0], [0, 1, 0, 0]])
def test_fewer_than_two_active_images_give_nan(four: Tensor, counts: list[int]) -> None:
    assert consistency(torch.tensor(counts), four).isnan()
    assert unbiased_consistency(torch.tensor(counts), four).isnan()


@given(
    counts=st.lists(st.integers(0, 50), min_size=2, max_size=8).filter(lambda c: sum(c) >= 2),
    seed=st.integers(0, 1000),
)
def test_bounds_and_order_of_classes(counts: list[int], seed: int) -> None:
    """0 <= V <= 1, U <= V, and neither depends on how the classes are numbered."""
    a, tally = random_correlation(len(counts), seed), torch.tensor(counts)
    v, u = consistency(tally, a), unbiased_consistency(tally, a)
    assert 0 <= v <= 1 + 1e-12
    assert u <= v + 1e-12
    order = torch.randperm(len(counts), generator=torch.Generator().manual_seed(seed))
    assert near(consistency(tally[order], a[order][:, order]), v)
    assert near(unbiased_consistency(tally[order], a[order][:, order]), u)


# chance


@pytest.mark.parametrize("m", [2, 3, 5])
def test_chance_levels_are_the_exact_means_over_all_shufflings(m: int) -> None:
    """All ways to draw m of 8 images: the means of V and U are decision 8's levels to rounding."""
    labels, a = torch.tensor([0, 0, 0, 1, 1, 2, 2, 3]), random_correlation(4, seed=3)
    drawn = torch.tensor(list(itertools.combinations(range(len(labels)), m)))
    counts = torch.nn.functional.one_hot(labels[drawn], 4).sum(1)
    level = chance(labels, a)
    assert near(consistency(counts, a).mean(), level.biased(torch.tensor(m)))
    assert near(unbiased_consistency(counts, a).mean(), level.unbiased)


def test_chance_by_its_formula_and_by_shuffled_labels() -> None:
    """s' = (N s - 1)/(N - 1); 4,000 shuffles of a fixed pattern of firing agree within five standard errors."""
    generator = torch.Generator().manual_seed(0)
    labels, a = torch.randint(0, 6, (200,), generator=generator), random_correlation(6, seed=4)
    q = torch.bincount(labels, minlength=6).double() / 200
    s = float(q @ a @ q)
    level = chance(labels, a)
    assert level.unbiased == pytest.approx((200 * s - 1) / 199, rel=1e-12)
    active = torch.stack([torch.randperm(200, generator=generator)[:10] for _ in range(4000)])
    counts = torch.nn.functional.one_hot(labels[active], 6).sum(1)
    for values, expected in (
        (consistency(counts, a), float(level.biased(torch.tensor(10)))),
        (unbiased_consistency(counts, a), level.unbiased),
    ):
        assert abs(float(values.mean()) - expected) < 5 * float(values.std()) / math.sqrt(len(values))


def test_chance_of_a_neuron_without_two_images_is_nan() -> None:
    level = chance(torch.tensor([0, 1]), torch.eye(2))
    assert level.biased(torch.tensor([0, 1, 2])).isnan().tolist() == [True, True, False]


def test_chance_needs_two_images() -> None:
    with pytest.raises(ParameterError, match="two images"):
        chance(torch.tensor([0]), torch.eye(2))


# means and intervals


def test_silent_neurons_are_left_out_and_counted() -> None:
    """Of four neurons, one silent and one with a single image: half excluded, the mean over the rest."""
    counts = torch.zeros(JACKKNIFE_GROUPS, 4, 2, dtype=torch.int64)
    counts[0, 0], counts[1, 0] = torch.tensor([3, 0]), torch.tensor([3, 0])
    counts[0, 1], counts[1, 1] = torch.tensor([2, 0]), torch.tensor([0, 2])
    counts[0, 2] = torch.tensor([1, 0])
    found = mean_consistency(counts, torch.eye(2), unbiased=False)
    assert found.excluded == 0.5
    assert found.value == pytest.approx((1 + 0.5) / 2)
    assert len(found.replicates) == JACKKNIFE_GROUPS


def test_nothing_but_silent_neurons_is_nan_not_an_error() -> None:
    found = mean_consistency(torch.zeros(JACKKNIFE_GROUPS, 3, 2, dtype=torch.int64), torch.eye(2), unbiased=True)
    assert math.isnan(found.value)
    assert math.isnan(found.low)
    assert found.excluded == 1


def simulated_counts(labels: Tensor, rates: list[Tensor], generator: torch.Generator, groups: Tensor) -> list[Tensor]:
    """Counts (JACKKNIFE_GROUPS, C, K) of neurons that fire at their rate for a class; images differ in how strongly
    they fire all neurons, and the passes of one set share its images, as a clean and an attacked pass do."""
    strength = 0.5 + torch.rand(len(labels), 1, generator=generator)
    draw = torch.rand(len(labels), len(rates[0]), generator=generator)
    found = []
    for rate in rates:
        image, neuron = torch.nonzero(draw < rate.T[labels] * strength, as_tuple=True)
        counts = torch.zeros(JACKKNIFE_GROUPS, *rate.shape, dtype=torch.int64)
        counts.index_put_((groups[image], neuron, labels[image]), torch.ones_like(image), accumulate=True)
        found.append(counts)
    return found


@pytest.mark.parametrize("classes", [20, 24])
def test_intervals_cover(classes: int) -> None:
    """Of 400 simulated sets, the nominal 95 % interval holds the true U in 93 to 99.5 %, and the true difference of
    two passes in as many. The jackknife's variance is biased upward (Efron and Stein 1981), so it covers a little
    more. The classes come in turn, as rendered scenes do: groups by place would follow them (20 classes: 100 %)."""
    generator = torch.Generator().manual_seed(classes)
    a = random_correlation(classes, seed=9)
    affinity = torch.rand(12, classes, generator=generator) ** 3 + 0.05
    sharp, blunt = affinity**1.5, affinity**0.7
    rates = [20 / 480 * r / r.mean(1, keepdim=True) for r in (sharp, blunt)]
    true = [float(unbiased_consistency(1e9 * r.double(), a).mean()) for r in rates]
    labels = torch.arange(480) % classes
    groups = deal(labels)
    held = np.zeros(2)
    trials, widths, values = 400, [], []
    for _ in range(trials):
        one, two = (
            mean_consistency(counts, a, unbiased=True) for counts in simulated_counts(labels, rates, generator, groups)
        )
        difference = one.minus(two)
        held += [one.low <= true[0] <= one.high, difference.low <= true[0] - true[1] <= difference.high]
        widths.append(one.high - one.low)
        values.append(one.value)
    assert np.mean(values) == pytest.approx(true[0], rel=0.02)  # U is unbiased
    assert np.all((held / trials >= 0.93) & (held / trials <= 0.995)), held / trials
    assert np.mean(widths) < 2 * 1.5 * 1.96 * np.std(values)  # covered by precision, not by sheer width


def test_paired_difference_of_equal_passes_is_zero_with_no_width() -> None:
    generator = torch.Generator().manual_seed(0)
    counts = torch.randint(0, 3, (JACKKNIFE_GROUPS, 5, 4), generator=generator)
    one = mean_consistency(counts, torch.eye(4), unbiased=True)
    difference = one.minus(one)
    assert (difference.value, difference.low, difference.high) == (0, 0, 0)
    assert difference.verdict(above=0) == "cannot be told"


def test_verdict_names_the_side_of_zero() -> None:
    sure = torch.zeros(JACKKNIFE_GROUPS, 1, 2, dtype=torch.int64)
    sure[:, 0, 0] = 2
    mixed = torch.ones(JACKKNIFE_GROUPS, 1, 2, dtype=torch.int64)
    high, low = (mean_consistency(counts, torch.eye(2), unbiased=True) for counts in (sure, mixed))
    assert high.minus(low).verdict(above=0) == "higher"
    assert low.minus(high).verdict(above=0) == "lower"


# tables


@pytest.fixture
def two_neurons() -> Responses:
    """Forty images of two classes; neuron 0 fires for the 20 of class 0, neuron 1 for ten of each."""
    labels = torch.arange(40) % 2
    groups = deal(labels)
    active = [torch.nonzero(labels == 0).squeeze(1), torch.arange(20)]
    counts = torch.zeros(JACKKNIFE_GROUPS, 2, 2, dtype=torch.int64)
    for neuron, images in enumerate(active):
        counts.index_put_((groups[images], torch.tensor(neuron), labels[images]), torch.tensor(1), accumulate=True)
    top = torch.stack(active, dim=1)
    layer = LayerResponses(torch.ones(2), torch.ones(20, 2), top, {"true": counts, "predicted": counts.flip(2)})
    return Responses(labels, 1 - labels, 2, {"last": layer})


def test_neuron_table_by_hand(two_neurons: Responses) -> None:
    table = neuron_table(two_neurons, "last", torch.eye(2))
    assert table["m"].tolist() == [20, 20]
    assert table["V"].tolist() == pytest.approx([1.0, 0.5])
    assert table["U"].tolist() == pytest.approx([1.0, 9 / 19])
    assert table["U chance"].tolist() == pytest.approx([19 / 39] * 2)
    assert table["V chance"].tolist() == pytest.approx([1 / 20 + 19 / 20 * 19 / 39] * 2)


def test_consistency_row_by_hand(two_neurons: Responses) -> None:
    """Means over the two neurons; the five strongest images of neuron 1 are of classes 0 1 0 1 0."""
    row = consistency_row(two_neurons, "last", torch.eye(2), equal_m=5)
    assert row["images"] == 40
    assert row["m"] == 20
    assert row["V"] == pytest.approx(0.75)
    assert row["U"] == pytest.approx((1 + 9 / 19) / 2)
    assert row["V low"] <= row["V"] <= row["V high"]
    assert row["V top"] == pytest.approx((1 + 13 / 25) / 2)
    assert row["U top"] == pytest.approx((1 + 8 / 20) / 2)
    assert row["excluded"] == 0
    assert consistency_row(two_neurons, "last", torch.eye(2), kind="predicted", equal_m=5)["U"] == pytest.approx(
        row["U"]
    )
