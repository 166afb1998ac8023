"""Figures of how the metric works: paths in WordNet, correlations, random neurons."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from neuron_consistency.plotting import grid


def tree_path(nodes: pd.DataFrame, edges: pd.DataFrame) -> Figure:
    """A part of WordNet with the way between two classes marked.

    Args:
        nodes, edges: from `worked_examples.subtree`.
    """
    made, ((axis,),) = grid(7, 0.8 + 0.5 * float(nodes["y"].max() - nodes["y"].min()))
    made.set_layout_engine("none")  # without ticks and labels there is nothing to lay out
    for edge in edges.to_dict("records"):
        colour, width = ("tab:red", 2.5) if edge["on_path"] else ("0.7", 1)
        ends = nodes.loc[[edge["child"], edge["parent"]]]
        axis.plot(ends["x"], ends["y"], color=colour, lw=width, zorder=1)
    for node in nodes.to_dict("records"):
        box = {"boxstyle": "round", "fc": "white", "ec": "tab:red" if node["on_path"] else "0.7"}
        weight = "bold" if node["leaf"] else "normal"
        axis.text(node["x"], node["y"], node["name"], ha="center", va="center", fontsize=9, weight=weight, bbox=box)
    axis.margins(0.12, 0.08)
    axis.set_axis_off()
    return made


def correlation_map(correlation: pd.DataFrame) -> Figure:
    """The matrix A of Eq. 2, classes by classes."""
    side = min(8.0, 2 + 0.22 * len(correlation))
    made, ((axis,),) = grid(side + 0.8, side, style=None)
    named = len(correlation) <= 60  # more names would not be legible
    sns.heatmap(
        correlation, vmin=0, vmax=1, cmap="mako_r", square=True, ax=axis, xticklabels=named, yticklabels=named,
        cbar_kws={"label": "correlation", "shrink": 0.7},
    )  # fmt: skip
    axis.tick_params(labelsize=7)
    return made


def correlation_decay(curves: pd.DataFrame) -> Figure:
    """Correlation over tree distance, the rows of the table, for each sigma, its columns."""
    made, ((axis,),) = grid(5.5, 3.4)
    rows = curves.melt(var_name="sigma", value_name="correlation", ignore_index=False)
    sns.lineplot(rows, x=rows.index, y="correlation", hue="sigma", palette="crest", marker="o", ax=axis, legend="full")
    axis.set(xlabel="distance d in the tree", ylabel="correlation a(d)")
    return made


def random_neurons(bands: pd.DataFrame) -> Figure:
    """V and U of neurons that fire at random, over the number of images m that activate them.

    Args:
        bands: from `worked_examples.random_neurons`; the chance level by formula is dashed.
    """
    made, ((axis,),) = grid(6, 3.6)
    for (measure, part), colour in zip(bands.groupby("measure", sort=False), sns.color_palette(), strict=False):
        axis.fill_between(part["m"], part["low"], part["high"], color=colour, alpha=0.15, lw=0)
        axis.plot(part["m"], part["value"], "o", color=colour, ms=5, label=f"{measure}, drawn")
        axis.plot(part["m"], part["chance"], "--", color=colour, label=f"{measure}, chance level by formula")
    axis.set(xscale="log", xlabel="m, images that activate the neuron", ylabel="consistency")
    axis.set_xticks(bands["m"].unique(), bands["m"].unique())
    axis.minorticks_off()
    axis.legend(frameon=False)
    return made
