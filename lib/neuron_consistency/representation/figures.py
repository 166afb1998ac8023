"""Figures of P2's measures, from tidy tables. Nothing is computed here."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from neuron_consistency.plotting import grid, legend_below, panels, spread

OWN, OTHERS = "tab:red", "tab:blue"  # images made against the network itself, or against others
MEASURES = {"CS1": ("tab:blue", "CS1, true labels"), "CS2": ("tab:red", "CS2, target labels")}


def cs_curves(curves: pd.DataFrame) -> Figure:
    """Figure 4 of P2: CS1 and CS2 over LC, with intervals as bands and chance dotted, a panel a network.

    Args:
        curves: columns network, measure ("CS1" or "CS2"), LC, value, low, high, chance.
    """
    columns = 3 if curves["network"].nunique() % 3 == 0 else 2
    made, shown = panels(curves, "network", (3.2, 2.5), (1, 0.6), columns=columns, sharey=True)
    for axis, part in shown:
        for measure, (colour, meaning) in MEASURES.items():
            own = part[part["measure"] == measure]
            axis.fill_between(own["LC"], own["low"], own["high"], color=colour, alpha=0.15, lw=0)
            axis.plot(own["LC"], own["value"], "o-", ms=4, color=colour, label=meaning)
            axis.plot(own["LC"], own["chance"], ls=":", color=colour, label=f"chance of {measure}")
        axis.set(xlabel="LC", ylim=(0, 1))
    made.supylabel("cosine similarity", fontsize=10)
    legend_below(made, columns=4)
    return made


def ratio_histograms(ratios: pd.DataFrame) -> Figure:
    """Figure 5 of P2: histograms of r1 and r2 over adversarial images, a row a network.

    Noise of equal norm is an outline, the means are dashed. The last bin of an axis counts what lies beyond it.

    Args:
        ratios: columns network, r1, r2, "r1 noise", "r2 noise".
    """
    networks = list(ratios["network"].unique())
    made, axes = grid(8, 0.8 + 1.5 * len(networks), len(networks), 2, sharex="col")
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
    made.supylabel("adversarial images", fontsize=10)
    legend_below(made, columns=3)
    return made


def merely_targets(rows: pd.DataFrame) -> Figure:
    """The share of a neuron's top adversarial images that merely target its concept, a line a network and set.

    Red: the images were made against networks like this one; blue: against others. Chance is a grey stroke.

    Args:
        rows: columns network, own (whose images), "merely targets" with its bounds, and its chance.
    """
    made, axes = grid(7.5, 0.9 + 0.32 * len(rows), 1, 1)
    (axis,) = axes.flat
    for own, colour, meaning in ((True, OWN, "made against itself"), (False, OTHERS, "made against others")):
        places = np.flatnonzero(rows["own"].to_numpy(bool) == own)
        some = rows.iloc[places]
        axis.errorbar(
            some["merely targets"], places, xerr=spread(some, "merely targets"), fmt="o", color=colour, label=meaning
        )
    chances = rows["merely targets chance"]
    axis.scatter(chances, range(len(rows)), marker="|", s=120, color="0.5", label="chance")
    axis.set_yticks(range(len(rows)), rows["network"])
    axis.set(xlim=(0, 1), ylim=(len(rows) - 0.5, -0.5), xlabel="share that merely targets the neuron's concept")
    legend_below(made, columns=3)
    return made
