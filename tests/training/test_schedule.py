"""The learning rate over the steps, and what is decayed."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from neuron_consistency.errors import ParameterError
from neuron_consistency.training.schedule import Schedule, optimiser_of
from toys import toy_model


def test_rate_rises_linearly_for_a_fifth_and_falls_to_zero_as_a_cosine() -> None:
    rates = [Schedule(epochs=1, learning_rate=0.5).rate(step, 100) for step in range(100)]
    assert rates[:20] == pytest.approx([0.5 * (step + 1) / 20 for step in range(20)])
    assert rates[20] == pytest.approx(0.5)
    assert rates[60] == pytest.approx(0.25)  # half-way down
    assert rates[99] == pytest.approx(0.0, abs=5e-4)
    assert all(a >= b for a, b in itertools.pairwise(rates[20:]))
    assert [Schedule(epochs=1, learning_rate=0.5).rate(0, steps) for steps in (1, 2)] == [0.5, 0.5]


@pytest.mark.parametrize("bad", [{"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0.0}])
def test_schedule_values_that_cannot_work_are_named(bad: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=next(iter(bad))):
        Schedule(**{"epochs": 1, **bad})


def test_weight_decay_spares_biases_and_batch_norm() -> None:
    decayed, plain = optimiser_of(toy_model(), Schedule(epochs=1, weight_decay=0.3)).param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
    assert {parameter.ndim for parameter in decayed["params"]} == {2, 4}
    assert {parameter.ndim for parameter in plain["params"]} == {1}


def test_a_frozen_network_is_refused() -> None:
    """Else the first step ends in an error of autograd."""
    with pytest.raises(ParameterError, match="all weights of the network are frozen"):
        optimiser_of(toy_model().requires_grad_(False), Schedule(epochs=1))
