"""What P1 leaves open, varied one at a time: networks that differ in one choice, and what the choice changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.attacks.linf import fgsm
from neuron_consistency.consistency.ambiguity import FGSM, REAL, Measured
from neuron_consistency.consistency.measure import consistency_row
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.networks.models import Classifier
from neuron_consistency.responses import respond
from neuron_consistency.statistics import Estimate, mean_over_seeds, over_seeds

NORMAL, BASE, WITHOUT = "trained normally", "Eq. 6 as in chapter 3", "beta = 0"
MEASURES = {"U, real": (REAL, "true"), "U, FGSM": (FGSM, "true"), "U, FGSM, predicted labels": (FGSM, "predicted")}


@dataclass(frozen=True)
class Seen:
    """What one network did: its passes over real and FGSM images, and its predictions under PGD, (N,)."""

    measured: Measured
    pgd: Tensor

    def right(self, labels: Tensor) -> dict[str, Tensor]:
        """Per cent right, image by image (0 or 100), by kind of accuracy. Shape: labels (N,); result (N,) float64."""
        predictions = {name: self.measured.passes[name].predictions for name in (REAL, FGSM)}
        named = {"accuracy": predictions[REAL], "accuracy, FGSM": predictions[FGSM], "accuracy, PGD": self.pgd}
        return {name: 100 * (said == labels).double() for name, said in named.items()}


def choice_table(
    seen: Mapping[str, Sequence[Seen]], labels: Tensor, correlation: Tensor, *, against: str = BASE
) -> pd.DataFrame:
    """Every measure of every choice, and how it differs from that of the standing one.

    Args:
        seen: by choice, a network for each seed, the seeds in one order.
        labels: of the images.
        correlation: A.
        against: the choice that all are held against.

    Returns:
        One row a choice and measure: choice, measure, value, low, high; difference, difference low, difference high
        and verdict ("higher", "lower", "cannot be told"), of several seeds with their spread in the interval. Of
        `against` itself the last four are 0 and "".

    Shape:
        labels: (N,) int64; correlation: (K, K).

    Source: ours.
    """
    rows = []

    def add(choice: str, measure: str, value: Estimate, change: Estimate) -> None:
        row = {"choice": choice, "measure": measure} | value.row("value", bare=True) | change.row("difference")
        rows.append(row | {"verdict": change.verdict(above=0)})

    for choice, each in seen.items():
        for measure, (name, kind) in MEASURES.items():
            values = [one.measured.estimate(name, correlation, kind=kind) for one in each]
            others = [one.measured.estimate(name, correlation, kind=kind) for one in seen[against]]
            change = over_seeds([a.minus(b) for a, b in zip(values, others, strict=True)])
            add(choice, measure, over_seeds(values), change)
        points = [one.right(labels) for one in each]
        theirs = [one.right(labels) for one in seen[against]]
        for measure in points[0]:
            mine = torch.stack([one[measure] for one in points])
            gain = mine - torch.stack([one[measure] for one in theirs])
            add(choice, measure, mean_over_seeds(mine), mean_over_seeds(gain))
    table = pd.DataFrame(rows)
    table.loc[table["choice"] == against, "verdict"] = ""
    return table


def threshold_sweep(
    models: Mapping[str, Classifier],
    images: ImageSet,
    correlation: Tensor,
    quantiles: Iterable[float],
    *,
    epsilon: float,
    device: torch.device,
    batch_size: int = 256,
    precision: str = "auto",
) -> pd.DataFrame:
    """Consistency of the last layer on real and FGSM images by the share of real images that activate a neuron.

    Args:
        models: by title.
        images: the real ones.
        correlation: A.
        quantiles: the shares.
        epsilon: of FGSM.
        device: where.
        batch_size: images a forward pass.
        precision: of the forward passes.

    Returns:
        One row a network, share and set: model, quantile, set, and the columns of `measure.consistency_row`.

    Shape:
        correlation: (K, K).
    """
    rows = []
    for quantile in quantiles:
        for title, model in models.items():
            options = {
                "device": device,
                "quantile": quantile,
                "top_k": 2,
                "batch_size": batch_size,
                "precision": precision,
            }
            real = respond(model, images, **options)  # type: ignore[arg-type]
            fixed = {name: layer.thresholds for name, layer in real.layers.items()}
            attacked = respond(
                model,
                images,
                thresholds=fixed,
                attack=lambda network, batch, labels: fgsm(network, batch, labels, epsilon=epsilon),
                **options,  # type: ignore[arg-type]
            )
            for name, responses in ((REAL, real), (FGSM, attacked)):
                row = consistency_row(responses, model.last_layer, correlation, equal_m=2)
                rows.append({"model": title, "quantile": quantile, "set": name} | row)
    return pd.DataFrame(rows)
