"""The one style of all figures: panels in a grid, intervals, rows of pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import Tensor

STYLE = "whitegrid"
HEAT, OPACITY = "jet", 0.45  # of a map over an image


class NotebookFigure(Figure):
    """A figure that draws itself in a notebook. pyplot does not know it, so that no notebook shows it twice."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
        return buffer.getvalue()


def figure(width: float, height: float) -> NotebookFigure:
    """An empty figure, in inches."""
    return NotebookFigure(figsize=(width, height), layout="constrained")


def panels(
    titles: Sequence[str], panel: tuple[float, float], margin: tuple[float, float] = (0, 0), *,
    columns: int | None = 3, fontsize: float = 10, sharex: bool = False, sharey: bool = False,
) -> tuple[NotebookFigure, list[Axes]]:  # fmt: skip
    """A figure with one panel a title, in a grid whose unused places stay empty.

    Args:
        titles: above the panels.
        panel: width and height of each, in inches.
        margin: width and height of what stands around them.
        columns: at most so many beside each other; None puts all in one row.
        fontsize: of the titles.
        sharex, sharey: whether all panels have one axis.
    """
    columns = min(columns or len(titles), len(titles))
    lines = -(-len(titles) // columns)
    made = figure(margin[0] + panel[0] * columns, margin[1] + panel[1] * lines)
    with sns.axes_style(STYLE):
        axes = list(made.subplots(lines, columns, sharex=sharex, sharey=sharey, squeeze=False).flatten())
    for axis in axes[len(titles) :]:
        axis.set_visible(False)
    for axis, title in zip(axes, titles, strict=False):
        axis.set_title(title, fontsize=fontsize)
    return made, axes[: len(titles)]


def errorbars(
    axis: Axes,
    values: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    at: ArrayLike,
    *,
    upright: bool = False,
    **style: Any,
) -> None:
    """Values with their intervals, lying at the places `at`, or standing there if `upright`."""
    values, low, high = (np.atleast_1d(np.asarray(each, dtype=float)) for each in (values, low, high))
    spread = np.stack([values - low, high - values])
    if upright:
        axis.errorbar(at, values, yerr=spread, **style)
    else:
        axis.errorbar(values, at, xerr=spread, **style)


def legend_below(made: Figure, axis: Axes, *, columns: int) -> None:
    """The legend of one panel, below all of them."""
    made.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=columns, frameon=False)


def in_lines(title: str) -> str:
    """A network's title, which lists what sets it apart, with a line for each of these."""
    return title.replace(", ", "\n")


@dataclass(frozen=True)
class Picture:
    """An image to look at.

    Attributes:
        caption: below the image.
        heat: a map, drawn over the image in colours.
        bright: a region; the rest of the image is darkened.
        outlined: a region whose edge is drawn in white.
        framed: whether the image has a red frame.

    Shape:
        image: (3, H, W) in [0, 1]; heat: (H, W) in [0, 1]; bright, outlined: (H, W) bool.
    """

    image: Tensor
    caption: str = ""
    heat: Tensor | None = None
    bright: Tensor | None = None
    outlined: Tensor | None = None
    framed: bool = False


@dataclass(frozen=True)
class PictureGrid:
    """Rows of pictures, each with the title that stands left of it, and what stands above the columns."""

    rows: Sequence[tuple[str, Sequence[Picture]]]
    above: Sequence[str] = ()


def draw_picture(axis: Axes, picture: Picture) -> None:
    shown = picture.image.permute(1, 2, 0).float().clamp(0, 1).numpy()
    if picture.bright is not None:
        shown = shown * np.where(picture.bright.numpy()[..., None], 1.0, 0.35)
    axis.imshow(shown, interpolation="nearest")
    if picture.heat is not None:
        axis.imshow(picture.heat.float().numpy(), cmap=HEAT, alpha=OPACITY, vmin=0, vmax=1, interpolation="bilinear")
    if picture.outlined is not None and picture.outlined.any() and not picture.outlined.all():
        axis.contour(picture.outlined.numpy(), levels=[0.5], colors="white", linewidths=0.8)
    if picture.framed:
        axis.spines[:].set(color="tab:red", linewidth=3)
    axis.set(xticks=[], yticks=[])
    axis.grid(visible=False)
    axis.set_xlabel(picture.caption, fontsize=7)


def picture_grid(grid: PictureGrid, *, margin: float = 1.3, height: float = 1.62, fontsize: float = 8) -> Figure:
    """Pictures in rows.

    Args:
        grid: the pictures.
        margin: width left of them, in inches.
        height: of a row, in inches.
        fontsize: of what stands above the columns.
    """
    columns = max(len(pictures) for _, pictures in grid.rows)
    made = figure(1.35 * columns + margin, height * len(grid.rows))
    axes = made.subplots(len(grid.rows), columns, squeeze=False)
    for line, (title, pictures) in zip(axes, grid.rows, strict=True):
        for axis, picture in zip(line, pictures, strict=False):
            draw_picture(axis, picture)
        for axis in line[len(pictures) :]:
            axis.set_visible(False)
        line[0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=8)
    for axis, text in zip(axes[0], grid.above, strict=False):
        axis.set_title(text, fontsize=fontsize)
    return made


def top_images(grid: PictureGrid) -> Figure:
    """Rows of images, each with the region bright that drives a neuron.

    Source: P1, figures 3 and 4; P2, figure 2.
    """
    return picture_grid(grid)
