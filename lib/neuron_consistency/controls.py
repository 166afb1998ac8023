"""Is it ambiguity? The sets and labels that have to stand beside consis_adv before it can be read as such."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from neuron_consistency.attacks import Attack, fgsm, pgd, sign_noise
from neuron_consistency.consistency import Estimate, consistency_row, mean_consistency
from neuron_consistency.data.images import ImageSet
from neuron_consistency.models import Classifier
from neuron_consistency.responses import Responses, respond

REAL, FGSM, SUCCESSFUL, NOISE, WRONG, COMMON = (
    "real",
    "FGSM",
    "FGSM, successful only",
    "sign noise, same size",
    "real, misclassified",
    "FGSM of one network for all",
)


@dataclass(frozen=True)
class Measured:
    """The passes of one network over the real images and their controls, read at one layer."""

    layer: str
    passes: dict[str, Responses]

    def table(self, correlation: Tensor, *, equal_m: int) -> pd.DataFrame:
        """One row a set and kind of label, with the columns of `consistency.consistency_row`.

        Shape:
            correlation: (K, K).
        """
        rows = [
            {"set": name, "labels": kind}
            | consistency_row(responses, self.layer, correlation, kind=kind, equal_m=equal_m)
            for name, responses in self.passes.items()
            for kind in ("true", "predicted")
        ]
        return pd.DataFrame(rows)

    def estimate(self, name: str, correlation: Tensor, *, kind: str = "true", unbiased: bool = True) -> Estimate:
        """The mean over neurons of U (or V) on one of the sets.

        Shape:
            correlation: (K, K).
        """
        counts = self.passes[name].layers[self.layer].counts[kind]
        return mean_consistency(counts, correlation, unbiased=unbiased)

    def real_and_adversarial(self) -> Sequence[tuple[str, Responses]]:
        """The two sets of Table 1, by the name of their measure in the paper."""
        return [("consis", self.passes[REAL]), ("consis_adv", self.passes[FGSM])]


def measure_with_controls(
    model: Classifier,
    images: ImageSet,
    *,
    epsilon: float,
    device: torch.device,
    attacker: Classifier | None = None,
    layer: str | None = None,
    quantile: float = 0.005,
    top_k: int = 20,
    batch_size: int = 256,
    precision: str = "auto",
) -> Measured:
    """The real images, their FGSM images, and the controls, each in one pass with the real images' thresholds.

    The controls: FGSM images that turned a right answer into a wrong one; noise of the same size without the
    attack's direction; real images that the network misclassifies without any attack; and FGSM images of one
    `attacker`, the same for every network compared. With predicted labels in place of the true ones, a neuron
    that follows the (wrong) decision is as consistent as before; one that has become ambiguous is not.

    Args:
        model: the network measured.
        images: the real images.
        epsilon: size of FGSM and noise.
        device: where.
        attacker: the network whose FGSM images all networks are shown; None leaves that set out.
        layer: None is the last one.
        quantile, top_k: see `responses.respond`.
        batch_size: images a forward pass.
        precision: of the forward passes.

    Source: P1, Table 1; the controls are ours.
    """
    name = layer or model.last_layer

    def measure(
        subset: ImageSet, attack: Attack | None = None, thresholds: dict[str, Tensor] | None = None
    ) -> Responses:
        return respond(
            model,
            subset,
            device=device,
            layers=[name],
            quantile=quantile,
            top_k=top_k,
            thresholds=thresholds,
            attack=attack,
            batch_size=batch_size,
            precision=precision,
        )

    real = measure(images)
    fixed = {name: real.layers[name].thresholds}

    def under(subset: ImageSet, attack: Attack | None) -> Responses:
        return measure(subset, attack, fixed)

    own: Attack = lambda network, batch, labels: fgsm(network, batch, labels, epsilon=epsilon)  # noqa: E731
    generator = torch.Generator(device).manual_seed(0)
    passes = {
        REAL: real,
        FGSM: under(images, own),
        NOISE: under(images, lambda _network, batch, _labels: sign_noise(batch, epsilon=epsilon, generator=generator)),
    }
    if attacker is not None:
        source = attacker.to(device).eval()
        passes[COMMON] = under(images, lambda _network, batch, labels: fgsm(source, batch, labels, epsilon=epsilon))
    right = real.predictions == real.labels
    fooled = right & (passes[FGSM].predictions != real.labels)
    for subset_name, chosen, attack in ((SUCCESSFUL, fooled, own), (WRONG, ~right, None)):
        if int(chosen.sum()) >= 2:  # fewer say nothing of consistency
            passes[subset_name] = under(images.subset(chosen.nonzero().squeeze(1)), attack)
    return Measured(name, passes)


def pgd_predictions(
    model: Classifier,
    images: ImageSet,
    *,
    epsilon: float,
    steps: int,
    device: torch.device,
    batch_size: int = 256,
    precision: str = "auto",
) -> Tensor:
    """What the model says of its PGD images, for Table 3 (FGSM accuracy alone can be a masked gradient).

    Shape:
        result: (N,) int64.
    """
    generator = torch.Generator(device).manual_seed(0)
    return respond(
        model,
        images,
        device=device,
        top_k=1,
        attack=lambda network, batch, labels: pgd(
            network, batch, labels, epsilon=epsilon, steps=steps, generator=generator
        ),
        batch_size=batch_size,
        precision=precision,
    ).predictions


def accuracy_row(predictions: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy in per cent with its Wilson interval of 95 %, over images.

    Shape:
        predictions, labels: (N,) int64.
    """
    right, images = int((predictions == labels).sum()), len(labels)
    interval = stats.binomtest(right, images).proportion_ci(method="wilson")
    return {"accuracy": 100 * right / images, "low": 100 * interval.low, "high": 100 * interval.high}
