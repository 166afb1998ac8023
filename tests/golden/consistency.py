"""Chapter 4: every table that its studies keep, for two seeds of three trainings."""

from __future__ import annotations

from typing import Any

import pandas as pd

from golden.setting import DISTANCES, EPSILON, ON, SYNSETS, A, images, network, networks, read_out, recipe
from neuron_consistency.consistency.ambiguity import (
    FGSM,
    NOISE,
    PGD,
    REAL,
    accuracy_table,
    common,
    compare_trainings,
    consistency_table,
    measure_networks,
    neuron_values,
)
from neuron_consistency.consistency.gallery import strongest_neurons
from neuron_consistency.consistency.reactions import null_passes, reaction_table, shuffled
from neuron_consistency.taxonomy import correlation, distance_matrix
from neuron_consistency.workflow.findings import evaluation_findings

TOP = 6


def numbers() -> dict[str, object]:
    """As in the notebook of chapter 4."""
    recipes = [recipe(objective, seed) for seed in (0, 1) for objective in ("normal", "consistent", "adversarial")]
    nets, titles = networks(recipes)
    shown = images(60, seed=7, noise=0.45)
    attackers = {"another": read_out(network(seed=8), images(80, seed=1))}
    how: dict[str, Any] = {"quantile": 0.005, "top_k": TOP}
    models = {titles[key]: model for key, model in nets.items()}
    passes = measure_networks(models, shown, ON, epsilon=EPSILON, attackers=attackers, pgd_steps=3, **how)
    first, blank = nets[recipes[0].key], network(seed=9).eval()
    normal = [titles[recipe.key] for recipe in recipes if recipe.objective == "normal"]
    nulls = {title: null_passes(models[title], blank, shown, ON, **how) for title in normal}
    cases = {
        "as trained": (first, shown),
        "labels shuffled": (first, shuffled(shown)),
        "random weights": (blank, shown),
    }
    sets = [(REAL, "true"), (FGSM, "true"), (FGSM, "predicted"), (common("another"), "true")]
    pairs = [("consistent", "adversarial"), ("consistent", "normal"), ("adversarial", "normal")]
    one = passes[titles[recipes[0].key]]
    return {
        "distances": DISTANCES,
        "correlation": A,
        "imagenet's distances": distance_matrix([*SYNSETS, "n01440764", "n03792782", "n07747607"]).sum(1),
        "consistency": consistency_table(passes, A, equal_m=TOP),
        "consistency, sigma 1": consistency_table({"": one}, correlation(DISTANCES, sigma=1.0), equal_m=TOP).drop(
            columns="model"
        ),
        "differences": compare_trainings(passes, recipes, titles, A, pairs, sets),
        "accuracy": accuracy_table(passes, {REAL: "clean", FGSM: "FGSM", PGD: "PGD", NOISE: "noise"}),
        "reactions": reaction_table(cases, ON, A, quantile=0.005, top_k=TOP),
        "histograms": neuron_values(dict(list(passes.items())[:2]), A),
        "strongest neurons": strongest_neurons(one.sets[REAL], one.layer, A, count=4),
        "findings": pd.DataFrame(evaluation_findings(recipes, titles, passes, A, nulls)),
    }
