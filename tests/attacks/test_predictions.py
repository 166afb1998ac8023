"""What networks say of a set: scores, accuracy under one attack or many, mean average precision by hand."""

from __future__ import annotations

import copy
import sys
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyautoattack import AutoAttack
from torch import Tensor

from neuron_consistency.attacks.predictions import (
    accuracy,
    accuracy_row,
    auto_attack_predictions,
    average_precision,
    average_precision_parts,
    class_scores,
    predictions,
    restarted_predictions,
    under_pgd,
)
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.runtime import Runtime
from toys import CPU, ON, image_set, toy_images

IMAGES = toy_images(96, noise=0.25, seed=7)
EPSILON = 28 / 255  # of middling strength against the toy: some images fall, some withstand


def in_batches(size: int) -> Runtime:
    return Runtime(CPU, "float32", size)


# scores


def test_scores_are_those_of_the_model_in_eval_mode(trained_toy: Classifier) -> None:
    images = toy_images(10)
    trained_toy.train()
    logits, labels = class_scores(trained_toy, images, in_batches(3))
    assert trained_toy.training
    assert torch.equal(labels, images.labels)
    with torch.no_grad():
        expected = trained_toy.eval()(images.batch(torch.arange(10), CPU)[0])
    assert torch.allclose(logits, expected, atol=1e-5)
    assert torch.equal(predictions(trained_toy, images, ON), expected.argmax(1))
    attacked, _ = class_scores(trained_toy, images, ON, attack=lambda _model, batch, _labels: 0 * batch)
    assert torch.allclose(attacked, attacked[:1].expand(10, -1), atol=1e-5)


def test_accuracy_by_hand_in_any_batches_and_mode_restored(trained_toy: Classifier) -> None:
    """Four fifths of the labels are wrong on purpose; the incomplete last batch counts."""
    images = toy_images(50, noise=0.02)
    labels = torch.where(torch.arange(50) < 10, images.labels, (images.labels + 1) % 4)
    wrong = image_set(images.pixels, labels, num_classes=4)  # type: ignore[arg-type]
    trained_toy.train()
    for size in (7, 50, 64):
        assert accuracy(trained_toy, wrong, in_batches(size)) == pytest.approx(0.2)
    assert trained_toy.training


def test_accuracy_has_wilsons_interval() -> None:
    row = accuracy_row(torch.tensor([1, 1, 0, 0]), torch.tensor([1, 1, 1, 1]))
    assert row["accuracy"] == 50
    assert abs(row["low"] - 15.0) < 0.1  # Wilson, 2 of 4
    assert abs(row["high"] - 85.0) < 0.1


# under attack


def test_each_restart_can_only_lower_accuracy(trained_toy: Classifier) -> None:
    """Planted: an attack of middling strength. Were fooled images attacked again, some would come back right."""

    def right(restarts: int, on: Runtime = ON) -> Tensor:
        attack = under_pgd(on, epsilon=36 / 255, steps=2)
        return restarted_predictions(trained_toy, IMAGES, on, attack=attack, restarts=restarts) == IMAGES.labels

    clean, once, often = right(0), right(1), right(8)
    assert int(often.sum()) < int(once.sum()) < int(clean.sum())
    assert not bool((once & ~clean).any())
    assert not bool((often & ~once).any())
    assert torch.equal(clean, predictions(trained_toy, IMAGES, ON) == IMAGES.labels)
    assert len(right(1, in_batches(40))) == 96


auto_attack = partial(auto_attack_predictions, epsilon=EPSILON)


def test_auto_attack_fools_at_least_as_many_as_pgd_with_restarts(trained_toy: Classifier) -> None:
    """Were one of its attacks wired to the wrong loss or radius, it would fall behind or take every image."""
    clean = predictions(trained_toy, IMAGES, ON) == IMAGES.labels
    attack = under_pgd(ON, epsilon=EPSILON, steps=20)
    by_pgd = restarted_predictions(trained_toy, IMAGES, ON, attack=attack, restarts=3) == IMAGES.labels
    by_all = auto_attack(trained_toy, IMAGES, in_batches(40), n_queries=50) == IMAGES.labels
    assert 0 < int(by_all.sum()) <= int(by_pgd.sum()) < int(clean.sum())
    assert not bool((by_all & ~clean).any())


@pytest.fixture
def few() -> ImageSet:
    return toy_images(24, noise=0.25, seed=7)


def test_auto_attack_stays_in_the_ball_and_in_the_box(
    trained_toy: Classifier, few: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[Tensor, Tensor]] = []
    run = AutoAttack.run_standard_evaluation

    def remembered(self: AutoAttack, batch: Tensor, labels: Tensor, **options: int) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = run(self, batch, labels, **options)
        made.append((batch, found[0]))
        return found

    monkeypatch.setattr(AutoAttack, "run_standard_evaluation", remembered)
    auto_attack(trained_toy, few, ON, n_queries=20)
    ((clean, attacked),) = made
    assert 0.9 * EPSILON < (attacked - clean).abs().max() <= EPSILON * 1.001
    assert attacked.min() >= 0
    assert attacked.max() <= 1


def test_auto_attack_repeats_itself_and_leaves_network_and_random_state(trained_toy: Classifier, few: ImageSet) -> None:
    trained_toy.train()
    before = copy.deepcopy(trained_toy.state_dict())
    torch.manual_seed(5)
    expected = torch.get_rng_state()
    first = auto_attack(trained_toy, few, ON, n_queries=20)
    assert torch.equal(torch.get_rng_state(), expected)
    torch.manual_seed(6)
    assert torch.equal(first, auto_attack(trained_toy, few, ON, n_queries=20))
    assert trained_toy.training
    assert all(torch.equal(value, before[name]) for name, value in trained_toy.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in trained_toy.parameters())


def test_all_four_attacks_run_with_the_queries_asked_for(
    trained_toy: Classifier, few: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The standard version sets 5000 queries and nine targets by itself; the toy has three other classes."""
    kept: list[AutoAttack] = []

    def skipped(self: AutoAttack, batch: Tensor, labels: Tensor, **_options: int) -> tuple[Tensor, Tensor]:
        kept.append(self)
        return batch, labels

    monkeypatch.setattr(AutoAttack, "run_standard_evaluation", skipped)
    auto_attack(trained_toy, few, ON, n_queries=7)
    (attack,) = kept
    assert attack.attacks_to_run == ["apgd-ce", "apgd-t", "fab-t", "square"]
    assert attack.square.n_queries == 7
    assert attack.apgd_targeted.n_target_classes == attack.fab.n_target_classes == 3
    assert (attack.apgd.n_iter, attack.apgd_targeted.n_iter, attack.fab.n_iter) == (100, 100, 100)


def test_what_auto_attack_cannot_do_is_an_error(
    trained_toy: Classifier, few: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer than four classes; without the package the extra is named."""
    images = image_set(torch.zeros(3, 3, 16, 16, dtype=torch.uint8), torch.arange(3), num_classes=3)
    with pytest.raises(ParameterError, match="AutoAttack needs four classes or more, and toy has 3"):
        auto_attack(trained_toy, images, ON)
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    with pytest.raises(ParameterError, match=r"pip install -e '\.\[autoattack\]'"):
        auto_attack(trained_toy, few, ON)


# several labels an image


def test_average_precision_by_hand() -> None:
    """Ranks 1 and 3 of 4: (1/1 + 2/3) / 2. All right: 1. No image: NaN, not 0."""
    scores = torch.tensor([[0.9, 0.9, 0.9], [0.8, 0.8, 0.8], [0.7, 0.1, 0.7], [0.1, 0.2, 0.1]])
    labels = torch.tensor([[1, 1, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]]).float()
    found = average_precision(scores, labels)
    assert found[:2].tolist() == pytest.approx([(1 + 2 / 3) / 2, 1.0])
    assert found[2].isnan()


def test_ties_share_the_last_of_their_ranks() -> None:
    """A network that says the same of every image has the class's share as its precision, in any order of images."""
    labels = torch.tensor([[1], [0], [0], [0]]).float()
    for order in ([0, 1, 2, 3], [3, 2, 1, 0]):
        assert average_precision(torch.zeros(4, 1), labels[order]).item() == pytest.approx(0.25)


def plain(scores: Tensor, labels: Tensor) -> float:
    """The step-wise area under precision over recall, threshold by threshold."""
    area, before = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        claimed = scores >= threshold
        hits = float(labels[claimed].sum())
        recall = hits / float(labels.sum())
        area, before = area + (recall - before) * hits / int(claimed.sum()), recall
    return area


@given(data=st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=20))
@settings(max_examples=100)
def test_average_precision_is_the_area_under_the_curve(data: list[tuple[int, bool]]) -> None:
    """Few distinct scores, so that ties are common."""
    scores = torch.tensor([float(score) for score, _ in data])
    labels = torch.tensor([float(label) for _, label in data])
    found = average_precision(scores[:, None], labels[:, None]).item()
    if labels.sum() == 0:
        assert found != found
    else:
        assert found == pytest.approx(plain(scores, labels))


def test_parts_of_the_map_add_up_to_it_and_tell_its_error() -> None:
    """Their mean is the mAP itself; their standard error is near the spread over fresh draws of the images."""
    generator = torch.Generator().manual_seed(0)
    errors, values = [], []
    for _ in range(60):
        labels = (torch.rand(80, 3, generator=generator) < 0.4).float()
        scores = labels + torch.randn(80, 3, generator=generator)
        parts = average_precision_parts(scores, labels)
        values.append(average_precision(scores, labels).mean())
        assert parts.mean().item() == pytest.approx(values[-1].item())
        errors.append(parts.std() / 80**0.5)
    assert torch.stack(errors).mean().item() == pytest.approx(torch.stack(values).std().item(), rel=0.3)
