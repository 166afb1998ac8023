"""Chapter 7: every table that its studies keep, the examples, and the adaptive attacker."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import torch

from golden.setting import EPSILON, PRECISION, A, images, networks, recipe
from neuron_consistency.attacks.linf import fgsm, pgd
from neuron_consistency.tracing.detection import Scores, adaptive_pgd, fit_detectors
from neuron_consistency.tracing.detection_tables import (
    ERRORS,
    choose_k,
    detection_table,
    mass_groups,
    verdict_counts,
    verdicts,
    worst_cases,
)
from neuron_consistency.tracing.tables import ATTACKED, agreement, mass_table, trace_examples, typical_examples
from neuron_consistency.workflow.findings import detection_findings
from toys import CPU

KS = [1, 3, 6]


def numbers() -> dict[str, object]:
    """As in the notebook of chapter 7, for both forms of the prediction difference."""
    recipes = [recipe("normal"), recipe("consistent")]
    nets, titles = networks(recipes)
    shown, selection, training = images(100, seed=7, noise=0.35), images(40, seed=3), images(40, seed=5)
    places = shown.first_of_each_class(5)
    some = shown.subset(places)
    under_fgsm = partial(fgsm, epsilon=EPSILON)
    shared: dict[str, Any] = {"batch_size": 20, "precision": PRECISION}
    found: dict[str, object] = {}
    clean, attacked, hidden, chosen, masses = {}, {}, {}, {}, {}
    for one, form in zip(recipes, ("probability", "log_odds"), strict=True):
        model, title = nets[one.key], titles[one.key]
        detectors = fit_detectors(
            model, training=training, selection=selection, correlation=A, form=form, top_k=4, device=CPU, **shared
        )
        scores: Callable[..., Scores] = partial(detectors.scores, **shared)
        k, ks = choose_k(scores(selection, ks=KS), scores(selection, ks=KS, attack=under_fgsm))
        clean[title] = scores(shown, ks=KS)
        seeded = torch.Generator().manual_seed(0)
        under_pgd = partial(pgd, epsilon=EPSILON, steps=3, generator=seeded)
        attacked[title] = {
            "FGSM": scores(shown, ks=KS, attack=under_fgsm),
            "PGD": scores(some, ks=[k], attack=under_pgd, sources=places),
        }
        knowing = partial(adaptive_pgd, detectors=detectors, k=k, epsilon=EPSILON, steps=3)
        adaptive = {
            f"adaptive, w = {weight:g}": scores(
                some,
                ks=[k],
                sources=places,
                attack=partial(knowing, weight=weight, generator=torch.Generator().manual_seed(0)),
            )
            for weight in (1.0, 100.0)
        }
        tables = {"PGD": attacked[title]["PGD"]} | adaptive
        hidden[title] = detection_table(clean[title], tables, k=k, false_alarms=0.05)
        masses[title] = mass_table(mass_groups(clean[title], attacked[title]))
        chosen[title] = k
        found[f"k, {form}"] = ks.assign(chosen=k)
        batch, _ = shown.batch(torch.arange(6), CPU)
        both = agreement(model, batch)
        found[f"agreement, {form}"] = {name: both[name] for name in ("form", "largest influence")}
        examples = typical_examples(clean[title], attacked[title]["FGSM"])
        traced = trace_examples(
            detectors,
            shown,
            selection,
            {name: (place, under_fgsm if name == ATTACKED else None) for name, place in examples.items()},
            count=3,
            shown=2,
            precision=PRECISION,
        )
        found[f"traced, {form}"] = pd.concat({each.title: each.explanation for each in traced.values()}).reset_index()
        found[f"random, {form}"] = pd.concat({each.title: each.random for each in traced.values()}).reset_index()
    detections = pd.concat(
        {title: detection_table(clean[title], attacked[title], k=chosen[title], false_alarms=0.05) for title in clean},
        names=["model"],
    ).reset_index("model")
    adaptive_table = pd.concat(hidden, names=["model"]).reset_index("model")
    adaptive_table = adaptive_table[adaptive_table["attack"] != ERRORS]
    worst = worst_cases(adaptive_table)
    mass_rows = pd.concat(masses, names=["model"]).reset_index("model").set_index(["model", "group"])
    settled = verdicts(detections)
    errors = mass_rows.loc[pd.IndexSlice[:, "errors"], :].droplevel("group")
    return found | {
        "masses": mass_rows.reset_index(),
        "detections": detections,
        "adaptive": adaptive_table,
        "verdicts": settled.reset_index(),
        "verdicts, counted": verdict_counts(settled),
        "worst cases": worst,
        "findings": pd.DataFrame(detection_findings(errors, detections, worst)),
    }
