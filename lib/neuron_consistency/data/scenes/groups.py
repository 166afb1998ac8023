"""Rendered scenes of several objects: which classes stand where, drawn with a box for each object and a label map."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neuron_consistency.data.scenes.drawing import Bytes, Canvas
from neuron_consistency.data.scenes.render import check_parameters, choose_classes, paint_background, paint_object

WINDOWS = tuple((x, y, 0.54) for y in (0.29, 0.71) for x in (0.27, 0.73))  # the upper ones stand further back
DRIFT = 0.03
AREA = (0.06, 0.13)  # of the picture, an object's
FIRST = 1000  # number of the first object on the canvas: props of the background have lower ones


@dataclass(frozen=True)
class Group:
    """One picture of several objects.

    Shape:
        image: (S, S, 3) uint8. labels: (S, S) uint8, which class is seen, c + 1 for the c-th of those chosen, 0 for the
        background. classes: of each object, in the order in which they were painted. boxes: of what is seen of each,
        x0, y0, x1, y1 in pixels, ends excluded.
    """

    image: Bytes
    labels: Bytes
    classes: tuple[int, ...]
    boxes: list[tuple[int, int, int, int]]
    scene: str


def group_classes(index: int, number: int, *, seed: int = 0) -> tuple[int, ...]:
    """The classes (0 to ``number - 1``) of the objects of picture ``index``: 1 to 4, found without drawing.

    One of them is ``index % number``, so that each class is sure of its share; a class may come twice.
    """
    return _plan(index, number, seed)[0]


def _plan(index: int, number: int, seed: int) -> tuple[tuple[int, ...], list[int], np.random.Generator]:
    """The classes, the windows they stand in, and the stream that goes on to place them."""
    rng = np.random.default_rng((seed, index, 5))
    windows = np.sort(rng.permutation(len(WINDOWS))[: int(rng.integers(1, len(WINDOWS) + 1))]).tolist()
    classes = rng.integers(number, size=len(windows))
    classes[int(rng.integers(len(windows)))] = index % number
    return tuple(classes.tolist()), windows, rng


def render_group(
    index: int, *, seed: int = 0, image_size: int = 64, classes: int | Sequence[str] | None = None,
    background_correlation: float = 0.0,
) -> Group:  # fmt: skip
    """Draw picture number ``index``; a function of its arguments alone.

    With probability ``background_correlation`` the scene is the one paired with the class ``index % len(classes)``,
    else any of them.

    Raises:
        ParameterError, DatasetError: a parameter cannot work, or a class is unknown.
    """
    check_parameters(background_correlation, "original", seed, image_size)
    chosen = choose_classes(classes)
    present, windows, front = _plan(index, len(chosen), seed)
    back, light = (np.random.default_rng((seed, index, stream)) for stream in (6, 7))
    canvas = Canvas(image_size)
    scene = paint_background(canvas, chosen[index % len(chosen)], background_correlation, back, ())
    for place, (label, window) in enumerate(zip(present, windows, strict=True), FIRST):
        area = front.uniform(*AREA)
        paint_object(canvas, chosen[label], front, area, place, window=WINDOWS[window], drift=DRIFT)
    canvas.finish()
    class_of: Bytes = np.zeros(FIRST + len(present), dtype=np.uint8)
    class_of[FIRST:] = np.array(present) + 1
    return Group(
        canvas.picture(flat=False, rng=light),
        class_of[canvas.columns[:, 6]].take(canvas.sampled(image_size)),
        present,
        [canvas.box(place) for place in range(FIRST, FIRST + len(present))],
        scene,
    )
