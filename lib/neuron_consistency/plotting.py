"""The one style of all figures: width, colours, panels in a grid, marks with intervals, rows of pictures."""

import io
import itertools
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
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
WIDTH = 7.0  # inches of every figure: where a page shows it 560 pixels wide, 10 points are 11 pixels
DPI = 160
SMALL = 8  # points of what stands below pictures: 9 pixels there
DARKENED = 0.4  # what is left of the light outside of a bright region
PER_LETTER = 0.07  # inches that a letter of 10 points takes, about
TRUE_LABEL, OTHER_LABEL = "#0072B2", "#D55E00"  # images by their true label, and by what the network or attacker says
OTHERS = ("#882255", "#3C9BD0", "#DE8F05", "#CA9161")  # what is neither a network nor a kind of label
MARKED = "#C8102E"  # a way in the tree, the frame of a picture: drawn thick, too
CHANCE: dict[str, Any] = {"color": "0.4", "ls": "--", "lw": 1.2}
HUES = {  # of a network, by what its title holds; the first that fits
    "and reweighted": "#3C9BD0",
    "permuted": "#999933",
    "reweighted, mean 1": "#CA9161",
    "reweighted": "#DE8F05",
    **dict.fromkeys(("adversarial", "beta = 0"), "#CC78BC"),
    **dict.fromkeys(("consistent", "as in chapter 3"), "#029E73"),
    **dict.fromkeys(("untrained", "random weights"), "0.6"),
    **dict.fromkeys(("normal", "as trained"), "0.15"),
}
DASHES = {"AlexNet": "--", "VGG-16": "-.", "EfficientNet": ":"}  # of a network's lines; others are whole
MARKERS = "osD^v<>pXP*"  # seed by seed


def looks(titles: Iterable[str]) -> dict[str, dict[str, Any]]:
    """By network, the colour, dashes and marker that it has in every figure, as matplotlib's `plot` takes them.

    The objective gives the colour, the architecture the dashes, the seed the marker. Whatever names no objective gets a
    colour of `OTHERS` in turn; of two that would look alike, the second has another marker.
    """
    found: dict[str, dict[str, Any]] = {}
    others = itertools.cycle(OTHERS)
    for title in dict.fromkeys(titles):
        colour = next((hue for words, hue in HUES.items() if words in title), None) or next(others)
        dashes = next((dash for name, dash in DASHES.items() if name in title), "-")
        seed = re.search(r"seed (\d+)", title)
        start = int(seed[1]) % len(MARKERS) if seed else 0
        several = [{"color": colour, "ls": dashes, "marker": m} for m in MARKERS[start:] + MARKERS[:start]]
        found[title] = next((look for look in several if look not in found.values()), several[0])
    return found


class NotebookFigure(Figure):
    """A figure of some inches that draws itself in a notebook. pyplot does not know it, so none is shown twice."""

    def __init__(self, width: float, height: float, layout: Literal["constrained", "compressed"] = "constrained"):
        super().__init__(figsize=(width, height), layout=layout)

    def _repr_png_(self) -> bytes:
        return png(self)


def png(figure: Figure) -> bytes:
    """The picture of a figure, which is sharp on a screen of two pixels a point."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
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
    rows: pd.DataFrame, by: str, height: float, *, left: float = 0.5,
    title: Callable[[Any], str] = str, sharex: bool = False, sharey: bool = False,
) -> tuple[NotebookFigure, list[tuple[Axes, pd.DataFrame]]]:  # fmt: skip
    """A figure with one panel for each value of a column, and each panel with its rows of the table.

    Two panels stand beside each other; three where their number can be divided by three.

    Args:
        rows: the table.
        by: the column.
        height: of a panel and of what is below it, in inches.
        left: width of what stands left of the panels, in inches.
        title: of a panel, from the value; it is put in lines that fit.
        sharex, sharey: whether all panels have one axis.
    """
    parts = list(rows.groupby(by, sort=False))
    columns = 3 if len(parts) % 3 == 0 else min(2, len(parts))
    letters = int((WIDTH - left) / columns / PER_LETTER) - 3
    titles = [in_lines(title(value), letters) for value, _ in parts]
    lines = -(-len(parts) // columns)
    height += 0.16 * (1 + max(text.count("\n") for text in titles))
    made, axes = grid(WIDTH, height * lines, lines, columns, sharex=sharex, sharey=sharey)
    for axis in axes.flat[len(parts) :]:
        axis.set_visible(False)
    for axis in axes.flat[len(parts) - columns :]:
        axis.tick_params(labelbottom=True)  # also where the place below is empty
    for axis, text in zip(axes.flat, titles, strict=False):
        axis.set_title(text, fontsize=10)
    return made, [(axis, part) for axis, (_, part) in zip(axes.flat, parts, strict=False)]


def spread(rows: Any, value: str) -> NDArray[Any]:
    """How far intervals reach below and above their values, as `Axes.errorbar` takes it.

    Args:
        rows: a table, or a row of one, with the ends as "<value> low" and "<value> high", or as "low" and "high".
        value: the column.
    """
    low, high = ends(rows, value)
    return np.stack([rows[value] - rows[low], rows[high] - rows[value]]).reshape(2, -1)


def marks(
    axis: Axes, rows: pd.DataFrame, value: str, at: Any, *,
    color: str, marker: str = "o", label: str, filled: bool = True, chance: Any = None,
) -> None:  # fmt: skip
    """A mark with its interval for each row of a table, at some heights, and the chance level as a grey stroke.

    Args:
        filled: whether the mark is; an open one is white inside.
        chance: a number for each row.
    """
    inside = color if filled else "white"
    axis.errorbar(rows[value], at, xerr=spread(rows, value), fmt=marker, ms=5, color=color, mfc=inside, label=label)
    if chance is not None:
        axis.plot(chance, at, "|", color=CHANCE["color"], ms=9, mew=1.8, label="chance")


def name_lines(axis: Axes, names: Sequence[str], letters: int = 20) -> None:
    """The names of the lines of a panel, the first on top."""
    axis.set_yticks(range(len(names)), [in_lines(name, letters) for name in names])
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.grid(visible=False, axis="y")
    for edge in range(1, len(names)):
        axis.axhline(edge - 0.5, color="0.85", lw=0.8, zorder=0)


def legend_below(made: Figure, xlabel: str = "") -> None:
    """One legend of all panels that lists everything once, chance last. The figure grows by it.

    Args:
        xlabel: what the x axes of all panels show; it stands between them and the legend.
    """
    found = dict[str, Any]()
    for axis in made.axes:
        for handle, text in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(text, handle)
    texts = sorted(found, key=lambda text: "chance" in text)
    columns = max(1, min(len(texts), int(WIDTH / PER_LETTER / (max(map(len, texts)) + 10))))
    width, height = made.get_size_inches()
    made.set_size_inches(width, height + 0.2 * (-(-len(texts) // columns) + len(xlabel.splitlines())) + 0.1)
    handles, titled = [found[text] for text in texts], {"title": xlabel, "title_fontsize": 10}
    made.legend(handles, texts, loc="outside lower center", ncols=columns, frameon=False, **titled)


def in_lines(text: str, letters: int) -> str:
    """A text in lines of at most so many letters; a longer word stays whole, and a number stays by what it counts."""
    kept = re.sub(r"(?<=seed|beta|mean) (?=\d)|(?<=\d) (?=seeds)|(?<= =) (?=\S)| (?== )", "\xa0", text)
    lines = (textwrap.wrap(line, letters, break_long_words=False, break_on_hyphens=False) for line in kept.split("\n"))
    return "\n".join("\n".join(line) for line in lines)


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
    """A picture on its panel, without scales."""
    shown = picture.image.permute(1, 2, 0).float().clamp(0, 1).numpy()
    if picture.bright is not None:
        shown = shown * np.where(picture.bright.numpy()[..., None], 1.0, DARKENED)
    axis.imshow(shown, interpolation="nearest")
    if picture.heat is not None:
        axis.imshow(picture.heat.float().numpy(), cmap="inferno", alpha=0.55, vmin=0, vmax=1, interpolation="bilinear")
    if picture.outlined is not None and picture.outlined.any() and not picture.outlined.all():
        axis.contour(picture.outlined.numpy(), levels=[0.5], colors="white", linewidths=1.2)
    if picture.framed:
        axis.spines[:].set(color=MARKED, linewidth=3)
    axis.set(xticks=[], yticks=[])
    axis.grid(visible=False)
    axis.set_xlabel(picture.caption, fontsize=SMALL)


def picture_grid(pictures: PictureGrid) -> Figure:
    """Pictures in rows."""
    lines, columns = len(pictures.rows), max(len(row) for _, row in pictures.rows)
    margin = 1.15
    side = min(1.45, (WIDTH - margin) / columns - 0.08)
    letters = max(9, int(side / PER_LETTER * 10 / SMALL))
    rows = [
        (title, [replace(one, caption=in_lines(one.caption, letters)) for one in row]) for title, row in pictures.rows
    ]
    above = [in_lines(text, letters) for text in pictures.above]
    below = sum(max([0, *(len(one.caption.splitlines()) for one in row)]) for _, row in rows)
    height = lines * (side + 0.12) + 0.14 * (below + max([0, *(len(text.splitlines()) for text in above)]))
    made = NotebookFigure(WIDTH, height, "compressed")
    axes = made.subplots(lines, columns, squeeze=False)
    for line, (title, row) in zip(axes, rows, strict=True):
        for axis, picture in zip(line, row, strict=False):
            draw_picture(axis, picture)
        for axis in line[len(row) :]:
            axis.set_visible(False)
        line[0].set_ylabel(in_lines(title, 16), rotation=0, ha="right", va="center", fontsize=9)
    for axis, text in zip(axes[0], above, strict=False):
        axis.set_title(text, fontsize=9)
    return made
