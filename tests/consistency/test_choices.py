"""One choice changed at a time: which networks that makes, and what is said of their differences."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from neuron_consistency.attacks.linf import fgsm
from neuron_consistency.consistency.ambiguity import FGSM, REAL, Measured
from neuron_consistency.consistency.choices import (
    BASE,
    MEASURES,
    NORMAL,
    WITHOUT,
    Seen,
    choice_recipes,
    choice_table,
    threshold_sweep,
)
from neuron_consistency.consistency.figures import choice_differences
from neuron_consistency.consistency.measure import chance
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.responses import respond
from neuron_consistency.workflow.networks import training_parameters
from toys import CPU, toy_images, toy_model


def test_each_change_is_one_network_that_differs_in_it_alone() -> None:
    """Were two things to change at once, a difference could be laid on neither."""
    changes: dict[str, list[object]] = {"beta": [10.0], "epsilon": [8 / 255], "second_example": [True]}
    recipes = choice_recipes("smoke", training_parameters("smoke"), changes, architecture="alexnet", seeds=[0, 1])
    assert list(recipes) == [NORMAL, BASE, WITHOUT, "beta = 10.0", "epsilon = 8/255", "second_example = True"]
    assert all([recipe.spec["seed"] for recipe in each] == [0, 1] for each in recipes.values())
    base = recipes[BASE][0].spec
    for title, (name, (changed,)) in zip(list(recipes)[3:], changes.items(), strict=True):
        assert recipes[title][0].spec == base | {"loss": base["loss"] | {name: changed}}
    assert recipes[WITHOUT][0].spec["loss"]["beta"] == 0
    with pytest.raises(ParameterError):
        choice_recipes("smoke", training_parameters("smoke"), {"distance": ["far"]}, architecture="alexnet", seeds=[0])


def seen(model: Classifier, images: ImageSet) -> Seen:
    options = {"device": CPU, "top_k": 8, "precision": "float32"}
    real = respond(model, images, **options)  # type: ignore[arg-type]
    fixed = {name: layer.thresholds for name, layer in real.layers.items()}
    attack = lambda net, batch, labels: fgsm(net, batch, labels, epsilon=2 / 255)  # noqa: E731
    attacked = respond(model, images, thresholds=fixed, attack=attack, **options)  # type: ignore[arg-type]
    return Seen(Measured("last", {REAL: real, FGSM: attacked}), attacked.predictions)


def test_a_difference_is_told_where_its_interval_leaves_zero_out(trained_toy: Classifier) -> None:
    """Planted: a network that knows its classes against one of random weights, and against itself."""
    images, random = toy_images(200, noise=0.25, seed=7), toy_model(seed=5).eval()
    good, bad = seen(trained_toy, images), seen(random, images)
    table = choice_table({BASE: [good], "random": [bad], "again": [good]}, images.labels, torch.eye(4))
    told: dict[Any, Any] = table.set_index(["choice", "measure"]).to_dict("index")
    measures = {measure for choice, measure in told if choice == BASE}
    assert measures == {*MEASURES, "accuracy", "accuracy, FGSM", "accuracy, PGD"}
    for measure in measures:
        assert told["again", measure]["difference"] == 0
        assert told["again", measure]["verdict"] == "cannot be told"
        assert told[BASE, measure]["verdict"] == ""
    clean, expected = told["random", "accuracy"], bad.right(images.labels)["accuracy"].mean().item()
    assert clean["value"] == pytest.approx(expected)
    assert clean["difference"] == pytest.approx(expected - told[BASE, "accuracy"]["value"])
    assert clean["verdict"] == told["random", "U, real"]["verdict"] == "lower"
    panels = [axis for axis in choice_differences(table).axes if axis.get_visible()]
    assert {axis.get_title() for axis in panels} == measures
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["random", "again"]  # not the standing one
    for axis in panels:  # what is not shown to differ must not look as if it were
        first, second = (line.get_markerfacecolor() for line in axis.lines if line.get_marker() == "o")
        assert second == "w"
        assert (first == "w") == (told["random", axis.get_title()]["verdict"] == "cannot be told")


def test_two_seeds_that_disagree_settle_nothing(trained_toy: Classifier) -> None:
    images, random = toy_images(200, noise=0.25, seed=7), toy_model(seed=5).eval()
    good, bad = seen(trained_toy, images), seen(random, images)
    table = choice_table({BASE: [good, bad], "swapped": [bad, good]}, images.labels, torch.eye(4))
    swapped = table[table["choice"] == "swapped"]
    assert swapped["difference"].abs().max() < 1e-9
    assert (swapped["verdict"] == "cannot be told").all()


def test_the_sweep_over_shares_changes_how_many_images_activate(trained_toy: Classifier) -> None:
    images = toy_images(100, noise=0.25, seed=7)
    rows = threshold_sweep({"net": trained_toy}, images, torch.eye(4), [0.05, 0.2], epsilon=0.01, device=CPU)
    real = rows[rows["set"] == REAL]
    assert real["m"].to_list() == pytest.approx([5, 20], rel=0.3)
    assert (rows["U chance"] == chance(images.labels, torch.eye(4)).unbiased).all()
