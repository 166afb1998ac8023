"""Figures of how the metric works: paths in WordNet, correlations, random neurons."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from neuron_consistency.plotting import CHANCE, MARKED, MARKERS, OTHERS, WIDTH, grid, legend_below

NAMED_CLASSES = 40  # more names on an axis would not be legible


def tree_path(nodes: pd.DataFrame, edges: pd.DataFrame) -> Figure:
    """A part of WordNet with the way between two classes marked.

    Args:
        nodes, edges: from `worked_examples.subtree`.
    """
    made, ((axis,),) = grid(WIDTH, 0.8 + 0.5 * float(nodes["y"].max() - nodes["y"].min()))
    made.set_layout_engine("none")  # without ticks and labels there is nothing to lay out
    for edge in edges.to_dict("records"):
        colour, width = (MARKED, 3) if edge["on_path"] else ("0.6", 1)
        ends = nodes.loc[[edge["child"], edge["parent"]]]
        axis.plot(ends["x"], ends["y"], color=colour, lw=width, zorder=1)
    for node in nodes.to_dict("records"):
        edge_colour, width = (MARKED, 2) if node["on_path"] else ("0.6", 1)
        box = {"boxstyle": "round", "fc": "white", "ec": edge_colour, "lw": width}
        weight = "bold" if node["leaf"] else "normal"
        axis.text(node["x"], node["y"], node["name"], ha="center", va="center", fontsize=10, weight=weight, bbox=box)
    axis.margins(0.12, 0.08)
    axis.set_position((0, 0, 1, 1))
    axis.set_axis_off()
    return made


def correlation_map(correlation: pd.DataFrame) -> Figure:
    """The matrix A of P1's Eq. 2, classes by classes; their names stand there where they are few enough to be read."""
    made, ((axis,),) = grid(WIDTH, 6.2, style=None)
    named = len(correlation) <= NAMED_CLASSES
    sns.heatmap(
        correlation, vmin=0, vmax=1, cmap="mako_r", square=True, ax=axis, xticklabels=named, yticklabels=named,
        cbar_kws={"label": "correlation of two classes, from 0 to 1", "shrink": 0.7},
    )  # fmt: skip
    axis.tick_params(labelsize=9)
    axis.set(xlabel="" if named else "classes", ylabel="" if named else "classes, in the same order")
    return made


def correlation_decay(curves: pd.DataFrame) -> Figure:
    """Correlation over tree distance, the rows of the table, for each sigma, its columns."""
    made, ((axis,),) = grid(WIDTH, 3.2)
    colours = sns.color_palette("crest", curves.shape[1])
    for (sigma, values), colour, marker in zip(curves.items(), colours, MARKERS * curves.shape[1], strict=False):
        axis.plot(curves.index, values, color=colour, marker=marker, ms=5, label=rf"$\sigma$ = {sigma} edges")
    axis.set(xlabel="distance of two classes in the tree (edges)", ylabel="correlation of the classes")
    legend_below(made)
    return made


def random_neurons(bands: pd.DataFrame) -> Figure:
    """V and U of neurons that fire at random, over the number of images m that activate them.

    Args:
        bands: from `worked_examples.random_neurons`; the chance level by formula is dashed.
    """
    made, ((axis,),) = grid(WIDTH, 3.3)
    for (measure, part), colour, marker in zip(bands.groupby("measure", sort=False), OTHERS, "os", strict=False):
        axis.fill_between(
            part["m"], part["low"], part["high"], color=colour, alpha=0.2, lw=0, label=f"{measure}, middle 80 %"
        )
        axis.plot(part["m"], part["value"], marker, color=colour, ms=6, label=f"{measure}, mean")
        axis.plot(part["m"], part["chance"], **CHANCE | {"color": colour}, label=f"{measure}, chance by formula")
    axis.set(xscale="log", xlabel="images that activate the neuron, m", ylabel="consistency (0 to 1)")
    axis.set_xticks(bands["m"].unique(), bands["m"].unique())
    axis.minorticks_off()
    legend_below(made)
    return made
