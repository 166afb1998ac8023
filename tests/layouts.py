"""Datasets written small, in the layouts of their archives."""

import io
import tarfile
import zipfile
from pathlib import Path

import torch
from PIL import Image

from neuron_consistency.data.image_set import ImageSet


def photo(value: int, size: tuple[int, int] = (64, 64), kind: str = "JPEG", mode: str = "RGB") -> bytes:
    """An image file of one grey level."""
    file = io.BytesIO()
    Image.new(mode, size, value if mode == "L" else (value, value, value)).save(file, kind, quality=95)
    return file.getvalue()


def write(root: Path, files: dict[str, bytes]) -> Path:
    """The files in a folder."""
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def zipped(root: Path, files: dict[str, bytes], name: str) -> Path:
    """The files in a zip archive in a folder."""
    with zipfile.ZipFile(root / name, "w") as archive:
        for member, data in files.items():
            archive.writestr(member, data)
    return root / name


def tarred(root: Path, files: dict[str, bytes], name: str) -> Path:
    """The files in a tar archive in a folder, compressed as its name says."""
    with tarfile.open(root / name, "w:gz" if name.endswith("gz") else "w") as archive:
        for member, data in files.items():
            entry = tarfile.TarInfo(member)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return root / name


def packed(root: Path, files: dict[str, bytes], name: str) -> Path:
    """A folder that holds the files, or the archive of that name with them."""
    root.mkdir(parents=True, exist_ok=True)
    if not name:
        return write(root, files)
    (zipped if name.endswith("zip") else tarred)(root, files, name)
    return root


def levels(images: ImageSet) -> list[int]:
    """The mean grey level of each image."""
    return [round(255 * float(batch.mean())) for _, batch, _ in images.batches(1, device=torch.device("cpu"))]
