"""The tables of chapter 8: trainings and their weights, measures beside each other, verdicts, groups of filters."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.explanation.filter_groups import filter_similarity, spectral_groups
from neuron_consistency.explanation.localisation import OFF_CENTRE
from neuron_consistency.explanation.scores import GAP, NOISE_E, OWN_E, RIGHT_E, SPARED, TRUE_E, ImageScores
from neuron_consistency.explanation.weighting import QUANTILES
from neuron_consistency.networks.models import Classifier
from neuron_consistency.runtime import Runtime
from neuron_consistency.show import Named, matched, stacked, with_intervals
from neuron_consistency.statistics import OPEN, TAIL, holm, mean_over_seeds, middle

HISTORY = ["flipped", "mean weight", "spared", "unmarked", "covered"]  # of `Weighed.row`, beside E
TOLD = {"insertion", "deletion", NOISE_E, SPARED}  # measures that no claim is about
ALIKE = {"accuracy": 0.03, "mAP": 0.03, SPARED: 0.05}  # what two networks may differ by for their E to be compared
FEWEST = 30  # images with an object off centre that say anything of it
BESIDE = (("both", "consistent"), ("reweighted-mean1", "permuted-mean1"))  # objectives compared, beside all with normal


def training_table(records: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """One row a training: its end, what the weights cost, and where it ran; records are by the network's title."""
    return pd.DataFrame(
        {
            "network": title,
            "epochs": len(record["history"]),
            "held out": record["history"][-1].get("validation_accuracy", record["history"][-1].get("validation_map")),
            "final clean loss": record["history"][-1]["clean_loss"],
            "weights taken": sum("mean_weight" in row for row in record["history"]),
            "seconds for weights": sum(row.get("weighing_seconds", 0.0) for row in record["history"]),
            "seconds": record["seconds"],
            "on": record["device"],
            "precision": record["precision"],
        }
        for title, record in records.items()
    )


def explanation_history(records: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """E over the training set whenever it was taken: one row a network, epoch and quantile.

    Args:
        records: of the trainings, by title.

    Returns:
        Columns model, epoch, quantile, E, and of `Weighed.row` flipped, mean weight, spared, unmarked, covered.

    Raises:
        ParameterError: none of the networks weighs its images.
    """
    rows = [
        {"model": title, "epoch": row["epoch"], "quantile": quantile, "E": value}
        | {name: row[name.replace(" ", "_")] for name in HISTORY}
        for title, record in records.items()
        for row in record["history"]
        if "consistency_quantiles" in row
        for quantile, value in zip(QUANTILES, row["consistency_quantiles"], strict=True)
    ]
    if not rows:
        raise ParameterError("none of these networks weighs its images: add 'reweighted' to objectives")
    return pd.DataFrame(rows)


def quantiles_in_columns(history: pd.DataFrame) -> pd.DataFrame:
    """`explanation_history` with a row a network and epoch, and the quantiles of E, rounded, beside each other."""
    return (
        history.pivot_table(index=["model", "epoch", *HISTORY], columns="quantile", values="E").round(3).reset_index()
    )


def scores_table(scores: Mapping[str, ImageScores]) -> pd.DataFrame:
    """One row a network and measure: network, and the columns of `ImageScores.table`. The scores are by title."""
    return stacked({title: found.table() for title, found in scores.items()})


def beside_each_other(table: pd.DataFrame) -> pd.DataFrame:
    """The means of `scores_table` with their intervals as text: a row a measure, a column a network, last chance."""
    shown = with_intervals(table.set_index(["measure", "network"])[["mean", "low", "high"]])["mean"].unstack("network")
    first = table[table["network"] == table["network"].iloc[0]].set_index("measure")
    chance = first["chance"].map("{:.3f}".format, na_action="ignore")
    beside: pd.DataFrame = shown.loc[first.index, table["network"].unique()].assign(chance=chance).fillna("")
    return beside


def e_of_every_image(scores: Mapping[str, ImageScores]) -> pd.DataFrame:
    """E of every image by either mask: columns model, mask, E; for `figures.explanation_distributions`."""
    masks = {OWN_E: "own explanation", TRUE_E: "true object"}
    values = stacked({title: found.values.filter(list(masks)) for title, found in scores.items()}, "model")
    return values.rename(columns=masks).melt("model", var_name="mask", value_name="E")


def compared(
    scores: Mapping[str, ImageScores], recipes: Iterable[Named], titles: Mapping[str, str], first: str, second: str
) -> pd.DataFrame:
    """Every measure of the networks of the objective `first` less those of `second`, and a verdict by one rule.

    Images are paired. The interval of 95 % covers other images and, of several seeds, other seeds. The measures of a
    comparison are a family: a difference counts where its p, adjusted by Holm among those that can be judged, is below
    .05.

    What cannot be judged says why. E is compared between networks of like accuracy whose masks spare like shares of
    the image (ALIKE), as it rises with what is spared and with indifference to the image. A localisation that a map of
    the image's centre does as well as both networks shows nothing of them, nor do fewer than FEWEST objects off centre.

    Args:
        scores: by title.
        titles: by the recipes' keys.
        first, second: objectives.

    Returns:
        One row an architecture, filters and measure: architecture, filters ("free", or "in groups" of icCNN), measure,
        difference with low and high, unit, p (adjusted; NaN of what is not judged), verdict ("better", "worse", "not
        shown", "not comparable", "cannot be told", or "not judged" of a measure that is neither good nor bad), why.

    Raises:
        ParameterError: no network of the one objective has its like among those of the other.

    Source: ours.
    """
    pairs, rows = matched(recipes, first, second), []
    if not pairs:
        raise ParameterError(f"no {first} network has its like among {second} ones: add both to objectives")
    like: dict[tuple[str, str], list[tuple[ImageScores, ImageScores]]] = {}
    for a, b in pairs:
        kind = a.architecture, "in groups" if a.spec.get("filter_groups") else "free"
        like.setdefault(kind, []).append((scores[titles[a.key]], scores[titles[b.key]]))
    for (architecture, filters), nets in like.items():
        rows += [{"architecture": architecture, "filters": filters} | row for row in _family(nets)]
    return pd.DataFrame(rows)


def _family(nets: Sequence[tuple[ImageScores, ImageScores]]) -> list[dict[str, Any]]:
    """The rows of one comparison, of which each pair is a seed."""
    first, second = (pd.DataFrame([found.values.mean() for found in side]).mean() for side in zip(*nets, strict=True))
    rows: list[dict[str, Any]] = []
    p = []
    for name in filter(nets[0][1].values.__contains__, map(str, nets[0][0].values)):
        apart = torch.tensor(np.stack([(a.values[name] - b.values[name]).to_numpy(float) for a, b in nets]))
        apart = apart[:, ~apart.isnan().any(0)]
        if apart.shape[1]:
            found, unit = mean_over_seeds(apart), "image" if len(nets) == 1 else "image and seed"
            verdict, why = _not_judged(name, apart.shape[1], first, second, nets[0][0].chance.get(name, math.nan))
            p.append(math.nan if verdict else found.p(above=0))
            row: dict[str, Any] = {"measure": name} | found.row("difference", bare=True)
            rows.append(row | {"unit": unit, "p": math.nan, "verdict": verdict, "why": why})
    for row, adjusted in zip(rows, holm(p), strict=True):
        if not row["verdict"]:
            said = "better" if (row["difference"] > 0) == (row["measure"] != GAP) else "worse"
            row |= {"p": adjusted, "verdict": said if adjusted < 2 * TAIL else "not shown"}
    return rows


def _not_judged(name: str, images: int, first: pd.Series, second: pd.Series, chance: float) -> tuple[str, str]:
    """The verdict on what cannot be judged of two networks' means, and why; two empty texts where it can be."""
    if name in TOLD:
        return "not judged", ""
    if name in (OWN_E, RIGHT_E, TRUE_E):
        apart = [
            f"{other} {first[other]:.2f} and {second[other]:.2f}"
            for other, most in ALIKE.items()
            if other in first and abs(first[other] - second[other]) > most and (name, other) != (TRUE_E, SPARED)
        ]
        return ("not comparable", "; ".join(apart)) if apart else ("", "")
    if name.endswith(OFF_CENTRE) and images < FEWEST:
        return OPEN, f"objects off centre: {images}"
    if name.startswith(("pointing game", "box IoU", "mask IoU")) and chance >= max(first[name], second[name]):
        return OPEN, f"the image's centre {chance:.2f}, the networks {first[name]:.2f} and {second[name]:.2f}"
    return "", ""


def comparisons(objectives: Iterable[str]) -> list[tuple[str, str]]:
    """Which objectives are compared with which: all with normal training, and the pairs BESIDE that are there."""
    trained = list(dict.fromkeys(objectives))
    return [(one, "normal") for one in trained if one != "normal"] + [pair for pair in BESIDE if {*pair} <= {*trained}]


def verdicts(scores: Mapping[str, ImageScores], recipes: Sequence[Named], titles: Mapping[str, str]) -> pd.DataFrame:
    """`compared` for all `comparisons` of the recipes: its columns, and before them objective and against."""
    pairs = comparisons(recipe.objective for recipe in recipes)
    tables = {pair: compared(scores, recipes, titles, *pair) for pair in pairs}
    return (
        pd.concat(tables, names=["objective", "against"]).reset_index(["objective", "against"]).reset_index(drop=True)
    )


def within_and_between(similarity: Tensor, groups: Tensor) -> tuple[float, float]:
    """The mean similarity of two filters of one group, and that of two filters of different groups.

    NaN where there are no two filters of one group, or none of different groups.

    Shape:
        similarity: (C, C); groups: (C,) int64.
    """
    alike = groups[:, None] == groups
    others = ~torch.eye(len(groups), dtype=torch.bool)
    return float(similarity[alike & others].mean()), float(similarity[~alike].mean())


def contrast_table(
    models: Mapping[str, Classifier], images: ImageSet, layer: str, on: Runtime, *, groups: int, draws: int = 400
) -> tuple[pd.DataFrame, dict[str, Tensor]]:
    """Whether a layer's filters fall into groups: formed on every second image, held against the others.

    Args:
        models: by title.
        layer: whose filters.
        groups: how many.
        draws: of random groups of the same sizes, the chance level.

    Returns:
        One row a network: network, filters, within, between (mean similarity of two filters, from 0 to 2), contrast
        (their difference), chance with low and high (95 % of the random groups); and by title the groups (C,).

    Raises:
        ParameterError: more groups than filters, or no such layer.

    Source: similarity and groups as in Shen et al. 2021; the table is ours.
    """
    formed_on, measured_on = (images.subset(torch.arange(start, len(images), 2)) for start in (0, 1))
    rows, found = [], {}
    generator = torch.Generator().manual_seed(0)
    for title, model in models.items():
        members = spectral_groups(filter_similarity(model, formed_on, layer, on), groups=groups)
        similarity = filter_similarity(model, measured_on, layer, on)
        within, between = within_and_between(similarity, members)
        drawn = (members[torch.randperm(len(members), generator=generator)] for _ in range(draws))
        chance = torch.tensor([of[0] - of[1] for of in (within_and_between(similarity, each) for each in drawn)])
        row = {"network": title, "filters": len(members), "within": within, "between": between}
        rows.append(row | {"contrast": within - between} | middle(chance).row("chance"))
        found[title] = members
    return pd.DataFrame(rows), found
