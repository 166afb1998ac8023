"""The networks of chapter 11: which ones the choices that the paper leaves open make."""

from __future__ import annotations

import pytest

from neuron_consistency.errors import ParameterError
from neuron_consistency.workflow.networks import BASE, NORMAL, WITHOUT, choice_recipes

pytestmark = pytest.mark.usefixtures("toy_data")


def test_each_change_is_one_network_that_differs_in_it_alone() -> None:
    """Were two things to change at once, a difference could be laid on neither."""
    changes: dict[str, list[object]] = {"beta": [10.0], "epsilon": [8 / 255], "second_example": [True]}
    recipes = choice_recipes("smoke", changes, architecture="alexnet", seeds=[0, 1])
    assert list(recipes) == [NORMAL, BASE, WITHOUT, "beta = 10.0", "epsilon = 8/255", "second_example = True"]
    assert all([recipe.seed for recipe in each] == [0, 1] for each in recipes.values())
    base = recipes[BASE][0].spec
    for title, (name, (changed,)) in zip(list(recipes)[3:], changes.items(), strict=True):
        assert recipes[title][0].spec == base | {"loss": base["loss"] | {name: changed}}
    assert recipes[WITHOUT][0].loss.beta == 0
    with pytest.raises(ParameterError):
        choice_recipes("smoke", {"distance": ["far"]}, architecture="alexnet", seeds=[0])
