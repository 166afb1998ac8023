"""The examples of the page on the metric say what the formulas say."""

import numpy as np
import pandas as pd
import pytest
import torch

from neuron_consistency.consistency import metric_figures
from neuron_consistency.consistency.measure import consistency
from neuron_consistency.consistency.worked_examples import (
    consistency_terms,
    interval_coverage,
    random_neuron_bands,
    random_neurons,
    subtree,
)
from neuron_consistency.taxonomy import class_synsets, correlation, distance, distance_matrix, resolve

SCENES = correlation(distance_matrix(list(class_synsets("scenes").values())))


def test_the_drawn_way_has_as_many_edges_as_the_distance_says() -> None:
    wnids = [resolve(name) for name in ("Persian cat", "Siamese cat", "zebra", "wolfhound")]
    nodes, edges = subtree(wnids, highlight=(wnids[0], wnids[2]))
    assert edges["on_path"].sum() == distance(wnids[0], wnids[2])
    assert (edges["y"] < edges["y_parent"]).all()
    assert sorted(nodes.loc[nodes["leaf"], "x"]) == [0, 1, 2, 3]
    metric_figures.tree_path(nodes, edges)


def test_the_terms_add_up_to_the_consistency() -> None:
    matrix = correlation(torch.tensor([[0, 2, 6], [2, 0, 6], [6, 6, 0]]))
    terms = consistency_terms([0.5, 0.3, 0.2], ["a", "b", "c"], matrix)
    assert terms.to_numpy().sum() == pytest.approx(float(consistency(torch.tensor([5, 3, 2]), matrix)))


def test_random_neurons_average_to_their_chance_levels() -> None:
    labels = torch.arange(len(SCENES)).repeat_interleave(10)
    drawn = random_neurons(labels, SCENES, sizes=[5, 40], repeats=2000)
    means = drawn.groupby(["m", "measure"])[["value", "chance"]].mean()
    spread = drawn.groupby(["m", "measure"])["value"].sem()
    assert ((means["value"] - means["chance"]).abs() < 4 * spread).all()


def test_bands_hold_the_middle_of_the_draws_with_m_rising() -> None:
    """A band over unordered m, or of other quantiles, would be drawn without complaint."""
    draws = pd.DataFrame({"m": [9] * 11 + [4], "measure": "V", "value": [*np.linspace(0, 1, 11), 0.5], "chance": 0.25})
    small, large = random_neuron_bands(draws).to_dict("records")
    assert small == {"measure": "V", "m": 4, "value": 0.5, "chance": 0.25, "low": 0.5, "high": 0.5}
    assert [large[name] for name in ("m", "value", "low", "high")] == pytest.approx([9, 0.5, 0.1, 0.9])


def test_the_jackknife_of_u_covers_and_the_others_do_not() -> None:
    preferences = 0.01 + 0.3 * SCENES[::3].float()
    table = interval_coverage(preferences, SCENES, images=400, repeats=60).set_index("interval")
    assert table["coverage"]["U, jackknife"] > 0.86
    assert table["coverage"].drop("U, jackknife").max() < 0.8
    assert table["estimate"]["U, jackknife"] == pytest.approx(table["truth"]["U, jackknife"], abs=0.01)
