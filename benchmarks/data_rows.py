"""Rows of the benchmark table about reading: Tiny ImageNet from its archive against Pillow and a DataLoader."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.functional import pil_to_tensor

from neuron_consistency.data.load import load_images
from pairs import Pair, Row, Size

WORKERS = 2


class _Zipped(Dataset[Tensor]):
    """The usual way: Pillow opens a member of the archive, each worker with a handle of its own."""

    def __init__(self, archive: Path, names: list[str]) -> None:
        self.archive, self.names = archive, names
        self.opened: zipfile.ZipFile | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, place: int) -> Tensor:
        self.opened = self.opened or zipfile.ZipFile(self.archive)
        with Image.open(io.BytesIO(self.opened.read(self.names[place]))) as image:
            pixels: Tensor = pil_to_tensor(image.convert("RGB"))
            return pixels


def archive(size: Size) -> Pair:
    """Some training images of every class, decoded from the zip."""
    assert size.data is not None
    path, each = next(Path(size.data).glob("tiny-imagenet*.zip")), size.of(20)
    by_class: dict[str, list[str]] = {}
    with zipfile.ZipFile(path) as opened:
        for name in sorted(opened.namelist()):
            if "/train/" in name and name.endswith(".JPEG"):
                by_class.setdefault(name.split("/train/")[1].split("/")[0], []).append(name)
    names = [name for of_class in by_class.values() for name in sorted(of_class)[:each]]

    def ours() -> Tensor:
        pixels = load_images("tiny-imagenet", "train", root=path, per_class=each, image_size=64).pixels
        assert isinstance(pixels, Tensor)
        return pixels

    def theirs() -> Tensor:
        loader = DataLoader(_Zipped(path, names), batch_size=128, num_workers=WORKERS)
        return torch.cat(list(loader))

    def difference() -> float:
        """Images that only one of them has: their order differs."""
        one, other = ({image.numpy().tobytes() for image in pixels.contiguous()} for pixels in (ours(), theirs()))
        return float(len(one ^ other))

    return Pair(ours, theirs, f"{len(names)} images of 64 px", difference=difference)


def rows(size: Size) -> list[Row]:
    """Nothing to read without photographs."""
    needs = "" if size.data else "photographs (DATA=)"
    return [Row("reading Tiny ImageNet from its zip", f"Pillow, {WORKERS} workers", 1.5, archive, ("cpu",), needs)]
