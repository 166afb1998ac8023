"""Chapter 7: every table that its studies keep, the examples, and the adaptive attacker."""

from __future__ import annotations

from functools import partial

import pandas as pd
import torch

from golden.setting import EPSILON, ON, A, images, networks, recipe
from neuron_consistency.attacks.linf import fgsm
from neuron_consistency.tracing.detection_tables import (
    adaptive_detections,
    detections,
    errors_lead,
    training_changes,
    verdict_counts,
    verdicts,
    worst_cases,
)
from neuron_consistency.tracing.tables import closed_form_error, masses, trace_examples
from neuron_consistency.tracing.trials import Trial, try_attacks, try_networks
from neuron_consistency.workflow.claims import settled
from toys import CPU


def numbers() -> dict[str, object]:
    """As in the notebook of chapter 7, for both forms of the prediction difference."""
    recipes = [recipe("normal"), recipe("consistent")]
    nets, titles = networks(recipes)
    shown, selection, training = images(100, seed=7, noise=0.35), images(40, seed=3), images(40, seed=5)
    places = shown.first_of_each_class(5)
    under_fgsm = partial(fgsm, epsilon=EPSILON)
    found: dict[str, object] = {}
    trials: dict[str, Trial] = {}
    for one, form in zip(recipes, ("probability", "log_odds"), strict=True):
        title, model = titles[one.key], {titles[one.key]: nets[one.key]}
        trials |= try_networks(
            model, shown, ON, training=training, selection=selection, fgsm=under_fgsm, ks=[1, 3, 6], correlation=A,
            form=form, top_k=4,
        )  # fmt: skip
        trial = trials[title]
        found[f"k, {form}"] = trial.choice.assign(chosen=trial.k)
        batch, _ = shown.batch(torch.arange(6), CPU)
        (both,) = closed_form_error(model, batch).to_dict("records")
        found[f"agreement, {form}"] = {name: both[name] for name in ("form", "largest influence")}
        traced = trace_examples(trial, shown, selection, ON, fgsm=under_fgsm, count=3, shown=2)
        found[f"traced, {form}"] = pd.concat({each.title: each.neurons for each in traced.values()}).reset_index()
        found[f"random, {form}"] = pd.concat({each.title: each.random for each in traced.values()}).reset_index()
    try_attacks(trials, shown, places, ON, epsilon=EPSILON, steps=3, ensembles={})
    mass, said = masses(trials), verdicts(detected := detections(trials, false_alarms=0.05))
    adaptive = adaptive_detections(
        trials, shown, places, ON, weights=[1.0, 100.0], epsilon=EPSILON, steps=3, false_alarms=0.05
    )
    worst, errors = worst_cases(adaptive), mass.loc[pd.IndexSlice[:, "errors"], :].droplevel("group")
    changes = training_changes(recipes, titles, detected)
    tables = {"worst": worst, "changes": changes, "leads": errors_lead(detected)}
    succeeded, told = detected.dropna(subset="AUROC"), errors.dropna(subset="predicted - true")
    return found | {
        "masses": mass.reset_index(),
        "detections": detected,
        "adaptive": adaptive,
        "verdicts": said.reset_index(),
        "verdicts, counted": verdict_counts(said),
        "worst cases": worst,
        "findings": pd.DataFrame(settled("07_tracing", errors=told, detections=succeeded, **tables)).dropna(),
    }
