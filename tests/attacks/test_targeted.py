"""The optimisation attack of Eq. 4, its ensemble loss, and images that leave the batch once they are done."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from neuron_consistency.attacks.linf import fgsm
from neuron_consistency.attacks.targeted import ensemble_loss, optimise_targeted, say_target
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.runtime import Runtime
from toys import CPU, assert_same_state, fitted, state_of, toy_images, toy_model

Batch = tuple[Tensor, Tensor]


@pytest.fixture
def batch(fresh_images: ImageSet) -> Batch:
    return fresh_images.batch(torch.arange(len(fresh_images)), CPU)


@pytest.fixture(scope="module")
def _other() -> Classifier:
    return fitted(toy_model(seed=3), toy_images(64, seed=5), steps=40)


@pytest.fixture
def ensemble(trained_toy: Classifier, _other: Classifier) -> list[nn.Module]:
    return [trained_toy, _other]


def rounded(images: Tensor) -> Tensor:
    """The images as a file of 8 bits holds them."""
    return (images * 255).round().to(torch.uint8).float() / 255


def trajectory(
    models: Sequence[nn.Module], images: Tensor, targets: Tensor, *, steps: int, learning_rate: float, trade_off: float
) -> list[Tensor]:
    """Every iterate of all images together, by torch's own Adam: what the attack runs through if nothing leaves."""
    point = images.clone().requires_grad_()
    optimiser = torch.optim.Adam([point], lr=learning_rate)
    iterates = [images]
    for _ in range(steps):
        optimiser.zero_grad()
        loss = torch.stack([nn.functional.cross_entropy(model(point), targets, reduction="none") for model in models])
        norm = (point - images).flatten(1).square().sum(1).add(1e-12).sqrt()
        (norm + trade_off * loss.mean(0)).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        point.data.clamp_(0, 1)
        iterates.append(point.detach().clone())
    for model in models:
        model.zero_grad()
    return iterates


def assert_images_equal(found: Tensor, expected: Tensor) -> None:
    """Equal to rounding: a gradient within rounding of zero may turn, in at most one pixel of a thousand."""
    assert ((found - expected).abs() > 1e-4).float().mean() < 1e-3


# the loss


def test_the_ensemble_loss_is_minus_log_of_the_mean_probability() -> None:
    """By hand: 1/4 and 3/4 have the mean 1/2. The mean of the two cross-entropies would be .837, not .693."""
    logits = torch.tensor([[[3.0, 1.0], [1.0, 3.0]], [[1.0, 3.0], [3.0, 1.0]]]).log()
    assert torch.allclose(
        ensemble_loss(logits, torch.tensor([1, 1]), fusion="probability"), torch.full((2,), math.log(2))
    )


def test_the_other_fusions_by_hand() -> None:
    """Mean cross-entropy, and cross-entropy of the mean logits; a network sure of the target must not hide another."""
    logits = torch.tensor([[[0.0, 8.0]], [[4.0, 0.0]]])
    target = torch.tensor([1])
    each = nn.functional.cross_entropy(logits[:, 0], target.expand(2), reduction="none")
    assert torch.allclose(ensemble_loss(logits, target, fusion="loss"), each.mean())
    joined = nn.functional.cross_entropy(torch.tensor([[2.0, 4.0]]), target)
    assert torch.allclose(ensemble_loss(logits, target, fusion="logits"), joined)
    assert float(ensemble_loss(logits, target, fusion="probability")) < math.log(2) < float(each.mean())
    with pytest.raises(ParameterError, match="probability, loss, logits"):
        ensemble_loss(logits, target, fusion="votes")


@given(seed=st.integers(0, 1000), networks=st.integers(1, 4), scale=st.floats(0.1, 200))
@settings(max_examples=40)
def test_the_ensemble_loss_lies_between_the_networks(seed: int, networks: int, scale: float) -> None:
    """Of one network it is cross-entropy; of several at most the largest and finite where probabilities underflow."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(networks, 6, 5, generator=generator)
    targets = torch.randint(0, 5, (6,), generator=generator)
    each = torch.stack([nn.functional.cross_entropy(one, targets, reduction="none") for one in logits])
    found = ensemble_loss(logits, targets, fusion="probability")
    assert bool(found.isfinite().all())
    assert bool((found <= each.amax(0) + 1e-3).all())
    assert bool((found >= each.amin(0) - 1e-3).all())
    assert torch.allclose(ensemble_loss(logits[:1], targets, fusion="probability"), each[0], rtol=1e-4, atol=1e-4)


# Eq. 4


@pytest.mark.parametrize("stop_early", [False, True])
def test_eq4_reaches_its_targets_with_a_smaller_change_than_fgsm(
    trained_toy: Classifier, batch: Batch, stop_early: bool
) -> None:
    """Every kept image is taken for its target, lies in the box, and is nearer than an FGSM image that fools."""
    images, labels = batch
    targets = (labels + 1) % 4
    before, given_images = state_of(trained_toy), images.clone()
    found = optimise_targeted([trained_toy], images, targets, steps=60, stop_early=stop_early)
    assert_same_state(before, trained_toy)
    assert torch.equal(images, given_images)
    assert found.success.float().mean() > 0.9
    with torch.no_grad():
        said = trained_toy(found.images).argmax(1)
    assert torch.equal(said == targets, found.success)
    assert found.images.min() >= 0
    assert found.images.max() <= 1
    assert not found.images.requires_grad
    assert torch.allclose(found.distance, (found.images - images).square().mean((1, 2, 3)).sqrt(), atol=1e-6)

    def right(size: float) -> float:
        adversarial = fgsm(trained_toy, images, labels, epsilon=size)
        with torch.no_grad():
            return float((trained_toy(adversarial).argmax(1) == labels).float().mean())

    assert found.distance.mean() < next(0.02 * n for n in range(1, 50) if right(0.02 * n) < 0.1)


def test_eq4_leaves_an_image_that_is_the_target_already(trained_toy: Classifier, batch: Batch) -> None:
    images = batch[0]
    found = optimise_targeted([trained_toy], images, trained_toy(images).argmax(1), steps=5)
    assert bool(found.success.all())
    assert torch.equal(found.images, images)
    assert found.distance.max() == 0


def test_eq4_larger_trade_off_reaches_more_targets_and_search_comes_nearer(
    trained_toy: Classifier, batch: Batch
) -> None:
    """lambda weighs the loss against the norm; the search finds a small enough one for each image."""
    images, labels = (part[:12] for part in batch)
    targets = (labels + 1) % 4

    def run(**options: Any) -> Any:
        return optimise_targeted([trained_toy], images, targets, steps=40, stop_early=False, **options)

    timid, bold = run(trade_off=0.01), run(trade_off=100.0)
    assert bold.success.float().mean() > timid.success.float().mean()
    searched = run(trade_off=100.0, search_steps=4)
    assert bool((searched.success >= bold.success).all())
    assert searched.distance[bold.success].mean() < bold.distance[bold.success].mean()
    saved = run(trade_off=0.01, search_steps=4)
    assert saved.success.float().mean() > timid.success.float().mean()


@pytest.mark.parametrize("stop_early", [False, True])
def test_eq4_fools_every_network_of_an_ensemble(ensemble: list[nn.Module], batch: Batch, stop_early: bool) -> None:
    """Success means all of them, not most."""
    images, labels = (part[:24] for part in batch)
    targets = (labels + 2) % 4
    found = optimise_targeted(ensemble, images, targets, steps=50, stop_early=stop_early)
    assert torch.equal(say_target(ensemble, found.images, targets).all(1), found.success)
    assert found.success.float().mean() > 0.8


@pytest.mark.parametrize(
    "bad", [{"steps": 0}, {"search_steps": 0}, {"trade_off": 0.0}, {"halvings": -1}, {"learning_rate": math.nan}]
)
def test_eq4_refuses_settings_that_cannot_work(bad: dict[str, Any], trained_toy: Classifier, batch: Batch) -> None:
    with pytest.raises(ParameterError, match=f"{next(iter(bad))}="):
        optimise_targeted([trained_toy], *batch, **bad)
    with pytest.raises(ParameterError, match="floats"):
        optimise_targeted([trained_toy], batch[0] * 255, batch[1])
    with pytest.raises(ParameterError, match="from 0 to 3"):
        optimise_targeted([trained_toy], batch[0], batch[1] + 1)
    with pytest.raises(ParameterError, match="needs a model"):
        optimise_targeted([], *batch)


# images that leave the batch


def test_an_early_stop_is_the_full_run_up_to_it(ensemble: list[nn.Module], batch: Batch) -> None:
    """Image by image, the first iterate of torch's Adam that all networks take for the target when rounded; the last
    one where there is none. Adam's state that stayed behind, or moved to a neighbour's row, would show here."""
    images, labels = (part[:24] for part in batch)
    targets, settings_of = (labels + 2) % 4, {"steps": 12, "learning_rate": 0.02, "trade_off": 10.0}
    iterates = trajectory(ensemble, images, targets, **settings_of)  # type: ignore[arg-type]
    taken = torch.stack(
        [
            say_target(ensemble, point, targets).all(1) & say_target(ensemble, rounded(point), targets).all(1)
            for point in iterates
        ]
    )
    stops = [int(column.nonzero()[0]) if bool(column.any()) else len(iterates) - 1 for column in taken.unbind(1)]
    assert len(set(stops)) > 3, "the images have to leave at different steps for this to show anything"
    expected = torch.stack([iterates[stop][row] for row, stop in enumerate(stops)])
    found = optimise_targeted(ensemble, images, targets, **settings_of, halvings=0)  # type: ignore[arg-type]
    assert torch.equal(found.success, taken.any(0))
    assert_images_equal(found.images, expected)


def test_the_full_run_keeps_the_nearest_success(ensemble: list[nn.Module], batch: Batch) -> None:
    images, labels = (part[:12] for part in batch)
    targets, settings_of = (labels + 2) % 4, {"steps": 30, "learning_rate": 0.02, "trade_off": 10.0}
    iterates = torch.stack(trajectory(ensemble, images, targets, **settings_of))  # type: ignore[arg-type]
    norms = (iterates - images).flatten(2).norm(dim=2)
    both = [[say_target(ensemble, one, targets).all(1) for one in (point, rounded(point))] for point in iterates]
    taken = torch.stack([exact & stored for exact, stored in both])
    nearest = norms.masked_fill(~taken, torch.inf).argmin(0)
    kept: dict[str, Any] = {"stop_early": False, "halvings": 0}
    found = optimise_targeted(ensemble, images, targets, **settings_of, **kept)  # type: ignore[arg-type]
    assert bool(found.success.all())
    assert_images_equal(found.images, iterates[nearest, torch.arange(len(images))])


def test_an_image_comes_out_alike_whatever_else_is_in_its_batch(ensemble: list[nn.Module], batch: Batch) -> None:
    """Alone, in a batch of others, and in another order: the neighbours that leave take nothing of it along."""
    images, labels = (part[:16] for part in batch)
    targets = (labels + 1) % 4
    together = optimise_targeted(ensemble, images, targets, steps=20)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    shuffled = optimise_targeted(ensemble, images[order], targets[order], steps=20)
    assert torch.equal(shuffled.success, together.success[order])
    assert_images_equal(shuffled.images, together.images[order])
    for row in range(0, 16, 5):
        alone = optimise_targeted(ensemble, images[row : row + 1], targets[row : row + 1], steps=20)
        assert bool(alone.success[0]) == bool(together.success[row])
        assert_images_equal(alone.images[0], together.images[row])


class Border(nn.Module):
    """Says 1 from a mean grey level of 100.2 on; under autocast, as an inexact network would, from 99.9 on."""

    def forward(self, images: Tensor) -> Tensor:
        border = 99.9 if torch.is_autocast_enabled("cpu") else 100.2
        brightness = 255 * images.mean((1, 2, 3)) - border
        return torch.stack([torch.zeros_like(brightness), brightness], dim=1)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_success_is_claimed_of_the_rounded_image_in_float32(precision: str) -> None:
    """At 100.2 levels the network is fooled, but a file holds 100; at 99.9 it is fooled only where it is inexact. An
    image leaves at 100.5, which is stored as 101, or it fails."""
    images, targets = torch.full((2, 3, 4, 4), 99.5 / 255), torch.tensor([1, 1])
    with Runtime(CPU, precision).autocast():
        found = optimise_targeted([Border()], images, targets, steps=60, learning_rate=0.05 / 255, trade_off=1e4)
        short = optimise_targeted([Border()], images, targets, steps=16, learning_rate=0.05 / 255, trade_off=1e4)
        nearest = optimise_targeted(
            [Border()], images, targets, steps=60, learning_rate=0.05 / 255, trade_off=1e4, stop_early=False
        )
    assert bool(found.success.all())
    assert torch.equal(rounded(found.images), torch.full_like(images, 101) / 255)
    assert float(found.images.max()) * 255 < 100.6
    assert float(short.images.max()) * 255 > 100.2
    assert not bool(short.success.any())
    assert bool(nearest.success.all())
    assert torch.equal(rounded(nearest.images), rounded(found.images))


@pytest.mark.parametrize("stop_early", [False, True])
def test_an_image_is_drawn_back_to_where_it_just_succeeds(stop_early: bool) -> None:
    """A step of 20 levels overshoots a border that lies at 130: at 140 the image would be twice as far as it needs to
    be, and its distance that of the learning rate. Five halvings come within a level of the border."""

    class Line(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            brightness = 255 * images.mean((1, 2, 3)) - 130
            return torch.stack([torch.zeros_like(brightness), brightness], dim=1)

    images, targets = torch.full((1, 3, 4, 4), 120 / 255), torch.tensor([1])
    options: dict[str, Any] = {"steps": 3, "learning_rate": 20 / 255, "trade_off": 1e4, "stop_early": stop_early}
    far, near = (optimise_targeted([Line()], images, targets, **options, halvings=n) for n in (0, 5))
    assert float(far.distance) * 255 == pytest.approx(20, abs=0.1)
    assert 10 < float(near.distance) * 255 < 11.5
    assert bool(near.success)
    assert bool(say_target([Line()], rounded(near.images), targets).all())


class Counted(nn.Module):
    """A network that remembers how many images each forward pass with gradients had."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.sizes: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        if images.requires_grad:
            self.sizes.append(len(images))
        result: Tensor = self.network(images)
        return result


def test_an_image_that_has_left_costs_nothing(trained_toy: Classifier, batch: Batch) -> None:
    """The batch shrinks, and the run ends when it is empty, long before the last step."""
    images, labels = batch
    counted = Counted(trained_toy).eval()
    found = optimise_targeted([counted], images, (labels + 1) % 4, steps=500, trade_off=100.0)
    assert bool(found.success.all())
    assert counted.sizes[0] == len(images)
    assert counted.sizes == sorted(counted.sizes, reverse=True)
    assert sum(counted.sizes) < len(images) * len(counted.sizes)
    assert len(counted.sizes) < 200
    counted.sizes.clear()
    optimise_targeted([counted], images, (labels + 1) % 4, steps=10, stop_early=False)
    assert counted.sizes == [len(images)] * 11


def test_each_trade_off_of_a_search_starts_with_all_images(trained_toy: Classifier, batch: Batch) -> None:
    """Early stopping ends an image's run for one lambda only: the next may find a nearer image."""
    images, labels = (part[:12] for part in batch)
    counted = Counted(trained_toy).eval()
    once, searched = (
        optimise_targeted([counted], images, (labels + 1) % 4, steps=40, trade_off=100.0, search_steps=n)
        for n in (1, 4)
    )
    assert counted.sizes.count(len(images)) >= 5
    assert bool((searched.success >= once.success).all())
    assert bool((searched.distance[once.success] <= once.distance[once.success] + 1e-6).all())


@given(seed=st.integers(0, 100), learning_rate=st.floats(0.001, 2), stop_early=st.booleans())
@settings(max_examples=20)
def test_the_box_holds_for_any_step(seed: int, learning_rate: float, stop_early: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(4, 3, 8, 8, generator=generator).mul(1.4).sub(0.2).clamp(0, 1)
    found = optimise_targeted(
        [toy_model().eval()],
        images,
        torch.tensor([0, 1, 2, 3]),
        steps=3,
        learning_rate=learning_rate,
        stop_early=stop_early,
    )
    assert found.images.min() >= 0
    assert found.images.max() <= 1
    assert bool(found.images.isfinite().all())
