"""Chapter 4's claims, from passes by hand: one neuron in each network, two classes that have nothing in common."""

from __future__ import annotations

import math

import pytest
import torch

from neuron_consistency.consistency.ambiguity import FGSM, PGD, REAL, SUCCESSFUL, WRONG, Passes
from neuron_consistency.consistency.reactions import BLANK, BLANK_SHUFFLED, SHUFFLED
from neuron_consistency.responses import JACKKNIFE_GROUPS, LayerResponses, Responses, deal
from neuron_consistency.show import distinct_titles
from neuron_consistency.workflow.findings import evaluation_findings
from toys import toy_recipe

A = torch.eye(2)
LABELS = [0, 0, 0, 0, 1, 1, 1, 1]
CHANCE = 3 / 7  # of two of these images, the share that have one class


def saw(fired: list[int], labels: list[int] = LABELS, predictions: list[int] | None = None) -> Responses:
    """A pass in which the neuron fires for these images, strongest first; the three strongest are kept."""
    true, predicted = torch.tensor(labels), torch.tensor(predictions or labels)
    counts = {kind: torch.zeros(JACKKNIFE_GROUPS, 1, 2, dtype=torch.int32) for kind in ("true", "predicted")}
    groups = deal(true)
    for image in fired:
        counts["true"][groups[image], 0, true[image]] += 1
        counts["predicted"][groups[image], 0, predicted[image]] += 1
    strengths = torch.arange(9.0, 9 - len(fired), -1)[:3, None]
    layer = LayerResponses(torch.ones(1), strengths, torch.tensor(fired)[:3, None], counts)
    return Responses(true, predicted, 2, {"last": layer})


def network(**sets: Responses) -> Passes:
    named = {"real": REAL, "fgsm": FGSM, "pgd": PGD, "wrong": WRONG, "successful": SUCCESSFUL}
    return Passes("last", {named[name]: found for name, found in sets.items()})


@pytest.fixture
def normal() -> Passes:
    """Fires for one class; attacked, for both, which it then takes for one."""
    return network(
        real=saw([0, 1, 2]),
        fgsm=saw([0, 1, 2, 4, 5, 6], predictions=[0, 0, 0, 0, 0, 0, 0, 1]),
        pgd=saw([0, 1, 2]),
        wrong=saw([0, 1, 2], labels=[0, 0, 1, 1], predictions=[1, 1, 0, 0]),
        successful=saw([0, 1, 2], labels=[0, 0, 0, 1], predictions=[1, 1, 1, 0]),
    )


@pytest.fixture
def consistent() -> Passes:
    one_wrong = [1, *LABELS[1:]]
    return network(real=saw([0, 1, 2, 4], predictions=one_wrong), fgsm=saw([4, 1, 2, 0]), pgd=saw([0, 1]))


def test_every_number_of_the_chapter_by_hand(normal: Passes, consistent: Passes) -> None:
    """U is the share of pairs that have one class. A number taken of the wrong set, label or network shows here."""
    recipes = [toy_recipe("normal"), toy_recipe("consistent")]
    titles = distinct_titles(recipes)
    passes = {titles["normal0"]: normal, titles["consistent0"]: consistent}
    blank, mixed, both = saw([0, 1, 4]), saw([0, 1, 4, 5]), saw([0, 1, 2, 4])  # U of 1/3, 1/3, 1/2
    shown = {BLANK: network(real=blank), SHUFFLED: network(real=mixed), BLANK_SHUFFLED: network(real=both)}
    rows = evaluation_findings(recipes, titles, passes, A, {titles["normal0"]: shown})
    title, trained = titles["normal0"], titles["consistent0"]
    by_hand = {
        ("related-images", title): 1 - CHANCE,
        ("related-images", f"{title} [null: random weights]"): 1 / 3 - CHANCE,
        ("related-by-training", title): 1 - 1 / 3,
        ("related-by-training", f"{title} [null: labels shuffled]"): 1 / 3 - 1 / 2,
        ("less-consistent-under-attack", title): 6 / 15 - 1,
        ("less-consistent-at-equal-number", title): 0.0,  # the three strongest are of one class still
        ("ambiguous-not-obedient", title): 0.0,
        ("ambiguous-at-equal-number", title): 0.0,
        ("ambiguous-not-obedient", f"{title} [null: ordinary errors]"): (1 / 3 - 1 / 3) - (1 - CHANCE),
        ("errors-alike", title): (1 - 1 / 2) - (1 / 3 - 1 / 3),
        ("training-keeps-consistency", trained): 1 / 2 - 6 / 15,
        ("training-lessens-the-fall", trained): (1 / 2 - 1 / 2) - (6 / 15 - 1),
        ("top-images-agree", trained): 1 / 3 - 1,
        ("real-images-hardly-change", trained): 100 * (1 / 2 - 1) / (1 - CHANCE),
        ("clean-accuracy-falls", trained): -12.5,
        ("about-ten-points", trained): -12.5,
        ("attacked-accuracy-rises", trained): 37.5,
        ("no-hidden-gradient", trained): 0.0,
    }
    assert {(row["claim"], row["case"]): row["value"] for row in rows} == pytest.approx(by_hand)


def test_a_change_in_per_cent_of_nothing_cannot_be_told(normal: Passes, consistent: Passes) -> None:
    """A neuron at chance has no consistency that could change by a tenth; the quotient would be some large number."""
    recipes = [toy_recipe("normal"), toy_recipe("consistent")]
    titles = distinct_titles(recipes)
    normal.sets[REAL] = saw([0, 1, 4, 5])
    rows = evaluation_findings(recipes, titles, {titles["normal0"]: normal, titles["consistent0"]: consistent}, A)
    (row,) = (row for row in rows if row["claim"] == "real-images-hardly-change")
    assert math.isnan(row["value"])
    assert row["verdict"] == "cannot be told"
    assert not [row for row in rows if "random weights" in row["case"]]  # without nulls there are no such rows


def test_the_most_consistent_neurons_are_those_of_the_real_images() -> None:
    """Chosen on the attacked images, they would be consistent there by choice. One without a U comes last."""
    counts = torch.zeros(JACKKNIFE_GROUPS, 3, 2, dtype=torch.int32)
    counts[0, 0], counts[0, 1, 0], counts[0, 2, 0] = torch.tensor([2, 1]), 1, 3  # U of 1/3, none, 1
    real = Responses(torch.tensor(LABELS), torch.tensor(LABELS), 2, {})
    kept = torch.zeros(1, 3)
    real.layers["last"] = LayerResponses(kept[0], kept, kept.long(), {"true": counts})
    found = Passes("last", {REAL: real})
    assert found.most_consistent(A).tolist() == [2]
    assert found.most_consistent(A, share=1).tolist() == [2, 0, 1]
