"""Figures of explanations: tidy tables, images and maps in, a matplotlib Figure out; nothing is computed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from neuron_consistency.figures import STYLE, NotebookFigure

HEAT, OPACITY = "jet", 0.45


def _figure(width: float, height: float) -> Figure:
    return NotebookFigure(figsize=(width, height), layout="constrained")


def _bare(axis: Axes) -> None:
    axis.set(xticks=[], yticks=[])
    axis.grid(visible=False)


def _picture(axis: Axes, image: Tensor, heat: Tensor | None = None) -> None:
    """An image, under a map in [0, 1] where there is one."""
    axis.imshow(image.permute(1, 2, 0).float().clamp(0, 1).numpy(), interpolation="nearest")
    if heat is not None:
        axis.imshow(heat.float().numpy(), cmap=HEAT, alpha=OPACITY, vmin=0, vmax=1, interpolation="bilinear")
    _bare(axis)


def consistency_examples(
    images: Tensor,
    attacked: Tensor,
    masks: Tensor,
    maps: Tensor,
    attacked_maps: Tensor,
    captions: Sequence[str],
) -> Figure:
    """Figure 4 of P3: an image, its explanation, the image whose background was attacked, the explanation of that.

    Args:
        images, attacked: x and x^.
        masks: what the attack spared, outlined on x^.
        maps, attacked_maps: the explanations of x and x^.
        captions: above each column.

    Shape:
        images, attacked: (B, 3, H, W) in [0, 1]; masks: (B, H, W) bool; maps, attacked_maps: (B, H, W) in [0, 1].
    """
    columns, titles = len(images), ("image", "explanation", "background\nattacked", "explanation")
    figure = _figure(1.35 * columns + 1.1, 6.4)
    axes = figure.subplots(4, columns, squeeze=False)
    for column in range(columns):
        _picture(axes[0, column], images[column])
        _picture(axes[1, column], images[column], maps[column])
        _picture(axes[2, column], attacked[column])
        if 0 < int(masks[column].sum()) < masks[column].numel():
            axes[2, column].contour(masks[column].numpy(), levels=[0.5], colors="white", linewidths=0.8)
        _picture(axes[3, column], attacked[column], attacked_maps[column])
        axes[0, column].set_title(captions[column], fontsize=7)
    for row, title in enumerate(titles):
        axes[row, 0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=8)
    return figure


def maps_of_networks(
    images: Tensor,
    captions: Sequence[str],
    maps: Mapping[str, Tensor],
    predictions: Mapping[str, Sequence[str]],
) -> Figure:
    """Figure 3 of P3: the explanation of the same images by several networks, what each says under its map.

    Args:
        images: the images.
        captions: above each column.
        maps: by network, the explanation of each image.
        predictions: by network, what it says of each.

    Shape:
        images: (B, 3, H, W) in [0, 1]; a network's maps: (B, H, W) in [0, 1].
    """
    columns = len(images)
    figure = _figure(1.35 * columns + 1.6, 1.75 * (1 + len(maps)))
    axes = figure.subplots(1 + len(maps), columns, squeeze=False)
    for column in range(columns):
        _picture(axes[0, column], images[column])
        axes[0, column].set_title(captions[column], fontsize=8)
        for row, title in enumerate(maps, start=1):
            _picture(axes[row, column], images[column], maps[title][column])
            axes[row, column].set_xlabel(predictions[title][column], fontsize=7)
    for row, title in enumerate(["image", *maps]):
        axes[row, 0].set_ylabel(title.replace(", ", "\n"), rotation=0, ha="right", va="center", fontsize=8)
    return figure


def consistency_over_training(rows: pd.DataFrame) -> Figure:
    """The distribution of E over the training images whenever it was taken: median, quartiles, outer quantiles.

    Args:
        rows: columns model, epoch, quantile, E.
    """
    models = list(dict.fromkeys(rows["model"]))
    figure = _figure(3.4 * len(models) + 0.4, 3.2)
    with sns.axes_style(STYLE):
        axes = np.atleast_1d(figure.subplots(1, len(models), sharey=True))
    for axis, model in zip(axes, models, strict=True):
        wide = rows[rows["model"] == model].pivot(index="epoch", columns="quantile", values="E")
        levels = sorted(wide.columns)
        for low, high in zip(levels, reversed(levels), strict=True):
            if low < high:
                axis.fill_between(wide.index, wide[low], wide[high], color="tab:blue", alpha=0.2, linewidth=0)
        axis.plot(wide.index, wide[levels[len(levels) // 2]], color="tab:blue", marker="o")
        axis.set(title=model.replace(", ", "\n"), xlabel="before epoch", ylim=(0, 1), xticks=list(wide.index))
    axes[0].set_ylabel("E over the training images")
    return figure


def consistency_distributions(rows: pd.DataFrame) -> Figure:
    """How E is distributed over images: the share of images with at most so much of it, a line a network.

    Args:
        rows: columns model, mask, E; a panel a mask.
    """
    masks = list(dict.fromkeys(rows["mask"]))
    figure = _figure(3.8 * len(masks) + 2.2, 3.4)
    with sns.axes_style(STYLE):
        axes = np.atleast_1d(figure.subplots(1, len(masks), sharey=True))
    for axis, mask in zip(axes, masks, strict=True):
        last = axis is axes[-1]
        sns.ecdfplot(rows[rows["mask"] == mask].dropna(), x="E", hue="model", ax=axis, legend=last)
        axis.set(title=f"spared: {mask}", ylabel="share of images", xlim=(0, 1))
    sns.move_legend(axes[-1], "upper left", bbox_to_anchor=(1, 1), title=None, frameon=False)
    return figure
