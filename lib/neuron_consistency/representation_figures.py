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
    columns = min(3 if len(networks) % 3 == 0 else 2, len(networks))
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
        axis.set(xlabel="LC", ylim=(0, 1))
    for axis in axes[len(networks) :]:
        axis.set_visible(False)
    figure.supylabel("cosine similarity", fontsize=10)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def ratio_histograms(ratios: pd.DataFrame) -> Figure:
    """Figure 5 of P2: histograms of r1 and r2 over adversarial images, a row a network; noise of equal norm as an
    outline, the means dashed. What lies beyond the axis is counted in its last bin.

    Args:
        ratios: columns network, r1, r2, "r1 noise", "r2 noise".
    """
    networks = list(ratios["network"].unique())
    with sns.axes_style(STYLE):
        figure = NotebookFigure(figsize=(8, 0.8 + 1.5 * len(networks)), layout="constrained")
        axes = figure.subplots(len(networks), 2, sharex="col", squeeze=False)
    for column, ratio in enumerate(("r1", "r2")):
        names = [ratio, f"{ratio} noise"]
        low, high = np.nanquantile(ratios[names].to_numpy(), [0.005, 0.995])
        edges = np.linspace(min(low, 0.9), max(high, 1.1), 41)
        for axis, network in zip(axes[:, column], networks, strict=True):
            own = ratios[ratios["network"] == network]
            attacked, noise = (own[name].dropna().clip(edges[0], edges[-1]) for name in names)
            axis.hist(attacked, bins=edges, color="tab:orange", alpha=0.8, label="adversarial")
            axis.hist(noise, bins=edges, color="0.3", histtype="step", label="noise of equal norm")
            axis.axvline(1, color="0.2", lw=0.8)
            axis.axvline(own[ratio].mean(), color="tab:red", ls="--", lw=1.2, label="mean of the adversarial")
            axis.set_title(network, fontsize=9)
        axes[-1, column].set_xlabel(ratio)
    figure.supylabel("adversarial images", fontsize=10)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure
