"""Which classes adversarial images are to be taken for."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from neuron_consistency.attacks.targeted import least_likely_targets, random_targets
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.runtime import Runtime
from planted_grey import levels, planted, saying
from toys import CPU, ON, assert_same_state, state_of, toy_images, toy_model


@given(classes=st.integers(2, 20), seed=st.integers(0, 100))
@settings(max_examples=30)
def test_random_targets_are_other_classes_and_repeat(classes: int, seed: int) -> None:
    labels = torch.arange(200) % classes
    targets = random_targets(labels, num_classes=classes, seed=seed)
    assert not bool((targets == labels).any())
    assert 0 <= int(targets.min()) <= int(targets.max()) < classes
    assert torch.equal(targets, random_targets(labels, num_classes=classes, seed=seed))


def test_random_targets_are_even_among_the_others() -> None:
    counts = random_targets(torch.full((9000,), 2), num_classes=4).bincount(minlength=4)
    assert counts[2] == 0
    assert stats.chisquare(counts[[0, 1, 3]]).pvalue > 1e-3


def test_least_likely_targets_follow_the_mean_probability() -> None:
    """By hand, for the classes 0 to 3: the means are .55, .10, .20, .15 and .05, .45, .15, .35. The mean of the
    logarithms would put class 2 of the first image (.0002 and .3998) before class 1. The true class, though the least
    likely of the second image, is never a target."""
    one = planted([[0.5998, 0.1, 0.0002, 0.3 - 1e-4], [0.05, 0.6, 0.1, 0.25]])
    two = planted([[0.5002, 0.1, 0.3998, 1e-4], [0.05, 0.3, 0.2, 0.45]])
    images = levels([0, 1], [0, 0])
    assert least_likely_targets([one, two], images, ON, count=3).tolist() == [[1, 3, 2], [2, 3, 1]]
    assert least_likely_targets([one, two], images, ON, count=1).tolist() == [[1], [2]]
    assert least_likely_targets([one], images, ON, count=1).tolist() == [[2], [2]]


def test_least_likely_targets_tell_classes_of_vanishing_probability_apart() -> None:
    """exp(-300) and exp(-200) are both 0 in float32: the order is of their logarithms."""
    model = planted([[1.0, 1.0, 1.0, 1.0]])
    model.network.register_buffer("table", torch.tensor([[0.0, -200.0, -300.0, -250.0]]))
    targets = least_likely_targets([model, model], levels([0], [0]), ON, count=3)
    assert targets.tolist() == [[2, 3, 1]]


def test_least_likely_targets_leave_the_networks_and_do_not_depend_on_batches(trained_toy: Classifier) -> None:
    images, other = toy_images(20), toy_model(seed=1)
    before = [state_of(model) for model in (trained_toy, other)]
    found = least_likely_targets([trained_toy, other], images, ON, count=2)
    for state, model in zip(before, (trained_toy, other), strict=True):
        assert_same_state(state, model)
    assert torch.equal(found, least_likely_targets([trained_toy, other], images, Runtime(CPU, "float32", 3), count=2))


@pytest.mark.parametrize("count", [0, 4])
def test_more_targets_than_other_classes_are_refused(count: int) -> None:
    with pytest.raises(ParameterError, match=f"{count} targets by 1 networks: 4 classes leave 1 to 3"):
        least_likely_targets([saying([0])], levels([0], [0]), ON, count=count)
    with pytest.raises(ParameterError, match="one network is needed"):
        least_likely_targets([], levels([0], [0]), ON, count=1)
