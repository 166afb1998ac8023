"""Chapter 8: every table that its studies keep, on rendered scenes with boxes, masks and other backgrounds."""

from __future__ import annotations

from typing import Any

import pandas as pd

from golden.setting import EPSILON, ON, A, network, networks, recipe
from neuron_consistency.consistency.ambiguity import (
    FGSM,
    REAL,
    compare_trainings,
    consistency_table,
    measure_with_controls,
)
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.data.load import load_images
from neuron_consistency.explanation.planted_readers import reader_table
from neuron_consistency.explanation.scores import OWN_E, score_images
from neuron_consistency.explanation.tables import compared, explanation_history, scores_table, verdicts
from neuron_consistency.explanation.weighting import Weighting, weigh
from neuron_consistency.workflow.findings import explanation_findings

OBJECTIVES = ("normal", "reweighted", "reweighted-mean1", "consistent", "both", "permuted-mean1")


def scenes(split: str, per_class: int, **options: Any) -> ImageSet:
    """Small scenes of four classes."""
    return load_images("scenes", split, image_size=24, classes=4, per_class=per_class, **options)


def weightings() -> dict[str, Weighting]:
    """Every distance between explanations, both masks, a layer, several steps, and weights of mean one."""
    return {
        **{distance: Weighting(distance=distance) for distance in ("absolute", "ssim", "rank", "iou")},
        "truth": Weighting(mask="truth"),
        "first layer, two steps, threshold": Weighting(layer="first", steps=2, threshold=0.5),
        "mean one": Weighting(normalise=True),
    }


def numbers() -> dict[str, object]:
    """As in the notebook of chapter 8; two seeds of one objective, so that both units of a verdict are there."""
    training = scenes("train", 10, background_correlation=0.8)
    shown = scenes("val", 4, background_correlation=0.8)
    backgrounds = scenes("val", 4, variant="mixed-same"), scenes("val", 4, variant="mixed-rand")
    recipes = [recipe(objective) for objective in OBJECTIVES]
    recipes += [recipe(objective, seed, "alexnet") for seed in (0, 1) for objective in ("normal", "reweighted")]
    nets, titles = networks(recipes, training)
    options: dict[str, Any] = {"weighting": Weighting(), "epsilon": EPSILON, "pgd_steps": 2, "backgrounds": backgrounds}
    scores = {
        titles[key]: score_images(model, shown, ON, curve_images=4, curve_steps=3, **options)
        for key, model in nets.items()
    }
    scores["untrained"] = score_images(network(seed=9).eval(), shown, ON, **options)
    differences = verdicts(scores, recipes, titles)
    model = nets[recipes[0].key]
    weighed = {name: weigh(model, shown, weighting, ON) for name, weighting in weightings().items()}
    records = {name: {"history": [{"epoch": 1} | found.row()]} for name, found in weighed.items()}
    passes = {
        titles[one.key]: measure_with_controls(nets[one.key], shown, ON, epsilon=EPSILON, top_k=5, controls=False)
        for one in recipes
    }
    pairs = [(objective, "normal") for objective in OBJECTIVES[1:]] + [("both", "consistent")]
    return {
        "readers": reader_table(),
        "measures": scores_table(scores),
        "E of every image": {title: found.values[OWN_E].tolist() for title, found in scores.items()},
        "verdicts": differences,
        "added": compared(scores, recipes, titles, "both", "consistent"),
        "consistency": explanation_history(records),
        "weights": {name: found.weights for name, found in weighed.items()},
        "neurons": consistency_table(passes, A, equal_m=5),
        "changes": compare_trainings(passes, recipes, titles, A, pairs, [(REAL, "true"), (FGSM, "true")]),
        "findings": pd.DataFrame(explanation_findings(differences)),
    }
