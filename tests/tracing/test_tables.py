"""What influential neurons stand for: profiles by hand, explanations with their chance levels, groups of images."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from neuron_consistency.consistency.measure import unbiased_consistency
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.responses import respond
from neuron_consistency.tracing.figures import explanation_panel
from neuron_consistency.tracing.influence import prediction_difference
from neuron_consistency.tracing.profiles import Profiles, influence_mass, neuron_profiles
from neuron_consistency.tracing.tables import TracedPrediction, mass_table, random_neurons_row, top_neurons
from planted_linear import linear_model
from toys import ON, image_set, toy_images

RELATED = torch.tensor([[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]])


def colour_profiles() -> tuple[Classifier, Profiles]:
    """Red images are of class 0 and 1 in turn, green ones of class 2; nothing is blue."""
    pixels = torch.zeros(8, 3, 4, 4, dtype=torch.uint8)
    for place in range(8):
        pixels[place, place // 4] = 200 + place
    images = image_set(pixels, torch.tensor([0, 1, 0, 1, 2, 2, 2, 2]), num_classes=3)
    model = linear_model(torch.tensor([[5.0, 0.0, 0.0], [4.0, 0.0, 0.0], [0.0, 5.0, 0.0]]))
    return model, neuron_profiles(model, images, ON, RELATED, top_k=2)


def test_profiles_are_the_classes_of_the_strongest_images() -> None:
    """By hand: red fires for classes 0 and 1, green for 2; a neuron nothing fires has the set's own shares."""
    _, profiles = colour_profiles()
    assert torch.allclose(profiles.shares, torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0], [0.25, 0.25, 0.5]]).double())
    assert torch.allclose(profiles.matches[0], torch.tensor([0.75, 0.75, 0.0]).double())
    assert torch.allclose(profiles.consistency[:2], torch.tensor([0.5, 1.0]).double())
    assert bool(profiles.consistency[2].isnan())
    assert profiles.strongest.T.tolist() == [[3, 2], [7, 6], [-1, -1]]
    assert profiles.words(0) == "class 0 .50, class 1 .50"
    counts = torch.tensor([2, 2, 4])
    assert profiles.chance == pytest.approx(float(unbiased_consistency(counts, RELATED)))


def test_the_mass_goes_to_the_classes_of_the_positive_neurons() -> None:
    """A neuron that speaks against the prediction may not lend its class any mass."""
    _, profiles = colour_profiles()
    influence = torch.tensor([[3.0, 1.0, 0.0], [-1.0, 2.0, 0.0], [-1.0, 0.0, 0.0]])
    mass = influence_mass(influence, profiles.matches)
    assert torch.allclose(mass[0], 0.75 * profiles.matches[0] + 0.25 * profiles.matches[1])
    assert torch.allclose(mass[1], profiles.matches[1])
    assert bool(mass[2].isnan().all())


def test_an_explanation_names_the_neurons_and_what_chance_gives() -> None:
    model, profiles = colour_profiles()
    images = torch.tensor([0.9, 0.5, 0.0])[None, :, None, None].expand(1, 3, 4, 4)
    (influence,) = prediction_difference(model, images)
    table = top_neurons(influence, profiles, 0, true=2, count=2)
    assert table["side"].tolist() == ["for", "against"]
    assert table["neuron"].tolist() == [0, 1]
    assert table["contribution"].tolist() == pytest.approx(influence[[0, 1]].tolist())
    assert table["contribution chance"].tolist() == pytest.approx([float(influence.mean())] * 2)
    assert table["match"].tolist() == pytest.approx([0.75, 0.0])
    assert table["match of true"].tolist() == pytest.approx([0.0, 1.0])
    assert table["match chance"].iloc[0] == pytest.approx((0.75 + 0.0 + 0.375) / 3)
    traced = TracedPrediction(images[0], "red", table, random=table, examples={0: [images[0]] * 2, 1: []})
    figure = explanation_panel(traced)
    assert len(figure.axes) == 4


def test_random_neurons_give_the_mean_of_all() -> None:
    """The draws must be of different neurons: all of them together always give the same sum."""
    _, profiles = colour_profiles()
    influence = torch.tensor([0.6, -0.1, 0.0])
    summed, match = random_neurons_row(influence, profiles, 0, count=1).to_dict("records")
    assert (summed["value"], match["value"]) == pytest.approx((0.6, 0.75))
    assert summed["random"] == pytest.approx(float(influence.mean()), abs=0.02)
    assert summed["random low"] == pytest.approx(-0.1)
    everything = random_neurons_row(influence, profiles, 0, count=3).iloc[0]
    assert everything[["value", "random", "random low", "random high"]].tolist() == pytest.approx([0.5] * 4)
    for count in (0, 4):
        with pytest.raises(ParameterError, match=f"count={count}"):
            random_neurons_row(influence, profiles, 0, count=count)
    with pytest.raises(ParameterError, match="influence of"):
        top_neurons(torch.zeros(5), profiles, 0)


def test_the_verdict_on_errors_is_over_source_images() -> None:
    """Ten images made from one count once: else copies would make an interval as narrow as one likes."""
    spread = [0.0, 0.1, 0.2, 0.3]
    errors = pd.DataFrame(
        {"source": range(4), "predicted": [0.8 + s for s in spread], "true": 0.2, "other": 0.1, "alike": 0.15}
    )
    right = errors.assign(true=errors["predicted"])
    copied = pd.concat([errors] * 10)
    table = mass_table({"right": right, "errors": errors, "copied": copied, "none": errors[:0]})
    rows = {str(row["group"]): row for row in table.to_dict("records")}
    assert rows["errors"]["predicted - true"] == pytest.approx(0.75)
    assert [row["neurons speak for"] for row in rows.values()] == [
        "both: they are one",
        "the predicted class",
        "the predicted class",
        "cannot be told",
    ]
    assert math.isnan(rows["none"]["predicted"])
    assert rows["errors"]["true - alike"] == pytest.approx(0.05)
    for column in ("predicted", "predicted low", "predicted high"):
        assert rows["copied"][column] == pytest.approx(rows["errors"][column])
    margin = 3.182446 * float(np.std(spread, ddof=1)) / 2  # Student's t, three degrees of freedom
    assert rows["errors"]["predicted high"] == pytest.approx(0.95 + margin, abs=1e-5)


def test_profiles_come_from_the_images_given(trained_toy: Classifier) -> None:
    """The profile is of the k strongest images of the set, not of the images over a threshold."""
    images = toy_images(40, seed=3)
    profiles = neuron_profiles(trained_toy, images, ON, torch.eye(4), top_k=5)
    responses = respond(trained_toy, images, ON, top_k=5)
    top = images.labels[responses.layers["last"].top_indices]
    for neuron in (responses.layers["last"].top_values[-1] > 0).nonzero().flatten().tolist():
        expected = torch.bincount(top[:, neuron], minlength=4).double() / 5
        assert torch.equal(profiles.shares[neuron], expected)
