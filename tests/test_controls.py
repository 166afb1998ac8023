"""The sets that stand beside consis_adv: each holds the images it says, at the real images' thresholds."""

from __future__ import annotations

import torch

from neuron_consistency.attacks import fgsm
from neuron_consistency.controls import (
    COMMON,
    FGSM,
    NOISE,
    REAL,
    SUCCESSFUL,
    WRONG,
    accuracy_row,
    measure_with_controls,
    pgd_predictions,
)
from neuron_consistency.models import Classifier
from toys import CPU, fitted, toy_images, toy_model

EPSILON = 40 / 255
OPTIONS = {"epsilon": EPSILON, "device": CPU, "precision": "float32"}


def test_every_control_holds_its_own_images(trained_toy: Classifier) -> None:
    """Were "successful only" drawn from all attacks, the verdict on ambiguity would be diluted."""
    images = toy_images(48, noise=0.25, seed=7)
    measured = measure_with_controls(trained_toy, images, attacker=trained_toy, top_k=4, **OPTIONS)  # type: ignore[arg-type]
    passes = measured.passes
    right = passes[REAL].predictions == images.labels
    fooled = right & (passes[FGSM].predictions != images.labels)
    assert int(fooled.sum()) >= 2
    assert len(passes[SUCCESSFUL].labels) == int(fooled.sum())
    assert bool((passes[SUCCESSFUL].predictions != passes[SUCCESSFUL].labels).all())
    assert (WRONG in passes) == (int((~right).sum()) >= 2)
    for responses in passes.values():  # one threshold for all sets
        assert torch.equal(responses.layers["last"].thresholds, passes[REAL].layers["last"].thresholds)
    batch, labels = images.batch(torch.arange(len(images)), CPU)
    by_hand = trained_toy(fgsm(trained_toy, batch, labels, epsilon=EPSILON)).argmax(1)
    assert torch.equal(passes[FGSM].predictions, by_hand)


def test_the_common_set_comes_from_the_attacker(trained_toy: Classifier) -> None:
    """Attacked by itself, a network sees its own FGSM set; attacked by another it does not; noise is milder."""
    images = toy_images(48, noise=0.25, seed=7)
    own = measure_with_controls(trained_toy, images, attacker=trained_toy, top_k=4, **OPTIONS).passes  # type: ignore[arg-type]
    other = fitted(toy_model(seed=5), toy_images(48, seed=3))
    foreign = measure_with_controls(trained_toy, images, attacker=other, top_k=4, **OPTIONS).passes  # type: ignore[arg-type]
    alone = measure_with_controls(trained_toy, images, top_k=4, **OPTIONS).passes  # type: ignore[arg-type]
    counts = {name: own[name].layers["last"].counts["true"] for name in (FGSM, COMMON)}
    assert torch.equal(counts[FGSM], counts[COMMON])
    assert not torch.equal(foreign[COMMON].layers["last"].counts["true"], counts[COMMON])
    assert COMMON not in alone
    right = {name: int((own[name].predictions == images.labels).sum()) for name in (REAL, NOISE, FGSM)}
    assert right[FGSM] < right[NOISE] <= right[REAL]


def test_pgd_lowers_accuracy_and_accuracy_has_wilsons_interval(trained_toy: Classifier) -> None:
    images = toy_images(48, noise=0.25, seed=7)
    attacked = pgd_predictions(trained_toy, images, steps=5, **OPTIONS)  # type: ignore[arg-type]
    assert int((attacked == images.labels).sum()) < len(images)
    row = accuracy_row(torch.tensor([1, 1, 0, 0]), torch.tensor([1, 1, 1, 1]))
    assert row["accuracy"] == 50
    assert abs(row["low"] - 15.0) < 0.1  # Wilson, 2 of 4
    assert abs(row["high"] - 85.0) < 0.1
