"""One choice changed at a time: what is said of the differences that it makes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from neuron_consistency.consistency.ambiguity import REAL, Passes, measure_with_controls
from neuron_consistency.consistency.choices import (
    ACCURACIES,
    MEASURES,
    choice_table,
    strong_attacks,
    threshold_sweep,
)
from neuron_consistency.consistency.figures import choice_differences
from neuron_consistency.consistency.measure import chance
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.networks.models import Classifier
from neuron_consistency.runtime import Runtime
from toys import CPU, toy_images, toy_model

ON = Runtime(CPU, "float32")
BASE = "as it stands"


def passes(model: Classifier, images: ImageSet) -> Passes:
    return measure_with_controls(model, images, ON, epsilon=2 / 255, top_k=8, pgd_steps=1, controls=False)


def test_a_difference_is_told_where_its_interval_leaves_zero_out(trained_toy: Classifier) -> None:
    """Planted: a network that knows its classes against one of random weights, and against itself."""
    images, random = toy_images(200, noise=0.25, seed=7), toy_model(seed=5).eval()
    good, bad = passes(trained_toy, images), passes(random, images)
    table = choice_table({BASE: [good], "random": [bad], "again": [good]}, torch.eye(4), against=BASE)
    told: dict[Any, Any] = table.set_index(["choice", "measure"]).to_dict("index")
    measures = {measure for choice, measure in told if choice == BASE}
    assert measures == {*MEASURES, *ACCURACIES}
    for measure in measures:
        assert told["again", measure]["difference"] == 0
        assert told["again", measure]["verdict"] == "cannot be told"
        assert told[BASE, measure]["verdict"] == ""
    clean, expected = told["random", "accuracy"], bad.right(REAL).mean().item()
    assert clean["value"] == pytest.approx(expected)
    assert clean["difference"] == pytest.approx(expected - told[BASE, "accuracy"]["value"])
    assert clean["verdict"] == told["random", "U, real"]["verdict"] == "lower"
    panels = [axis for axis in choice_differences(table).axes if axis.get_visible()]
    assert {axis.get_title().replace("\n", " ") for axis in panels} == measures
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["random", "again"]  # not the standing one
    for axis in panels:  # what is not shown to differ must not look as if it were
        lines = [line for line in axis.lines if line.get_marker() == "o"]
        inside = {int(at): line.get_markerfacecolor() for line in lines for at in np.atleast_1d(line.get_ydata())}
        verdict = told["random", axis.get_title().replace("\n", " ")]["verdict"]
        assert [inside[place] == "white" for place in (0, 1)] == [verdict == "cannot be told", True]


def test_two_seeds_that_disagree_settle_nothing(trained_toy: Classifier) -> None:
    images, random = toy_images(200, noise=0.25, seed=7), toy_model(seed=5).eval()
    good, bad = passes(trained_toy, images), passes(random, images)
    table = choice_table({BASE: [good, bad], "swapped": [bad, good]}, torch.eye(4), against=BASE)
    swapped = table[table["choice"] == "swapped"]
    assert swapped["difference"].abs().max() < 1e-9
    assert (swapped["verdict"] == "cannot be told").all()


def test_the_sweep_over_shares_changes_how_many_images_activate(trained_toy: Classifier) -> None:
    images = toy_images(100, noise=0.25, seed=7)
    rows = threshold_sweep({"net": trained_toy}, images, ON, torch.eye(4), [0.05, 0.2], epsilon=0.01)
    real = rows[rows["set"] == REAL]
    assert real["m"].to_list() == pytest.approx([5, 20], rel=0.3)
    assert (rows["U chance"] == chance(images.labels, torch.eye(4)).unbiased).all()


def test_strong_attacks_stand_beside_the_weak_ones_on_the_same_images(trained_toy: Classifier) -> None:
    """Were they of other images, a strong attack could look weaker than the one that it contains."""
    images, places = toy_images(100, noise=0.25, seed=7), torch.arange(3, 100, 9)
    found = measure_with_controls(trained_toy, images, ON, epsilon=30 / 255, top_k=8, pgd_steps=1, controls=False)
    rows = strong_attacks(
        {("net", 5): (trained_toy, found)}, images, places, ON, epsilon=30 / 255, pgd_steps=1, steps=4, restarts=3
    )
    assert rows["seed"].to_list() == [5, 5, 5]
    assert rows["attack"].to_list() == ["none", "PGD, 1 steps", "PGD, 4 steps, 3 starts"]
    clean, weak, strong = rows["accuracy"]
    assert clean == pytest.approx(float(found.right(REAL)[places].mean()))
    assert strong <= weak <= clean != strong
