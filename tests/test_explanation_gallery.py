"""Pictures of explanations: which images, which maps, and figures that take them."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from neuron_consistency import explanation_figures
from neuron_consistency.explanation import explanation_consistency, grad_cam, normalised, upsampled
from neuron_consistency.explanation_gallery import consistency_rows, extreme_places, network_rows
from neuron_consistency.models import Classifier
from neuron_consistency.weighting import Weighting
from toys import CPU, toy_images


def drawn(figure: Figure) -> int:
    """How many axes a figure has, once it could be drawn."""
    figure.canvas.draw()
    return len(figure.axes)


def test_the_most_and_the_least_consistent_images_ties_in_order() -> None:
    consistency = torch.tensor([0.5, 0.0, torch.nan, 0.9, 0.0, 0.9])
    assert extreme_places(consistency, count=2) == ([3, 5], [1, 4])
    assert extreme_places(consistency, count=9) == ([3, 5, 0, 1, 4], [1, 4, 0, 3, 5])


def test_examples_hold_the_explanations_of_the_images_named(trained_toy: Classifier) -> None:
    images, places = toy_images(12), [7, 2, 9]
    rows = consistency_rows(trained_toy, images, places, Weighting(epsilon=0.2), device=CPU, precision="float32")
    batch, labels = images.batch(torch.tensor(places), CPU)
    found = explanation_consistency(trained_toy, batch, labels, epsilon=0.2)
    assert torch.equal(rows["images"], batch)
    assert torch.allclose(rows["maps"], upsampled(normalised(found.maps), (16, 16))[:, 0])
    assert torch.allclose(rows["attacked"], found.attacked)
    for caption, consistency, flipped in zip(rows["captions"], found.consistency, found.flipped, strict=True):
        assert caption.endswith(f"E = {consistency:.2f}")
        assert (", then " in caption) == bool(flipped)
    assert drawn(explanation_figures.consistency_examples(**rows)) == 4 * 3


def test_networks_explain_the_true_class_beside_each_other(trained_toy: Classifier) -> None:
    images, places = toy_images(12), [0, 5]
    models, layers = {"one": trained_toy, "two": trained_toy}, {"one": None, "two": "first"}
    rows = network_rows(models, images, places, layers=layers, device=CPU, precision="float32")
    batch, labels = images.batch(torch.tensor(places), CPU)
    for title, layer in layers.items():
        expected = normalised(grad_cam(trained_toy, batch, labels, layer=layer))
        assert torch.allclose(rows["maps"][title], upsampled(expected, (16, 16))[:, 0])
    assert rows["captions"] == rows["predictions"]["one"] == ["class 0", "class 1"]
    assert drawn(explanation_figures.maps_of_networks(**rows)) == 3 * 2


def test_several_labels_show_their_first_class(trained_toy: Classifier) -> None:
    images = toy_images(6)
    several = replace(images, labels=torch.nn.functional.one_hot(images.labels, 4).float())
    rows = consistency_rows(trained_toy, several, [1, 2], Weighting(), device=CPU, precision="float32")
    assert [caption.split("\n")[0] for caption in rows["captions"]] == ["class 1", "class 2"]
    assert rows["maps"].shape == (2, 16, 16)
    assert network_rows({"one": trained_toy}, several, [3], layers={"one": None}, device=CPU)["captions"] == ["class 3"]


def test_curves_and_distributions_are_drawn() -> None:
    training = pd.DataFrame(
        {"model": "a", "epoch": [2] * 3 + [4] * 3, "quantile": [0.1, 0.5, 0.9] * 2, "E": [0.1, 0.5, 0.9] * 2}
    )
    assert drawn(explanation_figures.consistency_over_training(training)) == 1
    rows = pd.DataFrame({"model": ["a", "b"] * 4, "mask": ["own"] * 4 + ["true"] * 4, "E": [0.1, 0.4, 0.5, 0.9] * 2})
    assert drawn(explanation_figures.consistency_distributions(rows)) == 2


@pytest.mark.parametrize("covers", [0.0, 1.0])
def test_a_mask_of_nothing_or_of_everything_has_no_outline(covers: float) -> None:
    """Matplotlib warns of a contour that is nowhere."""
    picture, heat = torch.rand(1, 3, 8, 8), torch.zeros(1, 8, 8)
    mask = torch.full((1, 8, 8), covers).bool()
    figure = explanation_figures.consistency_examples(picture, picture, mask, heat, heat, ["none"])
    assert drawn(figure) == 4
