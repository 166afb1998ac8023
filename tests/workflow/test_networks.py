"""Which networks the chapters evaluate: the book's own, and those chosen beside them."""

from __future__ import annotations

import pytest

from neuron_consistency.errors import ParameterError
from neuron_consistency.workflow import networks
from neuron_consistency.workflow.networks import current_models, write_current
from planned import PARAMETERS, planned, planned_one

pytestmark = pytest.mark.usefixtures("toy_data")


def test_the_book_writes_its_own_and_forgets_what_was_chosen() -> None:
    book, chosen = [planned_one()], [planned_one(beta=3.0)]
    write_current("smoke", book, chosen=False)
    assert current_models("smoke") == book
    write_current("smoke", chosen, chosen=True)
    assert current_models("smoke") == book + chosen  # the new network beside the old
    other = [planned_one(beta=5.0)]
    write_current("smoke", other, chosen=True)
    assert current_models("smoke") == book + other
    write_current("smoke", book, chosen=False)
    assert current_models("smoke") == book


def test_a_network_chosen_that_is_the_books_own_is_listed_once() -> None:
    write_current("smoke", planned(), chosen=False)
    write_current("smoke", planned(), chosen=True)
    assert current_models("smoke") == planned()


def test_with_nothing_chosen_notebook_03s_own_parameters_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "training_parameters", lambda profile: PARAMETERS)
    assert current_models("smoke") == planned()
    write_current("smoke", [planned_one(beta=3.0)], chosen=True)
    assert current_models("smoke") == [planned_one(beta=3.0)]


def test_only_some_of_the_networks_are_asked_for() -> None:
    write_current("smoke", planned(), chosen=False)
    first = planned()[0]
    assert current_models("smoke", architectures=[first.architecture], objectives=[first.objective]) == [first]
    assert current_models("smoke", seeds=[first.seed]) == planned()
    with pytest.raises(ParameterError, match="no network of lenet, seed 9 among those of notebook 03"):
        current_models("smoke", architectures=["lenet"], seeds=[9])
