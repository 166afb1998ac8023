"""Detectors: planted mismatches, who counts as a positive, the rivals, the attacker who knows, and examples."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from neuron_consistency.attacks.linf import fgsm, pgd
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import read_layers
from neuron_consistency.tracing.detection import MAHALANOBIS, SOFTMAX, Detectors, Scores, adaptive_pgd, fit_detectors
from neuron_consistency.tracing.detection_tables import (
    ERRORS,
    MISMATCH,
    choose_k,
    detection_table,
    mass_groups,
    verdict_counts,
    verdicts,
    worst_cases,
)
from neuron_consistency.tracing.figures import auroc_intervals, explanation_panel
from neuron_consistency.tracing.influence import log_odds, prediction_difference
from neuron_consistency.tracing.mahalanobis import fit_mahalanobis
from neuron_consistency.tracing.tables import ATTACKED, RIGHT, trace_examples, typical_examples
from toys import CPU, assert_same_state, image_set, state_of, toy_images

EPSILON = 40 / 255


def test_the_mahalanobis_score_is_the_distance_to_the_nearest_class(trained_toy: Classifier) -> None:
    """By the formula, on the layer's spatial means; classes without training images are left out."""
    images = toy_images(48, seed=3)
    fitted = fit_mahalanobis(trained_toy, images, shrinkage=0.1, device=CPU, batch_size=7, precision="float32")
    batch, labels = images.batch(torch.arange(48), CPU)
    with read_layers(trained_toy, ["last"]) as outputs, torch.no_grad():
        trained_toy(batch)
    features = outputs["last"].double().mean((2, 3))
    means = torch.stack([features[labels == label].mean(0) for label in range(4)])
    centred = features - means[labels]
    within = centred.T @ centred / 48
    shrunk = 0.9 * within + 0.1 * within.diagonal().mean() * torch.eye(12)
    gaps = features[:5, None] - means
    expected = torch.einsum("bkc,cd,bkd->bk", gaps, shrunk.inverse(), gaps).amin(1)
    assert torch.allclose(fitted.score(features[:5]), expected, rtol=1e-6)
    part = images.subset((images.labels != 2).nonzero().squeeze(1))
    assert len(fit_mahalanobis(trained_toy, part, device=CPU, precision="float32").centres) == 3
    with pytest.raises(ParameterError, match="shrinkage"):
        fit_mahalanobis(trained_toy, images, shrinkage=0.0, device=CPU)


@pytest.fixture
def detectors(trained_toy: Classifier) -> Detectors:
    return fit_detectors(
        trained_toy,
        training=toy_images(64, seed=1),
        selection=toy_images(40, seed=2),
        correlation=torch.eye(4),
        top_k=5,
        device=CPU,
        precision="float32",
    )


def attacked_fgsm(model: object, images: Tensor, labels: Tensor) -> Tensor:
    return fgsm(model, images, labels, epsilon=EPSILON)  # type: ignore[arg-type]


def test_scores_are_what_they_say(detectors: Detectors) -> None:
    """Image by image: the mean match of the k neurons of highest prediction difference, and the rivals' formulas."""
    images = toy_images(12, seed=5)
    before = state_of(detectors.model)
    scores = detectors.scores(images, ks=[1, 3], batch_size=5, precision="float32")
    assert_same_state(before, detectors.model)
    batch, labels = images.batch(torch.arange(12), CPU)
    logits = detectors.model(batch)
    influence = prediction_difference(detectors.model, batch)
    assert torch.equal(scores.predictions, logits.argmax(1))
    assert torch.equal(scores.labels, labels)
    assert torch.equal(scores.sources, torch.arange(12))
    for place in range(12):
        top = influence[place].argsort(descending=True)[:3]
        match = detectors.profiles.matches[top, int(scores.predictions[place])]
        assert float(scores.mismatch[3][place]) == pytest.approx(1 - float(match.mean()))
        assert float(scores.mismatch[1][place]) == pytest.approx(1 - float(match[0]))
    assert torch.allclose(scores.rivals[SOFTMAX].float(), 1 - logits.softmax(1).amax(1), atol=1e-6)
    mean_of_others = (1 - scores.mass["predicted"]) / 3  # A is the identity, so that the masses sum to 1
    right = scores.predictions == labels
    assert torch.allclose(scores.mass["other"][right], mean_of_others[right])


def test_attacked_images_keep_their_sources(detectors: Detectors) -> None:
    images = toy_images(12, seed=5)
    part = images.subset(torch.tensor([7, 2]))
    scores = detectors.scores(part, ks=[2], attack=attacked_fgsm, sources=torch.tensor([7, 2]), precision="float32")
    assert scores.sources.tolist() == [7, 2]
    batch, labels = part.batch(torch.arange(2), CPU)
    fooled = attacked_fgsm(detectors.model, batch, labels)
    assert torch.equal(scores.predictions, detectors.model(fooled).argmax(1))


@pytest.mark.parametrize("k", [0, 13])
def test_a_k_beyond_the_channels_is_refused(detectors: Detectors, k: int) -> None:
    with pytest.raises(ParameterError, match=f"k={k}.*12 neurons"):
        detectors.scores(toy_images(4), ks=[k])


def test_images_of_other_classes_are_refused(detectors: Detectors) -> None:
    other = image_set(torch.zeros(2, 3, 16, 16, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), num_classes=7)
    with pytest.raises(ParameterError, match="7 classes"):
        detectors.scores(other, ks=[1])


def made(predictions: list[int], mismatch: list[float], *, sources: list[int] | None = None) -> Scores:
    """Scores of images that all are of class 0; the rivals know nothing."""
    count = len(predictions)
    nothing = torch.zeros(count, dtype=torch.float64)
    return Scores(
        torch.zeros(count, dtype=torch.int64),
        torch.tensor(predictions, dtype=torch.int64),
        torch.tensor(sources if sources is not None else range(count), dtype=torch.int64),
        {1: torch.tensor(mismatch, dtype=torch.float64), 2: nothing},
        {SOFTMAX: nothing, MAHALANOBIS: nothing},
        {},
    )


def by_row(table: pd.DataFrame) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["attack"], row["detector"]): row for row in table.to_dict("records")}  # type: ignore[misc]


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


def test_attacks_that_never_succeed_say_so() -> None:
    clean = made([0, 0, 0], [0.1, 0.2, 0.3])
    table = detection_table(clean, {"weak": clean}, k=1)
    assert set(table["verdict"]) == {"no error", "no successful attack"}
    assert table["AUROC"].isna().all()
    assert (table[table["attack"] == "weak"]["success"] == 0).all()
    named = table.assign(model="toy")
    assert worst_cases(named).empty
    assert set(verdict_counts(verdicts(named)).values()) == {0}
    assert choose_k(clean, clean)[0] == 1
    hopeless = detection_table(made([1, 1], [0.1, 0.2]), {"any": made([1, 1], [0.1, 0.2])}, k=1)
    assert set(hopeless["verdict"]) == {"no right answer"}
    assert len(auroc_intervals(table.assign(model="toy")).axes) >= 1


def test_k_is_the_one_that_tells_best_and_the_worst_case_the_lowest() -> None:
    clean = made([0] * 4, [0.1, 0.2, 0.3, 0.4])
    strong, weak = made([1] * 4, [0.6, 0.7, 0.8, 0.9]), made([1] * 4, [0.0, 0.1, 0.2, 0.35])
    chosen, table = choose_k(clean, strong)
    assert chosen == 1
    assert table["AUROC"].tolist() == [1.0, 0.5]
    assert choose_k(clean, weak)[0] == 2
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


def test_a_planted_mismatch_is_found(detectors: Detectors) -> None:
    """Profiles that match what the network says of clean images, and not of attacked ones, give an area near 1."""
    images = toy_images(64, noise=0.25, seed=7)
    clean = detectors.scores(images, ks=[1, 4], precision="float32")
    attacked = detectors.scores(images, ks=[1, 4], attack=attacked_fgsm, precision="float32")
    # the same attacked scores with every prediction's match taken away
    blind = replace(attacked, mismatch={k: torch.ones_like(v) for k, v in attacked.mismatch.items()})
    table = detection_table(clean, {"FGSM": attacked, "planted": blind}, k=4)
    row = by_row(table)["planted", MISMATCH]
    assert row["AUROC"] > 0.95
    assert row["verdict"] == "better than chance"


@pytest.mark.parametrize("layer", ["last", "first"])
def test_the_soft_mismatch_has_the_slope_it_claims(trained_toy: Classifier, layer: str) -> None:
    """Without a slope towards unsuspicious images the adaptive attack would be PGD under another name."""
    selection = toy_images(40, seed=2)
    found = fit_detectors(
        trained_toy, training=selection, selection=selection, correlation=torch.eye(4), layer=layer, top_k=5,
        device=CPU, precision="float32",
    )  # fmt: skip
    batch, labels = toy_images(3, noise=0.25, seed=8).batch(torch.arange(3), CPU)
    with read_layers(trained_toy, [layer]) as outputs, torch.no_grad():
        trained_toy(batch)
    features = outputs[layer].double().float().requires_grad_()
    with torch.enable_grad():
        soft = found.soft_mismatch(features, found.rest(features), labels).sum()
        (slope,) = torch.autograd.grad(soft, features)
    assert bool((soft >= 0) & (soft <= 3))
    assert float(slope.abs().max()) > 0
    moved = (features - 1e-2 * slope / slope.norm()).detach().requires_grad_()
    with torch.enable_grad():
        assert bool(found.soft_mismatch(moved, found.rest(moved), labels).sum() < soft)


def test_the_first_order_influence_is_near_the_exact_one(detectors: Detectors) -> None:
    """Where there is no closed form, the attacker's slope comes from map times gradient: small maps make it exact."""
    batch, labels = toy_images(3, seed=8).batch(torch.arange(3), CPU)
    with read_layers(detectors.model, ["last"]) as outputs, torch.no_grad():
        detectors.model(batch)
    features = (1e-3 * outputs["last"]).requires_grad_()
    logits = detectors.rest(features)
    (slope,) = torch.autograd.grad(log_odds(logits, labels).sum(), features)
    first_order = (features * slope).sum((2, 3))
    exact = detectors.rest.influence(features.detach(), labels, form="log_odds") * math.log(2)
    assert torch.allclose(first_order, exact, rtol=0.02, atol=1e-5)
    probability = detectors.rest.influence(features.detach(), labels, form="probability")
    one, other = (weights / weights.sum(1, keepdim=True) for weights in (first_order.relu(), probability.relu()))
    assert torch.allclose(one, other, rtol=0.02, atol=1e-4)


@pytest.mark.parametrize("weight", [0.0, 10.0])
def test_the_adaptive_attack_stays_in_its_ball_and_leaves_the_model(detectors: Detectors, weight: float) -> None:
    images, labels = toy_images(8, noise=0.2, seed=9).batch(torch.arange(8), CPU)
    before = state_of(detectors.model)
    found = adaptive_pgd(
        detectors.model,
        images,
        labels,
        detectors=detectors,
        k=3,
        weight=weight,
        epsilon=0.1,
        steps=4,
        generator=torch.Generator().manual_seed(0),
    )
    assert_same_state(before, detectors.model)
    assert float((found - images).abs().max()) <= 0.1 + 1e-6
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    assert not found.requires_grad


def test_who_knows_the_detector_is_suspected_less(detectors: Detectors) -> None:
    """At equal size of the change, hiding must pay: else the honest row would be no attack on the detector."""
    images = toy_images(64, noise=0.2, seed=11)
    generator = torch.Generator().manual_seed(0)
    plain = lambda model, x, y: pgd(model, x, y, epsilon=EPSILON, steps=8, generator=generator)  # noqa: E731
    knowing = lambda model, x, y: adaptive_pgd(  # noqa: E731
        model, x, y, detectors=detectors, k=3, weight=10.0, epsilon=EPSILON, steps=8, generator=generator
    )
    first, second = (detectors.scores(images, ks=[3], attack=one, precision="float32") for one in (plain, knowing))
    fooled = [scores.predictions != scores.labels for scores in (first, second)]
    assert int(fooled[1].sum()) > 20
    both = fooled[0] & fooled[1]
    assert float(second.mismatch[3][both].mean()) < float(first.mismatch[3][both].mean())


@pytest.mark.parametrize("wrong", [{"epsilon": -0.1}, {"steps": -1}, {"weight": -1.0}])
def test_bad_attack_options_are_named(detectors: Detectors, wrong: dict[str, float]) -> None:
    options = {"epsilon": 0.1, "steps": 2, "weight": 1.0} | wrong
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        adaptive_pgd(
            detectors.model,
            torch.rand(1, 3, 16, 16),
            torch.tensor([0]),
            detectors=detectors,
            k=1,
            **options,  # type: ignore[arg-type]
        )


def test_examples_are_the_median_of_their_kind_and_are_traced(detectors: Detectors) -> None:
    """Chosen by the rule, not by looks; the title says what the network says of that very image."""
    images, selection = toy_images(40, noise=0.3, seed=7), toy_images(40, seed=2)
    clean = detectors.scores(images, ks=[1], precision="float32")
    attacked = detectors.scores(images, ks=[1], attack=attacked_fgsm, precision="float32")
    places = typical_examples(clean, attacked)
    assert clean.predictions[places[RIGHT]] == clean.labels[places[RIGHT]]
    assert attacked.predictions[places[ATTACKED]] != attacked.labels[places[ATTACKED]]
    sure = clean.rivals[SOFTMAX][clean.predictions == clean.labels]
    rank = int((sure < clean.rivals[SOFTMAX][places[RIGHT]]).sum())
    assert abs(rank - len(sure) / 2) <= 1
    before = state_of(detectors.model)
    chosen = {RIGHT: (places[RIGHT], None), ATTACKED: (places[ATTACKED], attacked_fgsm)}
    traced = trace_examples(detectors, images, selection, chosen, count=2, shown=3, precision="float32")
    assert_same_state(before, detectors.model)
    said = images.classes[int(attacked.predictions[places[ATTACKED]])]
    assert f"said: {said}" in traced[ATTACKED].title
    assert "match of true" in traced[ATTACKED].explanation
    assert "match of true" not in traced[RIGHT].explanation
    assert all(len(found) <= 3 for found in traced[RIGHT].examples.values())
    assert len(explanation_panel(traced[RIGHT]).axes) >= 2
    right_only = made([0, 0], [0.1, 0.2])
    assert typical_examples(right_only, right_only) == {RIGHT: 0}


def test_groups_hold_the_masses_of_their_images() -> None:
    clean = replace(made([0, 0, 1], [0.0] * 3), mass={"predicted": torch.arange(3.0), "true": torch.ones(3)})
    attacked = replace(made([1, 0, 1], [0.0] * 3), mass={"predicted": torch.full((3,), 9.0), "true": torch.ones(3)})
    groups = mass_groups(clean, {"FGSM": attacked})
    assert groups["right answers"]["predicted"].tolist() == [0, 1]
    assert groups["errors"]["source"].tolist() == [2]
    assert groups["FGSM, successful"]["source"].tolist() == [0]
    assert groups["FGSM, successful"]["predicted"].tolist() == [9]
