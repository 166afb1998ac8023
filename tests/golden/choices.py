"""Chapter 11: what it keeps of the choices that the paper leaves open, and of the strong attacks."""

from __future__ import annotations

import pandas as pd
import torch

from golden.setting import EPSILON, ON, A, images, networks, recipe
from neuron_consistency.consistency.ambiguity import measure_with_controls
from neuron_consistency.consistency.choices import choice_table, strong_attacks, threshold_sweep
from neuron_consistency.workflow.networks import BASE, NORMAL, WITHOUT

STRONG = {"PGD, 4 steps, 2 starts": "PGD with restarts", "AutoAttack, 5 queries": "AutoAttack"}


def numbers() -> dict[str, object]:
    """As in the notebook of chapter 11, two seeds of each choice."""
    named = {NORMAL: "normal", BASE: "consistent", WITHOUT: "adversarial"}
    recipes = [recipe(objective, seed) for seed in (0, 1) for objective in named.values()]
    models, _ = networks(recipes)
    shown = images(40, seed=7, noise=0.4)
    nets = {choice: [models[one.key] for one in recipes if one.objective == kind] for choice, kind in named.items()}
    passes = {
        choice: [
            measure_with_controls(
                model, shown, ON, epsilon=EPSILON, quantile=0.005, top_k=6, pgd_steps=3, controls=False
            )
            for model in each
        ]
        for choice, each in nets.items()
    }
    strong = pd.concat(
        strong_attacks(
            {(choice, 0): (model, passes[choice][0])},
            shown,
            torch.arange(0, len(shown), 4),
            ON,
            epsilon=2 * EPSILON,
            pgd_steps=3,
            steps=4,
            restarts=2,
            queries=5 if choice == NORMAL else 0,
        )
        for choice, (model, _) in nets.items()
    )
    strong = strong[strong["attack"].isin(STRONG)].replace({"attack": STRONG}).drop(columns="seed")
    first = {choice: each[0] for choice, each in nets.items()}
    return {
        "choices": choice_table(passes, A, against=BASE),
        "shares": threshold_sweep(first, shown, ON, A, [0.05, 0.1], epsilon=EPSILON),
        "strong": strong,
    }
