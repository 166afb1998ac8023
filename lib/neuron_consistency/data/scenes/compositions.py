"""The compositions of the rendered scenes, read from ``scene_objects.tsv`` and ``scene_layouts.tsv`` beside it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from neuron_consistency.data.scenes.drawing import COLOURS, SHADES, TEXTURES, Canvas, Floats, Weave, outline, pick

TABLES = (Path(__file__).with_name("scene_objects.tsv"), Path(__file__).with_name("scene_layouts.tsv"))
PLAIN = 0.5  # of the fills that may bear any texture, bear none
HAZE = 0.2


@dataclass(frozen=True)
class Fill:
    """What fills a shape: a colour (or slot), a texture in a second colour, a tone that lightens or darkens both."""

    colour: str
    texture: str = ""
    second: str = ""
    period: float = 12.0
    degrees: float = 0.0
    tone: float = 1.0


@dataclass(frozen=True)
class Shape:
    """One polygon with its labels; ``joint`` is the place of its joint in the composition's list, -1 for none."""

    object: str
    part: str
    subpart: str
    material: str
    fill: Fill
    points: Floats
    joint: int


@dataclass(frozen=True)
class Put:
    """Up to ``count`` instances of a prop, feet and height within the ranges (percent of the canvas)."""

    prop: str
    count: int
    x: tuple[float, float]
    y: tuple[float, float]
    height: tuple[float, float]


@dataclass(frozen=True)
class Composition:
    """A class, a prop or a scene: palettes, joints and shapes; ``points`` holds the points of all shapes in turn."""

    name: str
    wnid: str
    branch: str
    scene: str
    palettes: tuple[dict[str, tuple[str, ...]], ...]
    joints: Floats
    items: tuple[Shape | Put, ...]
    shapes: tuple[Shape, ...]
    points: Floats
    joint_of: np.ndarray
    starts: np.ndarray
    low: Floats
    high: Floats
    area: float


def _fill(text: str) -> Fill:
    text, _, tone = text.partition("*")
    colour, texture, second, period, degrees, *_ = [*text.split(":"), "", "", "", ""]
    return Fill(colour, texture, second, float(period or 12), float(degrees or 0), float(tone or 1))


def _joint_name(label: str) -> str:
    return "#" + label.split("#")[1] if "#" in label else label.split("/")[0]


def _area(polygons: Sequence[Floats], low: Floats, high: Floats) -> float:
    """The area that shapes cover together, in their own units (painted on a raster of 2 samples a unit)."""
    width, height = (2 * (high - low)).astype(int) + 1
    raster = Image.new("1", (int(width), int(height)))
    for polygon in polygons:
        ImageDraw.Draw(raster).polygon(((polygon - low) * 2).ravel().tolist(), fill=1)
    return float(np.asarray(raster).sum()) / 4


def _composition(head: list[str], lines: list[list[str]]) -> Composition:
    kind, name, wnid, branch, scene = [*head, "", "", ""][:5]
    palettes = tuple(
        {slot: tuple(choice.split("|")) for slot, choice in (word.split("=") for word in line[1:])}
        for line in lines if line[0] == "palette"
    )  # fmt: skip
    joints = [line for line in lines if line[0] == "joint"]
    names = [_joint_name(line[1]) for line in joints]
    items: list[Shape | Put] = []
    for line in lines:
        if line[0] == "put":
            values = [float(word) for word in line[3:]]
            ranges = list(zip(values[::2], values[1::2], strict=True))
            items.append(Put(line[1], int(line[2]), *ranges))
        elif line[0] not in ("palette", "joint"):
            label, material, fill, shape, *numbers = line
            joint = _joint_name(label)
            thing, part, subpart = name, *[*label.split("#")[0].split("/"), ""][:2]
            if kind == "scene":
                thing, part = [*part.split("."), ""][:2]
            polygon = outline(shape[0], [float(number) for number in numbers])
            for points in [polygon, polygon * (-1, 1)] if shape.endswith("+") else [polygon]:
                index = names.index(joint) if joint in names else -1
                items.append(Shape(thing, part, subpart, material, _fill(fill), points, index))
    shapes = tuple(item for item in items if isinstance(item, Shape))
    points = np.concatenate([shape.points for shape in shapes])
    low, high = points.min(axis=0), points.max(axis=0)
    sizes = [len(shape.points) for shape in shapes]
    return Composition(
        name, wnid, branch, scene, palettes,
        np.array([[float(value) for value in line[2:5]] for line in joints]).reshape(-1, 3),
        tuple(items), shapes, points, np.repeat([shape.joint for shape in shapes], sizes),
        np.cumsum(sizes[:-1]), low, high, _area([shape.points for shape in shapes], low, high),
    )  # fmt: skip


@cache
def compositions() -> dict[str, dict[str, Composition]]:
    """Kind ("object", "prop", "scene") -> name -> composition."""
    found: dict[str, dict[str, Composition]] = {"object": {}, "prop": {}, "scene": {}}
    blocks: list[list[list[str]]] = []
    for line in (line for table in TABLES for line in table.read_text("utf-8").splitlines()):
        if line and not line.startswith("#"):
            words = line.split()
            if words[0] in found:  # the head of a composition
                blocks.append([])
            blocks[-1].append(words)
    for head, *lines in blocks:
        found[head[0]][head[1]] = _composition(head, lines)
    return found


def names_in(drawn: Iterable[Composition]) -> dict[str, tuple[str, ...]]:
    """Broden's categories, and the names that these compositions (in any scene) can bring of each, in order."""
    shapes = [shape for composition in drawn for shape in composition.shapes]
    names = {
        "color": COLOURS,
        "texture": TEXTURES,
        "material": [shape.material for shape in shapes if shape.material != "-"],
        "scene": compositions()["scene"],
        "part": [name for shape in shapes for name in (shape.part, shape.subpart)],
        "object": [shape.object for shape in shapes],
    }
    return {category: tuple(dict.fromkeys(name for name in own if name)) for category, own in names.items()}


@cache
def vocabulary() -> dict[str, tuple[str, ...]]:
    """All names of each category; place + 1 is the number on a canvas (0: none)."""
    return names_in(composition for kind in compositions().values() for composition in kind.values())


@cache
def _numbers() -> dict[str, dict[str, int]]:
    return {category: {name: place + 1 for place, name in enumerate(names)} for category, names in vocabulary().items()}


class Painter:
    """Paints one instance of a composition on a canvas: draws its colours, poses it, registers its elements.

    ``matrix`` (2, 2) and ``offset`` (2,) take the composition's coordinates to pixels.
    """

    def __init__(
        self, canvas: Canvas, composition: Composition, rng: np.random.Generator, matrix: Floats, offset: Floats,
        *, instance: int, wobble: float = 0.0,
    ) -> None:  # fmt: skip
        self.canvas, self.composition, self.rng = canvas, composition, rng
        self.matrix, self.offset, self.instance = matrix, offset, instance
        self.slots: dict[str, str] = {}
        self.colours: dict[str, tuple[float, float, float, int]] = {}
        self.weaves: dict[tuple[str, float, float], list[int]] = {}
        self.textures: dict[tuple[str, str, float], str] = {}
        used: set[int] = set()
        for slot, choice in pick(composition.palettes, rng).items() if composition.palettes else ():
            self.slots[slot] = pick([name for name in choice if SHADES[name][3] not in used] or choice, rng)
            used.add(SHADES[self.slots[slot]][3])
        points = composition.points
        if len(composition.joints):
            # The last row is the joint of shapes that have none (index -1): it does not turn.
            joints = np.concatenate([composition.joints, np.zeros((1, 3))])
            turn = np.deg2rad(joints[:, 2]) * rng.uniform(-1, 1, len(joints))
            pivot = joints[composition.joint_of, :2]
            sine, cosine = np.sin(turn)[composition.joint_of], np.cos(turn)[composition.joint_of]
            x, y = (points - pivot).T
            points = pivot + np.stack([x * cosine - y * sine, x * sine + y * cosine], 1)
        if wobble:
            phase, rate = rng.uniform(0, 6.28, 2), rng.uniform(0.02, 0.05, 2)
            points = points + wobble * np.sin(points[:, ::-1] * rate + phase)
        self.pixels = np.split(points @ matrix.T + offset, composition.starts)

    def _colour(self, name: str) -> tuple[float, float, float, int]:
        if name not in self.colours:
            choice = self.slots.get(name, name).split("|")
            red, green, blue, basic = SHADES[pick(choice, self.rng) if len(choice) > 1 else choice[0]]
            shift = self.rng.uniform(-12, 12, 3)
            self.colours[name] = (red + shift[0], green + shift[1], blue + shift[2], basic)
        return self.colours[name]

    def _texture(self, fill: Fill) -> str:
        if fill.texture != "?":
            return fill.texture
        key = (fill.colour, fill.second, fill.period)
        if key not in self.textures:
            self.textures[key] = "" if self.rng.random() < PLAIN else pick([*TEXTURES], self.rng)
        return self.textures[key]

    def shape(self, place: int) -> None:
        """Paint the composition's shape at ``place``."""
        shape, number = self.composition.shapes[place], _numbers()
        fill, texture = shape.fill, self._texture(shape.fill)
        ink = int(self.instance > 0)

        def element(name: str) -> int:
            *shade, basic = self._colour(name)
            # Regions of a scene lie in haze, so that what stands before them stands out.
            keep, haze = (1.0, 0.0) if self.instance else (1 - HAZE, HAZE * 150)
            red, green, blue = (value * fill.tone * keep + haze for value in shade)
            return self.canvas.element(
                (red, green, blue),
                (basic + 1, number["object"][shape.object], number["part"].get(shape.part, 0),
                 number["part"].get(shape.subpart, 0), number["material"].get(shape.material, 0),
                 number["texture"].get(texture, 0), self.instance, ink),
            )  # fmt: skip

        first = element(fill.colour)
        if texture:
            element(fill.second)
            self.weaves.setdefault((texture, fill.period, fill.degrees), []).append(first)
        self.canvas.shape(self.pixels[place], first)

    def paint(self) -> None:
        """Paint every shape."""
        for place in range(len(self.composition.shapes)):
            self.shape(place)
        self.finish()

    def finish(self) -> None:
        """Register the textures once every shape is painted."""
        for (texture, period, degrees), elements in self.weaves.items():
            turn = np.deg2rad(degrees + self.rng.uniform(-6, 6))
            rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
            inverse = rotation @ np.linalg.inv(self.matrix) / period
            self.canvas.weaves.append(Weave(texture, tuple(elements), inverse, self.offset))
