"""Figures of how E is distributed, and of what training by it changes. Nothing is computed here."""

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from neuron_consistency.plotting import (
    CHANCE,
    MARKERS,
    OTHERS,
    WIDTH,
    grid,
    legend_below,
    looks,
    marks,
    name_lines,
    panels,
)

WORDS = {  # what a page calls the objectives
    "reweighted": "the paper's weights",
    "reweighted-mean1": "weights of mean one",
    "permuted-mean1": "permuted weights",
    "consistent": "P1's Eq. 6",
    "both": "both methods",
}


def explanation_over_training(rows: pd.DataFrame) -> Figure:
    """How E is distributed over the training images whenever it was taken: median, quartiles, outer quantiles.

    Args:
        rows: columns model, epoch, quantile, E.
    """
    look = looks(rows["model"])
    made, shown = panels(rows, "model", 2.7, sharey=True)
    for axis, part in shown:
        wide, own = part.pivot(index="epoch", columns="quantile", values="E"), look[part["model"].iloc[0]]
        quantiles = [float(name) for name in wide.columns]
        for low, high in zip(quantiles, reversed(quantiles), strict=True):
            if low < high:
                look_of_band = {"color": own["color"], "alpha": 0.15 + 0.4 * low, "lw": 0}
                told = f"{100 * low:g} to {100 * high:g} % of the images"
                axis.fill_between(wide.index, wide[low], wide[high], label=told, **look_of_band)
        axis.plot(wide.index, wide.iloc[:, wide.shape[1] // 2], label="median", **own | {"ls": "-"})
        axis.set(xlabel="before epoch", ylim=(0, 1.03), xticks=list(wide.index))
    made.axes[0].set_ylabel("E of the training images (0 to 1)")
    legend_below(made)
    return made


def explanation_distributions(rows: pd.DataFrame) -> Figure:
    """How E is distributed over images: the share of images with at most so much of it, a line a network.

    Args:
        rows: columns model, mask, E; a panel a mask.
    """
    look = looks(rows["model"])
    made, shown = panels(rows, "mask", 3, title="the attack spares the {}".format, sharey=True)
    for axis, part in shown:
        for model, own in part.dropna().groupby("model", sort=False):
            style = {name: look[str(model)][name] for name in ("color", "ls")}
            sns.ecdfplot(own, x="E", ax=axis, label=model, lw=2, **style)
        axis.set(xlabel="E of an image (0 to 1)", ylabel="share of images with at most this E", xlim=(-0.02, 1.02))
    legend_below(made)
    return made


def differences(rows: pd.DataFrame) -> Figure:
    """Differences between trainings with their intervals: a line a measure, a mark a comparison, open if not shown.

    Args:
        rows: columns objective, against, measure, difference, low, high, verdict. What is not judged is left out.
    """
    rows = rows[rows["verdict"].isin(["better", "worse", "not shown"])].replace({"objective": WORDS, "against": WORDS})
    compared = rows["objective"] + " less " + rows["against"]
    names, pairs = list(rows["measure"].unique()), list(compared.unique())
    made, axes = grid(WIDTH, 0.4 + len(names) * (0.14 + 0.17 * len(pairs)))
    (axis,) = axes.flat
    axis.axvline(0, label="no difference", **CHANCE)
    for (pair, shown), own in rows.groupby([compared, rows["verdict"] != "not shown"], sort=False):
        place = pairs.index(pair)
        at = own["measure"].map(names.index) + (place + 0.5) / len(pairs) * 0.8 - 0.4
        style = {"color": OTHERS[place % len(OTHERS)], "marker": MARKERS[place % len(MARKERS)]}
        marks(axis, own, "difference", at, label=str(pair), filled=bool(shown), **style)
    name_lines(axis, names, 26)
    legend_below(made, "difference (shares and E go from 0 to 1), interval of 95 %")
    return made
