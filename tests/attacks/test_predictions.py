"""Accuracy under attack: PGD, PGD with restarts, and Wilson's interval."""

from __future__ import annotations

import torch

from neuron_consistency.attacks.predictions import accuracy_row, pgd_predictions, restarted_pgd_predictions
from neuron_consistency.networks.models import Classifier
from toys import CPU, toy_images

EPSILON = 40 / 255
OPTIONS = {"epsilon": EPSILON, "device": CPU, "precision": "float32"}


def test_pgd_lowers_accuracy_and_accuracy_has_wilsons_interval(trained_toy: Classifier) -> None:
    images = toy_images(48, noise=0.25, seed=7)
    attacked = pgd_predictions(trained_toy, images, steps=5, **OPTIONS)  # type: ignore[arg-type]
    assert int((attacked == images.labels).sum()) < len(images)
    row = accuracy_row(torch.tensor([1, 1, 0, 0]), torch.tensor([1, 1, 1, 1]))
    assert row["accuracy"] == 50
    assert abs(row["low"] - 15.0) < 0.1  # Wilson, 2 of 4
    assert abs(row["high"] - 85.0) < 0.1


def test_each_restart_can_only_lower_accuracy(trained_toy: Classifier) -> None:
    """Planted: an attack of middling strength. Were fooled images attacked again, some would come back right."""
    images = toy_images(96, noise=0.25, seed=7)
    options = OPTIONS | {"epsilon": 36 / 255, "steps": 2}

    def right(restarts: int, batch_size: int = 96) -> torch.Tensor:
        said = restarted_pgd_predictions(trained_toy, images, restarts=restarts, batch_size=batch_size, **options)  # type: ignore[arg-type]
        return said == images.labels

    clean, once, often = right(0), right(1), right(8)
    assert int(often.sum()) < int(once.sum()) < int(clean.sum())
    assert not bool((once & ~clean).any())
    assert not bool((often & ~once).any())
    batch, _ = images.batch(torch.arange(len(images)), CPU)
    assert torch.equal(clean, trained_toy(batch).argmax(1) == images.labels)
    assert len(right(1, batch_size=40)) == 96
