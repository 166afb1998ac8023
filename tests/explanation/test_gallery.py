"""Pictures of explanations: which images, which maps, and figures that take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor

from neuron_consistency.explanation import figures as explanation_figures
from neuron_consistency.explanation.gallery import explanation_rows, extreme_places, group_rows, network_rows
from neuron_consistency.explanation.measure import Probe, explanation_consistency, grad_cam, normalised, upsampled
from neuron_consistency.networks.models import Classifier
from neuron_consistency.plotting import Picture, PictureGrid, picture_grid
from planted_groups import corners, noise
from toys import CPU, ON, toy_images


def drawn(figure: Figure) -> int:
    """How many axes a figure has, once it could be drawn."""
    figure.draw_without_rendering()
    return len(figure.axes)


def heats(pictures: Sequence[Picture]) -> Tensor:
    """The maps that lie over some pictures."""
    return torch.stack([picture.heat for picture in pictures if picture.heat is not None])


def test_the_most_and_the_least_consistent_images_ties_in_order() -> None:
    consistency = torch.tensor([0.5, 0.0, torch.nan, 0.9, 0.0, 0.9])
    assert extreme_places(consistency, count=2) == ([3, 5], [1, 4])
    assert extreme_places(consistency, count=9) == ([3, 5, 0, 1, 4], [1, 4, 0, 3, 5])


def test_examples_hold_the_explanations_of_the_images_named(trained_toy: Classifier) -> None:
    images, places = toy_images(12), [7, 2, 9]
    grid = explanation_rows(trained_toy, images, places, Probe(epsilon=0.2), ON)
    batch, labels = images.batch(torch.tensor(places), CPU)
    found = explanation_consistency(trained_toy, batch, labels, Probe(epsilon=0.2))
    (_, shown), (_, explained), (_, attacked), (_, explained_again) = grid.rows
    for pictures, expected in ((shown, batch), (explained, batch), (attacked, found.attacked)):
        assert torch.allclose(torch.stack([picture.image for picture in pictures]), expected)
    assert torch.allclose(heats(explained), upsampled(normalised(found.maps[:, 0]), (16, 16))[:, 0])
    assert torch.allclose(heats(explained_again), upsampled(normalised(found.attacked_maps[:, 0]), (16, 16))[:, 0])
    for caption, consistency, flipped in zip(grid.above, found.consistency, found.flipped, strict=True):
        assert caption.endswith(f"E = {consistency:.2f}")
        assert (", then " in caption) == bool(flipped)
    assert drawn(picture_grid(grid)) == 4 * 3


def test_networks_explain_the_true_class_beside_each_other(trained_toy: Classifier) -> None:
    images, places = toy_images(12), [0, 5]
    models = {"one": (trained_toy, Probe()), "two": (trained_toy, Probe(layer="first"))}
    grid = network_rows(models, images, places, ON)
    batch, labels = images.batch(torch.tensor(places), CPU)
    for title, (_, probe) in models.items():
        expected = normalised(grad_cam(trained_toy, batch, labels, layer=probe.layer))
        assert torch.allclose(heats(dict(grid.rows)[title]), upsampled(expected, (16, 16))[:, 0])
    assert grid.above == [picture.caption for picture in dict(grid.rows)["one"]] == ["class 0", "class 1"]
    assert drawn(picture_grid(grid)) == 3 * 2


def test_several_labels_show_their_first_class(trained_toy: Classifier) -> None:
    images = toy_images(6)
    several = replace(images, labels=torch.nn.functional.one_hot(images.labels, 4).float())
    grid = explanation_rows(trained_toy, several, [1, 2], Probe(), ON)
    assert [caption.split("\n")[0] for caption in grid.above] == ["class 1", "class 2"]
    assert heats(grid.rows[1][1]).shape == (2, 16, 16)
    assert network_rows({"one": (trained_toy, Probe())}, several, [3], ON).above == ["class 3"]


def test_rows_show_each_group_where_it_looks() -> None:
    groups = torch.tensor([0, 0, 0, 1, 1, 1])
    grid = group_rows(corners(grouped=True), noise(16, seed=2), groups, "filters", ON, count=2)
    groups_shown = grid.rows[1:]  # below the images
    upper, lower = (torch.stack([one.heat for one in row if one.heat is not None]) for _, row in groups_shown)
    assert grid.above == ["a", "b"]  # images 0 and 1
    assert upper[:, :4].mean() > 5 * upper[:, 4:].mean()
    assert lower[:, 4:].mean() > 5 * lower[:, :4].mean()
    assert [title for title, _ in groups_shown] == ["group 1\n3 filters", "group 2\n3 filters"]
    assert all(picture.caption.endswith("times its mean") for _, row in groups_shown for picture in row)


def test_curves_and_distributions_are_drawn() -> None:
    training = pd.DataFrame(
        {"model": "a", "epoch": [2] * 3 + [4] * 3, "quantile": [0.1, 0.5, 0.9] * 2, "E": [0.1, 0.5, 0.9] * 2}
    )
    assert drawn(explanation_figures.explanation_over_training(training)) == 1
    rows = pd.DataFrame({"model": ["a", "b"] * 4, "mask": ["own"] * 4 + ["true"] * 4, "E": [0.1, 0.4, 0.5, 0.9] * 2})
    assert drawn(explanation_figures.explanation_distributions(rows)) == 2


@pytest.mark.parametrize("covers", [0.0, 1.0])
def test_a_mask_of_nothing_or_of_everything_has_no_outline(covers: float) -> None:
    """Matplotlib warns of a contour that is nowhere."""
    image, mask = torch.rand(3, 8, 8), torch.full((8, 8), covers).bool()
    assert drawn(picture_grid(PictureGrid([("", [Picture(image, outlined=mask)])]))) == 1
