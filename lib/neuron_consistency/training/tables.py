"""What trainings came to: tables of their histories, and of the label that an attack follows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch

from neuron_consistency.attacks.predictions import accuracy
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.networks.reading import Attack, evaluating
from neuron_consistency.runtime import Runtime
from neuron_consistency.training.objective import Objective
from neuron_consistency.training.obtain import TrainedModel

CURVES = {  # what is logged: title and unit of its panel, and what it is multiplied by
    "loss": ("loss", "nats", 1),
    "validation_accuracy": ("accuracy on held-out images", "% of images", 100),
    "distance": ("consistent loss, before its weight", "share of the features' mean square", 1),
    "feature_norm": ("size of the features", "root mean square, no unit", 1),
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
    """The histories for a figure: columns model, epoch, measure (those of `CURVES`, in their order), value, unit."""
    return pd.DataFrame(
        {
            "model": f"{net.title}, seed {net.recipe.seed}",
            "epoch": row["epoch"],
            "measure": title,
            "value": times * row[name],
            "unit": unit,
        }
        for name, (title, unit, times) in CURVES.items()
        for net in nets
        for row in net.record["history"]
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


def moved(nets: Sequence[TrainedModel], images: ImageSet, on: Runtime, *, epsilon: float, count: int) -> pd.DataFrame:
    """How far FGSM moves the features of the last layer: one row a network, a column for each distance of features.

    Args:
        images: of these, `count` are taken, evenly over the set, as one batch.
        epsilon: radius of FGSM's ball.
    """
    batch, labels = images.batch(torch.linspace(0, len(images) - 1, min(count, len(images))).long(), on.device)
    rows = []
    for net in nets:
        row = _named(net)
        for distance in ("normalised", "cosine"):
            with evaluating(net.model), on.autocast():
                step = Objective(alpha=0.5, epsilon=epsilon, distance=distance)(net.model, batch, labels)
            row[distance] = float(step.parts["distance"])
        rows.append(row)
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
