"""L-infinity attacks: what each of them owes, and their pixels against captum's."""

from __future__ import annotations

import math
import warnings
from functools import partial
from typing import Any

import pytest
import torch
from captum.robust import FGSM, PGD
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from neuron_consistency.attacks import linf
from neuron_consistency.attacks.linf import (
    background_attack,
    fgsm,
    fgsm_step,
    least_likely,
    linf_attack,
    pgd,
    sign_noise,
)
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import Attack
from neuron_consistency.runtime import Runtime
from toys import CPU, assert_same_state, state_of, toy_images, toy_model

Batch = tuple[Tensor, Tensor]
EPSILON = 0.15  # the colours of the toy images are far apart


def kept_corner(images: Tensor) -> Tensor:
    """The mask of an object in the corner of every image."""
    mask = torch.zeros(len(images), 1, *images.shape[2:], dtype=torch.bool)
    mask[..., :5, :5] = True
    return mask


# A new attack is one line here. All take images from their labels within EPSILON, by gradients.
ATTACKS: dict[str, Attack] = {
    "FGSM": partial(fgsm, epsilon=EPSILON),
    "PGD": partial(pgd, epsilon=EPSILON, steps=5),
    "least likely class": lambda model, images, _: least_likely(model, images, epsilon=EPSILON),
    "background": lambda net, x, y: background_attack(net, x, y, kept_corner(x), epsilon=EPSILON),
    "background, iterated": lambda net, x, y: background_attack(net, x, y, kept_corner(x), epsilon=EPSILON, steps=3),
}


@pytest.fixture
def batch(fresh_images: ImageSet) -> Batch:
    return fresh_images.batch(torch.arange(len(fresh_images)), CPU)


def correct(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return float((model(images).argmax(1) == labels).float().mean())


# what every attack owes


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("training", [True, False])
def test_an_attack_stays_in_its_bounds_fools_and_leaves_no_trace(
    trained_toy: Classifier, batch: Batch, name: str, training: bool
) -> None:
    """The ball, the box, a strict drop of accuracy; mode, flags, weights, hooks and planted gradients as before."""
    images, labels = batch
    if training:  # batch norm records every forward in train mode, as the caller asked: hold that apart
        for module in trained_toy.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum, module.track_running_stats = 0.0, False
    model = trained_toy.train(training)
    first, *others = model.parameters()
    first.requires_grad_(False)
    for parameter in others:
        parameter.grad = torch.full_like(parameter, 0.5)
    before, given = state_of(model), images.clone()
    adversarial = ATTACKS[name](model, images, labels)
    assert_same_state(before, model)
    assert torch.equal(images, given)
    assert not images.requires_grad
    assert images.grad is None
    assert not adversarial.requires_grad
    assert (adversarial - images).abs().max() <= EPSILON + 1e-6
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1
    assert correct(model, images, labels) > 0.95
    assert correct(model, adversarial, labels) < correct(model, images, labels) - 0.05


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_repeats_itself_where_gradients_are_off(trained_toy: Classifier, batch: Batch, name: str) -> None:
    """A measuring pass may call it under no_grad, and finds gradients off after it; a random start has a seed."""
    torch.manual_seed(0)
    expected = ATTACKS[name](trained_toy, *batch)
    torch.manual_seed(0)
    with torch.no_grad():
        assert torch.equal(ATTACKS[name](trained_toy, *batch), expected)
        assert not torch.is_grad_enabled()


@pytest.mark.parametrize("name", ATTACKS)
def test_under_bfloat16_images_stay_float32_and_nearly_the_same(
    trained_toy: Classifier, batch: Batch, name: str
) -> None:
    """Only the forward pass is rounded: the ball keeps its exact size, few signs turn."""
    torch.manual_seed(0)
    exact = ATTACKS[name](trained_toy, *batch)
    torch.manual_seed(0)
    with Runtime(CPU, "bfloat16").autocast():
        rounded = ATTACKS[name](trained_toy, *batch)
    assert rounded.dtype == torch.float32
    assert (rounded - batch[0]).abs().max() <= EPSILON + 1e-6
    assert ((rounded - exact).abs() > 1e-6).float().mean() < 0.15


# the one loop


@given(
    epsilon=st.floats(0, 1),
    step_size=st.floats(0, 1),
    steps=st.integers(0, 4),
    targeted=st.booleans(),
    random_start=st.booleans(),
    seed=st.integers(0, 100),
)
@settings(max_examples=40)
def test_bounds_hold_for_any_setting(
    epsilon: float, step_size: float, steps: int, targeted: bool, random_start: bool, seed: int
) -> None:
    """Ball, box and mask, also from images that lie on the box's walls."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(3, 3, 8, 8, generator=generator).mul(1.4).sub(0.2).clamp(0, 1)
    mask = torch.rand(3, 1, 8, 8, generator=generator) < 0.5
    adversarial = linf_attack(
        toy_model().eval(),
        images,
        torch.tensor([0, 1, 2]),
        epsilon=epsilon,
        step_size=step_size,
        steps=steps,
        targeted=targeted,
        random_start=random_start,
        mask=mask,
        generator=generator,
    )
    assert (adversarial - images).abs().max() <= epsilon + 1e-6
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1
    assert torch.equal(adversarial[~mask.expand_as(images)], images[~mask.expand_as(images)])


def test_a_large_batch_attacks_as_a_small_one(trained_toy: Classifier, batch: Batch) -> None:
    """The loss is summed: an image is attacked alike alone and among many."""
    images, labels = batch
    together = fgsm(trained_toy, images, labels, epsilon=8 / 255)
    alone = torch.cat([fgsm(trained_toy, images[i : i + 1], labels[i : i + 1], epsilon=8 / 255) for i in range(8)])
    assert ((together[:8] - alone).abs() > 1e-6).float().mean() < 1e-3


def test_several_labels_are_left_by_the_binary_cross_entropy(trained_toy: Classifier) -> None:
    """Softmax cross-entropy against several ones would move other pixels than the loss the network is trained with."""
    images, _ = toy_images(4, noise=0.3).batch(torch.arange(4), CPU)
    labels = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 1], [0, 1, 1, 1], [0, 0, 0, 0]]).float()
    leaf = images.clone().requires_grad_()
    loss = functional.binary_cross_entropy_with_logits(trained_toy(leaf), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, leaf)
    by_hand = fgsm_step(images, gradient, epsilon=EPSILON)
    attacked = fgsm(trained_toy, images, labels, epsilon=EPSILON)
    assert ((attacked - by_hand).abs() > 1e-6).float().mean() < 1e-3  # gradients within rounding of zero


# against captum


def theirs(attack: type[FGSM] | type[PGD], model: nn.Module, *arguments: Any, **options: Any) -> Tensor:
    """The loss of the library, the box of images; every gradient counts, however small."""
    made = attack(model, nn.CrossEntropyLoss(reduction="none"), 0.0, 1.0)
    getattr(made, "fgsm", made).zero_thresh = 0.0
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Input Tensor 0 did not already require gradients")
        result: Tensor = made.perturb(*arguments, **options)
    return result.detach()


@pytest.mark.parametrize("training", [True, False])
def test_fgsm_equals_captums_in_every_pixel(trained_toy: Classifier, batch: Batch, training: bool) -> None:
    """Float32, same mode: not one pixel differs, in train mode (batch statistics) as in eval mode."""
    model, (images, labels) = trained_toy.train(training), batch
    ours = fgsm(model, images, labels, epsilon=8 / 255)
    assert torch.equal(ours, theirs(FGSM, model, images, epsilon=8 / 255, target=labels))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("targeted", [True, False])
def test_the_loop_equals_captums_pgd(trained_toy: Classifier, batch: Batch, training: bool, targeted: bool) -> None:
    """Equal steps and no random start. The two project onto the ball in another order of operations, so pixels agree
    to rounding; a gradient within rounding of zero may then turn, in at most one pixel of a thousand."""
    model, (images, labels) = trained_toy.train(training), batch
    targets = (labels + 1) % 4 if targeted else labels
    ours = linf_attack(model, images, targets, epsilon=8 / 255, step_size=2 / 255, steps=7, targeted=targeted)
    other = theirs(PGD, model, images, 8 / 255, 2 / 255, 7, targets, targeted=targeted)
    assert ((ours - other).abs() > 1e-6).float().mean() < 1e-3


# each attack's own


def test_fgsm_step_is_the_attack_made_from_its_gradient(trained_toy: Classifier, batch: Batch) -> None:
    """Training steps by a gradient it has already: the same image comes out."""
    images, labels = batch
    point = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(functional.cross_entropy(trained_toy(point), labels), point)
    stepped = fgsm_step(images, gradient, epsilon=8 / 255)
    assert torch.equal(stepped, fgsm(trained_toy, images, labels, epsilon=8 / 255))
    assert not stepped.requires_grad


def test_pgd_starts_at_random_and_repeats_with_its_generator(trained_toy: Classifier, batch: Batch) -> None:
    def run(seed: int) -> Tensor:
        return pgd(trained_toy, *batch, epsilon=8 / 255, steps=9, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_pgd_is_at_least_as_strong_as_fgsm(trained_toy: Classifier, batch: Batch) -> None:
    """At a size where FGSM still leaves images right, PGD's loss is higher."""
    images, labels = batch

    def loss(adversarial: Tensor) -> float:
        return float(functional.cross_entropy(trained_toy(adversarial), labels).detach())

    one, many = fgsm(trained_toy, *batch, epsilon=0.08), pgd(trained_toy, *batch, epsilon=0.08, steps=10)
    assert loss(many) > 0.98 * loss(one)
    assert loss(one) > loss(images)


@pytest.mark.parametrize(
    ("radius", "steps"), [(1, 1), (2, 2), (4, 5), (8, 10), (16, 20), (32, 36)]
)  # min(eps + 4, 1.25 eps), rounded down; 1 at least
def test_least_likely_takes_the_papers_number_of_steps(
    radius: int, steps: int, trained_toy: Classifier, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P1 and Kurakin et al.: steps of 1/255 towards the class the clean image resembles least."""
    called: dict[str, object] = {}

    def spy(_model: nn.Module, images: Tensor, labels: Tensor, **options: object) -> Tensor:
        called.update(options, labels=labels)
        return images

    monkeypatch.setattr(linf, "linf_attack", spy)
    least_likely(trained_toy, batch[0], epsilon=radius / 255)
    assert (called["steps"], called["step_size"], called["targeted"]) == (steps, 1 / 255, True)
    assert torch.equal(called["labels"], trained_toy(batch[0]).argmin(1))  # type: ignore[arg-type]


@pytest.mark.parametrize("steps", [1, 5])
def test_only_the_background_is_attacked(trained_toy: Classifier, steps: int) -> None:
    """Masked pixels are the same bits; others move, and the loss rises. No mask is plain FGSM, and a mask that covers
    an image leaves that image alone."""
    images, labels = toy_images(16, seed=3).batch(torch.arange(16), CPU)
    mask = torch.rand(16, 1, 16, 16, generator=torch.Generator().manual_seed(1)) < 0.5
    mask[0], mask[1] = True, False
    attacked = background_attack(trained_toy, images, labels, mask, epsilon=0.1, steps=steps)
    change = (attacked - images).abs()
    assert change[mask.expand_as(change)].max() == 0
    assert change[~mask.expand_as(change)].mean() > 0.1 / 4
    assert torch.equal(attacked[0], images[0])
    if steps == 1:
        torch.testing.assert_close(attacked[1:2], fgsm(trained_toy, images, labels, epsilon=0.1)[1:2])
    before, after = (functional.cross_entropy(trained_toy(each), labels) for each in (images, attacked))
    assert after > before


@pytest.mark.parametrize("shape", [(16, 16), (4, 16, 16), (4, 3, 16, 16), (4, 1, 8, 8)])
def test_a_mask_of_another_size_is_refused(trained_toy: Classifier, shape: tuple[int, ...]) -> None:
    images, labels = toy_images(4).batch(torch.arange(4), CPU)
    with pytest.raises(ParameterError, match="mask"):
        background_attack(trained_toy, images, labels, torch.ones(shape, dtype=torch.bool))


def test_noise_has_the_attacks_size_and_no_direction(trained_toy: Classifier, batch: Batch) -> None:
    """Every pixel inside the box moves by exactly epsilon, up as often as down; accuracy hardly suffers."""
    images, labels = batch
    noisy = sign_noise(images, epsilon=0.05, generator=torch.Generator().manual_seed(0))
    inside = (images > 0.05) & (images < 0.95)
    moved = (noisy - images)[inside]
    assert torch.allclose(moved.abs(), torch.full_like(moved, 0.05), atol=1e-6)
    assert abs(float(moved.sign().mean())) < 5 / math.sqrt(len(moved))
    assert noisy.min() >= 0
    assert noisy.max() <= 1
    assert correct(trained_toy, noisy, labels) > 0.9
