"""Figures of traced predictions and of detectors. Nothing is computed here."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from neuron_consistency.plotting import STYLE, NotebookFigure, Picture, draw_picture, panels, spread
from neuron_consistency.tracing.tables import TracedPrediction

SIDES = {"for": "tab:blue", "against": "tab:red"}


def explanation_panel(traced: TracedPrediction) -> Figure:
    """One traced prediction: the image, the neurons for and against it, and the images that fire each of them most.

    Args:
        traced: with at least one row in its neurons.
    """
    neurons, examples = traced.neurons, traced.examples
    rows, columns = len(neurons), max(len(found) for found in examples.values())
    made = NotebookFigure(7.4 + 0.6 * columns, max(0.6 * rows + 0.7, 2.6))
    grid = made.add_gridspec(rows, 2 + columns, width_ratios=[3.2, 4, *[1] * columns])
    draw_picture(made.add_subplot(grid[:, 0]), Picture(traced.image))
    made.axes[0].set_title(traced.title, fontsize=9)
    with sns.axes_style(STYLE):
        axis = made.add_subplot(grid[:, 1])
    axis.barh(range(rows), neurons["contribution"], color=neurons["side"].map(SIDES), height=0.6)
    axis.axvline(0, color="0.3", lw=1)
    axis.axvline(neurons["contribution chance"].iloc[0], color="0.3", ls="--", lw=1, label="mean of all neurons")
    names = [f"neuron {row['neuron']}\n{row['profile']}" for row in neurons.to_dict("records")]
    axis.set_yticks(range(rows), names, fontsize=7)
    axis.set_ylim(rows - 0.5, -0.5)
    axis.grid(visible=False, axis="y")
    axis.tick_params(axis="x", labelsize=7)
    axis.set_xlabel("prediction difference", fontsize=8)
    axis.legend(fontsize=7, loc="lower right")
    for row, neuron in enumerate(neurons["neuron"]):
        for column, example in enumerate(examples[neuron]):
            draw_picture(made.add_subplot(grid[row, 2 + column]), Picture(example))
    return made


def auroc_intervals(rows: pd.DataFrame) -> Figure:
    """Areas under the curve with their intervals, a line an attack, a colour a detector, a panel a network.

    Args:
        rows: from `detection_tables.detection_table`, with the column model.
    """
    attacks, detectors = list(rows["attack"].unique()), list(rows["detector"].unique())
    made, shown = panels(rows, "model", (3.6, 0.7 + 0.45 * len(attacks)), (2, 0.8), columns=2, sharex=True, sharey=True)
    shifts = np.linspace(-0.22, 0.22, len(detectors))
    for axis, part in shown:
        for detector, shift, colour in zip(detectors, shifts, sns.color_palette(), strict=False):
            own = part[part["detector"] == detector].dropna(subset="AUROC")
            at = [attacks.index(name) + shift for name in own["attack"]]
            axis.errorbar(own["AUROC"], at, xerr=spread(own, "AUROC"), fmt="o", ms=4, color=colour, label=detector)
        nothing = part[part["AUROC"].isna()].drop_duplicates("attack")
        for attack, reason in zip(nothing["attack"], nothing["verdict"], strict=True):
            axis.text(0.52, attacks.index(attack), reason, va="center", fontsize=8, color="0.5")
        axis.axvline(0.5, color="tab:red", ls="--", lw=1, label="chance")
        axis.set_yticks(range(len(attacks)), attacks)
        axis.set_xlim(-0.02, 1.02)
    made.axes[0].set_ylim(len(attacks) - 0.5, -0.5)  # shared by all
    made.supxlabel("AUROC", fontsize=10)
    handles, labels = made.axes[0].get_legend_handles_labels()
    chance_last = handles[1:] + handles[:1], labels[1:] + labels[:1]
    made.legend(*chance_last, loc="outside upper center", ncols=4, frameon=False)
    return made
