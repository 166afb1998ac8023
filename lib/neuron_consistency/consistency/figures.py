"""Figures of P1: one function a figure, from a tidy table to a matplotlib Figure. Nothing is computed here."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from neuron_consistency.plotting import grid, legend_below, panels, spread

KINDS = {"true": (-0.14, "tab:blue"), "predicted": (0.14, "tab:orange")}  # shift and colour of a kind of label


def training_curves(curves: pd.DataFrame) -> Figure:
    """Curves over epochs, a panel a measure.

    Args:
        curves: columns model, epoch, measure, value.
    """
    made, shown = panels(curves, "measure", (3.1, 3.4), columns=None)
    for axis, part in shown:
        sns.lineplot(part, x="epoch", y="value", hue="model", marker="o", ax=axis, legend=axis is made.axes[-1])
        axis.set_ylabel("")
    sns.move_legend(made.axes[-1], "upper left", bbox_to_anchor=(1, 1), title=None, frameon=False)
    return made


def consistency_scatter(neurons: pd.DataFrame) -> Figure:
    """Consistency on real against adversarial images, a dot a neuron, a panel a kind of label.

    Args:
        neurons: columns neuron, labels, real, adversarial, chance (the chance level of both).
    """
    made, shown = panels(neurons, "labels", (4, 4), columns=None, title="{} labels".format, sharex=True, sharey=True)
    top = float(np.nanmax(neurons[["real", "adversarial"]].to_numpy())) * 1.05
    for axis, part in shown:
        sns.scatterplot(part, x="real", y="adversarial", s=14, alpha=0.5, ax=axis, linewidth=0)
        axis.plot([0, top], [0, top], color="0.3", lw=1)
        axis.axhline(part["chance"].iloc[0], color="tab:red", ls="--", lw=1, label="chance")
        axis.axvline(part["chance"].iloc[0], color="tab:red", ls="--", lw=1)
        axis.set(xlabel="U on real images", ylabel="U on adversarial images")
        axis.legend(frameon=False)
    return made


def consistency_intervals(rows: pd.DataFrame) -> Figure:
    """Means with their intervals, one line a set and kind of label, a panel a network; chance as a red tick.

    Args:
        rows: columns model, set, labels, U, U low, U high, U chance.
    """
    sets = list(rows["set"].unique())
    made, shown = panels(rows, "model", (3, 0.32 * len(sets) + 0.5), (2.2, 0.8), sharex=True, sharey=True)
    for axis, part in shown:
        for kind, (shift, colour) in KINDS.items():
            own = part[part["labels"] == kind]
            at = np.array([sets.index(name) for name in own["set"]]) + shift
            axis.errorbar(own["U"], at, xerr=spread(own, "U"), fmt="o", ms=4, color=colour, label=f"{kind} labels")
            axis.plot(own["U chance"], at, "|", color="tab:red", ms=9, label=None if shift < 0 else "chance")
        axis.set_yticks(range(len(sets)), sets)
        axis.set_xlabel("U")
    made.axes[0].invert_yaxis()  # shared by all
    legend_below(made, columns=3)
    return made


def consistency_histograms(neurons: pd.DataFrame) -> Figure:
    """Figure 5 of P1: histograms over neurons, a column a network, above real and below adversarial images.

    Args:
        neurons: columns model, measure ("consis" or "consis_adv"), V.
    """
    models, measures = neurons["model"].unique(), neurons["measure"].unique()
    made, axes = grid(3.2 * len(models), 2.3 * len(measures), len(measures), len(models), sharex=True, sharey=True)
    edges = np.linspace(0, float(np.nanmax(neurons["V"])) * 1.02, 31)
    for line, measure, colour in zip(axes, measures, ("tab:blue", "tab:orange"), strict=False):
        for axis, model in zip(line, models, strict=True):
            values = neurons[(neurons["model"] == model) & (neurons["measure"] == measure)]["V"].dropna()
            axis.hist(values, bins=edges, color=colour)
            axis.axvline(values.mean(), color="0.2", ls="--", lw=1)
            axis.set_xlabel(f"{measure}(n)")
    for axis, model in zip(axes[0], models, strict=True):
        axis.set_title(model, fontsize=10)
    made.supylabel("neurons")
    return made


def sweep(rows: pd.DataFrame, *, x: str, y: str) -> Figure:
    """A measure over a parameter with its band and its chance level, a colour a network, a panel a set.

    Args:
        rows: columns model, set, x, y, "<y> low", "<y> high", "<y> chance".
        x: the parameter's column.
        y: the measure's column.
    """
    made, shown = panels(rows, "set", (4, 3.6), (2, 0), columns=None, sharey=True)
    colours = dict(zip(rows["model"].unique(), sns.color_palette(), strict=False))
    for axis, part in shown:
        for model, own in part.groupby("model", sort=False):
            axis.plot(own[x], own[y], marker="o", color=colours[model], label=model)
            axis.fill_between(own[x], own[f"{y} low"], own[f"{y} high"], color=colours[model], alpha=0.15)
            axis.plot(own[x], own[f"{y} chance"], ls=":", lw=1, color=colours[model])
        axis.set(xlabel=x, ylabel=f"{y} (dotted: chance)")
    made.axes[-1].legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return made


def choice_differences(choices: pd.DataFrame) -> Figure:
    """How each choice differs from the standing one: a panel a measure, a line a choice, open where nothing is shown.

    Args:
        choices: from `choices.choice_table`. The standing choice, whose verdict is empty, is left out.
    """
    rows = choices[choices["verdict"].fillna("") != ""]
    names = list(rows["choice"].unique())
    size = 11 / min(3, rows["measure"].nunique()), 0.9 + 0.26 * len(names)
    made, shown = panels(rows, "measure", size, sharey=True)
    for axis, part in shown:
        axis.axvline(0, color="0.6", lw=1)
        for row in part.to_dict("records"):
            colour, inside = ("C0", "C0") if row["verdict"] in ("higher", "lower") else ("0.55", "w")
            at, ends = names.index(row["choice"]), spread(row, "difference")
            axis.errorbar(row["difference"], at, xerr=ends, fmt="o", ms=5, color=colour, mfc=inside)
        axis.set_yticks(range(len(names)), names)
        axis.locator_params(axis="x", nbins=5)  # labels do not touch
    made.axes[0].set_ylim(len(names) - 0.5, -0.5)  # shared by all
    made.supxlabel("difference from the standing choice", fontsize=10)
    return made
