"""What trainings came to: tables of their histories, and of the label that an attack follows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from neuron_consistency.attacks.predictions import accuracy
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.networks.reading import Attack
from neuron_consistency.runtime import Runtime
from neuron_consistency.training.obtain import TrainedModel

CURVES = {
    "loss": "loss",
    "validation_accuracy": "held-out accuracy",
    "distance": "d(phi(x), phi(x*))",
    "feature_norm": "size of phi(x)",
}


def _named(net: TrainedModel) -> dict[str, Any]:
    return {"network": net.title, "seed": net.recipe.seed}


def summary(nets: Sequence[TrainedModel]) -> pd.DataFrame:
    """One row a network: how long it was trained, what it came to, on which device."""
    rows = []
    for net in nets:
        last = net.record["history"][-1]
        held_out = last.get("validation_accuracy", math.nan)
        row = _named(net) | {"epochs": last["epoch"], "held-out accuracy": held_out, "final loss": last["loss"]}
        rows.append(row | {name: net.record[name] for name in ("device", "precision", "seconds")})
    return pd.DataFrame(rows)


def curves(nets: Sequence[TrainedModel]) -> pd.DataFrame:
    """The histories for a figure: columns model, epoch, measure (those of `CURVES`), value."""
    return pd.DataFrame(
        {"model": f"{net.title}, seed {net.recipe.seed}", "epoch": row["epoch"], "measure": title, "value": row[name]}
        for net in nets
        for row in net.record["history"]
        for name, title in CURVES.items()
        if name in row
    )


def watch(nets: Sequence[TrainedModel]) -> pd.DataFrame:
    """One row an adversarially trained network: its accuracy under FGSM and PGD at the end, and when it collapsed."""
    rows = []
    for net in nets:
        history = net.record["history"]
        if "pgd_accuracy" in history[-1]:
            row = {f"{name} accuracy": history[-1][f"{name.lower()}_accuracy"] for name in ("FGSM", "PGD")}
            collapsed = [row["epoch"] for row in history if row["collapsed"]]
            rows.append(_named(net) | row | {"collapsed in epochs": collapsed or "none"})
    return pd.DataFrame(rows)


def accuracies(
    nets: Sequence[TrainedModel], images: ImageSet, on: Runtime, attacks: Mapping[str, Attack]
) -> pd.DataFrame:
    """One row a network: its accuracy on images, in per cent, clean and after each attack."""
    named: dict[str, Attack | None] = {"clean": None, **attacks}
    return pd.DataFrame(
        _named(net) | {name: 100 * accuracy(net.model, images, on, attack=attack) for name, attack in named.items()}
        for net in nets
    )
