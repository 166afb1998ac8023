"""A small renderer with labels: every pixel knows which element of which composition it shows.

Shapes are painted back to front into one map of element numbers, at a few samples a pixel; colours and labels are
look-ups in the table of elements, so labels agree with the picture exactly. Textures swap an element for its second
colour.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer]
Bytes = npt.NDArray[np.uint8]
T = TypeVar("T")
Pattern = Callable[[Floats, Floats], npt.NDArray[np.bool_]]

COLOURS = ("black", "blue", "brown", "green", "grey", "orange", "pink", "purple", "red", "white", "yellow")
# Shade -> (red, green, blue, place of its basic colour name in COLOURS).
SHADES = {
    name: (int(red), int(green), int(blue), COLOURS.index(basic))
    for name, red, green, blue, basic in map(
        str.split, Path(__file__).with_name("shades.tsv").read_text("utf-8").splitlines()[1:]
    )
}


def _scales(u: Floats, v: Floats) -> npt.NDArray[np.bool_]:
    row = np.floor(v)
    distance = ((u + 0.5 * (row % 2)) % 1 - 0.5) ** 2 + (v - row) ** 2 * 0.8
    return (distance > 0.22) & (distance < 0.62)


def _honeycomb(u: Floats, v: Floats) -> npt.NDArray[np.bool_]:
    v = v / 1.732
    first = np.maximum(abs(u % 1 - 0.5), 0.5 * abs(u % 1 - 0.5) + 1.5 * abs(v % 1 - 0.5))
    u, v = u + 0.5, v + 0.5
    second = np.maximum(abs(u % 1 - 0.5), 0.5 * abs(u % 1 - 0.5) + 1.5 * abs(v % 1 - 0.5))
    return np.minimum(first, second) < 0.37


def _dots(u: Floats, v: Floats, radius: float) -> npt.NDArray[np.bool_]:
    row = np.floor(v)
    return ((u + 0.5 * (row % 2)) % 1 - 0.5) ** 2 + (v - row - 0.5) ** 2 < radius**2


# Name -> where the second colour shows, for coordinates in periods of the pattern.
TEXTURES: dict[str, Pattern] = {
    "banded": lambda u, v: v % 1 < 0.5,
    "blotchy": lambda u, v: np.sin(5.1 * u + 1.7 * np.sin(3.1 * v)) + np.sin(5.7 * v + 1.9 * np.sin(2.3 * u)) > 0.75,
    "chequered": lambda u, v: (np.floor(u) + np.floor(v)) % 2 == 0,
    "crosshatched": lambda u, v: ((u + v) % 1 < 0.24) | ((u - v) % 1 < 0.24),
    "dotted": lambda u, v: _dots(u, v, 0.27),
    "flecked": lambda u, v: (np.sin(np.floor(3 * u) * 12.9898 + np.floor(3 * v) * 78.233) * 43758.5453) % 1 < 0.3,
    "grid": lambda u, v: (u % 1 < 0.18) | (v % 1 < 0.18),
    "honeycombed": _honeycomb,
    "lined": lambda u, v: v % 1 < 0.25,
    "marbled": lambda u, v: abs(np.sin(3 * u + 2.2 * np.sin(2.1 * v + 0.8 * np.sin(1.7 * u)))) < 0.35,
    "polka-dotted": lambda u, v: _dots(u / 1.5, v / 1.5, 0.33),
    "scaly": _scales,
    "striped": lambda u, v: (u + 0.14 * np.sin(3 * v)) % 1 < 0.48,
    "zigzagged": lambda u, v: (v + abs(u % 1 - 0.5)) % 0.7 < 0.32,
}


def pick(options: Sequence[T], rng: np.random.Generator) -> T:
    """One of the options, each as likely as the others."""
    return options[int(rng.integers(len(options)))]


def curve(corners: Floats, *, closed: bool, steps: int = 5) -> Floats:
    """A Catmull-Rom spline through ``corners`` (n, 2), as (m, 2) points."""
    before, after = (np.roll(corners, 1, axis=0), np.roll(corners, -1, axis=0))
    if not closed:
        before[0], after[-1] = corners[0], corners[-1]
    beyond = np.roll(after, -1, axis=0)
    if not closed:
        beyond[-2:] = corners[-1]
    t = np.arange(steps)[:, None, None] / steps
    points = 0.5 * (
        2 * corners + (after - before) * t + (2 * before - 5 * corners + 4 * after - beyond) * t**2
        + (3 * corners - before - 3 * after + beyond) * t**3
    )  # fmt: skip
    points = points.transpose(1, 0, 2).reshape(-1, 2)
    return points if closed else np.concatenate([points[: steps * (len(corners) - 1)], corners[-1:]])


def outline(kind: str, numbers: Sequence[float]) -> Floats:
    """The polygon (n, 2) of one shape; ``kind`` and ``numbers`` as the head of ``scene_objects.tsv`` describes them."""
    if kind == "r":
        x0, y0, x1, y1 = numbers
        return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    if kind == "e":
        x, y, rx, ry, *degrees = numbers
        turn = np.deg2rad(degrees[0] if degrees else 0.0)
        angles = np.arange(20) * (2 * np.pi / 20)
        along, across = rx * np.cos(angles), ry * np.sin(angles)
        sine, cosine = np.sin(turn), np.cos(turn)
        return np.stack([x + along * cosine - across * sine, y + along * sine + across * cosine], 1)
    if kind == "l":
        *path, first, last = numbers
        spine = np.array(path).reshape(-1, 2)
        spine = curve(spine, closed=False) if len(spine) > 2 else spine
        width = np.linspace(first, last, len(spine))[:, None] / 2
        ahead = np.gradient(spine, axis=0)
        ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
        side = np.stack([-ahead[:, 1], ahead[:, 0]], 1) * width
        tips = [spine[-1:] + ahead[-1:] * width[-1] * 0.6, spine[:1] - ahead[:1] * width[0] * 0.6]
        return np.concatenate([spine + side, tips[0], (spine - side)[::-1], tips[1]])
    corners = np.array(numbers).reshape(-1, 2)
    return curve(corners, closed=True) if kind == "b" else corners


@dataclass(frozen=True)
class Weave:
    """How one texture lies on an instance: pixel -> pattern coordinates, and which elements it covers."""

    texture: str
    elements: tuple[int, ...]
    matrix: Floats
    offset: Floats


class Canvas:
    """Collects elements and shapes, then gives the picture and the label maps.

    Shape:
        Pictures are (size, size, 3) uint8; maps are square integer arrays of element numbers or of looked-up columns.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.samples = 2
        self._map = Image.new("I", (size * self.samples,) * 2, 0)
        self._draw = ImageDraw.Draw(self._map)
        self._colours: list[tuple[float, float, float]] = [(0.0, 0.0, 0.0)]
        self._columns: list[tuple[int, ...]] = [(0,) * 8]
        self.weaves: list[Weave] = []  # textures, over elements each followed in the table by its second colour

    def element(self, colour: tuple[float, float, float], columns: tuple[int, ...]) -> int:
        """A new element (its colour; basic colour, object, part, part of part, material, texture, instance, ink)."""
        self._colours.append(colour)
        self._columns.append(columns)
        return len(self._columns) - 1

    def shape(self, points: Floats, element: int) -> None:
        """Paint a polygon whose ``points`` (n, 2) are in pixels."""
        self._draw.polygon((points * self.samples).ravel().tolist(), fill=element)

    def finish(self) -> None:
        """Fix the element map: outlines are read off the bare shapes, then textures are woven in."""
        self.map: Integers = np.array(self._map)
        self.columns: Integers = np.array(self._columns, dtype=np.int32)
        flat, width, ink = self.map.ravel(), len(self.map), self.columns[:, 7]
        edges = []
        for step in (1, width):
            # The last sample of a row is compared with the first of the next: harmless at the border.
            at = np.flatnonzero(flat[step:] != flat[:-step])
            edges.append(at[(ink[flat[at]] | ink[flat[at + step]]) > 0] + step)
        self._edges = np.concatenate(edges)
        owner = np.full(len(self._columns), -1, dtype=np.int8)
        for number, weave in enumerate(self.weaves):
            owner[list(weave.elements)] = number
        woven = owner.take(flat)
        for number, weave in enumerate(self.weaves):
            at = np.flatnonzero(woven == number)
            x = (at % width + 0.5) / self.samples - weave.offset[0]
            y = (at // width + 0.5) / self.samples - weave.offset[1]
            (a, b), (c, d) = weave.matrix
            flat[at] += TEXTURES[weave.texture](a * x + b * y, c * x + d * y)

    def sampled(self, size: int) -> Integers:
        """The (size, size) element map at the centres of so many pixels a side."""
        at = ((np.arange(size) + 0.5) * (len(self.map) / size)).astype(int)
        sampled: Integers = self.map[at[:, None], at]
        return sampled

    def shares(self, column: int) -> Floats:
        """The share of the picture under each value of a column."""
        counts = np.bincount(self.map.ravel(), minlength=len(self.columns))
        return np.bincount(self.columns[:, column], weights=counts) / self.map.size

    def box(self, instance: int) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 in pixels, ends excluded, of what can be seen of an instance; zeros where nothing can."""
        seen = (self.columns[:, 6] == instance).take(self.map)
        x, y = np.flatnonzero(seen.any(axis=0)), np.flatnonzero(seen.any(axis=1))
        if not len(x):
            return 0, 0, 0, 0
        s = self.samples
        return int(x[0]) // s, int(y[0]) // s, int(x[-1]) // s + 1, int(y[-1]) // s + 1

    def picture(self, *, flat: bool, rng: np.random.Generator) -> Bytes:
        """The antialiased picture, with outlines, light that falls off across it and mild noise (``flat``: none)."""
        table = np.zeros((len(self._colours), 4), dtype=np.uint8)
        table[:, :3] = np.clip(np.array(self._colours), 0, 255)
        # A colour is gathered as one number of four bytes: several times as fast as three numbers.
        samples = table.view(np.uint32).ravel().take(self.map)
        if not flat:
            dark = (table // 5 * 2).view(np.uint32).ravel()
            samples.ravel()[self._edges] = dark.take(self.map.ravel()[self._edges])
        image = Image.frombuffer("RGBX", samples.shape, samples, "raw", "RGBX", 0, 1).reduce(self.samples)
        picture: Bytes = np.asarray(image)[:, :, :3].copy()
        if flat:
            return picture
        axis = np.linspace(-0.5, 0.5, self.size, dtype=np.float32)
        slope = rng.uniform(-0.3, 0.3, 2).astype(np.float32)
        light = np.float32(rng.uniform(0.86, 1.08)) + slope[0] * axis + (slope[1] * axis)[:, None]
        lit = rng.standard_normal(picture.shape, dtype=np.float32)
        lit *= np.float32(rng.uniform(2, 6))
        lit += picture * light[:, :, None]
        lit.clip(0, 255, out=lit)
        return lit.astype(np.uint8)
