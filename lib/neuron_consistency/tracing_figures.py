"""Figures of traced predictions and of detectors: tidy tables and images in, a matplotlib Figure out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from torch import Tensor

from neuron_consistency.figures import STYLE, NotebookFigure

SIDES = {"for": "tab:blue", "against": "tab:red"}


def explanation_panel(
    image: Tensor, title: str, explanation: pd.DataFrame, examples: Mapping[int, Sequence[Tensor]]
) -> Figure:
    """One traced prediction: the image, the neurons for and against it, and the images that fire each of them most.

    Args:
        image: what was predicted.
        title: over it.
        explanation: from `tracing_tables.explain`, at least one row.
        examples: by neuron, its strongest images.

    Shape:
        an image: (3, H, W) in [0, 1].
    """
    rows, columns = len(explanation), max(len(found) for found in examples.values())
    figure = NotebookFigure(figsize=(7.4 + 0.6 * columns, max(0.6 * rows + 0.7, 2.6)), layout="constrained")
    grid = figure.add_gridspec(rows, 2 + columns, width_ratios=[3.2, 4, *[1] * columns])
    _picture(figure.add_subplot(grid[:, 0]), image).set_title(title, fontsize=9)
    with sns.axes_style(STYLE):
        axis = figure.add_subplot(grid[:, 1])
    axis.barh(range(rows), explanation["contribution"], color=explanation["side"].map(SIDES), height=0.6)
    axis.axvline(0, color="0.3", lw=1)
    axis.axvline(explanation["contribution chance"].iloc[0], color="0.3", ls="--", lw=1, label="mean of all neurons")
    names = [f"neuron {row['neuron']}: {row['profile']}" for row in explanation.to_dict("records")]
    axis.set_yticks(range(rows), [name.replace(": ", "\n", 1) for name in names], fontsize=7)
    axis.set_ylim(rows - 0.5, -0.5)
    axis.grid(visible=False, axis="y")
    axis.tick_params(axis="x", labelsize=7)
    axis.set_xlabel("prediction difference", fontsize=8)
    axis.legend(fontsize=7, loc="lower right")
    for row, neuron in enumerate(explanation["neuron"]):
        for column, example in enumerate(examples[neuron]):
            _picture(figure.add_subplot(grid[row, 2 + column]), example)
    return figure


def _picture(axis, image: Tensor):  # type: ignore[no-untyped-def]
    axis.imshow(image.permute(1, 2, 0).float().numpy(), interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.grid(visible=False)
    return axis


def auroc_intervals(rows: pd.DataFrame) -> Figure:
    """Areas under the curve with their intervals, a line an attack, a colour a detector, a panel a network.

    Args:
        rows: of `detection_tables.detection_table`, with the column model.
    """
    models, attacks = list(rows["model"].unique()), list(rows["attack"].unique())
    detectors = list(rows["detector"].unique())
    columns = min(2, len(models))
    lines = -(-len(models) // columns)
    figure = NotebookFigure(
        figsize=(2 + 3.6 * columns, 0.8 + lines * (0.7 + 0.45 * len(attacks))), layout="constrained"
    )
    with sns.axes_style(STYLE):
        axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flatten()
    shifts = np.linspace(-0.22, 0.22, len(detectors))
    for axis, model in zip(axes, models, strict=False):
        for detector, shift, colour in zip(detectors, shifts, sns.color_palette(), strict=False):
            part = rows[(rows["model"] == model) & (rows["detector"] == detector)].dropna(subset="AUROC")
            places = [attacks.index(name) + shift for name in part["attack"]]
            spread = [part["AUROC"] - part["low"], part["high"] - part["AUROC"]]
            axis.errorbar(part["AUROC"], places, xerr=spread, fmt="o", ms=4, color=colour, label=detector)
        nothing = rows[(rows["model"] == model) & rows["AUROC"].isna()].drop_duplicates("attack")
        for attack, reason in zip(nothing["attack"], nothing["verdict"], strict=True):
            axis.text(0.52, attacks.index(attack), reason, va="center", fontsize=8, color="0.5")
        axis.axvline(0.5, color="tab:red", ls="--", lw=1, label="chance")
        axis.set_title(model, fontsize=10)
        axis.set_yticks(range(len(attacks)), attacks)
        axis.set_xlim(-0.02, 1.02)
    axes[0].set_ylim(len(attacks) - 0.5, -0.5)  # shared by all
    for axis in axes[len(models) :]:
        axis.set_visible(False)
    figure.supxlabel("AUROC", fontsize=10)
    handles, labels = axes[0].get_legend_handles_labels()
    handles, labels = handles[1:] + handles[:1], labels[1:] + labels[:1]  # chance last
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
    return figure
