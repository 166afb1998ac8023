"""Grad-CAM against captum, the attack on the background alone, and E on networks that look where we know."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from captum.attr import LayerGradCam
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from neuron_consistency.errors import ParameterError
from neuron_consistency.explanation.measure import (
    DISTANCES,
    Probe,
    explanation_consistency,
    explanation_mask,
    grad_cam,
    normalised,
    upsampled,
)
from neuron_consistency.explanation.planted_readers import planted_pictures, reader
from neuron_consistency.networks.models import ARCHITECTURES, Classifier, build_model
from neuron_consistency.runtime import Runtime
from toys import CPU, assert_same_state, state_of, toy_images, toy_model

EPSILON = 8 / 255


def random_maps(count: int, size: int, *, seed: int) -> Tensor:
    """Like Grad-CAM's: many zeros, many ties."""
    values = torch.randn(count, size, size, generator=torch.Generator().manual_seed(seed))
    return normalised((values * 4).round().relu())


# Grad-CAM


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_grad_cam_equals_captums_at_every_layer(architecture: str) -> None:
    """Same maps with the same magnitudes; captum is called layer by layer, after the network's own normalisation."""
    model = build_model(architecture, num_classes=5, image_size=64, seed=1).eval()
    size = 64 if architecture == "alexnet" else 32  # what its poolings need
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    classes, lit = torch.tensor([3, 0]), 0
    for layer in model.layers:
        ours = grad_cam(model, images, classes, layer=layer)
        captums = LayerGradCam(model, model.layer_module(layer))
        theirs = captums.attribute(images.clone().requires_grad_(), target=classes, relu_attributions=True)
        torch.testing.assert_close(ours, theirs.detach().squeeze(1), rtol=1e-4, atol=1e-4 * float(ours.max()))
        lit += bool(ours.max() > 0)
    assert lit > len(model.layers) / 2  # of a random network a map may be zero, but not most


def test_grad_cam_by_hand_and_its_magnitude_is_kept() -> None:
    """Two channels read through global mean pooling: the gradient's mean is weight / places. Doubled weights double
    the map: a normalised one would hide how strongly a class is supported."""
    model = toy_model().eval()
    linear = model.network.get_submodule("9")
    assert isinstance(linear, nn.Linear)
    images, _ = toy_images(3).batch(torch.arange(3), CPU)
    classes = torch.tensor([1, 1, 2])
    maps = grad_cam(model, images, classes)
    assert maps.shape == (3, 8, 8)
    features = model.network[:6]((images - model.mean) / model.std)  # type: ignore[index]
    by_hand = torch.einsum("bc,bchw->bhw", linear.weight[classes], features).relu() / 64
    torch.testing.assert_close(maps, by_hand.detach())
    linear.weight.data.mul_(2)
    torch.testing.assert_close(grad_cam(model, images, classes), 2 * maps)


@pytest.mark.parametrize("training", [True, False])
def test_explaining_leaves_no_trace(trained_toy: Classifier, training: bool) -> None:
    """Modes, flags, planted gradients, batch-norm statistics, hooks and the images are as before; gradients may be
    off, the whole network frozen."""
    model = trained_toy.train(training)
    first, *others = model.parameters()
    first.requires_grad_(False)
    for parameter in others:
        parameter.grad = torch.full_like(parameter, 0.5)
    before = state_of(model)
    images, labels = toy_images(8).batch(torch.arange(8), CPU)
    given = images.clone()
    maps = grad_cam(model, images, labels, layer="first")
    with torch.no_grad():
        assert torch.equal(grad_cam(model, images, labels, layer="first"), maps)
        explained = explanation_consistency(model, images, labels)
    assert_same_state(before, model)
    assert torch.equal(images, given)
    assert not images.requires_grad
    assert not any(part.requires_grad for part in (maps, explained.maps, explained.attacked, explained.consistency))
    model.requires_grad_(False)
    assert torch.equal(grad_cam(model, images, labels, layer="first"), maps)


def test_hooks_and_mode_are_restored_after_an_exception() -> None:
    model = toy_model().train()
    before = state_of(model)
    with pytest.raises(RuntimeError):
        grad_cam(model, torch.rand(1, 3, 16, 16), torch.tensor([9]))
    with pytest.raises(ParameterError, match="no layer"):
        grad_cam(model, torch.rand(1, 3, 16, 16), torch.tensor([0]), layer="conv7")
    assert_same_state(before, model)


def test_bfloat16_maps_are_near_those_of_float32(trained_toy: Classifier) -> None:
    images, labels = toy_images(8).batch(torch.arange(8), CPU)
    exact = grad_cam(trained_toy, images, labels)
    with Runtime(CPU, "bfloat16").autocast():
        rough = grad_cam(trained_toy, images, labels)
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().max() < 0.02 * exact.max()


# normalisation and mask


def test_normalised_maps_span_zero_to_one_and_constants_are_zero() -> None:
    maps = torch.tensor([[[2.0, 4.0], [3.0, 2.0]], [[7.0, 7.0], [7.0, 7.0]], [[0.0, 0.0], [0.0, 0.0]]])
    expected = torch.tensor([[[0.0, 1.0], [0.5, 0.0]], [[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert torch.equal(normalised(maps), expected)
    assert normalised(torch.tensor([[[0.0, 1e-45]]])).isfinite().all()  # a span that may be flushed to zero


def test_the_mask_is_what_reaches_the_threshold_and_nothing_of_a_zero_map() -> None:
    """At its own size a map is not changed by upsampling: 1, .2 and more stay; .19 and zero are background."""
    maps = torch.tensor([[[10.0, 2.0], [1.9, 0.0]], [[0.0, 0.0], [0.0, 0.0]], [[3.0, 3.0], [3.0, 3.0]]])
    mask = explanation_mask(maps, size=(2, 2))
    assert mask.dtype == torch.bool
    assert mask[:, 0].tolist() == [[[True, True], [False, False]], [[False] * 2] * 2, [[True] * 2] * 2]
    assert explanation_mask(maps, size=(2, 2), threshold=0.0)[:, 0].tolist()[0] == [[True, True], [True, False]]
    assert explanation_mask(maps, size=(6, 8)).shape == (3, 1, 6, 8)
    assert torch.equal(upsampled(maps, (4, 4))[0, 0, 0], torch.tensor([10.0, 8.0, 4.0, 2.0]))  # bilinear, by hand
    for threshold in (-0.1, 1.1):
        with pytest.raises(ParameterError, match="threshold"):
            explanation_mask(maps, size=(2, 2), threshold=threshold)


# the distances


@pytest.mark.parametrize("name", sorted(DISTANCES))
@given(seed=st.integers(0, 1000), size=st.integers(1, 12))
@settings(max_examples=25)
def test_a_distance_is_in_zero_to_one_symmetric_and_zero_of_equal_maps(name: str, seed: int, size: int) -> None:
    """Exactly zero, so that an attack that changed nothing has E = 1 exactly; maps of zeros and ones among them."""
    first, second = random_maps(6, size, seed=seed), random_maps(6, size, seed=seed + 1)
    first[0], second[1], first[2], second[2], second[3] = 0, 0, 0, 0, 1
    found = DISTANCES[name](first, second)
    assert found.shape == (6,)
    assert bool(((found >= 0) & (found <= 1)).all())
    torch.testing.assert_close(found, DISTANCES[name](second, first))
    assert torch.equal(DISTANCES[name](first, first.clone()), torch.zeros(6))
    assert found[2] == 0


def test_distances_by_hand() -> None:
    first = torch.tensor([[[0.0, 1.0], [0.5, 0.0]]])
    second = torch.tensor([[[0.5, 1.0], [0.0, 0.0]]])
    assert DISTANCES["absolute"](first, second).item() == pytest.approx(0.25)
    assert DISTANCES["iou"](first, second).item() == pytest.approx(1 - 1 / 2)
    mean, variance, covariance = 0.375, 1.25 / 4 - 0.375**2, 1 / 4 - 0.375**2
    ssim = (2 * mean**2 + 1e-4) * (2 * covariance + 9e-4) / ((2 * mean**2 + 1e-4) * (2 * variance + 9e-4))
    assert DISTANCES["ssim"](first, second).item() == pytest.approx(1 - ssim, abs=1e-6)
    opposite = 1 - torch.linspace(0, 1, 9).view(1, 3, 3)
    assert DISTANCES["rank"](1 - opposite, opposite).item() == pytest.approx(1)
    assert DISTANCES["rank"](opposite, torch.zeros(1, 3, 3)).item() == pytest.approx(0.5)  # no relation


def test_rank_correlation_is_scipys_with_ties() -> None:
    first, second = random_maps(8, 7, seed=3), random_maps(8, 7, seed=4)
    theirs = [stats.spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(first, second, strict=True)]
    torch.testing.assert_close(DISTANCES["rank"](first, second), (1 - torch.tensor(theirs).float()) / 2)


# planted truth


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("distance", sorted(DISTANCES))
def test_with_the_true_mask_a_background_reader_has_no_consistency_an_object_reader_all(
    distance: str, steps: int
) -> None:
    """The claim of E. The attack reaches what the one network reads, and flips it; hardly anything the other reads."""
    images, labels, mask = planted_pictures(32)
    found = {
        looks_at: explanation_consistency(
            reader(looks_at), images, labels, Probe(steps=steps, distance=distance), mask=mask
        )
        for looks_at in ("object", "background")
    }
    assert found["object"].consistency.min() > 0.99
    assert not found["object"].flipped.any()
    assert found["object"].attacked.ne(images).any(1).logical_or(mask[:, 0]).float().mean() > 0.9
    assert torch.equal(found["background"].consistency, torch.zeros(32))  # the gate: 1 - E = 1 exactly
    assert found["background"].flipped.all()
    assert found["background"].classes.squeeze(1).tolist() == labels.tolist()  # of x, not of x^


def test_random_signs_on_the_background_move_no_reader() -> None:
    """The null of E: as large a change, of the same pixels, that knows nothing. E below it is the attack's doing."""
    images, labels, mask = planted_pictures(32)
    found, again = (
        explanation_consistency(reader("background"), images, labels, mask=mask, noise=torch.Generator().manual_seed(0))
        for _ in range(2)
    )
    change = (found.attacked - images).abs()
    assert not change[mask.expand_as(change)].any()
    inside = ~mask.expand_as(change) & (images > EPSILON) & (images < 1 - EPSILON)
    torch.testing.assert_close(change[inside], torch.full_like(change[inside], EPSILON))
    assert found.consistency.min() > 0.9
    assert torch.equal(found.attacked, again.attacked)


def test_a_background_reader_too_sure_to_flip_is_moved() -> None:
    """Without a flip E is 1 - D of the two maps, below 1, and it falls as the attack grows."""
    images, labels, mask = planted_pictures(32, margin=0.25)
    images[torch.arange(32), labels] = torch.where(torch.rand(32, 16, 16) < 0.5, 0.01, images[torch.arange(32), labels])
    images[torch.arange(32), 1 - labels] *= 0.1
    model = reader("background")
    means = []
    for epsilon in (0.0, 4 / 255, 16 / 255):
        found = explanation_consistency(model, images, labels, Probe(epsilon=epsilon), mask=mask)
        assert not found.flipped.any()
        before, after = normalised(found.maps[:, 0]), normalised(found.attacked_maps[:, 0])
        torch.testing.assert_close(found.consistency, 1 - (before - after).abs().mean((1, 2)))
        assert torch.equal(found.maps[:, 0], grad_cam(model, images, labels))
        assert torch.equal(found.attacked_maps[:, 0], grad_cam(model, found.attacked, labels))
        means.append(float(found.consistency.mean()))
    assert means[0] == 1
    assert means[0] > means[1] > means[2]


def test_its_own_explanation_protects_what_a_background_reader_reads() -> None:
    """The limit of debiasing by E: masked by their own maps, both networks have E near 1, and the weight v = 1 - E
    cannot tell which one ignores the object. The mask is the object for the one, the background for the other."""
    images, labels, truth = planted_pictures(32)
    on_object = explanation_consistency(reader("object"), images, labels)
    on_background = explanation_consistency(reader("background"), images, labels)
    assert torch.equal(on_object.mask, truth)
    assert torch.equal(on_background.mask, ~truth)
    for found in (on_object, on_background):
        assert (found.attacked - images).abs().amax((1, 2, 3)).min() > EPSILON / 2  # attacked, in vain
        assert found.consistency.min() > 0.99


def test_the_batch_size_changes_nothing(trained_toy: Classifier) -> None:
    """One image's E may not hang on its neighbours: weights are computed in batches of any size."""
    images, labels = toy_images(12, noise=0.25).batch(torch.arange(12), CPU)
    probe = Probe(epsilon=0.15, distance="ssim", layer="first")
    whole = explanation_consistency(trained_toy, images, labels, probe)
    parts = [explanation_consistency(trained_toy, images[i : i + 5], labels[i : i + 5], probe) for i in (0, 5, 10)]
    torch.testing.assert_close(whole.consistency, torch.cat([part.consistency for part in parts]))
    assert 0 < int(whole.flipped.sum()) < 12
    assert bool((whole.consistency[whole.flipped] == 0).all())
    assert bool((whole.consistency[~whole.flipped] > 0).all())


# several labels


class Sides(nn.Module):
    """Class 0 is red on the left, class 1 green on the right: a multi-label network, a class where its logit > 0."""

    def __init__(self) -> None:
        super().__init__()
        self.evidence = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        window = torch.zeros(3, 16, 16)
        window[0, :, :8] = window[1, :, 8:] = 1
        seen: Tensor = self.evidence(images * window)
        return torch.stack([seen[:, 0].sum((1, 2)), seen[:, 1].sum((1, 2)), seen[:, 2].sum((1, 2))], 1) - 64.0


def sides() -> Classifier:
    model = Classifier(Sides(), "sides", {"evidence": ("evidence", 3)})
    model.mean.zero_()
    model.std.fill_(1)
    return model.eval()


def test_e_of_several_labels_is_the_mean_over_the_positive_classes() -> None:
    """The left is sure, the right falls below zero under attack: 1 and 0 make one half. An image with one class has
    it alone, one with none its highest-scoring class; a place without a class counts for nothing."""
    images = torch.zeros(3, 3, 16, 16)
    images[:, 0, :, :8], images[:, 1, :, 8:] = 0.9, 0.51
    images[:, :, 0, 0] = images[:, :, 0, 15] = 0.0  # so that no map is constant
    labels = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 0]]).float()
    spared = torch.zeros(3, 1, 16, 16, dtype=torch.bool)
    found = explanation_consistency(sides(), images, labels, mask=spared)
    assert found.classes.tolist() == [[0, 1], [1, -1], [0, -1]]
    assert found.maps.shape == found.attacked_maps.shape == (3, 2, 16, 16)
    assert 0.45 < found.consistency[0] <= 0.5
    assert found.consistency[1] == 0
    assert found.consistency[2] > 0.9
    assert found.flipped.tolist() == [False, True, False]
    left = grad_cam(sides(), images, torch.tensor([0, 0, 0]))
    assert torch.equal(found.maps[0, 0], left[0])


def test_the_mask_of_several_labels_is_the_union_of_their_explanations() -> None:
    """Were it one class's alone, the attack would erase the other object and call that inconsistency."""
    images = torch.zeros(2, 3, 16, 16)
    images[:, 0, 2:6, 1:5], images[:, 1, 8:14, 9:15] = 1.0, 1.0
    labels = torch.tensor([[1, 1, 0], [1, 0, 0]]).float()
    found = explanation_consistency(sides(), images, labels)
    left, right = torch.zeros(16, 16, dtype=torch.bool), torch.zeros(16, 16, dtype=torch.bool)
    left[2:6, 1:5], right[8:14, 9:15] = True, True
    assert torch.equal(found.mask[0, 0], left | right)
    assert torch.equal(found.mask[1, 0], left)


# bad input


@pytest.mark.parametrize("distance", sorted(DISTANCES))
def test_bad_input_has_a_defined_consistency(distance: str) -> None:
    """A map of zeros masks nothing, and E is 1 or, if the prediction flips, 0; a mask over everything leaves x as it
    is, E = 1; a batch of one class, and a network of one, are like any other. Never NaN."""
    images, labels, _ = planted_pictures(8)
    model = reader("background")
    everything = torch.ones(8, 1, 16, 16, dtype=torch.bool)
    covered = explanation_consistency(model, images, labels, Probe(distance=distance), mask=everything)
    assert torch.equal(covered.attacked, images)
    assert torch.equal(covered.consistency, torch.ones(8))
    only = labels == 1
    one_class = explanation_consistency(model, images[only], labels[only], Probe(distance=distance))
    assert one_class.consistency.min() > 0.99
    dark = torch.zeros(8, 3, 16, 16)  # no evidence: every map is zero
    blind = explanation_consistency(model, dark, torch.zeros(8, dtype=torch.int64), Probe(distance=distance))
    assert blind.maps.max() == 0
    assert not blind.mask.any()
    assert blind.consistency.isfinite().all()
    assert torch.equal(blind.consistency == 0, blind.flipped)
    lone = toy_model(num_classes=1).eval()
    trivial = explanation_consistency(lone, images, torch.zeros(8, dtype=torch.int64), Probe(distance=distance))
    assert torch.equal(trivial.consistency, torch.ones(8))  # nothing can be predicted but the one class


def test_an_unknown_layer_names_the_known_ones() -> None:
    images, labels, _ = planted_pictures(2)
    with pytest.raises(ParameterError, match="evidence"):
        explanation_consistency(reader("object"), images, labels, Probe(layer="conv9"))


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"epsilon": -0.1}, r"epsilon=-0\.1"),
        ({"threshold": 1.5}, r"threshold=1\.5"),
        ({"distance": "euclid"}, "distance='euclid': use one of absolute, ssim, rank, iou"),
        ({"mask": "boxes"}, "mask='boxes': use one of explanation, truth"),
    ],
)
def test_values_out_of_range_are_named(bad: dict[str, Any], named: str) -> None:
    with pytest.raises(ParameterError, match=named):
        Probe(**bad)
