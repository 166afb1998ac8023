"""How often networks are fooled, by hand; means and claims of planted ratios; all networks and sets at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from neuron_consistency.attacks.stored_set import AdversarialSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.representation.centroids import class_centroids, distance_ratios
from neuron_consistency.representation.measure import measure_neurons, top_responses
from neuron_consistency.representation.tables import (
    lc_table,
    mean_columns,
    measure_networks,
    ratio_means,
    success_table,
    transfer_table,
)
from neuron_consistency.show import stacked
from neuron_consistency.statistics import share
from neuron_consistency.taxonomy import correlation, distance_matrix
from planted_grey import levels, saying
from toys import ON, attacked_set, bytes_of, toy_images, toy_model

SYNSETS = ("n02084071", "n02121808", "n02958343", "n02691156")  # dog, cat, car, airplane


# how often


def stored(values: list[int], success: list[list[bool]], rmsd: list[float]) -> AdversarialSet:
    """Two adversarial images of each of two clean images of the classes 0 and 1, towards 2 and 3."""
    images = levels(values, [0, 0, 1, 1])
    return AdversarialSet(
        images.name, "val", images.classes, images.synsets, images.labels, images.pixels, "adversarial",
        networks=("one", "two"), source="toy-fingerprint", targets=torch.tensor([2, 3, 2, 3]),
        indices=torch.tensor([0, 0, 1, 1]), success=torch.tensor(success), rmsd=torch.tensor(rmsd),
    )  # fmt: skip


def test_the_success_table_is_what_the_set_stores_beside_the_clean_images() -> None:
    """By hand. The first network says 2 of the second clean image already: its target for one of its two."""
    adversarial = stored([5, 6, 7, 8], [[True, True], [True, False], [True, True], [False, False]], [0.1, 0.2, 0.3, 9])
    clean = levels([0, 1], [0, 1])
    models = {"two": saying([3, 1]), "one": saying([0, 2]), "three": saying([0, 0])}
    table = success_table({"made": adversarial}, models, clean, ON).set_index("network")
    assert list(table.index) == ["one", "two", "all"]
    assert table["images"].tolist() == [4, 4, 4]
    assert table["reached"].tolist() == [75, 50, 50]
    assert table["reached clean"].tolist() == [25, 25, 0]
    assert table["RMSD"].tolist() == pytest.approx([0.2, 0.2, 0.2])
    assert table["RMSD of 255"].tolist() == pytest.approx([51, 51, 51])
    expected = share(adversarial.success[:, 0], adversarial.indices, whole=100).row("reached")
    assert {name: table.at["one", name] for name in expected} == expected


def test_the_transfer_table_tells_the_target_from_merely_wrong() -> None:
    """By hand: of 2, 1, 0, 3 said, two are the targets (2, 3, 2, 3) and all are wrong, the true classes being 0, 0,
    1, 1. The clean images it calls 2 and 1: one target of four, and the first image wrong."""
    adversarial = stored([2, 3, 4, 5], [[True, True]] * 4, [0.1] * 4)
    left_out = saying([2, 1, 2, 1, 0, 3])
    table = transfer_table({"made": adversarial}, {"left out": left_out, "one": left_out}, levels([0, 1], [0, 1]), ON)
    (row,) = table.to_dict("records")  # none of a network that it was made on
    assert (row["network"], row["images"]) == ("left out", 4)
    assert (row["reached"], row["reached clean"]) == (50, 25)
    assert (row["wrong"], row["wrong clean"]) == (100, 50)
    assert row["reached low"] < 50 < row["reached high"]
    assert row["wrong low"] < 100


def test_tables_of_other_images_or_networks_are_refused() -> None:
    adversarial = stored([0, 0, 0, 0], [[True, True]] * 4, [0.1] * 4)
    clean, network = levels([0, 1], [0, 1]), saying([0, 1])
    for table in (success_table, transfer_table):
        with pytest.raises(ParameterError, match="is not the set that the adversarial images were made from"):
            table({"made": adversarial}, {"one": network}, clean.subset(torch.tensor([0])), ON)
    with pytest.raises(ParameterError, match="made on two too"):
        success_table({"made": adversarial}, {"one": network}, clean, ON)


# means and intervals


def table(r1: float, r2: float, *, images: int = 40) -> pd.DataFrame:
    """A result by hand: two targets an image, noise that moves nothing, every second target reached."""
    jitter = 0.002 * np.sin(np.arange(images))
    columns: dict[str, Any] = {"image": np.arange(images), "clean": np.arange(images) // 2}
    columns |= {"r1": r1 + jitter, "r2": r2 + jitter, "r1 noise": 1 + jitter / 2, "r2 noise": 1 + jitter / 2}
    columns |= {"reached": np.arange(images) % 2 == 0, "reached everywhere": np.arange(images) % 4 == 0}
    return pd.DataFrame(columns)


def test_means_stand_beside_noise_for_all_and_for_the_successful() -> None:
    ratios = table(1.3, 0.8)
    ratios.loc[ratios["reached"], "r1"] = 2.0
    means = ratio_means(ratios).set_index(["ratio", "subset", "of"])
    assert means.loc[("r1", "all", "adversarial"), "value"] == pytest.approx(1.65, abs=1e-3)
    assert means.loc[("r1", "reached here", "adversarial"), "value"] == 2
    assert means.loc[("r1", "reached everywhere", "difference"), "value"] == pytest.approx(1, abs=1e-3)
    assert means.loc[("r2", "all", "noise"), "value"] == pytest.approx(1, abs=1e-3)
    assert means.loc[("r1", "reached everywhere", "noise"), "images"] == 10
    assert means.loc[("r1", "all", "noise"), "clean images"] == 20
    assert means.sort_index().xs(("r2", "all"))["value"].tolist() == pytest.approx([0.8, -0.2, 1], abs=1e-3)


def test_columns_of_text_show_images_beside_noise() -> None:
    """A reader compares what stands in one row."""
    lone = table(1.3, 0.8)
    lone["reached everywhere"] = lone["clean"] == 0  # images of one clean image have no interval
    shown = mean_columns(stacked({"net": ratio_means(lone)}))
    assert list(shown.columns) == ["r1, adversarial", "r1, noise", "r2, adversarial", "r2, noise"]
    assert [row[1] for row in shown.index] == ["all", "reached here"]
    assert str(shown.iloc[0, 0]).startswith("1.30 (1.30 to 1.30")


# all of it


def test_every_network_is_measured_on_the_first_set_and_on_its_own() -> None:
    """Each label's numbers are those of the parts called by hand: a pass or a set of another network would show."""
    real, training = replace(toy_images(24, seed=2), synsets=SYNSETS), toy_images(40, seed=1)
    places = real.first_of_each_class(3)
    clean = real.subset(places)
    indices = torch.arange(len(clean)).repeat_interleave(2)
    first, second = (
        replace(
            attacked_set(clean, bytes_of(clean)[indices].flip(by), indices, (clean.labels[indices] + 1) % 4),
            networks=(network,),
        )
        for by, network in ((2, "a"), (3, "b"))
    )
    models, titles = {"a": toy_model(), "b": toy_model(seed=1)}, {"a": "one", "b": "two"}
    top: dict[str, Any] = {"share": 0.1, "min_images": 4, "max_images": 5000}
    concepts: dict[str, Any] = {"purity": 0.3, "draws": 2}
    found = measure_networks(
        models, titles, [first, second], real, places, training, ON, sigma=1.5, top=top, concepts=concepts
    )
    assert list(found) == ["one", "two", "two, own set"]
    distances = distance_matrix(SYNSETS)
    for label, key, made in (("one", "a", first), ("two", "b", first), ("two, own set", "b", second)):
        model, one = models[key], found[label]
        passes = [top_responses(model, images, ON, **top) for images in (real, made)]
        origins = places[made.indices]
        neurons = measure_neurons(
            passes[0], passes[1], made.targets, origins, correlation(distances, sigma=1.5), distances, **concepts
        )
        centroids = class_centroids(model, training, ON, pooling="mean")
        ratios = distance_ratios(model, clean, made, centroids, ON, pooling="mean")
        assert one.network == key
        assert [list(passed.layers) for passed in one.passes] == [["last"], ["last"]]
        pd.testing.assert_frame_equal(one.neurons.table, neurons.table)
        pd.testing.assert_frame_equal(one.ratios, ratios)
    overview = lc_table(found)
    values = found["two"].neurons.table
    assert overview.loc["two", "median"] == values["LC"].median()
    assert overview.loc["two", "silent"] == values["CS1"].isna().sum()
