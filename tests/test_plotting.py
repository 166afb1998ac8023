"""Panels, intervals and pictures, from which all figures are drawn."""

from __future__ import annotations

import pandas as pd
import torch

from neuron_consistency.plotting import Picture, PictureGrid, panels, picture_grid, spread


def test_panels_hold_their_rows_and_every_column_of_a_shared_axis_shows_its_scale() -> None:
    """The fourth of five panels has nothing below it that could show the scale of its column."""
    rows = pd.DataFrame({"model": list("abcbade"), "value": range(7)})
    figure, shown = panels(rows, "model", 2, sharex=True)
    assert [(axis.get_title(), part["value"].tolist()) for axis, part in shown] == [
        ("a", [0, 4]), ("b", [1, 3]), ("c", [2]), ("d", [5]), ("e", [6]),
    ]  # fmt: skip
    assert [axis.get_visible() for axis in figure.axes] == [True] * 5 + [False]
    figure.draw_without_rendering()
    labelled = [any(label.get_visible() for label in axis.get_xticklabels()) for axis, _ in shown]
    assert labelled == [False, False, False, True, True]


def test_intervals_are_read_by_the_name_of_their_value() -> None:
    named = pd.DataFrame({"U": [0.5, 0.4], "U low": [0.4, 0.1], "U high": [0.75, 0.4], "low": [9, 9], "high": [9, 9]})
    assert spread(named, "U").round(9).tolist() == [[0.1, 0.3], [0.25, 0]]
    assert spread({"share": 0.5, "low": 0.25, "high": 1.0}, "share").tolist() == [[0.25], [0.5]]


def test_rows_of_pictures_may_differ_in_length_and_may_be_empty() -> None:
    image = torch.full((3, 4, 4), 0.5)
    bright = torch.eye(4).bool()
    grid = PictureGrid([("first", [Picture(image, "one"), Picture(image, bright=bright)]), ("dead", [])], ["above"])
    axes = picture_grid(grid).axes
    assert [axis.get_visible() for axis in axes] == [True, True, False, False]
    assert (axes[0].get_title(), axes[0].get_xlabel(), axes[0].get_ylabel()) == ("above", "one", "first")
    drawn = axes[1].images[0].get_array()
    assert drawn is not None
    assert drawn[0, 0, 0] > drawn[0, 1, 0] > 0
