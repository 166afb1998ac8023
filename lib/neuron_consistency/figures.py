"""One function a figure: a tidy table (or images) in, a matplotlib Figure out; nothing is computed here."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from torch import Tensor

STYLE = "whitegrid"


class NotebookFigure(Figure):
    """A figure that draws itself in a notebook: pyplot, which would otherwise have to, never hears of it."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
        return buffer.getvalue()


def _figure(width: float, height: float) -> Figure:
    """A figure that pyplot does not know, so that no notebook shows it twice."""
    with sns.axes_style(STYLE):
        return NotebookFigure(figsize=(width, height), layout="constrained")


def training_curves(curves: pd.DataFrame) -> Figure:
    """Curves over epochs, a panel a measure.

    Args:
        curves: columns model, epoch, measure, value.
    """
    measures = list(curves["measure"].unique())
    figure = _figure(3.1 * len(measures), 3.4)
    with sns.axes_style(STYLE):
        axes = np.atleast_1d(figure.subplots(1, len(measures)))
    for axis, measure in zip(axes, measures, strict=True):
        last = axis is axes[-1]
        part = curves[curves["measure"] == measure]
        sns.lineplot(part, x="epoch", y="value", hue="model", marker="o", ax=axis, legend=last)
        axis.set(title=measure, ylabel="")
    sns.move_legend(axes[-1], "upper left", bbox_to_anchor=(1, 1), title=None, frameon=False)
    return figure


def consistency_scatter(neurons: pd.DataFrame) -> Figure:
    """Consistency on real against adversarial images, a dot a neuron, a panel a kind of label.

    Args:
        neurons: columns neuron, labels, real, adversarial, chance (the chance level of both).
    """
    kinds = list(neurons["labels"].unique())
    figure = _figure(4 * len(kinds), 4)
    with sns.axes_style(STYLE):
        axes = np.atleast_1d(figure.subplots(1, len(kinds), sharex=True, sharey=True))
    top = float(np.nanmax(neurons[["real", "adversarial"]].to_numpy())) * 1.05
    for axis, kind in zip(axes, kinds, strict=True):
        part = neurons[neurons["labels"] == kind]
        sns.scatterplot(part, x="real", y="adversarial", s=14, alpha=0.5, ax=axis, linewidth=0)
        axis.plot([0, top], [0, top], color="0.3", lw=1)
        axis.axhline(part["chance"].iloc[0], color="tab:red", ls="--", lw=1, label="chance")
        axis.axvline(part["chance"].iloc[0], color="tab:red", ls="--", lw=1)
        axis.set(title=f"{kind} labels", xlabel="U on real images", ylabel="U on adversarial images")
        axis.legend(frameon=False)
    return figure


def consistency_intervals(rows: pd.DataFrame) -> Figure:
    """Means with their intervals, one line a set and kind of label, a panel a network; chance as a red tick.

    Args:
        rows: columns model, set, labels, U, U low, U high, U chance.
    """
    models = list(rows["model"].unique())
    sets = list(dict.fromkeys(rows["set"]))
    columns = min(3, len(models))
    lines = -(-len(models) // columns)
    figure = _figure(2.2 + 3 * columns, 0.8 + 0.32 * len(sets) * lines + 0.5 * lines)
    with sns.axes_style(STYLE):
        axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flatten()
    shifts = {"true": -0.14, "predicted": 0.14}
    colours = {"true": "tab:blue", "predicted": "tab:orange"}
    for axis, model in zip(axes, models, strict=False):
        part = rows[rows["model"] == model]
        for kind, shift in shifts.items():
            some = part[part["labels"] == kind]
            places = np.array([sets.index(name) for name in some["set"]]) + shift
            spread = [some["U"] - some["U low"], some["U high"] - some["U"]]
            axis.errorbar(some["U"], places, xerr=spread, fmt="o", ms=4, color=colours[kind], label=f"{kind} labels")
            axis.plot(some["U chance"], places, "|", color="tab:red", ms=9, label=None if shift < 0 else "chance")
        axis.set_title(model, fontsize=10)
        axis.set_yticks(range(len(sets)), sets)
        axis.set_xlabel("U")
    axes[0].invert_yaxis()  # shared by all
    for axis in axes[len(models) :]:
        axis.set_visible(False)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def consistency_histograms(neurons: pd.DataFrame) -> Figure:
    """Figure 5 of P1: histograms over neurons, a column a network, above real and below adversarial images.

    Args:
        neurons: columns model, measure ("consis" or "consis_adv"), V.
    """
    models, measures = list(neurons["model"].unique()), list(neurons["measure"].unique())
    figure = _figure(3.2 * len(models), 2.3 * len(measures))
    with sns.axes_style(STYLE):
        axes = figure.subplots(len(measures), len(models), sharex=True, sharey=True, squeeze=False)
    edges = np.linspace(0, float(np.nanmax(neurons["V"])) * 1.02, 31)
    for row, measure in enumerate(measures):
        for column, model in enumerate(models):
            values = neurons[(neurons["model"] == model) & (neurons["measure"] == measure)]["V"].dropna()
            axis = axes[row, column]
            axis.hist(values, bins=edges, color="tab:blue" if row == 0 else "tab:orange")
            axis.axvline(values.mean(), color="0.2", ls="--", lw=1)
            axis.set_title(model if row == 0 else "", fontsize=10)
            axis.set_xlabel(f"{measure}(n)")
    figure.supylabel("neurons")
    return figure


def sweep(rows: pd.DataFrame, *, x: str, y: str) -> Figure:
    """A measure over a parameter with its band and its chance level, a colour a network.

    Args:
        rows: columns model, set, x, y, "<y> low", "<y> high", "<y> chance".
        x: the parameter's column.
        y: the measure's column.
    """
    sets = list(rows["set"].unique())
    figure = _figure(4 * len(sets) + 2, 3.6)
    with sns.axes_style(STYLE):
        axes = np.atleast_1d(figure.subplots(1, len(sets), sharey=True))
    colours = dict(zip(rows["model"].unique(), sns.color_palette(), strict=False))
    for axis, name in zip(axes, sets, strict=True):
        for model, part in rows[rows["set"] == name].groupby("model", sort=False):
            axis.plot(part[x], part[y], marker="o", color=colours[model], label=model)
            axis.fill_between(part[x], part[f"{y} low"], part[f"{y} high"], color=colours[model], alpha=0.15)
            axis.plot(part[x], part[f"{y} chance"], ls=":", lw=1, color=colours[model])
        axis.set(title=name, xlabel=x, ylabel=f"{y} (dotted: chance)")
    axes[-1].legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def top_images(
    images: Sequence[Sequence[Tensor]],
    regions: Sequence[Sequence[Tensor]],
    captions: Sequence[Sequence[str]],
    row_titles: Sequence[str],
    framed: Sequence[Sequence[bool]] = (),
) -> Figure:
    """Figures 3 and 4 of P1, 2 of P2: rows of images with the region that drives the neuron left bright.

    Args:
        images: by row, the images.
        regions: by row, the highlighted region of each.
        captions: by row, a line under each image.
        row_titles: left of each row.
        framed: by row, which images get a red frame.

    Shape:
        an image: (3, H, W) in [0, 1]; a region: (H, W) bool.
    """
    columns = max(len(row) for row in images)
    figure = _figure(1.35 * columns + 1.3, 1.62 * len(images))
    axes = figure.subplots(len(images), columns, squeeze=False)
    for row, title in enumerate(row_titles):
        for column, axis in enumerate(axes[row]):
            axis.set(xticks=[], yticks=[])
            if column >= len(images[row]):
                axis.set_visible(False)
                continue
            picture = images[row][column].permute(1, 2, 0).float().numpy()
            shade = np.where(regions[row][column].numpy()[..., None], 1.0, 0.35)
            axis.imshow(picture * shade, interpolation="nearest")
            axis.set_xlabel(captions[row][column], fontsize=7)
            if framed and framed[row][column]:
                axis.spines[:].set(color="tab:red", linewidth=3)
        axes[row, 0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=8)
    return figure


def tree_path(nodes: pd.DataFrame, edges: pd.DataFrame) -> Figure:
    """A part of WordNet with the way between two classes marked.

    Args:
        nodes, edges: from `worked_examples.subtree`.
    """
    figure = _figure(7, 0.8 + 0.5 * float(nodes["y"].max() - nodes["y"].min()))
    figure.set_layout_engine("none")  # without ticks and labels there is nothing to lay out
    axis = figure.subplots()
    for edge in edges.to_dict("records"):
        colour, width = ("tab:red", 2.5) if edge["on_path"] else ("0.7", 1)
        axis.plot([edge["x"], edge["x_parent"]], [edge["y"], edge["y_parent"]], color=colour, lw=width, zorder=1)
    for node in nodes.to_dict("records"):
        axis.text(
            node["x"],
            node["y"],
            node["name"],
            ha="center",
            va="center",
            fontsize=9,
            weight="bold" if node["leaf"] else "normal",
            bbox={"boxstyle": "round", "fc": "white", "ec": "tab:red" if node["on_path"] else "0.7"},
        )
    axis.margins(0.12, 0.08)
    axis.set_axis_off()
    return figure


def correlation_map(correlation: pd.DataFrame) -> Figure:
    """The matrix A of Eq. 2.

    Args:
        correlation: classes by classes.
    """
    side = min(8.0, 2 + 0.22 * len(correlation))
    figure = _figure(side + 0.8, side)
    axis = figure.subplots()
    named = len(correlation) <= 60  # more names would not be legible
    sns.heatmap(
        correlation, vmin=0, vmax=1, cmap="mako_r", square=True, ax=axis, xticklabels=named, yticklabels=named,
        cbar_kws={"label": "correlation", "shrink": 0.7},
    )  # fmt: skip
    axis.tick_params(labelsize=7)
    return figure


def correlation_decay(rows: pd.DataFrame) -> Figure:
    """Correlation over tree distance, a curve for each sigma.

    Args:
        rows: columns distance, sigma, correlation.
    """
    figure = _figure(5.5, 3.4)
    with sns.axes_style(STYLE):
        axis = figure.subplots()
    sns.lineplot(rows, x="distance", y="correlation", hue="sigma", palette="crest", marker="o", ax=axis, legend="full")
    axis.set(xlabel="distance d in the tree", ylabel="correlation a(d)")
    return figure


def random_neurons(rows: pd.DataFrame) -> Figure:
    """V and U of neurons that fire at random over m, the number of images that activate them: means of the draws
    with the middle 80 %, and the chance level by formula as a dashed line.

    Args:
        rows: columns m, measure, value, chance.
    """
    figure = _figure(6, 3.6)
    with sns.axes_style(STYLE):
        axis = figure.subplots()
    for (measure, part), colour in zip(rows.groupby("measure", sort=False), sns.color_palette(), strict=False):
        by_size = part.groupby("m")
        low, high = by_size["value"].quantile(0.1), by_size["value"].quantile(0.9)
        axis.fill_between(low.index, low, high, color=colour, alpha=0.15, lw=0)
        axis.plot(by_size["value"].mean(), "o", color=colour, ms=5, label=f"{measure}, drawn")
        axis.plot(by_size["chance"].first(), "--", color=colour, label=f"{measure}, chance level by formula")
    axis.set(xscale="log", xlabel="m, images that activate the neuron", ylabel="consistency")
    axis.set_xticks(rows["m"].unique(), rows["m"].unique())
    axis.minorticks_off()
    axis.legend(frameon=False)
    return figure


def category_shares(rows: pd.DataFrame) -> Figure:
    """Share of neurons aligned with a concept of each category, with intervals, a panel a network.

    Args:
        rows: columns model, images, category, share, low, high.
    """
    models, kinds = list(rows["model"].unique()), list(rows["images"].unique())
    columns = min(3, len(models))
    lines = -(-len(models) // columns)
    figure = _figure(1 + 3.2 * columns, 0.7 + 2.4 * lines)
    with sns.axes_style(STYLE):
        axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flatten()
    width = 0.8 / len(kinds)
    for axis, model in zip(axes, models, strict=False):
        for place, (kind, colour) in enumerate(zip(kinds, sns.color_palette(), strict=False)):
            part = rows[(rows["model"] == model) & (rows["images"] == kind)]
            at = np.arange(len(part)) + (place - (len(kinds) - 1) / 2) * width
            spread = [100 * (part["share"] - part["low"]), 100 * (part["high"] - part["share"])]
            axis.bar(at, 100 * part["share"], width, color=colour, label=kind)
            axis.errorbar(at, 100 * part["share"], yerr=spread, fmt="none", ecolor="0.3", elinewidth=1)
            axis.set_xticks(np.arange(len(part)), part["category"], rotation=45, ha="right")
        axis.set_title(model, fontsize=10)
        axis.set_ylabel("% of neurons aligned")
    for axis in axes[len(models) :]:
        axis.set_visible(False)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(kinds), frameon=False)
    return figure
