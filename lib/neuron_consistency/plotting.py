"""The one style of all figures: panels in a grid, intervals, rows of pictures."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from neuron_consistency.statistics import ends

STYLE = "whitegrid"


class NotebookFigure(Figure):
    """A figure of some inches that draws itself in a notebook. pyplot does not know it, so none is shown twice."""

    def __init__(self, width: float, height: float) -> None:
        super().__init__(figsize=(width, height), layout="constrained")

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
        return buffer.getvalue()


def grid(
    width: float, height: float, lines: int = 1, columns: int = 1, *,
    sharex: bool | Literal["col"] = False, sharey: bool = False, style: str | None = STYLE,
) -> tuple[NotebookFigure, NDArray[Any]]:  # fmt: skip
    """A figure of that many inches with lines of panels."""
    made = NotebookFigure(width, height)
    with sns.axes_style(style):
        return made, made.subplots(lines, columns, sharex=sharex, sharey=sharey, squeeze=False)


def panels(
    rows: pd.DataFrame, by: str, panel: tuple[float, float], margin: tuple[float, float] = (0, 0), *,
    columns: int | None = 3, title: Callable[[Any], str] = str, sharex: bool = False, sharey: bool = False,
) -> tuple[NotebookFigure, list[tuple[Axes, pd.DataFrame]]]:  # fmt: skip
    """A figure with one panel for each value of a column, and each panel with its rows of the table.

    Args:
        rows: the table.
        by: the column.
        panel: width and height of a panel, in inches.
        margin: width and height of what stands around the panels.
        columns: at most so many panels beside each other; None puts all in one line, under larger titles.
        title: of a panel, from the value.
        sharex, sharey: whether all panels have one axis.
    """
    parts = list(rows.groupby(by, sort=False))
    several, columns = columns is not None, min(columns or len(parts), len(parts))
    lines = -(-len(parts) // columns)
    size = margin[0] + panel[0] * columns, margin[1] + panel[1] * lines
    made, axes = grid(*size, lines, columns, sharex=sharex, sharey=sharey)
    for axis in axes.flat[len(parts) :]:
        axis.set_visible(False)
    for axis in axes.flat[len(parts) - columns :]:
        axis.tick_params(labelbottom=True)  # also where the place below is empty
    for axis, (value, _) in zip(axes.flat, parts, strict=False):
        axis.set_title(title(value), fontsize=10 if several else 12)
    return made, [(axis, part) for axis, (_, part) in zip(axes.flat, parts, strict=False)]


def spread(rows: Any, value: str) -> NDArray[Any]:
    """How far intervals reach below and above their values, as `Axes.errorbar` takes it.

    Args:
        rows: a table, or a row of one, with the ends as "<value> low" and "<value> high", or as "low" and "high".
        value: the column.
    """
    low, high = ends(rows, value)
    return np.stack([rows[value] - rows[low], rows[high] - rows[value]]).reshape(2, -1)


def legend_below(made: Figure, *, columns: int) -> None:
    """The legend of the first panel, below all of them."""
    made.legend(*made.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=columns, frameon=False)


def in_lines(title: str) -> str:
    """A title that lists several things, with a line for each of them."""
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
    """Rows of pictures, each with the title that stands left of it, and what stands above the columns.

    Attributes:
        margin: width left of the rows, in inches.
        height: of a row, in inches.
        fontsize: of what stands above the columns.
    """

    rows: Sequence[tuple[str, Sequence[Picture]]]
    above: Sequence[str] = ()
    margin: float = 1.3
    height: float = 1.62
    fontsize: float = 8


def draw_picture(axis: Axes, picture: Picture) -> None:
    """A picture on its panel, without scales."""
    shown = picture.image.permute(1, 2, 0).float().clamp(0, 1).numpy()
    if picture.bright is not None:
        shown = shown * np.where(picture.bright.numpy()[..., None], 1.0, 0.35)
    axis.imshow(shown, interpolation="nearest")
    if picture.heat is not None:
        axis.imshow(picture.heat.float().numpy(), cmap="jet", alpha=0.45, vmin=0, vmax=1, interpolation="bilinear")
    if picture.outlined is not None and picture.outlined.any() and not picture.outlined.all():
        axis.contour(picture.outlined.numpy(), levels=[0.5], colors="white", linewidths=0.8)
    if picture.framed:
        axis.spines[:].set(color="tab:red", linewidth=3)
    axis.set(xticks=[], yticks=[])
    axis.grid(visible=False)
    axis.set_xlabel(picture.caption, fontsize=7)


def picture_grid(pictures: PictureGrid) -> Figure:
    """Pictures in rows."""
    lines, columns = len(pictures.rows), max(len(row) for _, row in pictures.rows)
    made, axes = grid(1.35 * columns + pictures.margin, pictures.height * lines, lines, columns, style=None)
    for line, (title, row) in zip(axes, pictures.rows, strict=True):
        for axis, picture in zip(line, row, strict=False):
            draw_picture(axis, picture)
        for axis in line[len(row) :]:
            axis.set_visible(False)
        line[0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=8)
    for axis, text in zip(axes[0], pictures.above, strict=False):
        axis.set_title(text, fontsize=pictures.fontsize)
    return made
