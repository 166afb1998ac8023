"""AutoAttack: no weaker than PGD, no image outside its ball, nothing left changed."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
from pyautoattack import AutoAttack
from torch import Tensor

from neuron_consistency.attacks.predictions import auto_attack_predictions, restarted_pgd_predictions
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from toys import CPU, image_set, toy_images

EPSILON = 28 / 255  # of middling strength against the toy: some images fall, some withstand
OPTIONS = {"epsilon": EPSILON, "device": CPU, "precision": "float32"}


def test_it_fools_at_least_as_many_as_pgd_with_restarts(trained_toy: Classifier) -> None:
    """Were one of its attacks wired to the wrong loss or radius, it would fall behind or take every image."""
    images = toy_images(96, noise=0.25, seed=7)
    batch, labels = images.batch(torch.arange(len(images)), CPU)
    clean = trained_toy(batch).argmax(1) == labels
    by_pgd = restarted_pgd_predictions(trained_toy, images, restarts=3, steps=20, **OPTIONS) == labels  # type: ignore[arg-type]
    by_all = auto_attack_predictions(trained_toy, images, n_queries=50, batch_size=40, **OPTIONS) == labels  # type: ignore[arg-type]
    assert 0 < int(by_all.sum()) <= int(by_pgd.sum()) < int(clean.sum())
    assert not bool((by_all & ~clean).any())


def test_changed_images_stay_in_the_ball_and_in_the_box(
    trained_toy: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = toy_images(24, noise=0.25, seed=7)
    made: list[tuple[Tensor, Tensor]] = []
    run = AutoAttack.run_standard_evaluation

    def remembered(self: AutoAttack, batch: Tensor, labels: Tensor, **options: int) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = run(self, batch, labels, **options)
        made.append((batch, found[0]))
        return found

    monkeypatch.setattr(AutoAttack, "run_standard_evaluation", remembered)
    auto_attack_predictions(trained_toy, images, n_queries=20, **OPTIONS)  # type: ignore[arg-type]
    ((clean, attacked),) = made
    assert 0.9 * EPSILON < (attacked - clean).abs().max() <= EPSILON * 1.001
    assert attacked.min() >= 0
    assert attacked.max() <= 1


def test_it_repeats_itself_and_leaves_network_and_random_state_as_they_were(trained_toy: Classifier) -> None:
    images = toy_images(24, noise=0.25, seed=7)
    trained_toy.train()
    before = copy.deepcopy(trained_toy.state_dict())
    torch.manual_seed(5)
    expected = torch.get_rng_state()
    first = auto_attack_predictions(trained_toy, images, n_queries=20, **OPTIONS)  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), expected)
    torch.manual_seed(6)
    assert torch.equal(first, auto_attack_predictions(trained_toy, images, n_queries=20, **OPTIONS))  # type: ignore[arg-type]
    assert trained_toy.training
    assert all(torch.equal(value, before[name]) for name, value in trained_toy.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in trained_toy.parameters())


def test_all_four_attacks_run_with_the_queries_asked_for(
    trained_toy: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The standard version sets 5000 queries and nine targets by itself; the toy has three other classes."""
    kept: list[AutoAttack] = []

    def skipped(self: AutoAttack, batch: Tensor, labels: Tensor, **_options: int) -> tuple[Tensor, Tensor]:
        kept.append(self)
        return batch, labels

    monkeypatch.setattr(AutoAttack, "run_standard_evaluation", skipped)
    auto_attack_predictions(trained_toy, toy_images(8), n_queries=7, **OPTIONS)  # type: ignore[arg-type]
    (attack,) = kept
    assert attack.attacks_to_run == ["apgd-ce", "apgd-t", "fab-t", "square"]
    assert attack.square.n_queries == 7
    assert attack.apgd_targeted.n_target_classes == attack.fab.n_target_classes == 3
    assert (attack.apgd.n_iter, attack.apgd_targeted.n_iter, attack.fab.n_iter) == (100, 100, 100)


def test_without_the_package_the_extra_is_named(trained_toy: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    with pytest.raises(ParameterError, match=r"pip install -e '\.\[autoattack\]'"):
        auto_attack_predictions(trained_toy, toy_images(8), **OPTIONS)  # type: ignore[arg-type]


def test_fewer_than_four_classes_are_an_error(trained_toy: Classifier) -> None:
    images = image_set(torch.zeros(3, 3, 16, 16, dtype=torch.uint8), torch.arange(3), num_classes=3)
    with pytest.raises(ParameterError, match="AutoAttack needs four classes or more, and toy has 3"):
        auto_attack_predictions(trained_toy, images, **OPTIONS)  # type: ignore[arg-type]
