"""The figure of how many channels detect what."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from neuron_consistency.dissection.controls import shuffled
from neuron_consistency.plotting import legend_below, panels, spread


def category_shares(rows: pd.DataFrame) -> Figure:
    """Share of neurons aligned with a concept of each category, with intervals, a panel a network.

    A black line across a bar is what shuffled labels give on the same images.

    Args:
        rows: columns model, images, category, share, low, high.
    """
    names = rows["images"].unique()
    kinds = [name for name in names if not name.endswith(shuffled(""))]
    made, shown = panels(rows, "model", (3.2, 2.4), (1, 0.7), sharex=True, sharey=True)
    width = 0.8 / len(kinds)
    for axis, part in shown:
        for place, (kind, colour) in enumerate(zip(kinds, sns.color_palette(), strict=False)):
            own = part[part["images"] == kind]
            at = np.arange(len(own)) + (place - (len(kinds) - 1) / 2) * width
            percent, ends = 100 * own["share"], 100 * spread(own, "share")
            axis.bar(at, percent, width, color=colour, label=kind)
            axis.errorbar(at, percent, yerr=ends, fmt="none", ecolor="0.3", elinewidth=1)
            chance = 100 * part[part["images"] == shuffled(kind)]["share"]
            axis.hlines(chance, at - width / 2, at + width / 2, colors="black")
            axis.set_xticks(np.arange(len(own)), own["category"], rotation=45, ha="right")
        axis.set_ylabel("% of neurons aligned")
    legend_below(made, columns=len(kinds))
    return made
