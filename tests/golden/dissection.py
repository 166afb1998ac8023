"""Chapter 5: every table that its studies keep, on twenty-four rendered scenes."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from golden.setting import ON, network, networks, recipe
from neuron_consistency.attacks.linf import least_likely
from neuron_consistency.data.broden import BrodenSet
from neuron_consistency.data.scenes.write import write_scenes
from neuron_consistency.dissection.controls import (
    RANDOM,
    REAL,
    Dissected,
    dissect_with_controls,
)
from neuron_consistency.dissection.tables import (
    category_shares,
    changes_under_attack,
    kept_concepts,
    labelled_units,
    offered_concepts,
    summarised,
    table_two,
)
from neuron_consistency.workflow.findings import dissection_findings

IOU, LEAST = 0.12, 3


def numbers() -> dict[str, object]:
    """As in the notebook of chapter 5, with a threshold at which some neurons are aligned and some are not."""
    recipes = [recipe("normal"), recipe("consistent")]
    nets, titles = networks(recipes)
    dissected = partial(
        dissect_with_controls,
        on=replace(ON, batch_size=8),
        blank=lambda _, seed: network(seed=100 + seed),
        exchanges=3,
        random_networks=2,
        attack=partial(least_likely, epsilon=8 / 255),
        attacked=12,
        image_size=32,
        quantile=0.05,
    )
    with tempfile.TemporaryDirectory() as folder:
        broden = BrodenSet.open(write_scenes(Path(folder) / "scenes", images=24, image_size=48, seed=1, classes=6))
        counted: dict[str, Dissected] = {}
        for one, own in zip(recipes, (False, True), strict=True):
            counted |= dict(dissected({titles[one.key]: nets[one.key]}, broden, own_thresholds=own))
    units = labelled_units(counted, iou_threshold=IOU, min_images=LEAST)
    shares = category_shares(units)
    (real,) = counted[titles[recipes[0].key]].overlaps[REAL]
    named = pd.concat(labels.assign(model=title, images=name) for (title, name), labels in units.items())
    return {
        "thresholds": {title: found.thresholds for title, found in counted.items()},
        "units": named[~named["images"].str.startswith(RANDOM)].astype({"category": object}).fillna(""),
        "offered": offered_concepts(real, broden.label_size, min_images=LEAST).reset_index(),
        "shares": shares.astype({"category": str}),
        "table 2": table_two(shares).reset_index(),
        "summary": summarised(units, counted).reset_index(),
        "changes": changes_under_attack(units).reset_index(),
        "kept concepts": kept_concepts(units).to_dict("index"),
        "findings": pd.DataFrame(dissection_findings(recipes, titles, units)),
    }
