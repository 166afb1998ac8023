"""One rendered scene: which class, where, in which pose, with which bystanders; a function of seed and index."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import numpy.typing as npt
import pandas as pd

from neuron_consistency.data.scenes.compositions import Composition, Painter, Put, compositions, vocabulary
from neuron_consistency.data.scenes.drawing import Bytes, Canvas, Floats, Integers, pick
from neuron_consistency.errors import DatasetError, ParameterError

VARIANTS = ("original", "mixed-same", "mixed-rand")
EXTRAS = ("ball", "box", "bush", "plant", "rock", "vase")  # turn up in any scene, and hide part of an object
TEXTURE_SHARE = 0.15  # of the picture that a texture must cover to name the picture, as a photograph of that texture


@dataclass(frozen=True)
class Scene:
    """One picture with its labels. Numbers are places in ``vocabulary()[category]`` plus 1; 0 is unlabelled.

    Shape:
        image (S, S, 3) uint8. maps: category -> list of (S // 2, S // 2) integer maps, for color, object, material
        and part (whole parts, then parts of parts). box: x0, y0, x1, y1 of the visible object in pixels, ends excluded.
        mask: (S, S) bool, the visible object.
    """

    image: Bytes
    maps: dict[str, list[Integers]]
    scene: int
    textures: list[int]
    name: str
    box: tuple[int, int, int, int]
    mask: npt.NDArray[np.bool_]


def display_name(name: str, category: str = "") -> str:
    """A table name as a label: spaces for underscores, Broden's suffix for colours and scenes."""
    return name.replace("_", " ") + {"color": "-c", "scene": "-s"}.get(category, "")


def object_classes() -> pd.DataFrame:
    """The classes (name, wnid, branch, paired scene) in order of choice: siblings and several branches come early."""
    table = compositions()["object"].values()
    rows = [(display_name(c.name), c.wnid, c.branch, display_name(c.scene, "scene")) for c in table]
    return pd.DataFrame(rows, columns=["name", "wnid", "branch", "scene"])


def choose_classes(classes: int | Sequence[str] | None) -> list[str]:
    """Table names of the classes asked for: all (None), the first so many, or by name or WordNet id.

    Raises:
        DatasetError: a name is unknown (the closest ones are given).
        ParameterError: fewer than 1 or more classes than there are, or a class twice.
    """
    table = compositions()["object"]
    if classes is None:
        return list(table)
    if isinstance(classes, int):
        if not 1 <= classes <= len(table):
            raise ParameterError(f"classes={classes}: the rendered scenes have 1 to {len(table)} classes")
        return list(table)[:classes]
    known = {key.lower(): name for name, c in table.items() for key in (name, display_name(name), c.wnid)}
    chosen = []
    for name in [classes] if isinstance(classes, str) else classes:
        if name.lower() not in known:
            close = [display_name(known[key]) for key in get_close_matches(name.lower(), known, n=3, cutoff=0.3)]
            close = close or [display_name(known) for known in table]
            raise DatasetError(f"the rendered scenes have no class {name!r}; closest: {', '.join(close)}")
        chosen.append(known[name.lower()])
    if not chosen or len(set(chosen)) < len(chosen):
        raise ParameterError(f"classes must name at least one class, and each once: {', '.join(classes)}")
    return chosen


def _pose(
    composition: Composition, scale: float, rng: np.random.Generator, *, degrees: float = 0.0, stretch: float = 0.1
) -> Floats:
    """A composition's coordinates -> pixels about the origin: scale, proportions, a small turn, mirrored or not."""
    turn, tall = np.deg2rad(rng.uniform(-degrees, degrees)), np.exp(rng.uniform(-stretch, stretch))
    flip = -1.0 if rng.random() < 0.5 else 1.0
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return rotation @ np.diag([flip * scale / np.sqrt(tall), scale * np.sqrt(tall)])


def _prop(canvas: Canvas, name: str, rng: np.random.Generator, foot: Floats, height: float, instance: int) -> None:
    """A background object of so many pixels' height, standing at ``foot``."""
    prop = compositions()["prop"][name]
    matrix = _pose(prop, height / (prop.high[1] - prop.low[1]), rng, degrees=3)
    Painter(canvas, prop, rng, matrix, foot, instance=instance, wobble=3).paint()


def paint_object(
    canvas: Canvas, name: str, rng: np.random.Generator, area: float, instance: int, *,
    window: tuple[float, float, float] = (0.5, 0.5, 1.0), drift: float = 0.06,
) -> None:  # fmt: skip
    """An instance of a class over ``area`` of the picture, or the most that its outline leaves room for.

    It lies within the square ``window`` (its centre and its side, as shares of the picture), beyond which it drifts by
    up to ``drift`` of the picture.
    """
    x, y, side = window
    thing, size = compositions()["object"][name], canvas.size
    low, high = thing.low, thing.high
    scale = min(np.sqrt(area / thing.area), 0.98 * side / float((high - low).max())) * size
    matrix = _pose(thing, scale, rng, degrees=8)
    half = abs(matrix) @ (high - low) / 2
    room = np.maximum(side * size / 2 - half, 0) + drift * size
    centre = np.array([x, y]) * size + rng.uniform(-1, 1, 2) * room
    foot = centre - matrix @ ((low + high) / 2)
    Painter(canvas, thing, rng, matrix, foot, instance=instance, wobble=2).paint()


def paint_background(
    canvas: Canvas, name: str, correlation: float, rng: np.random.Generator, bystanders: Sequence[str]
) -> str:
    """A scene's regions and props, now and then with a bystander: another class, small, or a prop from elsewhere.

    It is the scene paired with the class ``name`` with probability ``correlation``, else any; its name is returned.
    """
    table, unit = compositions(), canvas.size / 100
    scene = table["object"][name].scene if rng.random() < correlation else pick([*table["scene"]], rng)
    layout = table["scene"][scene]
    flip = -1.0 if rng.random() < 0.5 else 1.0
    matrix = np.diag([flip, 1.0]) * rng.uniform(1, 1.15) * unit
    offset = rng.uniform(-6, 6, 2) * unit + canvas.size / 2 - matrix @ np.array([50.0, 50.0])
    painter = Painter(canvas, layout, rng, matrix, offset, instance=0, wobble=1.5)
    place, instance = 0, 2
    for item in layout.items:
        if isinstance(item, Put):
            count = int(rng.random() < 0.75) if item.count == 1 else int(rng.integers(1, item.count + 1))
            for y in np.sort(rng.uniform(*item.y, count)):
                foot = matrix @ np.array([rng.uniform(*item.x), y]) + offset
                _prop(canvas, item.prop, rng, foot, rng.uniform(*item.height) * unit, instance)
                instance += 1
        else:
            painter.shape(place)
            place += 1
    painter.finish()
    chance = rng.random()
    if chance < 0.1 and bystanders:
        paint_object(canvas, pick(bystanders, rng), rng, rng.uniform(0.03, 0.05), instance, drift=0)
    elif chance < 0.3:
        foot = rng.uniform([5, 60], [95, 98]) * unit
        _prop(canvas, pick(EXTRAS, rng), rng, foot, rng.uniform(10, 18) * unit, instance)
    return scene


def check_parameters(background_correlation: float, variant: str, seed: int, image_size: int) -> None:
    """Raise ParameterError where a parameter of :func:`render_scene` cannot work."""
    if not 0 <= background_correlation <= 1:
        raise ParameterError(f"background_correlation={background_correlation}: it is a probability, 0 to 1")
    if variant not in VARIANTS:
        raise ParameterError(f"variant={variant!r}: choose from {', '.join(VARIANTS)}")
    if seed < 0 or image_size < 16:
        raise ParameterError(f"seed={seed}, image_size={image_size}: the seed is 0 or more, the size 16 pixels or more")


def render_scene(
    index: int, *, seed: int = 0, image_size: int = 64, classes: int | Sequence[str] | None = None,
    background_correlation: float = 0.0, variant: str = "original", flat: bool = False,
) -> Scene:  # fmt: skip
    """Draw picture number ``index``; a function of its arguments alone. Its class is ``classes[index % len(classes)]``.

    With probability ``background_correlation`` the scene is the one paired with the class, else any of them. The
    variants keep the object of "original", pixel by pixel, and put it on another background: one drawn for the same
    class ("mixed-same") or for a random other class ("mixed-rand"), as ImageNet-9 does (Xiao et al. 2021, "Noise or
    Signal"). ``flat`` leaves out light, noise and outlines, so that pixels have the colours of the palette.

    Raises:
        ParameterError, DatasetError: a parameter cannot work, or a class is unknown.
    """
    check_parameters(background_correlation, variant, seed, image_size)
    chosen = choose_classes(classes)
    name = chosen[index % len(chosen)]
    # Separate streams, so that the object and the light do not depend on the background.
    front, light = (np.random.default_rng((seed, index, stream)) for stream in (0, 1))
    back = np.random.default_rng((seed, index, 2 + VARIANTS.index(variant)))
    others = [other for other in chosen if other != name]
    host = pick(others, back) if variant == "mixed-rand" and others else name
    canvas = Canvas(image_size)
    scene = paint_background(canvas, host, background_correlation, back, others)
    paint_object(canvas, name, front, front.uniform(0.2, 0.42), 1)
    if front.random() < 0.08:
        foot = front.uniform([15, 90], [85, 104]) * image_size / 100
        height = front.uniform(18, 28) * image_size / 100
        _prop(canvas, pick(EXTRAS, front), front, foot, height, 999)
    canvas.finish()

    elements = canvas.sampled(image_size // 2)
    color, thing, part, subpart, material = (canvas.columns[:, column].take(elements) for column in range(5))
    return Scene(
        canvas.picture(flat=flat, rng=light),
        {"color": [color], "object": [thing], "part": [m for m in (part, subpart) if m.any()], "material": [material]},
        vocabulary()["scene"].index(scene) + 1,
        [number for number, share in enumerate(canvas.shares(5)) if number and share >= TEXTURE_SHARE],
        display_name(name),
        canvas.box(1),
        canvas.columns[:, 6].take(canvas.sampled(image_size)) == 1,
    )
