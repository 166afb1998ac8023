"""Who counts as a positive, planted mismatches, verdicts, and the worst case; by hand and from whole trials."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pandas as pd
import pytest
import torch

from neuron_consistency.attacks.linf import fgsm
from neuron_consistency.attacks.predictions import predictions, under_pgd
from neuron_consistency.networks.models import Classifier
from neuron_consistency.show import MISSING, distinct_titles
from neuron_consistency.tracing.detection import MAHALANOBIS, MISMATCH, SOFTMAX
from neuron_consistency.tracing.detection_tables import (
    ERRORS,
    adaptive_detections,
    areas_shown,
    chosen_k,
    detection_table,
    detections,
    errors_lead,
    leads_shown,
    training_changes,
    unseen_shown,
    verdict_counts,
    verdicts,
    worst_cases,
)
from neuron_consistency.tracing.figures import auroc_intervals, explanation_panel
from neuron_consistency.tracing.tables import ATTACKED, RIGHT, masses, trace_examples, typical_examples
from neuron_consistency.tracing.trials import Trial, choose_k, try_attacks, try_networks
from toys import ON, assert_same_state, attacked_set, bytes_of, state_of, toy_images, toy_recipe

IMAGES, SELECTION = toy_images(40, noise=0.3, seed=7), toy_images(40, seed=2)
under_fgsm = partial(fgsm, epsilon=40 / 255)


def made(said: list[int], mismatch: list[float]) -> pd.DataFrame:
    """Scores of images that all are of class 0; the rivals, and a detector of two neurons, know nothing."""
    scores = pd.DataFrame({"label": 0, "prediction": said, "mismatch 1": mismatch, "mismatch 2": 0.0})
    scores = scores.assign(right=scores["prediction"] == 0, **{SOFTMAX: 0.0, MAHALANOBIS: 0.0})
    return scores.rename_axis("source")


def by_row(table: pd.DataFrame) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["attack"], row["detector"]): row for row in table.to_dict("records")}  # type: ignore[misc]


@pytest.fixture
def trials(trained_toy: Classifier) -> dict[str, Trial]:
    """Of one network on the toy images."""
    options = {"correlation": torch.eye(4), "top_k": 5}
    training = toy_images(64, seed=1)
    return try_networks(
        {"toy": trained_toy}, IMAGES, ON, training=training, selection=SELECTION, fgsm=under_fgsm, ks=[1, 3], **options
    )


def test_positives_are_the_successful_attacks_and_negatives_the_right_answers() -> None:
    """Image 3 is wrong when clean: its attacked form is no success, its clean form no negative, but an error."""
    clean = made([0, 0, 0, 1], [0.1, 0.2, 0.3, 0.9])
    attacked = made([1, 0, 1, 1], [0.8, 0.0, 0.15, 0.0])
    table = by_row(detection_table(clean, {"FGSM": attacked}, k=1))
    row = table["FGSM", MISMATCH]
    assert (row["positives"], row["negatives"], row["attacked"]) == (2, 3, 3)
    assert row["success"] == pytest.approx(200 / 3)
    assert row["AUROC"] == pytest.approx(4 / 6)  # of .8 and .15 against .1, .2, .3
    assert row["unseen"] == pytest.approx(100 / 3)  # .15 lies below the highest right answer's .3
    assert table["FGSM", SOFTMAX]["lead"] == pytest.approx(4 / 6 - 0.5)
    errors = table[ERRORS, MISMATCH]
    assert (errors["positives"], errors["AUROC"]) == (1, 1)
    assert math.isnan(errors["success"])


def test_attacked_images_are_held_against_their_sources() -> None:
    """Were they taken in turn, image 1, wrong when clean, would be a success, and image 0 none."""
    clean = made([0, 1, 0], [0.1, 0.2, 0.3])
    attacked = made([1, 1], [0.8, 0.9]).set_axis([1, 0])
    row = by_row(detection_table(clean, {"FGSM": attacked}, k=1))["FGSM", MISMATCH]
    assert (row["positives"], row["attacked"]) == (1, 1)


def test_attacks_that_never_succeed_say_so() -> None:
    clean = made([0, 0, 0], [0.1, 0.2, 0.3])
    table = detection_table(clean, {"weak": clean}, k=1)
    assert set(table["verdict"]) == {"no error", "no successful attack"}
    assert table["AUROC"].isna().all()
    assert (table[table["attack"] == "weak"]["success"] == 0).all()
    named = table.assign(model="toy")
    assert worst_cases(named).empty
    assert set(verdict_counts(verdicts(named)).values()) == {0}
    assert choose_k(clean, clean, [1, 2])[0] == 1
    hopeless = detection_table(made([1, 1], [0.1, 0.2]), {"any": made([1, 1], [0.1, 0.2])}, k=1)
    assert set(hopeless["verdict"]) == {"no right answer"}
    assert len(auroc_intervals(named).axes) >= 1
    assert areas_shown(named).loc[("toy", "weak"), MISMATCH] == MISSING


def test_k_is_the_one_that_tells_best_and_the_worst_case_the_lowest() -> None:
    clean = made([0] * 4, [0.1, 0.2, 0.3, 0.4])
    strong, weak = made([1] * 4, [0.6, 0.7, 0.8, 0.9]), made([1] * 4, [0.0, 0.1, 0.2, 0.35])
    chosen, table = choose_k(clean, strong, [1, 2])
    assert chosen == 1
    assert table["AUROC"].tolist() == [1.0, 0.5]
    assert choose_k(clean, weak, [1, 2])[0] == 2
    table = detection_table(clean, {"strong": strong, "weak": weak}, k=1)
    both = pd.concat([table.assign(model="one"), table[table["attack"] == "strong"].assign(model="two")])
    assert worst_cases(both)["attack"].tolist() == ["weak", "strong"]


def test_verdicts_are_counted_over_attacks_alone() -> None:
    """The rows of errors are no attack; the rivals here know nothing, so that a good mismatch beats both."""
    clean = made([0] * 30 + [1] * 30, [place / 100 for place in range(60)])
    strong, weak = made([1] * 60, [0.5 + place / 100 for place in range(60)]), made([1] * 60, [0.0] * 60)
    table = detection_table(clean, {"strong": strong, "weak": weak}, k=1).assign(model="toy")
    assert verdict_counts(verdicts(table)) == {
        "cases": 2,
        "better than chance": 1,
        "worse than chance": 1,
        "better than all rivals": 1,
        "worse than a rival": 1,
    }


def trial_of(clean: pd.DataFrame, **attacked: pd.DataFrame) -> Trial:
    return Trial(None, 1, pd.DataFrame(), clean, attacked)  # type: ignore[arg-type]  # nothing is run


def test_the_errors_are_held_against_their_best_rival() -> None:
    """The mismatch leads the rival that knows nothing, and lies behind the one that knows all: that row decides."""
    clean = made([0] * 30 + [1] * 30, [0.5 + place / 100 for place in range(60)])
    clean["mismatch 1"] = [(7 * place % 60) / 60 + (place >= 30) / 2 for place in range(60)]
    clean[SOFTMAX] = [place / 60 for place in range(60)]
    table = detections({"toy": trial_of(clean)}, false_alarms=0.05)
    (row,) = errors_lead(table).to_dict("records")
    assert row["detector"] == SOFTMAX
    mismatch = table[table["detector"] == MISMATCH]["AUROC"].item()
    assert 0.5 < mismatch < 1
    assert row["lead"] == pytest.approx(mismatch - 1)
    assert row["mismatch is"] == "worse than it"


def test_training_is_held_against_the_normal_network_of_its_seed() -> None:
    """A pair mixed up, or an attack that one of the two withstood, would make a change of nothing."""
    recipes = [toy_recipe(objective, seed) for objective in ("normal", "consistent") for seed in (0, 1)]
    titles = distinct_titles(recipes)
    clean, blind = made([0] * 20, [place / 20 for place in range(20)]), made([1] * 20, [0.475] * 20)
    seen, unhurt = blind.assign(**{"mismatch 1": 2.0}), clean
    attacked = {"normal0": blind, "normal1": seen, "consistent0": seen, "consistent1": seen}
    met = {titles[key]: trial_of(clean, FGSM=scores, PGD=unhurt) for key, scores in attacked.items()}
    table = training_changes(recipes, titles, detections(met, false_alarms=0.05))
    assert table["model"].tolist() == [titles["consistent0"], titles["consistent1"]]
    assert table["attack"].tolist() == ["FGSM", "FGSM"]
    assert table["difference"].tolist() == pytest.approx([0.5, 0])
    assert table["difference low"][0] < table["difference"][0] < table["difference high"][0]


def test_words_of_a_table_are_adjusted_together() -> None:
    """Twenty networks whose detectors know nothing: one would be called better or worse than chance by luck."""
    clean, lucky = made([0] * 40, list(torch.rand(40).tolist())), made([1] * 40, [0.0] * 40)
    alone, together = {}, {}
    for name in range(20):
        generator = torch.Generator().manual_seed(name)
        scores = lucky.assign(**{"mismatch 1": torch.rand(40, generator=generator).tolist()})
        own = clean.assign(**{"mismatch 1": torch.rand(40, generator=generator).tolist()})
        together[str(name)] = trial_of(own, FGSM=scores)
        found = by_row(detection_table(own, {"FGSM": scores}, k=1))["FGSM", MISMATCH]
        alone[name] = found["verdict"]
    assert set(alone.values()) > {"cannot be told"}
    table = detections(together, false_alarms=0.05)
    own_rows = table[(table["detector"] == MISMATCH) & (table["attack"] == "FGSM")]
    assert set(own_rows["verdict"]) == {"cannot be told"}


def test_a_planted_mismatch_is_found(trials: dict[str, Trial]) -> None:
    """Profiles that match what the network says of clean images, and not of attacked ones, give an area near 1."""
    trial = trials["toy"]
    blind = trial.attacked["FGSM"].assign(**{f"{MISMATCH} {trial.k}": 1.0})
    row = by_row(detection_table(trial.clean, {"planted": blind}, k=trial.k))["planted", MISMATCH]
    assert row["AUROC"] > 0.95
    assert row["verdict"] == "better than chance"


def test_a_trial_holds_what_the_network_said_under_each_attack(trials: dict[str, Trial]) -> None:
    """Sets that an ensemble made may leave images out, or hold several of one; each is named by its clean image."""
    trial, places = trials["toy"], torch.tensor([5, 3, 8])
    assert chosen_k(trials).loc["toy", "k chosen"] == trial.k
    indices = torch.tensor([2, 2, 0])
    some = IMAGES.subset(places)
    ensemble = attacked_set(some, bytes_of(some)[indices], indices, indices * 0)
    try_attacks(trials, IMAGES, places, ON, epsilon=0.1, steps=2, ensembles={"toy": ensemble})
    pgd = under_pgd(ON, epsilon=0.1, steps=2)
    assert trial.attacked["PGD"].index.tolist() == [5, 3, 8]
    assert (
        trial.attacked["PGD"]["prediction"].tolist()
        == predictions(trial.detectors.model, some, ON, attack=pgd).tolist()
    )
    assert trial.attacked["ensemble"].index.tolist() == [8, 8, 5]
    assert trial.attacked["ensemble"]["prediction"].tolist() == trial.clean["prediction"][[8, 8, 5]].tolist()
    table = detections(trials, false_alarms=0.05)
    assert list(table["attack"].unique()) == [ERRORS, "FGSM", "PGD", "ensemble"]
    assert list(leads_shown(table).columns) == [f"lead over {SOFTMAX}", f"lead over {MAHALANOBIS}"]
    adaptive = adaptive_detections(
        trials, IMAGES, places, ON, weights=[0.0, 10.0], epsilon=0.1, steps=2, false_alarms=0.05
    )
    assert list(adaptive["attack"].unique()) == ["PGD", "adaptive, w = 0", "adaptive, w = 10"]
    assert adaptive[adaptive["attack"] == "PGD"].equals(table[table["attack"] == "PGD"].set_index(adaptive.index[:3]))
    assert len(unseen_shown(adaptive)) == 3


def test_groups_hold_the_masses_of_their_images() -> None:
    clean = made([0, 0, 1], [0.0] * 3).assign(predicted=[0.0, 1.0, 2.0], true=1.0, other=0.5, alike=0.5)
    attacked = made([1, 0, 1], [0.0] * 3).assign(predicted=9.0, true=1.0, other=0.5, alike=0.5)
    trial = Trial(None, 1, pd.DataFrame(), clean, {"FGSM": attacked})  # type: ignore[arg-type]  # nothing is run
    table = masses({"toy": trial}).loc["toy"]
    assert table["images"].to_dict() == {"right answers": 2, "errors": 1, "FGSM, successful": 1}
    assert table["predicted"].to_dict() == {"right answers": 0.5, "errors": 2, "FGSM, successful": 9}


def test_examples_are_the_median_of_their_kind_and_are_traced(trials: dict[str, Trial]) -> None:
    """Chosen by the rule, not by looks; the title says what the network says of that very image."""
    trial = trials["toy"]
    clean, attacked = trial.clean, trial.attacked["FGSM"]
    places = typical_examples(clean, attacked)
    assert clean["right"][places[RIGHT]]
    assert clean["right"][places[ATTACKED]] > attacked["right"][places[ATTACKED]]
    sure = clean[SOFTMAX][clean["right"]]
    assert abs((sure < clean[SOFTMAX][places[RIGHT]]).sum() - len(sure) / 2) <= 1
    before = state_of(trial.detectors.model)
    traced = trace_examples(trial, IMAGES, SELECTION, ON, fgsm=under_fgsm, count=2, shown=3)
    assert_same_state(before, trial.detectors.model)
    for kind, scores in ((RIGHT, clean), (ATTACKED, attacked)):
        said, shows = (IMAGES.classes[scores[name].tolist()[places[kind]]] for name in ("prediction", "label"))
        sureness = 1 - scores[SOFTMAX][places[kind]]
        assert traced[kind].title == f"said: {said} (p = {sureness:.2f})\nshows: {shows}"
        assert ("match of true" in traced[kind].neurons) == (kind != RIGHT)
    assert all(len(found) <= 3 for found in traced[RIGHT].examples.values())
    assert len(explanation_panel(traced[RIGHT]).axes) >= 2
    right_only = made([0, 0], [0.1, 0.2])
    assert typical_examples(right_only, right_only) == {RIGHT: 0}
