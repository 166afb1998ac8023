"""Figures of P2's measures, from tidy tables. Nothing is computed here."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from neuron_consistency.plotting import (
    CHANCE,
    OTHER_LABEL,
    TRUE_LABEL,
    WIDTH,
    grid,
    in_lines,
    legend_below,
    looks,
    marks,
    name_lines,
    panels,
)

MEASURES = {"CS1": (TRUE_LABEL, "o", "CS1, by true labels"), "CS2": (OTHER_LABEL, "s", "CS2, by target labels")}


def cs_curves(curves: pd.DataFrame) -> Figure:
    """Figure 4 of P2: CS1 and CS2 over LC, with intervals as bands and chance dashed, a panel a network.

    Args:
        curves: columns network, measure ("CS1" or "CS2"), LC, value, low, high, chance.
    """
    made, shown = panels(curves, "network", 2.2, sharey=True)
    for axis, part in shown:
        for measure, (colour, marker, meaning) in MEASURES.items():
            own = part[part["measure"] == measure]
            axis.fill_between(own["LC"], own["low"], own["high"], color=colour, alpha=0.15, lw=0)
            axis.plot(own["LC"], own["value"], ms=5, marker=marker, color=colour, label=meaning)
            axis.plot(own["LC"], own["chance"], **CHANCE | {"color": colour}, label=f"chance of {measure}")
        axis.set(ylim=(0, 1))
    made.supylabel("cosine similarity (0 to 1), band of 95 %", fontsize=10)
    legend_below(made, "LC of the neurons on real images (0 to 1)")
    return made


def ratio_histograms(ratios: pd.DataFrame) -> Figure:
    """Figure 5 of P2: histograms of r1 and r2 over adversarial images, a row a network.

    Noise of equal norm is an outline, the means are dashed. The last bin of an axis counts what lies beyond it.

    Args:
        ratios: columns network, r1, r2, "r1 noise", "r2 noise".
    """
    networks = list(ratios["network"].unique())
    made, axes = grid(WIDTH, 0.4 + 1.5 * len(networks), len(networks), 2, sharex="col")
    look = looks(networks)
    for column, ratio in enumerate(("r1", "r2")):
        names = [ratio, f"{ratio} noise"]
        low, high = np.nanquantile(ratios[names].to_numpy(), [0.005, 0.995])
        edges = np.linspace(min(low, 0.9), max(high, 1.1), 41)
        for axis, network in zip(axes[:, column], networks, strict=True):
            own = ratios[ratios["network"] == network]
            attacked, noise = (own[name].dropna().clip(edges[0], edges[-1]) for name in names)
            axis.hist(attacked, bins=edges, color=look[network]["color"], alpha=0.5, label="adversarial, in its colour")
            axis.hist(noise, bins=edges, color="black", histtype="step", label="noise of equal norm")
            axis.axvline(1, **CHANCE, label="no change, 1")
            axis.axvline(own[ratio].mean(), color=OTHER_LABEL, lw=2, label="mean of the adversarial")
            axis.set_title(in_lines(network, 42), fontsize=10)
        axes[-1, column].set_xlabel(f"{ratio} of an image (a ratio of distances)")
    made.supylabel("number of images", fontsize=10)
    legend_below(made)
    return made


def merely_targets(rows: pd.DataFrame) -> Figure:
    """The share of a neuron's top adversarial images that merely target its concept, a line a network and set.

    Filled: the images were made against networks like this one; open: against others. Chance is a grey stroke.

    Args:
        rows: columns network, own (whose images), "merely targets" with its bounds, and its chance.
    """
    names = [in_lines(name, 34) for name in rows["network"]]
    made, axes = grid(WIDTH, 0.3 + len(rows) * (0.1 + 0.16 * max(name.count("\n") + 1 for name in names)))
    (axis,) = axes.flat
    value = "merely targets"
    rows = rows.assign(at=np.arange(len(rows)), own=rows["own"].astype(bool))
    for own, meaning in ((True, "made against itself"), (False, "made against others")):
        some = rows[rows["own"] == own]
        for network, look in looks(some["network"]).items():
            line = some[some["network"] == network]
            style = {"color": look["color"], "marker": "o" if own else "s", "filled": own, "label": meaning}
            marks(axis, line, value, line["at"], chance=line[f"{value} chance"], **style)
    name_lines(axis, names, 34)
    axis.set_xlim(0, None)
    legend_below(made, "share of a neuron's top adversarial images that merely target its concept, interval of 95 %")
    return made
