"""The figure of the open choices: what each changes, with intervals."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from neuron_consistency.figures import STYLE, NotebookFigure


def choice_differences(choices: pd.DataFrame) -> Figure:
    """How each choice differs from the standing one: a panel a measure, a line a choice, open where nothing is shown.

    Args:
        choices: of `choices.choice_table`; the standing choice, whose verdict is empty, is left out.
    """
    rows = choices[choices["verdict"].fillna("") != ""]
    names, measures = list(rows["choice"].unique()), list(rows["measure"].unique())
    columns = min(3, len(measures))
    lines = -(-len(measures) // columns)
    figure = NotebookFigure(figsize=(11, lines * (0.9 + 0.26 * len(names))), layout="constrained")
    with sns.axes_style(STYLE):
        axes = figure.subplots(lines, columns, sharey=True, squeeze=False).flatten()
    for axis, measure in zip(axes, measures, strict=False):
        of_measure = rows[rows["measure"] == measure].set_index("choice").reindex(names)
        axis.axvline(0, color="0.6", lw=1)
        for place, (_, row) in enumerate(of_measure.iterrows()):
            shown = row["verdict"] in ("higher", "lower")
            spread = [[row["difference"] - row["difference low"]], [row["difference high"] - row["difference"]]]
            style = {"color": "C0"} if shown else {"color": "0.55", "mfc": "w"}
            axis.errorbar(row["difference"], place, xerr=spread, fmt="o", ms=5, **style)
        axis.set_title(measure, fontsize=10)
        axis.set_yticks(range(len(names)), names)
        axis.locator_params(axis="x", nbins=5)  # labels do not touch
    axes[0].set_ylim(len(names) - 0.5, -0.5)  # shared by all
    for axis in axes[len(measures) :]:
        axis.set_visible(False)
    figure.supxlabel("difference from the standing choice", fontsize=10)
    return figure
