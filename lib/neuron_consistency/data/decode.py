"""Image files to pixels of a wanted size."""

import io
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torchvision  # noqa: F401  (registers its decoder)
from PIL import Image
from torch import Tensor
from torch.nn import functional

from neuron_consistency.errors import DatasetError

RGB = 3  # torchvision.io.ImageReadMode.RGB


def decode_image(data: bytes, name: str) -> Tensor:
    """An image file as RGB.

    JPEGs go through torchvision's decoder where this torchvision has one: PIL's very pixels in half the time. Its
    Python function is deprecated and warns at each call, so the operator below it is called.

    Shape:
        returns (3, H, W) uint8, of 16 bits the upper eight.

    Raises:
        DatasetError: it is not an image, cut short, or of 32 bits a channel; the message names it.
    """
    decode = getattr(torch.ops.image, "decode_jpeg", None)
    if decode is not None and data[:2] == b"\xff\xd8":
        try:
            pixels: Tensor = decode(torch.frombuffer(bytearray(data), dtype=torch.uint8), RGB)
            return pixels
        except RuntimeError:
            pass  # PIL decides, and says what is wrong
    with opened(data, name) as image:
        if image.mode.startswith(("I", "F")):  # PIL would cut at 255 what is above it
            if not image.mode.startswith("I;16"):
                raise DatasetError(
                    f"{name} has pixels of 32 bits, whose range is not known: convert it to 8 or 16 bits."
                )
            image = Image.fromarray((np.array(image) >> 8).astype(np.uint8))
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def resize(image: Tensor, height: int, width: int, *, interpolation: str = "bilinear") -> Tensor:
    """Bilinear or bicubic resize with antialiasing. Shape: (3, H, W) uint8 to (3, height, width) uint8."""
    if image.shape[1:] == (height, width):
        return image
    return functional.interpolate(image[None], size=(height, width), mode=interpolation, antialias=True)[0]


def fit(image: Tensor, size: int, *, margin: float | None = 1.0, interpolation: str = "bilinear") -> Tensor:
    """Resize so that the short side is `margin * size`, then cut the central square; None squeezes the whole image.

    Shape:
        (3, H, W) uint8 to (3, size, size) uint8.
    """
    if margin is None:
        return resize(image, size, size, interpolation=interpolation)
    height, width = image.shape[1:]
    scale = round(size * margin) / min(height, width)
    tall, wide = max(size, round(height * scale)), max(size, round(width * scale))
    top, left = (tall - size) // 2, (wide - size) // 2
    resized = resize(image, tall, wide, interpolation=interpolation)
    return resized[:, top : top + size, left : left + size]


def fit_map(labels: Image.Image, size: int, *, margin: float | None = 1.0) -> Tensor:
    """A map of numbers, taken through what `fit` does to its image, each pixel to the nearest number.

    Args:
        margin: as of `fit`; None resizes the whole map, whatever its shape.

    Shape:
        (H, W) numbers below 256 to (size, size) uint8.
    """
    width, height = labels.size
    side = (width, height) if margin is None else (min(width, height) / margin,) * 2
    box = ((width - side[0]) / 2, (height - side[1]) / 2, (width + side[0]) / 2, (height + side[1]) / 2)
    return torch.from_numpy(np.array(labels.resize((size, size), Image.Resampling.NEAREST, box=box), dtype=np.uint8))


def fit_points(points: Tensor, sizes: Tensor, *, margin: float = 1.0) -> Tensor:
    """Points in the pixels of images of many sizes, as shares of the square that `fit` cuts; outside it beyond [0, 1].

    Shape:
        points: (N, P, 2) x and y; sizes: (N, 2) width and height; result: (N, P, 2).
    """
    side = sizes.amin(1)[:, None, None] / margin
    return (points - sizes[:, None] / 2) / side + 0.5


@contextmanager
def opened(data: bytes, name: str) -> Iterator[Image.Image]:
    """An image file, for PIL to read within.

    Raises:
        DatasetError: it is not an image, or cut short; the message names it.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            yield image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DatasetError(f"{name} is not a readable image ({error}).") from error
