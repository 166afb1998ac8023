"""Figures of P2's measures."""

from __future__ import annotations

import numpy as np
import pandas as pd

from neuron_consistency.representation import figures as representation_figures


def test_figures_show_every_network_with_chance() -> None:
    """A network left out of a figure would not be missed."""
    curve = {"LC": [0.1, 0.2], "value": [0.5, 0.6], "low": [0.4, 0.5], "high": [0.6, 0.7], "chance": [0.3, 0.3]}
    curves = pd.concat(
        pd.DataFrame(curve).assign(network=name, measure=measure) for name in "abcd" for measure in ("CS1", "CS2")
    )
    drawn = representation_figures.cs_curves(curves).axes
    assert [axis.get_title() for axis in drawn] == list("abcd")
    assert all(len(axis.lines) == 4 for axis in drawn)
    generator = np.random.default_rng(0)
    columns = ("r1", "r2", "r1 noise", "r2 noise")
    ratios = pd.concat(
        pd.DataFrame({name: generator.uniform(0.5, 2, 50) for name in columns}).assign(network=network)
        for network in "ab"
    )
    panels = representation_figures.ratio_histograms(ratios).axes
    assert [axis.get_title() for axis in panels] == ["a", "a", "b", "b"]
    for axis in panels:
        assert sum(patch.get_height() for patch in axis.containers[0]) == 50  # no image lies outside
