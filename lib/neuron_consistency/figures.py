"""Figures of P1: one function a figure, from a tidy table to a matplotlib Figure. Nothing is computed here."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from neuron_consistency.plotting import STYLE, errorbars, figure, legend_below, panels

KINDS = {"true": (-0.14, "tab:blue"), "predicted": (0.14, "tab:orange")}  # shift and colour of a kind of label


def training_curves(curves: pd.DataFrame) -> Figure:
    """Curves over epochs, a panel a measure.

    Args:
        curves: columns model, epoch, measure, value.
    """
    measures = list(curves["measure"].unique())
    made, axes = panels(measures, (3.1, 3.4), columns=None, fontsize=12)
    for axis, measure in zip(axes, measures, strict=True):
        part = curves[curves["measure"] == measure]
        sns.lineplot(part, x="epoch", y="value", hue="model", marker="o", ax=axis, legend=axis is axes[-1])
        axis.set_ylabel("")
    sns.move_legend(axes[-1], "upper left", bbox_to_anchor=(1, 1), title=None, frameon=False)
    return made


def consistency_scatter(neurons: pd.DataFrame) -> Figure:
    """Consistency on real against adversarial images, a dot a neuron, a panel a kind of label.

    Args:
        neurons: columns neuron, labels, real, adversarial, chance (the chance level of both).
    """
    kinds = list(neurons["labels"].unique())
    titles = [f"{kind} labels" for kind in kinds]
    made, axes = panels(titles, (4, 4), columns=None, fontsize=12, sharex=True, sharey=True)
    top = float(np.nanmax(neurons[["real", "adversarial"]].to_numpy())) * 1.05
    for axis, kind in zip(axes, kinds, strict=True):
        part = neurons[neurons["labels"] == kind]
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
    models, sets = list(rows["model"].unique()), list(rows["set"].unique())
    made, axes = panels(models, (3, 0.32 * len(sets) + 0.5), (2.2, 0.8), sharex=True, sharey=True)
    for axis, model in zip(axes, models, strict=True):
        for kind, (shift, colour) in KINDS.items():
            part = rows[(rows["model"] == model) & (rows["labels"] == kind)]
            at = np.array([sets.index(name) for name in part["set"]]) + shift
            ends = part["U low"], part["U high"]
            errorbars(axis, part["U"], *ends, at, fmt="o", ms=4, color=colour, label=f"{kind} labels")
            axis.plot(part["U chance"], at, "|", color="tab:red", ms=9, label=None if shift < 0 else "chance")
        axis.set_yticks(range(len(sets)), sets)
        axis.set_xlabel("U")
    axes[0].invert_yaxis()  # shared by all
    legend_below(made, axes[0], columns=3)
    return made


def consistency_histograms(neurons: pd.DataFrame) -> Figure:
    """Figure 5 of P1: histograms over neurons, a column a network, above real and below adversarial images.

    Args:
        neurons: columns model, measure ("consis" or "consis_adv"), V.
    """
    models, measures = list(neurons["model"].unique()), list(neurons["measure"].unique())
    made = figure(3.2 * len(models), 2.3 * len(measures))
    with sns.axes_style(STYLE):
        axes = made.subplots(len(measures), len(models), sharex=True, sharey=True, squeeze=False)
    edges = np.linspace(0, float(np.nanmax(neurons["V"])) * 1.02, 31)
    for row, measure in enumerate(measures):
        for axis, model in zip(axes[row], models, strict=True):
            values = neurons[(neurons["model"] == model) & (neurons["measure"] == measure)]["V"].dropna()
            axis.hist(values, bins=edges, color="tab:blue" if row == 0 else "tab:orange")
            axis.axvline(values.mean(), color="0.2", ls="--", lw=1)
            axis.set_title(model if row == 0 else "", fontsize=10)
            axis.set_xlabel(f"{measure}(n)")
    made.supylabel("neurons")
    return made


def sweep(rows: pd.DataFrame, *, x: str, y: str) -> Figure:
    """A measure over a parameter with its band and its chance level, a colour a network, a panel a set.

    Args:
        rows: columns model, set, x, y, "<y> low", "<y> high", "<y> chance".
        x: the parameter's column.
        y: the measure's column.
    """
    sets = list(rows["set"].unique())
    made, axes = panels(sets, (4, 3.6), (2, 0), columns=None, fontsize=12, sharey=True)
    colours = dict(zip(rows["model"].unique(), sns.color_palette(), strict=False))
    for axis, name in zip(axes, sets, strict=True):
        for model, part in rows[rows["set"] == name].groupby("model", sort=False):
            axis.plot(part[x], part[y], marker="o", color=colours[model], label=model)
            axis.fill_between(part[x], part[f"{y} low"], part[f"{y} high"], color=colours[model], alpha=0.15)
            axis.plot(part[x], part[f"{y} chance"], ls=":", lw=1, color=colours[model])
        axis.set(xlabel=x, ylabel=f"{y} (dotted: chance)")
    axes[-1].legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return made


def choice_differences(choices: pd.DataFrame) -> Figure:
    """How each choice differs from the standing one: a panel a measure, a line a choice, open where nothing is shown.

    Args:
        choices: from `choices.choice_table`. The standing choice, whose verdict is empty, is left out.
    """
    rows = choices[choices["verdict"].fillna("") != ""]
    names, measures = list(rows["choice"].unique()), list(rows["measure"].unique())
    size = (11 / min(3, len(measures)), 0.9 + 0.26 * len(names))
    made, axes = panels(measures, size, sharey=True)
    for axis, measure in zip(axes, measures, strict=True):
        axis.axvline(0, color="0.6", lw=1)
        for _, row in rows[rows["measure"] == measure].iterrows():
            colour, inside = ("C0", "C0") if row["verdict"] in ("higher", "lower") else ("0.55", "w")
            found = row["difference"], row["difference low"], row["difference high"]
            errorbars(axis, *found, names.index(row["choice"]), fmt="o", ms=5, color=colour, mfc=inside)
        axis.set_yticks(range(len(names)), names)
        axis.locator_params(axis="x", nbins=5)  # labels do not touch
    axes[0].set_ylim(len(names) - 0.5, -0.5)  # shared by all
    made.supxlabel("difference from the standing choice", fontsize=10)
    return made
