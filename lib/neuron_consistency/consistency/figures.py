"""Figures of P1: one function a figure, from a tidy table to a matplotlib Figure. Nothing is computed here."""

from __future__ import annotations

from collections.abc import Mapping

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

KINDS = {"true": (-0.16, TRUE_LABEL, "o"), "predicted": (0.16, OTHER_LABEL, "s")}  # shift, colour, marker of a label
AXES = {  # what parameters and measures are called on an axis
    "sigma": r"$\sigma$, how far along the tree classes count as related (edges)",
    "layer": "layer, from the image to the decision",
    "quantile": "share of the real images that activates a neuron",
    "U": "mean U (0 to 1)",
}
VARIED = {  # what the parameters of a choice are called
    "beta": "weight of the consistent loss:",
    "epsilon": "radius of the attack:",
    "distance": "distance of features:",
    "feature_layer": "features of",
    "attack_label": "label attacked:",
    "norm_statistics": "batch norm sees images:",
    "second_example = True": "second image for the distance",
}


def training_curves(curves: pd.DataFrame, *, chance: Mapping[str, float] | None = None) -> Figure:
    """Curves over epochs, a panel a measure, a colour a network.

    Args:
        curves: columns model, epoch, measure, value, unit (of the measure).
        chance: the chance level of those measures that have one.
    """
    look = looks(curves["model"])
    made, shown = panels(curves, "measure", 2.7)
    for axis, part in shown:
        for model, own in part.groupby("model", sort=False):
            axis.plot(own["epoch"], own["value"], ms=4, label=model, **look[str(model)])
        if (level := (chance or {}).get(part["measure"].iloc[0])) is not None:
            axis.axhline(level, label="chance", **CHANCE)
        axis.set(xlabel="epoch", ylabel=part["unit"].iloc[0])
        axis.locator_params(axis="x", integer=True, min_n_ticks=1)
    legend_below(made)
    return made


def consistency_scatter(neurons: pd.DataFrame) -> Figure:
    """Consistency on real against adversarial images, a dot a neuron, a panel a kind of label.

    Args:
        neurons: columns neuron, labels, real, adversarial, chance (the chance level of both).
    """
    made, shown = panels(neurons, "labels", 3.4, title="images by their {} labels".format, sharex=True, sharey=True)
    top = float(np.nanmax(neurons[["real", "adversarial"]].to_numpy())) * 1.05
    for axis, part in shown:
        _, colour, marker = KINDS[part["labels"].iloc[0]]
        axis.scatter(part["real"], part["adversarial"], s=16, alpha=0.5, color=colour, marker=marker, lw=0, label="_")
        axis.plot([0, top], [0, top], color="0.15", lw=1, label="the same on both")
        axis.axhline(part["chance"].iloc[0], label="chance", **CHANCE)
        axis.axvline(part["chance"].iloc[0], **CHANCE)
        axis.set(xlabel="U on real images", ylabel="U on adversarial images")
        axis.label_outer()
    legend_below(made)
    return made


def consistency_intervals(rows: pd.DataFrame, *, sharex: bool = True) -> Figure:
    """Means with their intervals, one line a set and kind of label, a panel a network; chance as a grey stroke.

    Args:
        rows: columns model, set, labels, U, U low, U high, U chance.
        sharex: whether all panels have one scale; without it, networks of unlike classes can be read beside each other.
    """
    sets = list(rows["set"].unique())
    made, shown = panels(rows, "model", 0.38 * len(sets) + 0.45, left=1.5, sharex=sharex, sharey=True)
    for axis, part in shown:
        for kind, (shift, colour, marker) in KINDS.items():
            own = part[part["labels"] == kind]
            at = own["set"].map(sets.index) + shift
            marks(axis, own, "U", at, color=colour, marker=marker, label=f"by {kind} labels", chance=own["U chance"])
        name_lines(axis, sets, 18)
        axis.locator_params(axis="x", nbins=4)
    legend_below(made, "mean U of the neurons (0 to 1), interval of 95 %")
    return made


def consistency_histograms(neurons: pd.DataFrame) -> Figure:
    """Figure 5 of P1: histograms over neurons, a row a network, left real and right adversarial images.

    Args:
        neurons: columns model, measure ("consis" or "consis_adv"), V.
    """
    models, measures = neurons["model"].unique(), neurons["measure"].unique()
    made, axes = grid(WIDTH, 0.2 + 1.7 * len(models), len(models), len(measures), sharex=True, sharey=True)
    edges = np.linspace(0, float(np.nanmax(neurons["V"])) * 1.02, 31)
    look = looks(models)
    for line, model in zip(axes, models, strict=True):
        for axis, measure in zip(line, measures, strict=True):
            values = neurons[(neurons["model"] == model) & (neurons["measure"] == measure)]["V"].dropna()
            axis.hist(values, bins=edges, color=look[model]["color"], alpha=0.75)
            axis.axvline(values.mean(), color="black", ls="-.", lw=1.5, label="mean")
            images = {"consis": "real images", "consis_adv": "adversarial images"}.get(measure, measure)
            axis.set_title(in_lines(f"{model}:\n{images}", 42), fontsize=10)
    made.supylabel("number of neurons", fontsize=10)
    legend_below(made, "V of a neuron (0 to 1)")
    return made


def sweep(rows: pd.DataFrame, *, x: str, y: str) -> Figure:
    """A measure over a parameter with its band and its chance level, a colour a network, a panel a set.

    Args:
        rows: columns model, set, x, y, "<y> low", "<y> high", "<y> chance".
        x: the parameter's column.
        y: the measure's column.
    """
    look = looks(rows["model"])
    title = "{} images".format if rows["set"].nunique() > 1 else str
    made, shown = panels(rows, "set", 3, title=title, sharey=True)
    for axis, part in shown:
        for model, own in part.groupby("model", sort=False):
            axis.plot(own[x], own[y], ms=5, label=model, **look[str(model)])
            axis.fill_between(own[x], own[f"{y} low"], own[f"{y} high"], color=look[str(model)]["color"], alpha=0.12)
            axis.plot(own[x], own[f"{y} chance"], label="chance", **CHANCE)
        axis.set_xticks(part[x].unique())
    made.axes[0].set_ylabel(AXES.get(y, y) + ", band of 95 %")
    legend_below(made, AXES.get(x, x))
    return made


def choice_differences(choices: pd.DataFrame) -> Figure:
    """How each choice differs from the standing one: a panel a measure, a line a choice, open where nothing is shown.

    Args:
        choices: from `choices.choice_table`. The standing choice, whose verdict is empty, is left out.
    """
    rows = choices[choices["verdict"].fillna("") != ""]
    names = list(rows["choice"].unique())
    made, shown = panels(rows, "measure", 0.6 + 0.32 * len(names), left=1.9, sharey=True)
    for axis, part in shown:
        axis.axvline(0, label="the standing choice", **CHANCE)
        for told, is_told in (("shown to differ", True), ("not shown to differ", False)):
            own = part[part["verdict"].isin(["higher", "lower"]) == is_told]
            at = own["choice"].map(names.index)
            marks(axis, own, "difference", at, color="0.15" if is_told else "0.5", label=told, filled=is_told)
        name_lines(axis, [_in_words(name) for name in names], 24)
        axis.locator_params(axis="x", nbins=3)  # labels do not touch
        axis.set_xlabel("points of %" if "accuracy" in part["measure"].iloc[0] else "U")
    legend_below(made, "difference from the standing choice, interval of 95 %")
    return made


def _in_words(choice: str) -> str:
    for parameter, words in VARIED.items():
        choice = choice.replace(f"{parameter} = " if "=" not in parameter else parameter, f"{words} ").strip()
    return choice
