"""AutoAttack through the toolbox: no weaker than PGD, no image outside its ball, nothing left changed."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from art.attacks.evasion import AutoAttack

from neuron_consistency.auto_attack import auto_attack_predictions
from neuron_consistency.models import Classifier
from neuron_consistency.robustness import restarted_pgd_predictions
from toys import CPU, toy_images

EPSILON = 28 / 255  # of middling strength against the toy: some images fall, some withstand
OPTIONS = {"epsilon": EPSILON, "device": CPU, "precision": "float32", "steps": 20}


def test_it_fools_at_least_as_many_as_pgd_with_restarts(trained_toy: Classifier) -> None:
    """Were one of its attacks wired to the wrong loss or radius, it would fall behind or take every image."""
    images = toy_images(96, noise=0.25, seed=7)
    batch, labels = images.batch(torch.arange(len(images)), CPU)
    clean = trained_toy(batch).argmax(1) == labels
    by_pgd = restarted_pgd_predictions(trained_toy, images, restarts=3, **OPTIONS) == labels  # type: ignore[arg-type]
    by_all = auto_attack_predictions(trained_toy, images, queries=50, batch_size=40, **OPTIONS) == labels  # type: ignore[arg-type]
    assert 0 < int(by_all.sum()) <= int(by_pgd.sum()) < int(clean.sum())
    assert not bool((by_all & ~clean).any())


def test_changed_images_stay_in_the_ball_and_in_the_box(
    trained_toy: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = toy_images(24, noise=0.25, seed=7)
    made: list[tuple[np.ndarray, np.ndarray]] = []

    def remembered(self: AutoAttack, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        found: np.ndarray = generate(self, x, y)
        made.append((x, found))
        return found

    generate = AutoAttack.generate
    monkeypatch.setattr(AutoAttack, "generate", remembered)
    auto_attack_predictions(trained_toy, images, queries=20, **OPTIONS)  # type: ignore[arg-type]
    (clean, attacked), *_ = made
    moved = np.abs(attacked - clean)
    assert 0.9 * EPSILON < moved.max() <= EPSILON * 1.001
    assert attacked.min() >= 0
    assert attacked.max() <= 1


def test_it_repeats_itself_and_leaves_network_and_random_state_as_they_were(trained_toy: Classifier) -> None:
    images = toy_images(24, noise=0.25, seed=7)
    trained_toy.train()
    before = copy.deepcopy(trained_toy.state_dict())
    np.random.seed(5)
    expected = np.random.get_state()[1].copy()  # type: ignore[index]
    first = auto_attack_predictions(trained_toy, images, queries=20, **OPTIONS)  # type: ignore[arg-type]
    assert np.array_equal(np.random.get_state()[1], expected)  # type: ignore[index]
    np.random.seed(6)
    assert torch.equal(first, auto_attack_predictions(trained_toy, images, queries=20, **OPTIONS))  # type: ignore[arg-type]
    assert trained_toy.training
    assert all(torch.equal(value, before[name]) for name, value in trained_toy.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in trained_toy.parameters())
