"""Figures of traced predictions and of detectors. Nothing is computed here."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from neuron_consistency.plotting import (
    CHANCE,
    MARKERS,
    OTHER_LABEL,
    OTHERS,
    SMALL,
    STYLE,
    TRUE_LABEL,
    WIDTH,
    NotebookFigure,
    Picture,
    draw_picture,
    legend_below,
    marks,
    name_lines,
    panels,
)
from neuron_consistency.tracing.tables import TracedPrediction

SIDES = {"for": TRUE_LABEL, "against": OTHER_LABEL}


def explanation_panel(traced: TracedPrediction) -> Figure:
    """One traced prediction: the image, the neurons for and against it, and the images that fire each of them most.

    Args:
        traced: with at least one row in its neurons.
    """
    neurons, examples = traced.neurons, traced.examples
    rows, columns = len(neurons), max(len(found) for found in examples.values())
    made = NotebookFigure(WIDTH, max(0.66 * rows + 0.8, 2.5))
    made.suptitle(traced.title.replace("\n", "; "), fontsize=10)
    grid = made.add_gridspec(rows, 2 + columns, width_ratios=[2.4, 3.4, *[1] * columns])
    draw_picture(made.add_subplot(grid[:, 0]), Picture(traced.image))
    with sns.axes_style(STYLE):
        axis = made.add_subplot(grid[:, 1])
    for side, own in neurons.reset_index(drop=True).groupby("side", sort=False):
        axis.barh(own.index, own["contribution"], color=SIDES[str(side)], height=0.6, label=f"{side} the prediction")
    axis.axvline(0, color="0.15", lw=1)
    axis.axvline(neurons["contribution chance"].iloc[0], label="chance: mean of all neurons", **CHANCE)
    names = [f"neuron {row['neuron']}\n{row['profile'].replace(', ', chr(10))}" for row in neurons.to_dict("records")]
    name_lines(axis, names, 40)
    axis.tick_params(axis="y", labelsize=SMALL)
    axis.locator_params(axis="x", nbins=4)
    axis.set_xlabel("prediction difference")
    for row, neuron in enumerate(neurons["neuron"]):
        for column, example in enumerate(examples[neuron]):
            draw_picture(made.add_subplot(grid[row, 2 + column]), Picture(example))
    legend_below(made)
    return made


def auroc_intervals(rows: pd.DataFrame) -> Figure:
    """Areas under the curve with their intervals, a line an attack, a colour a detector, a panel a network.

    Args:
        rows: from `detection_tables.detection_table`, with the column model.
    """
    attacks, detectors = list(rows["attack"].unique()), list(rows["detector"].unique())
    made, shown = panels(rows, "model", 0.45 * len(attacks) + 0.35, left=1.3, sharex=True, sharey=True)
    shifts = np.linspace(-0.25, 0.25, len(detectors))
    for axis, part in shown:
        for detector, shift, colour, marker in zip(detectors, shifts, OTHERS, MARKERS, strict=False):
            own = part[part["detector"] == detector].dropna(subset="AUROC")
            marks(
                axis,
                own,
                "AUROC",
                own["attack"].map(attacks.index) + shift,
                color=colour,
                marker=marker,
                label=detector,
            )
        nothing = part[part["AUROC"].isna()].drop_duplicates("attack")
        for attack, reason in zip(nothing["attack"], nothing["verdict"], strict=True):
            axis.text(0.52, attacks.index(attack), reason, va="center", fontsize=9, color="0.3")
        axis.axvline(0.5, label="chance", **CHANCE)
        name_lines(axis, attacks, 16)
        axis.set_xlim(-0.02, 1.02)
        axis.set_xticks([0, 0.5, 1])
    legend_below(made, "area under the ROC curve, AUROC (0 to 1), interval of 95 %")
    return made
