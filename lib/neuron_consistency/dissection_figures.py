"""The figure of network dissection: how many neurons are aligned with concepts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from neuron_consistency.plotting import errorbars, legend_below, panels


def category_shares(rows: pd.DataFrame) -> Figure:
    """Share of neurons aligned with a concept of each category, with intervals, a panel a network.

    Args:
        rows: columns model, images, category, share, low, high.
    """
    models, kinds = list(rows["model"].unique()), list(rows["images"].unique())
    made, axes = panels(models, (3.2, 2.4), (1, 0.7), sharex=True, sharey=True)
    width = 0.8 / len(kinds)
    for axis, model in zip(axes, models, strict=True):
        for place, (kind, colour) in enumerate(zip(kinds, sns.color_palette(), strict=False)):
            part = rows[(rows["model"] == model) & (rows["images"] == kind)]
            at = np.arange(len(part)) + (place - (len(kinds) - 1) / 2) * width
            share, low, high = (100 * part[name] for name in ("share", "low", "high"))
            axis.bar(at, share, width, color=colour, label=kind)
            errorbars(axis, share, low, high, at, upright=True, fmt="none", ecolor="0.3", elinewidth=1)
            axis.set_xticks(np.arange(len(part)), part["category"], rotation=45, ha="right")
        axis.set_ylabel("% of neurons aligned")
    legend_below(made, axes[0], columns=len(kinds))
    return made
