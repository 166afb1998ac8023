"""Chapter 6: every table that its studies keep, with a stored set of adversarial images."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pandas as pd

from golden.setting import ON, images, networks, recipe
from neuron_consistency.attacks.stored_set import AdversarialSet, write_adversarial_set
from neuron_consistency.attacks.targeted import least_likely_targets
from neuron_consistency.representation.centroids import class_centroids, distance_ratios
from neuron_consistency.representation.claims import by_seeds, cure_table, neuron_claims, ratio_claims, training_claims
from neuron_consistency.representation.tables import (
    measure_networks,
    ratio_means,
    success_table,
    transfer_table,
)
from neuron_consistency.show import stacked
from neuron_consistency.workflow.claims import settled
from neuron_consistency.workflow.costs import full_size_table

BINS = 3
RATE = ({"rank": 0, "images": 20, "seconds": 4.0},)  # in place of what a clock says


def numbers() -> dict[str, object]:
    """As in the notebook of chapter 6: a set made on two networks, shown to all."""
    recipes = [recipe("normal"), recipe("normal", architecture="alexnet"), recipe("consistent"), recipe("adversarial")]
    nets, titles = networks(recipes)
    real, training = images(48, seed=7), images(40, seed=5)
    places = real.first_of_each_class(4)
    clean = real.subset(places)
    ensemble = {one.key: nets[one.key] for one in recipes[:2]}
    targets = least_likely_targets(list(ensemble.values()), clean, ON, count=2)
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        made = {"shard_size": 20, "trade_off": 10.0, "steps": 12, "learning_rate": 0.02, "fusion": "loss"}
        write_adversarial_set(Path(folder) / "set", ensemble, clean, targets, ON, **made)  # type: ignore[arg-type]
        stored = replace(AdversarialSet.open(Path(folder) / "set"), runs=RATE)
        found["set"] = {"targets": stored.targets, "indices": stored.indices, "rmsd": stored.rmsd}
        found["set"] |= {"success": stored.success.int()}  # type: ignore[operator]
        success = success_table({"first": stored}, ensemble, clean, ON)
        found["success"] = success
        found["transfer"] = transfer = transfer_table({"first": stored}, nets, clean, ON)
        found["full size"] = full_size_table(stored, devices=[1, 8], price=3.0)
        top = {"share": 0.01, "min_images": 6, "max_images": 5000}
        concepts = {"near": 2, "purity": 0.5, "draws": 4}
        measured = measure_networks(
            nets, titles, [stored], real, places, training, ON, sigma=2.0, top=top, concepts=concepts
        )
        ratios = {}
        for title, one in measured.items():
            ratios[title] = one.ratios
            for pooling in ("max", "none") if one.network == recipes[0].key else ():
                centroids = class_centroids(nets[one.network], training, ON, pooling=pooling)
                name = f"{title}, {pooling}"
                ratios[name] = distance_ratios(nets[one.network], clean, stored, centroids, ON, pooling=pooling)
    neurons = {title: one.neurons for title, one in measured.items()}
    labels = {titles[one.key]: one.objective for one in recipes}
    groups = by_seeds(recipes, titles, measured)
    ratio_rows = {title: ratio_claims(seeds, tolerance=0.05) for title, seeds in groups.items()}
    neuron_rows = {title: neuron_claims(seeds, bins=BINS) for title, seeds in groups.items()}
    changes = training_claims(recipes, titles, measured, "consistent")
    claims = pd.concat([stacked(rows) for rows in (ratio_rows, neuron_rows, changes)], ignore_index=True)
    claims["objective"] = claims["network"].map(labels)
    everywhere = success.replace({"network": {"all": "all of them at once"}})
    findings = settled("06_representations", success=everywhere, transfer=transfer, claims=claims)
    return found | {
        "neurons": stacked({title: one.table for title, one in list(neurons.items())[:1]}),
        "neurons, summary": stacked({title: one.summary() for title, one in neurons.items()}),
        "curves": stacked({title: one.curves(bins=BINS) for title, one in neurons.items()}),
        "ratios": stacked({title: ratio_means(one) for title, one in ratios.items()}),
        "claims of distances": stacked(ratio_rows),
        "claims of neurons": stacked(neuron_rows),
        "claims of training": stacked(changes),
        "cure": cure_table(groups, recipes).drop(columns="own"),
        "findings": pd.DataFrame(findings),
    }
