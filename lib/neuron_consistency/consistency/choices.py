"""What P1 leaves open, varied one at a time: what each choice changes, and what strong attacks leave of accuracy."""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.attacks.predictions import (
    accuracy_row,
    auto_attack_predictions,
    restarted_predictions,
    under_pgd,
)
from neuron_consistency.consistency.ambiguity import FGSM, PGD, REAL, Passes, consistency_table, measure_with_controls
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.networks.models import Classifier
from neuron_consistency.runtime import Runtime
from neuron_consistency.statistics import Estimate, mean_over_seeds, over_seeds

MEASURES = {"U, real": (REAL, "true"), "U, FGSM": (FGSM, "true"), "U, FGSM, predicted labels": (FGSM, "predicted")}
ACCURACIES = {"accuracy": REAL, "accuracy, FGSM": FGSM, "accuracy, PGD": PGD}


def choice_table(passes: Mapping[str, Sequence[Passes]], correlation: Tensor, *, against: str) -> pd.DataFrame:
    """Every measure of every choice, and how it differs from that of the standing one.

    Args:
        passes: by choice, those of a network for each seed, the seeds in one order; with PGD.
        against: the choice that all are held against.

    Returns:
        One row a choice and measure: choice, measure, value, low, high; difference, difference low, difference high
        and verdict ("higher", "lower", "cannot be told"). Intervals hold the spread of several seeds. The verdict of
        `against` itself is "".

    Source: ours.
    """
    rows = []

    def add(choice: str, measure: str, value: Estimate, change: Estimate) -> None:
        verdict = "" if choice == against else change.verdict(above=0)
        row = {"choice": choice, "measure": measure} | value.row("value", bare=True) | change.row("difference")
        rows.append(row | {"verdict": verdict})

    for choice, each in passes.items():
        for measure, (name, kind) in MEASURES.items():
            values, others = (
                [one.estimate(name, correlation, kind=kind) for one in group] for group in (each, passes[against])
            )
            change = over_seeds([a.minus(b) for a, b in zip(values, others, strict=True)])
            add(choice, measure, over_seeds(values), change)
        for measure, name in ACCURACIES.items():
            mine, theirs = (torch.stack([one.right(name) for one in group]) for group in (each, passes[against]))
            add(choice, measure, mean_over_seeds(mine), mean_over_seeds(mine - theirs))
    return pd.DataFrame(rows)


def threshold_sweep(
    models: Mapping[str, Classifier],
    images: ImageSet,
    on: Runtime,
    correlation: Tensor,
    quantiles: Iterable[float],
    *,
    epsilon: float,
) -> pd.DataFrame:
    """Consistency of the last layer on real and FGSM images by the share of real images that activate a neuron.

    Args:
        models: by title.
        epsilon: of FGSM.

    Returns:
        One row a share, network and set: model, quantile, set, and the columns of `measure.consistency_row`.
    """
    tables = []
    for quantile in quantiles:
        passes = {
            title: measure_with_controls(model, images, on, epsilon=epsilon, quantile=quantile, top_k=2, controls=False)
            for title, model in models.items()
        }
        rows = consistency_table(passes, correlation, equal_m=2)
        rows.insert(1, "quantile", quantile)
        tables.append(rows[rows["labels"] == "true"].drop(columns="labels"))
    return pd.concat(tables, ignore_index=True)


def strong_attacks(
    cases: Mapping[tuple[str, int], tuple[Classifier, Passes]],
    images: ImageSet,
    places: Tensor,
    on: Runtime,
    *,
    epsilon: float,
    pgd_steps: int,
    steps: int,
    restarts: int,
    queries: int = 0,
) -> pd.DataFrame:
    """Accuracy on some of the images under attacks stronger than any used in training, beside the weaker ones.

    Args:
        cases: by choice and seed, a network and its passes over `images`, with PGD of `pgd_steps`.
        steps, restarts: of the stronger PGD, which goes on with each image until one start fools the network.
        queries: of AutoAttack's last part, Square, at most; 0 leaves AutoAttack out.

    Returns:
        One row a network and attack: choice, seed, attack, and the columns of `attacks.predictions.accuracy_row`.

    Shape:
        places: (N',) int64.
    """
    some, rows = images.subset(places), []
    for (choice, seed), (model, passes) in cases.items():
        attack = under_pgd(on, epsilon=epsilon, steps=steps)
        said = {
            "none": passes.sets[REAL].predictions[places],
            f"PGD, {pgd_steps} steps": passes.sets[PGD].predictions[places],
            f"PGD, {steps} steps, {restarts} starts": restarted_predictions(
                model, some, on, attack=attack, restarts=restarts
            ),
        }
        if queries:
            found = auto_attack_predictions(model, some, on, epsilon=epsilon, n_queries=queries)
            said[f"AutoAttack, {queries} queries"] = found
        about = {"choice": choice, "seed": seed}
        rows += [about | {"attack": name} | accuracy_row(found, some.labels) for name, found in said.items()]
    return pd.DataFrame(rows)
