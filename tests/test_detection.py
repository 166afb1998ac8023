"""Detectors: areas under the curve against brute force, planted mismatches, who counts as positive, the attacker."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from neuron_consistency.attacks import fgsm, pgd
from neuron_consistency.auroc import auroc
from neuron_consistency.detection import MAHALANOBIS, SOFTMAX, Detectors, Scores, adaptive_pgd, fit_detectors
from neuron_consistency.detection_tables import ERRORS, MISMATCH, choose_k, detection_table, worst_case
from neuron_consistency.errors import ParameterError
from neuron_consistency.mahalanobis import fit_mahalanobis
from neuron_consistency.models import Classifier, read_layers
from neuron_consistency.tracing import evidence, prediction_difference
from neuron_consistency.tracing_figures import auroc_intervals
from toys import CPU, assert_same_state, image_set, state_of, toy_images

EPSILON = 40 / 255


def brute(positives: Tensor, negatives: Tensor) -> float:
    wins = (positives[:, None] > negatives).double() + 0.5 * (positives[:, None] == negatives).double()
    return float(wins.mean())


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=9), st.lists(st.integers(0, 4), min_size=1, max_size=9))
def test_the_area_is_the_share_of_pairs_won(positives: list[int], negatives: list[int]) -> None:
    """Ties count half; the interval lies within [0, 1] and holds the area."""
    above, below = torch.tensor(positives).double(), torch.tensor(negatives).double()
    found = auroc(above, below, torch.arange(len(above)), 100 + torch.arange(len(below)))
    assert found.value == pytest.approx(brute(above, below))
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_unrelated_images_have_delongs_variance() -> None:
    """With every image a source of its own, the standard error is DeLong's (up to M/(M - 1) and N/(N - 1))."""
    generator = torch.Generator().manual_seed(0)
    above, below = torch.randn(300, generator=generator) + 1, torch.randn(200, generator=generator)
    found = auroc(above, below, torch.arange(300), 300 + torch.arange(200))
    won = (above[:, None] > below).double()
    delong = math.sqrt(float(won.mean(1).var() / 300 + won.mean(0).var() / 200))
    by_logit = (math.log(found.high / (1 - found.high)) - math.log(found.low / (1 - found.low))) / (2 * 1.959964)
    assert by_logit * found.value * (1 - found.value) == pytest.approx(delong, rel=0.01)


def test_intervals_cover_the_truth_when_images_come_in_pairs() -> None:
    """A clean image and the adversarial one made from it share what makes both scores high or low."""
    generator = torch.Generator().manual_seed(1)
    truth = 0.5 * (1 + math.erf(1 / math.sqrt(2) / math.sqrt(2)))  # two normals of variance 1, 1 apart
    covered = 0
    sources = torch.arange(60)
    for _ in range(300):
        shared = torch.randn(60, generator=generator)
        clean = 0.8 * shared + 0.6 * torch.randn(60, generator=generator)
        attacked = 1 + 0.8 * shared + 0.6 * torch.randn(60, generator=generator)
        one = auroc(attacked, clean, sources, sources)
        covered += one.low <= truth <= one.high
    assert 0.92 <= covered / 300 <= 0.985


def test_copies_of_an_image_do_not_narrow_the_interval() -> None:
    generator = torch.Generator().manual_seed(2)
    above, below, sources = (
        torch.randn(40, generator=generator) + 1,
        torch.randn(40, generator=generator),
        torch.arange(40),
    )
    one = auroc(above, below, sources, sources)
    ten = auroc(above.repeat(10), below, sources.repeat(10), sources)
    assert (ten.value, ten.low, ten.high) == pytest.approx((one.value, one.low, one.high))


def test_paired_differences_are_narrower_than_unpaired() -> None:
    """Two detectors that see the same images differ by less than their intervals suggest; a detector's own is 0."""
    generator = torch.Generator().manual_seed(3)
    above, below, sources = (
        torch.randn(80, generator=generator) + 1,
        torch.randn(80, generator=generator),
        torch.arange(80),
    )
    one = auroc(above, below, sources, 80 + sources)
    nearly = auroc(above + 0.1 * torch.randn(80, generator=generator), below, sources, 80 + sources)
    value, low, high = one.minus(nearly)
    assert value == pytest.approx(one.value - nearly.value)
    assert 0 < high - low < 0.5 * (one.high - one.low)
    assert one.minus(one) == (0, 0, 0)
    with pytest.raises(ParameterError, match="same images"):
        one.minus(auroc(above[:40], below, sources[:40], 80 + sources))


def test_perfect_separation_is_not_certain() -> None:
    """Five images told apart of five: so many would be by chance 2.5 times in a hundred at the lower bound."""
    sources = torch.arange(5)
    found = auroc(torch.ones(5), torch.zeros(5), sources, sources)
    assert (found.value, found.high) == (1, 1)
    assert found.low**5 == pytest.approx(0.025)
    inverse = auroc(torch.zeros(5), torch.ones(5), sources, sources)
    assert (inverse.value, inverse.low, inverse.high) == pytest.approx((0, 0, 1 - found.low))


def test_no_positive_gives_nan_and_not_an_error() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    found = auroc(torch.zeros(0), torch.ones(5), none, torch.arange(5))
    assert math.isnan(found.value)
    assert math.isnan(found.low)
    assert (found.positives, found.negatives) == (0, 5)


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
    assert set(table["lacking"]) == {"no error", "no successful attack"}
    assert table["AUROC"].isna().all()
    assert (table["verdict"] == "cannot be told").all()
    assert (table[table["attack"] == "weak"]["success"] == 0).all()
    assert worst_case(table) is None
    assert choose_k(clean, clean)[0] == 1
    hopeless = detection_table(made([1, 1], [0.1, 0.2]), {"any": made([1, 1], [0.1, 0.2])}, k=1)
    assert set(hopeless["lacking"]) == {"no right answer"}
    assert len(auroc_intervals(table.assign(model="toy")).axes) >= 1


def test_k_is_the_one_that_tells_best_and_the_worst_case_the_lowest() -> None:
    clean = made([0] * 4, [0.1, 0.2, 0.3, 0.4])
    strong, weak = made([1] * 4, [0.6, 0.7, 0.8, 0.9]), made([1] * 4, [0.0, 0.1, 0.2, 0.35])
    chosen, table = choose_k(clean, strong)
    assert chosen == 1
    assert table["AUROC"].tolist() == [1.0, 0.5]
    assert choose_k(clean, weak)[0] == 2
    row = worst_case(detection_table(clean, {"strong": strong, "weak": weak}, k=1))
    assert row is not None
    assert row["attack"] == "weak"


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
    (slope,) = torch.autograd.grad(evidence(logits, labels, form="probability").sum(), features)
    exact = detectors.rest.influence(features.detach(), labels, form="probability")
    assert torch.allclose((features * slope).sum((2, 3)), exact, atol=2e-6)


@pytest.mark.parametrize("weight", [0.0, 10.0])
def test_the_adaptive_attack_stays_in_its_ball_and_leaves_the_model(detectors: Detectors, weight: float) -> None:
    images, labels = toy_images(8, noise=0.2, seed=9).batch(torch.arange(8), CPU)
    before = state_of(detectors.model)
    found = adaptive_pgd(
        detectors, images, labels, k=3, weight=weight, epsilon=0.1, steps=4, generator=torch.Generator().manual_seed(0)
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
    knowing = lambda _model, x, y: adaptive_pgd(  # noqa: E731
        detectors, x, y, k=3, weight=10.0, epsilon=EPSILON, steps=8, generator=generator
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
        adaptive_pgd(detectors, torch.rand(1, 3, 16, 16), torch.tensor([0]), k=1, **options)  # type: ignore[arg-type]


def test_the_figure_of_areas_has_a_panel_a_network() -> None:
    rows = pd.DataFrame(
        {"model": model, "attack": "FGSM", "detector": detector, "AUROC": 0.7, "low": 0.6, "high": np.nan}
        for model in ("a", "b", "c")
        for detector in (MISMATCH, SOFTMAX)
    )
    assert sum(axis.get_visible() for axis in auroc_intervals(rows).axes) == 3
