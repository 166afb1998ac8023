"""What a reader could not read in a figure."""

from __future__ import annotations

import itertools

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from neuron_consistency.plotting import SMALL, WIDTH


def texts(figure: Figure) -> list[Text]:
    """All that is written in a drawn figure."""
    found = [*figure.texts]  # the title above all is among them
    for legend in figure.legends:
        found += [*legend.get_texts(), legend.get_title()]
    for axes in figure.axes:
        if axes.get_visible():
            found += [*axes.texts, axes.title, *_around(axes)]
    unique = {id(text): text for text in found if text.get_visible() and text.get_text().strip()}
    return list(unique.values())


def _around(axes: Axes) -> list[Text]:
    if not axes.axison:
        return []
    found = []
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        labels = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=False)
        found += [label for place, label in labels if low <= place <= high]
        found += [axis.label]
    return found


def faults(figure: Figure) -> list[str]:
    """In words: texts that are too small, cut by the edge, or written over each other; a wrong width."""
    figure.draw_without_rendering()
    width, height = figure.get_size_inches()
    found = [] if width == WIDTH else [f"{width} inches wide"]
    edge = Bbox.from_bounds(0, 0, width * figure.dpi, height * figure.dpi)
    boxes = {text: text.get_window_extent() for text in texts(figure)}
    for text, box in boxes.items():
        if float(text.get_fontsize()) < SMALL:
            found.append(f"{text.get_text()!r} is small")
        if min(box.x0, box.y0, edge.x1 - box.x1, edge.y1 - box.y1) < -1:
            found.append(f"{text.get_text()!r} is cut")
    for (one, first), (other, second) in itertools.combinations(boxes.items(), 2):
        over = Bbox.intersection(first, second)
        if over is not None and min(over.width, over.height) > 1.5:
            found.append(f"{one.get_text()!r} lies on {other.get_text()!r}")
    return found
