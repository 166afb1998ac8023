"""Figures of how E is distributed. Nothing is computed here."""

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from neuron_consistency.plotting import legend_below, looks, panels


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
