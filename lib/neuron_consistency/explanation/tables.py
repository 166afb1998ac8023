"""The tables of chapter 8: trainings and their weights, measures beside each other, verdicts, groups of filters."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.explanation.filter_groups import filter_similarity, spectral_groups
from neuron_consistency.explanation.scores import GAP, OWN_E, SPARED, TRUE_E, ImageScores
from neuron_consistency.explanation.weighting import QUANTILES
from neuron_consistency.networks.models import Classifier
from neuron_consistency.runtime import Runtime
from neuron_consistency.show import Named, matched, stacked, with_intervals
from neuron_consistency.statistics import LEVEL, mean, middle

TOLD = ["flipped", "mean weight", "spared", "unmarked", "covered"]  # of `Weighed.row`, beside E
WORDS = {GAP: ("worse", "better"), "deletion": ("worse", "better"), SPARED: ("higher", "lower")}  # of a rise, a fall


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
        | {name: row[name.replace(" ", "_")] for name in TOLD}
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
    return history.pivot_table(index=["model", "epoch", *TOLD], columns="quantile", values="E").round(3).reset_index()


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

    The rule: a difference counts where its interval leaves zero out. With one seed the unit is the image, paired, and
    the verdict is of these two networks; with several the unit is the seed, and it is of the method. The intervals
    share 95 % among the measures of an architecture (by Bonferroni), so that all of them hold at once.

    Args:
        scores: by title.
        titles: by the recipes' keys.
        first, second: objectives.

    Returns:
        One row an architecture and measure: architecture, measure, difference with low and high, unit, verdict
        ("better", "worse" or "not shown"; of the share spared, which is neither, "higher" or "lower").

    Raises:
        ParameterError: no network of the one objective has its like among those of the other.
    """
    pairs, rows = matched(recipes, first, second), []
    if not pairs:
        raise ParameterError(f"no {first} network has its like among {second} ones: add both to objectives")
    for architecture in dict.fromkeys(a.architecture for a, _ in pairs):
        like = [pair for pair in pairs if pair[0].architecture == architecture]
        differences = [scores[titles[a.key]].values - scores[titles[b.key]].values for a, b in like]
        one = len(like) == 1
        units = differences[0] if one else pd.DataFrame([difference.mean() for difference in differences])
        units = units.dropna(axis=1, how="all")
        for name, column in units.items():
            found = mean(column, level=1 - (1 - LEVEL) / units.shape[1], lone=math.inf)
            words = *WORDS.get(str(name), ("better", "worse")), "not shown"
            row = {"architecture": architecture, "measure": name} | found.row("difference", bare=True)
            rows.append(row | {"unit": "image" if one else "seed", "verdict": found.verdict(above=0, words=words)})
    return pd.DataFrame(rows)


def verdicts(scores: Mapping[str, ImageScores], recipes: Sequence[Named], titles: Mapping[str, str]) -> pd.DataFrame:
    """`compared` for every objective against normal training: its columns, and before them objective."""
    others = dict.fromkeys(recipe.objective for recipe in recipes if recipe.objective != "normal")
    tables = {objective: compared(scores, recipes, titles, objective, "normal") for objective in others}
    return pd.concat(tables, names=["objective"]).reset_index("objective")


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
