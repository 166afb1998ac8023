"""The claims of P2 over seeds, and the cure by training, of planted measures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from neuron_consistency.representation.claims import (
    NEURON_CLAIMS,
    by_seeds,
    claim_columns,
    cure_table,
    neuron_claims,
    ratio_claims,
    training_claims,
)
from neuron_consistency.representation.figures import merely_targets
from neuron_consistency.representation.neurons import MEASURES, NeuronMeasures
from neuron_consistency.representation.tables import OWN, Measured
from neuron_consistency.responses import JACKKNIFE_GROUPS
from neuron_consistency.show import distinct_titles
from toys import toy_recipe


def planted(key: str, merely: float = 0.5, *, r1: float = 1.3, r2: float = 0.8, cs: float = 0.4) -> Measured:
    """Twelve neurons that are alike but for LC, with which CS1 falls and CS2 rises by `cs`; forty images."""
    lc = np.arange(12) / 12
    values = {"LC": lc, "U": lc, "CS1": 0.5 - cs * lc, "CS2": 0.5 + cs * lc, "shows": 0.3, "merely targets": merely}
    table = pd.DataFrame({"layer": "last", "neuron": range(12)} | values)
    table = table.assign(**{f"{measure} chance": 0.2 if "s" in measure else 0.5 for measure in MEASURES})
    jitter = torch.linspace(-1e-4, 1e-4, JACKKNIFE_GROUPS, dtype=torch.float64)[:, None]
    left_out = {measure: torch.tensor(table[measure].to_numpy())[None] + jitter for measure in MEASURES}
    moved = 0.002 * np.sin(np.arange(40))
    ratios = pd.DataFrame({"clean": np.arange(40) // 2, "r1": r1 + moved, "r2": r2 + moved, "rmsd": 10 / 255})
    ratios = ratios.assign(**{"r1 noise": 1 + moved / 2, "r2 noise": 1 + moved / 2})
    return Measured(key, (None, None), NeuronMeasures(table, left_out), ratios)  # type: ignore[arg-type]


def test_claims_of_neurons_and_distances_are_settled_by_their_intervals() -> None:
    """The paper's picture, and its reverse; a claim whose side is mixed up would hold where it has to fail."""
    before, after, reverse = planted("a"), planted("b", r1=1.01, r2=0.97), planted("c", 0.1, r1=0.9, r2=1.1, cs=-0.4)
    assert neuron_claims([before], bins=4)["claim"].tolist() == list(NEURON_CLAIMS)
    assert neuron_claims([before], bins=4)["verdict"].tolist() == ["holds"] * 6
    assert neuron_claims([reverse], bins=4)["verdict"].tolist() == ["fails"] * 6
    assert ratio_claims([before], tolerance=0.05)["verdict"].tolist() == ["holds", "holds", "fails", "holds", "holds"]
    assert ratio_claims([after], tolerance=0.05).set_index("claim").loc["r1 about 1", "verdict"] == "holds"
    assert ratio_claims([reverse], tolerance=0.05)["verdict"].tolist() == ["fails"] * 5


def test_seeds_widen_an_interval_that_images_alone_leave_narrow() -> None:
    """Three seeds whose r1 lie at 1.0, 1.3 and 1.6 are one case, of 1.3; to read it as sure would be to read a seed."""
    seeds = [planted(str(place), r1=r1) for place, r1 in enumerate((1.0, 1.3, 1.6))]
    alone, together = (ratio_claims(some, tolerance=0.05).iloc[0] for some in (seeds[1:2], seeds))
    assert together["value"] == pytest.approx(alone["value"])
    assert (alone["verdict"], together["verdict"]) == ("holds", "cannot be told")
    assert together["low"] == pytest.approx(1.3 - 4.302653 * 0.3 / np.sqrt(3), abs=1e-3)
    spread = neuron_claims([planted("a", 0.3), planted("b", 0.5)], bins=4).set_index("claim")
    row = spread.loc["merely targets above chance"]
    assert row["value"] == pytest.approx(0.2)
    assert row["verdict"] == "cannot be told"


def cured(own: float) -> tuple[list[object], dict[str, str], dict[str, Measured]]:
    """Two seeds of a normal and a trained network: .56 of normal networks, .15 of trained ones shown images of others,
    and `own` of trained ones shown their own."""
    recipes = [toy_recipe(objective, seed) for objective in ("normal", "consistent") for seed in (0, 1)]
    titles = distinct_titles(recipes)
    measured = {}
    for recipe in recipes:
        title, shift, normal = titles[recipe.key], 0.01 * recipe.seed, recipe.objective == "normal"
        measured[title] = planted(recipe.key, (0.56 if normal else 0.15) + shift, r2=0.7 if normal else 0.9)
        if not normal:
            measured[title + OWN] = planted(recipe.key, own + shift, r2=0.7)
    return recipes, titles, measured  # type: ignore[return-value]


def test_a_cure_by_transfer_alone_is_told_from_a_cure() -> None:
    """Shown images made against others the trained network looks cured in both cases; on its own it is in one."""
    for own, verdict in ((0.56, "cannot be told"), (0.2, "holds"), (0.7, "fails")):
        recipes, titles, measured = cured(own)
        found = training_claims(recipes, titles, measured, "consistent")  # type: ignore[arg-type]
        (foreign, itself) = (table.set_index("claim") for table in found.values())
        assert [str(label).endswith(OWN) for label in found] == [False, True]
        assert foreign.loc["merely targets less than normal", "value"] == pytest.approx(-0.41)
        assert foreign["verdict"].tolist() == ["holds", "holds"]
        assert itself.loc["merely targets less than normal", "value"] == pytest.approx(own - 0.56)
        assert itself.loc["merely targets less than normal", "verdict"] == verdict
        assert itself.loc["r2 above normal", "value"] == pytest.approx(0)
    _, _, without = cured(0.5)
    without = {label: one for label, one in without.items() if not label.endswith(OWN)}
    assert len(training_claims(recipes, titles, without, "consistent")) == 1  # type: ignore[arg-type]
    assert training_claims(recipes, titles, without, "adversarial") == {}  # type: ignore[arg-type]


def test_the_cure_is_one_row_a_training_and_set_with_its_seeds() -> None:
    """A seed left out, or an own set taken for the others', would be read as the finding itself."""
    recipes, titles, measured = cured(0.5)
    groups = by_seeds(recipes, titles, measured)  # type: ignore[arg-type]
    table = cure_table(groups, recipes)  # type: ignore[arg-type]
    assert table["network"].tolist() == [
        "ResNet-18, normal, 2 seeds",
        "ResNet-18, consistent (beta 1), 2 seeds",
        "ResNet-18, consistent (beta 1), 2 seeds, own set",
    ]
    assert table["own"].tolist() == [True, False, True]
    assert table["seeds"].tolist() == [2] * 3
    assert table["merely targets"].tolist() == pytest.approx([0.565, 0.155, 0.505])
    assert table["lowest"].tolist() == pytest.approx([0.56, 0.15, 0.5])
    assert table["highest"].tolist() == pytest.approx([0.57, 0.16, 0.51])
    assert table["RMSD of 255"].tolist() == pytest.approx([10] * 3)
    (axis,) = merely_targets(table).axes
    labels = [" ".join(label.get_text().split()) for label in axis.get_yticklabels()]  # a long name stands in two lines
    assert labels == table["network"].tolist()


def test_claims_read_together_are_adjusted_together() -> None:
    """A verdict that holds alone by a hair must not be given beside others; one that is clear must."""
    rows = ratio_claims([planted("a")], tolerance=0.05)
    shown = claim_columns({"net": rows})
    assert shown.loc["net", "r1 above 1"] == "1.30 (1.30 to 1.30): holds"
    assert shown.loc["net", "r1 about 1"] == "1.30 (1.30 to 1.30): fails"
    close = rows.assign(p=0.04)
    assert all(str(text).endswith("cannot be told") for text in claim_columns({"net": close}).loc["net"])
