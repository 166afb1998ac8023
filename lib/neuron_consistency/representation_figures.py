"""Figures of P2's measures: a tidy table in, a matplotlib Figure out; nothing is computed here."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from neuron_consistency.figures import STYLE, NotebookFigure

COLOURS = {"CS1": "tab:blue", "CS2": "tab:red"}
MEANINGS = {"CS1": "CS1, true labels", "CS2": "CS2, target labels"}


def cs_curves(curves: pd.DataFrame) -> Figure:
    """Figure 4 of P2: CS1 and CS2 over LC, with intervals as bands and chance dotted, a panel a network.

    Args:
        curves: columns network, measure ("CS1" or "CS2"), LC, value, low, high, chance.
    """
    networks = list(curves["network"].unique())
    columns = min(3, len(networks))
    lines = -(-len(networks) // columns)
    with sns.axes_style(STYLE):
        figure = NotebookFigure(figsize=(1 + 3.2 * columns, 0.6 + 2.5 * lines), layout="constrained")
        axes = figure.subplots(lines, columns, sharey=True, squeeze=False).flatten()
    for axis, network in zip(axes, networks, strict=False):
        for measure, colour in COLOURS.items():
            part = curves[(curves["network"] == network) & (curves["measure"] == measure)]
            axis.fill_between(part["LC"], part["low"], part["high"], color=colour, alpha=0.15, lw=0)
            axis.plot(part["LC"], part["value"], "o-", ms=4, color=colour, label=MEANINGS[measure])
            axis.plot(part["LC"], part["chance"], ls=":", color=colour, label=f"chance of {measure}")
        axis.set_title(network, fontsize=10)
        axis.set(xlabel="LC", ylabel="cosine similarity", ylim=(0, 1))
        axis.label_outer()
        axis.set_xlabel("LC")
    for axis in axes[len(networks) :]:
        axis.set_visible(False)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def ratio_histograms(ratios: pd.DataFrame) -> Figure:
    """Figure 5 of P2: histograms of r1 and r2 over adversarial images, a column a network; noise of equal norm as a
    line. What lies beyond the axis is counted in its last bin.

    Args:
        ratios: columns network, r1, r2, "r1 noise", "r2 noise".
    """
    networks = list(ratios["network"].unique())
    with sns.axes_style(STYLE):
        figure = NotebookFigure(figsize=(0.8 + 2.6 * len(networks), 4.6), layout="constrained")
        axes = figure.subplots(2, len(networks), sharex=True, sharey="row", squeeze=False)
    low, high = np.nanquantile(ratios[["r1", "r2"]].to_numpy(), [0.005, 0.995])
    edges = np.linspace(min(low, 0.9), max(high, 1.1), 41)
    for row, ratio in enumerate(("r1", "r2")):
        for axis, network in zip(axes[row], networks, strict=True):
            own = ratios[ratios["network"] == network]
            attacked, noise = (own[name].dropna().clip(edges[0], edges[-1]) for name in (ratio, f"{ratio} noise"))
            axis.hist(attacked, bins=edges, color="tab:orange", alpha=0.8, label="adversarial")
            axis.hist(noise, bins=edges, color="0.3", histtype="step", label="noise of equal norm")
            axis.axvline(own[ratio].mean(), color="tab:red", ls="--", lw=1.2, label="mean of adversarial")
            axis.axvline(1, color="0.2", lw=0.8)
            axis.set_title(network if row == 0 else "", fontsize=10)
            axis.set_xlabel(ratio)
    figure.supylabel("images")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure
