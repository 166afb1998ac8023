"""Chapter 11: what it keeps of the choices that the paper leaves open, and of the strong attacks."""

from __future__ import annotations

import pandas as pd
import torch

from golden.setting import EPSILON, SHARED, A, images, networks, recipe
from neuron_consistency.attacks.predictions import (
    accuracy_row,
    auto_attack_predictions,
    pgd_predictions,
    restarted_pgd_predictions,
)
from neuron_consistency.consistency.ambiguity import measure_with_controls
from neuron_consistency.consistency.choices import BASE, NORMAL, WITHOUT, Seen, choice_table, threshold_sweep


def numbers() -> dict[str, object]:
    """As in the notebook of chapter 11, two seeds of each choice."""
    named = {NORMAL: "normal", BASE: "consistent", WITHOUT: "adversarial"}
    recipes = [recipe(objective, seed) for seed in (0, 1) for objective in named.values()]
    models, _ = networks(recipes)
    shown = images(40, seed=7, noise=0.4)
    nets = {
        choice: [models[one.key] for one in recipes if one.spec["objective"] == kind] for choice, kind in named.items()
    }
    seen = {
        choice: [
            Seen(
                measure_with_controls(model, shown, epsilon=EPSILON, quantile=0.005, top_k=6, **SHARED),
                pgd_predictions(model, shown, epsilon=EPSILON, steps=3, **SHARED),
            )
            for model in each
        ]
        for choice, each in nets.items()
    }
    some = shown.subset(torch.arange(0, len(shown), 4))
    strong = []
    for choice, (model, _) in nets.items():
        attacked = {
            "PGD with restarts": restarted_pgd_predictions(
                model, some, epsilon=2 * EPSILON, steps=4, restarts=2, **SHARED
            ),
        }
        if choice == NORMAL:
            attacked["AutoAttack"] = auto_attack_predictions(model, some, epsilon=2 * EPSILON, n_queries=5, **SHARED)
        strong += [
            {"choice": choice, "attack": attack} | accuracy_row(said, some.labels) for attack, said in attacked.items()
        ]
    return {
        "choices": choice_table(seen, shown.labels, A),
        "shares": threshold_sweep(
            {choice: each[0] for choice, each in nets.items()}, shown, A, [0.05, 0.1], epsilon=EPSILON, **SHARED
        ),
        "strong": pd.DataFrame(strong),
    }
