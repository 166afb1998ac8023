"""The examples of the page on the metric say what the formulas say."""

import pytest
import torch

from neuron_consistency.consistency import metric_figures
from neuron_consistency.consistency.measure import consistency
from neuron_consistency.consistency.worked_examples import (
    consistency_terms,
    interval_coverage,
    random_neurons,
    subtree,
)
from neuron_consistency.taxonomy import class_synsets, correlation, distance, distance_matrix, resolve

SCENES = correlation(distance_matrix(list(class_synsets("scenes").values())))


def test_the_drawn_way_has_as_many_edges_as_the_distance_says() -> None:
    wnids = [resolve(name) for name in ("Persian cat", "Siamese cat", "zebra", "wolfhound")]
    nodes, edges = subtree(wnids, highlight=(wnids[0], wnids[2]))
    assert edges["on_path"].sum() == distance(wnids[0], wnids[2])
    assert (nodes["y"][edges["child"]].to_numpy() < nodes["y"][edges["parent"]].to_numpy()).all()
    assert sorted(nodes.loc[nodes["leaf"], "x"]) == [0, 1, 2, 3]
    metric_figures.tree_path(nodes, edges)


def test_the_terms_add_up_to_the_consistency() -> None:
    matrix = correlation(torch.tensor([[0, 2, 6], [2, 0, 6], [6, 6, 0]]))
    terms = consistency_terms([0.5, 0.3, 0.2], ["a", "b", "c"], matrix)
    assert terms.to_numpy().sum() == pytest.approx(float(consistency(torch.tensor([5, 3, 2]), matrix)))


def test_random_neurons_average_to_their_chance_levels() -> None:
    labels = torch.arange(len(SCENES)).repeat_interleave(10)
    drawn = random_neurons(labels, SCENES, sizes=[40, 5], repeats=2000)
    assert drawn["m"].to_list() == [5, 5, 40, 40]  # a curve over unordered m would be drawn without complaint
    spread = (drawn["high"] - drawn["low"]) / 2.56 / 2000**0.5  # of the mean, were the draws normal
    assert ((drawn["value"] - drawn["chance"]).abs() < 6 * spread).all()


def test_bands_hold_the_middle_of_the_draws() -> None:
    """Two images of two far classes agree (V = 1) or not (V = 1/2); of one class, every draw agrees."""
    two = random_neurons(torch.arange(2).repeat(50), torch.eye(2), sizes=[2], repeats=50).iloc[0]
    assert (two["low"], two["high"]) == (0.5, 1.0)
    one = random_neurons(torch.zeros(50, dtype=torch.int64), torch.eye(2), sizes=[2], repeats=50).iloc[0]
    assert (one["low"], one["value"], one["high"]) == (1.0, 1.0, 1.0)


def test_the_jackknife_of_u_covers_and_the_others_do_not() -> None:
    preferences = 0.01 + 0.3 * SCENES[::3].float()
    table = interval_coverage(preferences, SCENES, images=400, repeats=60).set_index("interval")
    assert table["coverage"]["U, jackknife"] > 0.86
    assert table["coverage"].drop("U, jackknife").max() < 0.8
    assert table["estimate"]["U, jackknife"] == pytest.approx(table["truth"]["U, jackknife"], abs=0.01)
