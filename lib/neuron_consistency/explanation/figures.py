"""Figures of how E is distributed. Nothing is computed here."""

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from neuron_consistency.plotting import in_lines, panels


def explanation_over_training(rows: pd.DataFrame) -> Figure:
    """How E is distributed over the training images whenever it was taken: median, quartiles, outer quantiles.

    Args:
        rows: columns model, epoch, quantile, E.
    """
    made, shown = panels(rows, "model", (3.4, 3.2), (0.4, 0), columns=None, title=in_lines, sharey=True)
    for axis, part in shown:
        wide = part.pivot(index="epoch", columns="quantile", values="E")
        for low, high in zip(wide.columns, wide.columns[::-1], strict=True):
            if low < high:
                axis.fill_between(wide.index, wide[low], wide[high], color="tab:blue", alpha=0.2, linewidth=0)
        axis.plot(wide.index, wide.iloc[:, wide.shape[1] // 2], color="tab:blue", marker="o")
        axis.set(xlabel="before epoch", ylim=(0, 1), xticks=list(wide.index))
    made.axes[0].set_ylabel("E over the training images")
    return made


def explanation_distributions(rows: pd.DataFrame) -> Figure:
    """How E is distributed over images: the share of images with at most so much of it, a line a network.

    Args:
        rows: columns model, mask, E; a panel a mask.
    """
    made, shown = panels(rows, "mask", (3.8, 3.4), (2.2, 0), columns=None, title="spared: {}".format, sharey=True)
    for axis, part in shown:
        sns.ecdfplot(part.dropna(), x="E", hue="model", ax=axis, legend=axis is made.axes[-1])
        axis.set(ylabel="share of images", xlim=(0, 1))
    sns.move_legend(made.axes[-1], "upper left", bbox_to_anchor=(1, 1), title=None, frameon=False)
    return made
