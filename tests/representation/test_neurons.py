"""Means over neurons, curves and claims, of planted measures."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from neuron_consistency.representation.neurons import MEASURES, NeuronMeasures
from neuron_consistency.responses import JACKKNIFE_GROUPS
from planted_passes import AIMS, REAL_LABELS, TRUE, measured, responses


def test_means_are_over_the_neurons_that_have_a_value() -> None:
    """A dead neuron would otherwise pull a mean to zero unseen."""
    real = responses(REAL_LABELS, [[0, 1, 2]] * 4)
    adversarial = responses(TRUE, [[0, 1, 2], [4, 5, 6], [], [0, 1, 2]])
    found = measured(real, adversarial, AIMS, torch.arange(8))
    whole = found.estimate("CS1")
    assert whole.value == pytest.approx(2 / 3)
    assert whole.excluded == pytest.approx(1 / 4)
    assert whole.low < whole.value < whole.high
    some = found.estimate("CS1", np.array([False, True, True, False]))
    assert (some.value, some.excluded) == (0, 0.5)
    over = found.estimate("CS1", above_chance=True)
    level = found.table["CS1 chance"].drop(2).mean()
    assert over.value == pytest.approx(2 / 3 - level)
    assert over.high - over.low == pytest.approx(whole.high - whole.low)
    summary = found.summary().set_index("layer")
    assert summary.loc["all", "silent"] == pytest.approx(1 / 4)
    assert summary.loc["last", "CS1 chance"] == pytest.approx(level)
    assert summary.loc["last", "CS1 high"] == pytest.approx(whole.high)
    nothing = measured(real, responses(TRUE, [[], [], [], [0, 1, 2]]), AIMS, torch.arange(8))
    assert math.isnan(nothing.estimate("CS1", np.array([True, True, True, False])).value)


def planted(**columns: list[float]) -> NeuronMeasures:
    """A result by hand: twelve neurons, chance .5, and replicates that hardly move."""
    table = pd.DataFrame({"layer": "last", "neuron": range(12)} | columns)
    table = table.assign(**{f"{measure} chance": 0.5 for measure in MEASURES})
    jitter = torch.linspace(-1e-4, 1e-4, JACKKNIFE_GROUPS, dtype=torch.float64)[:, None]
    return NeuronMeasures(
        table, {measure: torch.tensor(table[measure].to_numpy())[None] + jitter for measure in MEASURES}
    )


def test_curves_deal_neurons_by_lc_and_the_claims_read_the_ends_of_them() -> None:
    """The paper's picture, planted: as LC grows CS1 falls from chance and CS2 rises above it."""
    lc = [(7 * i % 12) / 12 for i in range(12)]  # in no order
    found = planted(
        LC=lc,
        U=lc,
        CS1=[0.5 - 0.4 * level for level in lc],
        CS2=[0.5 + 0.4 * level for level in lc],
        shows=[0.1] * 12,
        **{"merely targets": [0.8] * 12},
    )
    curves = found.curves(bins=4)
    assert curves["neurons"].tolist() == [3] * 8
    cs1 = curves[curves["measure"] == "CS1"]
    assert cs1["LC"].tolist() == pytest.approx([1 / 12, 4 / 12, 7 / 12, 10 / 12])
    assert cs1["value"].tolist() == pytest.approx([0.5 - 0.4 * level for level in cs1["LC"]])
    claimed = {name: one.value for name, one in found.claimed(bins=4).items()}
    assert claimed == pytest.approx(
        {
            "CS1 below chance": -0.4 * 10 / 12,
            "CS1 falls with LC": -0.4 * 9 / 12,
            "CS2 above chance": 0.4 * 10 / 12,
            "CS2 above CS1": 0.8 * 10 / 12,
            "merely targets above chance": 0.3,
            "merely targets above shows": 0.7,
        }
    )


def test_more_bins_than_neurons_and_no_neuron_at_all() -> None:
    real = responses(REAL_LABELS, [[0, 1, 2]] * 3)
    found = measured(real, responses(TRUE, [[0, 1, 2], [4, 5, 6], []]), AIMS, torch.arange(8))
    assert sorted(found.bins(10).tolist()) == [-1, 0, 1]
    dead = measured(real, responses(TRUE, [[], [], []]), AIMS, torch.arange(8))
    assert dead.bins(4).tolist() == [-1] * 3
    assert len(dead.curves(bins=4)) == 0
    assert all(math.isnan(one.value) for one in dead.claimed(bins=4).values())
