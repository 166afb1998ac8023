"""Eq. 4's images, one network's and an ensemble's, and the images of every L-infinity attack."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from torch import Tensor

from golden.setting import EPSILON, ON, images, networks, recipe
from neuron_consistency.attacks.linf import background_attack, fgsm, least_likely, linf_attack, pgd, sign_noise
from neuron_consistency.attacks.targeted import least_likely_targets, optimise_targeted, random_targets
from neuron_consistency.networks.models import Classifier
from toys import CPU


def change(model: Classifier, clean: Tensor, attacked: Tensor) -> pd.DataFrame:
    """What an attack did, one row an image."""
    moved = (attacked - clean).double()
    with torch.no_grad():
        logits = model(attacked)
    columns = {
        "moved": moved.mean((1, 2, 3)),
        "size": moved.abs().mean((1, 2, 3)),
        "rms": moved.square().mean((1, 2, 3)).sqrt(),
        "red": moved[:, 0].mean((1, 2)),
        "left half": moved[..., : moved.shape[3] // 2].mean((1, 2, 3)),
        "said": logits.argmax(1),
        "logit": logits.amax(1),
    }
    return pd.DataFrame({name: column.tolist() for name, column in columns.items()})


def numbers() -> dict[str, object]:
    """All attacks on eight images."""
    nets, _ = networks([recipe("normal"), recipe("consistent")])
    model, other = nets.values()
    shown = images(8, seed=7)
    clean, labels = shown.batch(torch.arange(8), CPU)
    targets = least_likely_targets([model, other], shown, ON, count=2)
    found: dict[str, object] = {
        "least likely targets": targets,
        "random targets": random_targets(labels, num_classes=4, seed=2),
    }
    every: list[tuple[str, list[Classifier], dict[str, Any]]] = [
        ("Eq. 4", [model], {}),
        ("Eq. 4, to the last step", [model], {"stop_early": False, "steps": 8}),
        ("Eq. 4, lambda searched", [model], {"stop_early": False, "steps": 6, "search_steps": 3, "trade_off": 1.0}),
        ("Eq. 4, two networks", [model, other], {}),
        ("Eq. 4, two networks, logits", [model, other], {"fusion": "logits"}),
        ("Eq. 4, two networks, probability", [model, other], {"fusion": "probability"}),
    ]
    for name, ensemble, options in every:
        settings: dict[str, Any] = {"steps": 12, "learning_rate": 0.02} | options
        made = optimise_targeted(ensemble, clean, targets[:, 0], **settings)
        found[name] = change(model, clean, made.images).assign(
            success=made.success.tolist(), distance=made.distance.tolist()
        )
    half = torch.zeros(8, 1, 16, 16, dtype=torch.bool)
    half[..., :8] = True
    seeded = torch.Generator().manual_seed(0)
    steps: dict[str, Any] = {"epsilon": EPSILON, "step_size": EPSILON / 2, "steps": 3}
    attacked = {
        "FGSM": fgsm(model, clean, labels, epsilon=EPSILON),
        "PGD": pgd(model, clean, labels, epsilon=EPSILON, steps=4, generator=seeded),
        "least likely": least_likely(model, clean, epsilon=EPSILON),
        "towards a target": linf_attack(model, clean, targets[:, 0], targeted=True, **steps),
        "of the background": background_attack(model, clean, labels, half, epsilon=EPSILON, steps=2),
        "noise": sign_noise(clean, epsilon=EPSILON, generator=seeded),
    }
    return found | {name: change(model, clean, made) for name, made in attacked.items()}
