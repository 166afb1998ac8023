"""Detectors by their formulas, and the attacker who knows them."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from neuron_consistency.attacks.linf import fgsm, pgd
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import read_layers
from neuron_consistency.tracing.detection import (
    SOFTMAX,
    Detectors,
    Mahalanobis,
    adaptive_pgd,
    fit_detectors,
    fit_mahalanobis,
)
from neuron_consistency.tracing.influence import log_odds, prediction_difference, rest_of_network
from neuron_consistency.tracing.profiles import Profiles
from planted_linear import linear_model
from toys import CPU, ON, assert_same_state, image_set, state_of, toy_images

EPSILON = 40 / 255
attacked_fgsm = partial(fgsm, epsilon=EPSILON)


def test_the_mahalanobis_score_is_the_distance_to_the_nearest_class(trained_toy: Classifier) -> None:
    """By the formula, on the layer's spatial means; classes without training images are left out."""
    images = toy_images(48, seed=3)
    fitted = fit_mahalanobis(trained_toy, images, replace(ON, batch_size=7))
    batch, labels = images.batch(torch.arange(48), CPU)
    with read_layers(trained_toy, ["last"]) as outputs, torch.no_grad():
        trained_toy(batch)
    features = outputs["last"].double().mean((2, 3))
    means = torch.stack([features[labels == label].mean(0) for label in range(4)])
    centred = features - means[labels]
    within = centred.T @ centred / 48
    shrunk = 0.99 * within + 0.01 * within.diagonal().mean() * torch.eye(12)
    gaps = features[:5, None] - means
    expected = torch.einsum("bkc,cd,bkd->bk", gaps, shrunk.inverse(), gaps).amin(1)
    assert torch.allclose(fitted.score(features[:5]), expected, rtol=1e-6)
    part = images.subset((images.labels != 2).nonzero().squeeze(1))
    assert len(fit_mahalanobis(trained_toy, part, ON).centres) == 3


@pytest.mark.parametrize(("sees", "lead"), [(1, 0.5), (2, -0.5), (3, 0.0)])
def test_the_true_class_is_held_against_others_as_far_from_the_predicted_one(sees: int, lead: float) -> None:
    """Classes 1 and 2 are relatives of the class 0 that is said, 3 is none; 1 is true. Half of what speaks for 0 are
    neurons of class 0, the other half neurons of class `sees`: against all classes, 1 would lead as a relative alone.
    """
    weights = torch.zeros(4, 3)
    weights[0, :2] = 1.0
    model = linear_model(weights)
    related = torch.tensor([[1.0, 0.5, 0.5, 0.0], [0.5, 1.0, 0.0, 0.0], [0.5, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    shares = torch.eye(4)[[0, sees, 0]].double()
    matches, nothing = shares @ related.double(), torch.zeros(3).double()
    profiles = Profiles("colours", tuple("abcd"), torch.zeros(1, 3), shares, matches, nothing, 0.0)
    rival = Mahalanobis(torch.eye(3).double(), nothing[None])
    found = Detectors(model, rest_of_network(model), profiles, rival, "probability", related)
    maps = torch.ones(1, 3, 2, 2)
    columns = found._columns(maps, torch.tensor([1]), [1])
    assert float((columns["true"] - columns["alike"]).detach()) == pytest.approx(lead)
    assert bool(found._columns(maps, torch.tensor([3]), [1])["alike"].isnan())  # no other class is so far


def fit(model: Classifier, layer: str | None = None) -> Detectors:
    training, selection = toy_images(64, seed=1), toy_images(40, seed=2)
    return fit_detectors(
        model, ON, training=training, selection=selection, correlation=torch.eye(4), layer=layer, top_k=5
    )


@pytest.fixture
def detectors(trained_toy: Classifier) -> Detectors:
    return fit(trained_toy)


def test_scores_are_what_they_say(detectors: Detectors) -> None:
    """Image by image: the mean match of the k neurons of highest prediction difference, and the rivals' formulas."""
    images = toy_images(12, seed=5)
    before = state_of(detectors.model)
    scores = detectors.scores(images, replace(ON, batch_size=5), ks=[1, 3])
    assert_same_state(before, detectors.model)
    batch, labels = images.batch(torch.arange(12), CPU)
    logits = detectors.model(batch)
    influence = prediction_difference(detectors.model, batch)
    assert scores["prediction"].tolist() == logits.argmax(1).tolist()
    assert scores["label"].tolist() == labels.tolist()
    assert scores.index.tolist() == list(range(12))
    for place in range(12):
        top = influence[place].argsort(descending=True)[:3]
        match = detectors.profiles.matches[top, scores["prediction"][place]]
        assert scores["mismatch 3"][place] == pytest.approx(1 - float(match.mean()))
        assert scores["mismatch 1"][place] == pytest.approx(1 - float(match[0]))
    assert scores[SOFTMAX].tolist() == pytest.approx((1 - logits.softmax(1).amax(1)).tolist(), abs=1e-6)
    right = scores[scores["right"]]
    assert right["true"].tolist() == right["predicted"].tolist()
    mean_of_others = (1 - right["predicted"]) / 3  # A is the identity, so that the masses sum to 1
    assert right["other"].tolist() == pytest.approx(mean_of_others.tolist())


def test_attacked_images_keep_their_sources(detectors: Detectors) -> None:
    images = toy_images(12, seed=5)
    part = images.subset(torch.tensor([7, 2]))
    scores = detectors.scores(part, ON, ks=[2], attack=attacked_fgsm, sources=torch.tensor([7, 2]))
    assert scores.index.tolist() == [7, 2]
    attacked = attacked_fgsm(detectors.model, *part.batch(torch.arange(2), CPU))
    assert scores["prediction"].tolist() == detectors.model(attacked).argmax(1).tolist()


@pytest.mark.parametrize("k", [0, 13])
def test_a_k_beyond_the_channels_is_refused(detectors: Detectors, k: int) -> None:
    with pytest.raises(ParameterError, match=f"k={k}: .* at most 12 is needed"):
        detectors.scores(toy_images(4), ON, ks=[k])


def test_images_of_other_classes_are_refused(detectors: Detectors) -> None:
    other = image_set(torch.zeros(2, 3, 16, 16, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), num_classes=7)
    with pytest.raises(ParameterError, match="7 classes"):
        detectors.scores(other, ON, ks=[1])


@pytest.mark.parametrize("layer", ["last", "first"])
def test_the_soft_mismatch_has_the_slope_it_claims(trained_toy: Classifier, layer: str) -> None:
    """Without a slope towards unsuspicious images the adaptive attack would be PGD under another name."""
    found = fit(trained_toy, layer)
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
    attack = partial(adaptive_pgd, detectors=detectors, k=3, weight=weight, epsilon=0.1, steps=4)
    found = attack(detectors.model, images, labels, generator=torch.Generator().manual_seed(0))
    assert_same_state(before, detectors.model)
    assert float((found - images).abs().max()) <= 0.1 + 1e-6
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    assert not found.requires_grad


def test_who_knows_the_detector_is_suspected_less(detectors: Detectors) -> None:
    """At equal size of the change, hiding must pay: else the honest row would be no attack on the detector."""
    images = toy_images(64, noise=0.2, seed=11)
    generator = torch.Generator().manual_seed(0)
    options: dict[str, Any] = {"epsilon": EPSILON, "steps": 8, "generator": generator}
    attacks = partial(pgd, **options), partial(adaptive_pgd, detectors=detectors, k=3, weight=10.0, **options)
    plain, knowing = (detectors.scores(images, ON, ks=[3], attack=attack) for attack in attacks)
    assert int((~knowing["right"]).sum()) > 20
    both = ~plain["right"] & ~knowing["right"]
    assert knowing["mismatch 3"][both].mean() < plain["mismatch 3"][both].mean()


@pytest.mark.parametrize("wrong", [{"epsilon": -0.1}, {"steps": -1}, {"weight": -1.0}])
def test_bad_attack_options_are_named(detectors: Detectors, wrong: dict[str, float]) -> None:
    options: dict[str, Any] = {"epsilon": 0.1, "steps": 2, "weight": 1.0} | wrong
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        adaptive_pgd(detectors.model, torch.rand(1, 3, 16, 16), torch.tensor([0]), detectors=detectors, k=1, **options)
