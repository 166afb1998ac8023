"""Pictures decoded as PIL decodes them, and fitted."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from neuron_consistency.data.decode import decode_image, fit
from neuron_consistency.errors import DatasetError


@pytest.mark.parametrize(
    ("mode", "kind"), [("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("RGB", "PNG"), ("L", "PNG"), ("P", "PNG")]
)
def test_pictures_of_every_mode_become_rgb(mode: str, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (9, 11, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(file, kind)
    pixels = decode_image(file.getvalue(), "x")
    assert (pixels.shape, pixels.dtype) == ((3, 9, 11), torch.uint8)
    if mode != "CMYK":
        with Image.open(file) as image:
            assert np.array_equal(pixels.permute(1, 2, 0).numpy(), np.array(image.convert("RGB")))


def test_pixels_of_16_bits_keep_their_shades() -> None:
    """Else all above 255 of 65535 is white, as PIL has it, and a network is measured on white squares."""
    shades, file = np.arange(99, dtype=np.uint16).reshape(9, 11) * 600, io.BytesIO()
    Image.fromarray(shades).save(file, "PNG")
    assert np.array_equal(decode_image(file.getvalue(), "x")[0].numpy(), shades // 256)
    file = io.BytesIO()
    Image.fromarray(shades.astype(np.float32)).save(file, "TIFF")
    with pytest.raises(DatasetError, match="x has pixels of 32 bits"):
        decode_image(file.getvalue(), "x")


def test_fit_cuts_the_centre() -> None:
    """A picture wider than tall loses its sides alike, one that fits is untouched."""
    columns = torch.arange(8, dtype=torch.uint8).expand(3, 4, 8)
    assert fit(columns, 4)[0, 0].tolist() == [2, 3, 4, 5]
    square = torch.randint(0, 256, (3, 6, 6), dtype=torch.uint8)
    assert torch.equal(fit(square, 6), square)
    assert fit(square, 5, margin=1.2).shape == (3, 5, 5)
