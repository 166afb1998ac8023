"""Chapter 5: every table that its studies keep, on twenty-four rendered scenes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pandas as pd

from golden.setting import PRECISION, networks, recipe
from neuron_consistency.attacks.linf import least_likely
from neuron_consistency.data.broden import CATEGORIES, BrodenSet
from neuron_consistency.data.scenes.write import write_scenes
from neuron_consistency.dissection.tables import (
    ADVERSARIAL,
    RANDOM,
    REAL,
    SAME,
    SHUFFLED,
    category_shares,
    dissect_with_controls,
    kept_concepts,
    offered_concepts,
    table_two,
)
from neuron_consistency.workflow.findings import dissection_findings
from toys import CPU

IOU, LEAST = 0.12, 3


def numbers() -> dict[str, object]:
    """As in the notebook of chapter 5, with a threshold at which some neurons are aligned and some are not."""
    recipes = [recipe("normal"), recipe("consistent")]
    nets, titles = networks(recipes)
    with tempfile.TemporaryDirectory() as folder:
        broden = BrodenSet.open(write_scenes(Path(folder) / "scenes", images=24, image_size=48, seed=1, classes=6))
        counted = {
            titles[key]: dissect_with_controls(
                model,
                broden,
                attack=lambda network, batch: least_likely(network, batch, epsilon=8 / 255),
                attacked=12,
                own_thresholds=key != recipes[0].key,
                image_size=32,
                quantile=0.05,
                device=CPU,
                batch_size=8,
                precision=PRECISION,
            )
            for key, model in nets.items()
        }
        height, width = broden.label_size
    one = counted[titles[recipes[0].key]]
    units = {
        (title, name): found.units(name, iou_threshold=IOU, min_images=LEAST)
        for title, found in counted.items()
        for name in found.tallies
    }
    shares = pd.concat(
        category_shares(labels).assign(model=title, images=name) for (title, name), labels in units.items()
    )
    summary = pd.DataFrame(
        {
            "model": title,
            "images": name,
            "counted": counted[title].tallies[name].images,
            "aligned, %": 100 * labels["aligned"].mean(),
            "mean best IoU": labels["iou"].mean(),
        }
        for (title, name), labels in units.items()
    )
    sets = {"real": REAL, "shuffled": SHUFFLED, "before": SAME, "adversarial": ADVERSARIAL}
    named = pd.concat(labels.assign(model=title, images=name) for (title, name), labels in units.items())
    return {
        "thresholds": {title: found.thresholds for title, found in counted.items()},
        "units": named[named["images"] != RANDOM].astype({"category": object}).fillna(""),
        "offered": offered_concepts(one.tallies[REAL], pixels=height * width, min_images=LEAST).reset_index(),
        "shares": shares.astype({"category": str}),
        "table 2": table_two(shares, CATEGORIES).reset_index(),
        "summary": summary,
        "kept concepts": {title: kept_concepts(units[title, SAME], units[title, ADVERSARIAL]) for title in counted},
        "findings": pd.DataFrame(dissection_findings(recipes, titles, units, **sets)),
    }
