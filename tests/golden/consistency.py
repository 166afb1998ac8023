"""Chapter 4: every table that its studies keep, for two seeds of three trainings."""

from __future__ import annotations

import pandas as pd

from golden.setting import DISTANCES, EPSILON, SHARED, SYNSETS, A, images, network, networks, recipe
from neuron_consistency.attacks.predictions import accuracy_row, pgd_predictions
from neuron_consistency.consistency.ambiguity import (
    COMMON,
    FGSM,
    NOISE,
    REAL,
    compare_trainings,
    measure_with_controls,
    reaction_table,
    shuffled,
)
from neuron_consistency.consistency.gallery import strongest_neurons
from neuron_consistency.consistency.measure import neuron_table
from neuron_consistency.taxonomy import correlation, distance_matrix
from neuron_consistency.workflow.findings import evaluation_findings
from toys import CPU

TOP = 6


def numbers() -> dict[str, object]:
    """As in the notebook of chapter 4."""
    recipes = [recipe(objective, seed) for seed in (0, 1) for objective in ("normal", "consistent", "adversarial")]
    nets, titles = networks(recipes)
    shown = images(60, seed=7, noise=0.45)
    measured = {
        titles[key]: measure_with_controls(
            model, shown, epsilon=EPSILON, attacker=nets[recipes[0].key], quantile=0.005, top_k=TOP, **SHARED
        )
        for key, model in nets.items()
    }
    pgd = {
        titles[key]: pgd_predictions(model, shown, epsilon=EPSILON, steps=3, **SHARED) for key, model in nets.items()
    }
    tables = pd.concat({title: one.table(A, equal_m=TOP) for title, one in measured.items()}, names=["model"])
    histograms = pd.concat(
        [
            neuron_table(responses, one.layer, A).assign(model=title, measure=measure)
            for title, one in list(measured.items())[:2]
            for measure, responses in one.real_and_adversarial()
        ]
    )
    accuracies = pd.DataFrame(
        {"model": title, "images": name} | accuracy_row(predictions, shown.labels)
        for title, one in measured.items()
        for name, predictions in [
            ("clean", one.passes[REAL].predictions),
            ("FGSM", one.passes[FGSM].predictions),
            ("PGD", pgd[title]),
            ("noise", one.passes[NOISE].predictions),
        ]
    )
    first = nets[recipes[0].key]
    cases = {
        "as trained": (first, shown),
        "labels shuffled": (first, shuffled(shown)),
        "random weights": (network(seed=9).to(CPU).eval(), shown),
    }
    sets = [(REAL, "true"), (FGSM, "true"), (FGSM, "predicted"), (COMMON, "true")]
    pairs = [("consistent", "adversarial"), ("consistent", "normal"), ("adversarial", "normal")]
    one = measured[titles[recipes[0].key]]
    return {
        "distances": DISTANCES,
        "correlation": A,
        "imagenet's distances": distance_matrix([*SYNSETS, "n01440764", "n03792782", "n07747607"]).sum(1),
        "consistency": tables.reset_index("model"),
        "consistency, sigma 1": one.table(correlation(DISTANCES, sigma=1.0), equal_m=TOP),
        "differences": compare_trainings(measured, recipes, titles, A, pairs, sets),
        "accuracy": accuracies,
        "reactions": reaction_table(cases, A, quantile=0.005, top_k=TOP, **SHARED),
        "histograms": histograms,
        "strongest neurons": strongest_neurons(one.passes[REAL], one.layer, A, count=4),
        "findings": pd.DataFrame(evaluation_findings(recipes, titles, measured, pgd, shown.labels, A)),
    }
