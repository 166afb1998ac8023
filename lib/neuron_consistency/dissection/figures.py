"""The figure of how many channels detect what."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from neuron_consistency.dissection.controls import shuffled
from neuron_consistency.plotting import MARKERS, OTHERS, legend_below, marks, name_lines, panels


def category_shares(rows: pd.DataFrame) -> Figure:
    """Share of neurons aligned with a concept of each category, with intervals, a panel a network.

    A grey stroke is what shuffled labels give on the same images.

    Args:
        rows: columns model, images, category, share, low, high.
    """
    rows = rows.assign(**100 * rows[["share", "low", "high"]])
    categories = list(rows["category"].unique())
    kinds = [name for name in rows["images"].unique() if not name.endswith(shuffled(""))]
    made, shown = panels(rows, "model", 0.6 * len(categories) + 0.35, left=0.9, sharex=True, sharey=True)
    shifts = np.linspace(-0.33, 0.33, len(kinds))
    for axis, part in shown:
        for kind, shift, colour, marker in zip(kinds, shifts, OTHERS, MARKERS, strict=False):
            own = part[part["images"] == kind].reset_index()
            chance = part[part["images"] == shuffled(kind)].set_index("category")["share"]
            at, level = own["category"].map(categories.index) + shift, own["category"].map(chance)
            marks(axis, own, "share", at, color=colour, marker=marker, label=kind, chance=level)
        name_lines(axis, categories)
        axis.locator_params(axis="x", nbins=4)
    legend_below(made, "neurons aligned with a concept of the category (%), interval of 95 %")
    return made
