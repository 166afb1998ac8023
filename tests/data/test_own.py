"""Folders of one's own photographs: every image once, classes by the folders' names, fitted as a network wants them."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import CenterCrop, Compose, Resize

from layouts import WNIDS, levels, photo, tiny, write, zipped
from neuron_consistency.data.load import load_images
from neuron_consistency.data.own import load_folder_set
from neuron_consistency.errors import DatasetError, ParameterError


def photos(*classes: str, each: int = 6, below: str = "") -> dict[str, bytes]:
    """Images whose grey levels tell class and place: 40 c + 5 n."""
    return {f"{below}{name}/{n}.jpg": photo(40 * c + 5 * n) for c, name in enumerate(classes) for n in range(each)}


@pytest.mark.parametrize("layout", ["folder", "zip", "zip of a folder"])
def test_all_images_of_a_folder_without_halves(tmp_path: Path, layout: str) -> None:
    """Else four of five are left out, a name is changed, or what macOS and Jupyter leave there is a class."""
    files = photos("my_thing", "n02123045", "Zebra 2", below="photos/" if layout == "zip of a folder" else "")
    below = "photos/" if layout == "zip of a folder" else ""
    files |= {"__MACOSX/x/._0.jpg": b"", f"{below}my_thing/._0.jpg": b"no image", f"{below}notes.txt": b"mine"}
    if layout == "folder":
        files[".ipynb_checkpoints/0.jpg"] = b""
    place = write(tmp_path / "mine", files) if layout == "folder" else zipped(tmp_path, files, "mine.zip")
    images = load_folder_set(place, image_size=64)
    assert (images.name, images.split) == ("mine", "all")
    assert images.classes == ("Zebra 2", "my_thing", "tabby")
    assert images.synsets == ("", "", "n02123045")
    assert images.labels.tolist() == [c for c in range(3) for _ in range(6)]
    assert np.abs(np.array(levels(images)) - [40 * c + 5 * n for c in (2, 0, 1) for n in range(6)]).max() <= 1
    assert images.names is not None
    assert images.names.tolist()[5:7] == ["Zebra 2/5.jpg", "my_thing/0.jpg"]


def test_halves_and_their_names(tmp_path: Path) -> None:
    """val is what a network is scored on; each half can be asked for; without halves every fifth image is val."""
    files = photos("a", "b", each=2, below="val/") | photos("a", "b", each=3, below="train/")
    place = write(tmp_path / "halves", files)
    assert [len(load_folder_set(place, split=split, image_size=16)) for split in (None, "val", "train")] == [4, 4, 6]
    assert load_folder_set(place, image_size=16).split == "val"
    place = write(tmp_path / "whole", photos("a", "b"))
    assert [len(load_folder_set(place, split=split, image_size=16)) for split in (None, "val", "train")] == [12, 2, 10]


def test_names_go_with_their_images_in_memory_and_in_files(tmp_path: Path) -> None:
    """Else a neuron's top image is called by another one's name. An unreadable one shifts no name."""
    files = photos("a", "b", each=3) | {"a/1.jpg": b"no image"}
    place = write(tmp_path, files)
    with pytest.warns(UserWarning, match=r"a/1\.jpg is not a readable image"):
        held = load_folder_set(place, image_size=64, skip_corrupt=True)
    filed = load_folder_set(place, image_size=64, memory=10)
    assert isinstance(held.pixels, torch.Tensor)
    assert not isinstance(filed.pixels, torch.Tensor)
    assert held.names is not None
    assert held.names.tolist() == ["a/0.jpg", "a/2.jpg", "b/0.jpg", "b/1.jpg", "b/2.jpg"]
    for images in (held, filed):
        chosen = images.subset(torch.tensor([4, 0, 2]))
        assert chosen.names is not None
        numbers = [int(name[2]) for name in chosen.names]
        assert [round(level / 5) % 8 for level in levels(chosen)] == numbers
    with pytest.raises(DatasetError, match=r"a/1\.jpg is not a readable image .* skip_corrupt"):
        load_folder_set(place, image_size=64)
    assert load_images("scenes", "val", image_size=16, classes=2, per_class=1).names is None


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_images_are_fitted_as_torchvision_fits_them(tmp_path: Path, interpolation: str) -> None:
    """The oracle: Resize and CenterCrop, as the metadata of networks are meant."""
    rng = np.random.default_rng(0)
    files = {}
    for name in ("a/0.png", "b/0.png"):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (80, 120, 3), dtype=np.uint8)).save(file, "PNG")
        files[name] = file.getvalue()
    images = load_folder_set(write(tmp_path, files), image_size=56, margin=64 / 56, interpolation=interpolation)
    with Image.open(io.BytesIO(files["a/0.png"])) as image:
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    expected = Compose([Resize(64, InterpolationMode(interpolation), antialias=True), CenterCrop(56)])(pixels)
    assert isinstance(images.pixels, torch.Tensor)
    assert torch.equal(images.pixels[0], expected)
    plain = load_folder_set(tmp_path, image_size=56)
    assert plain.fingerprint != images.fingerprint


def test_images_of_several_sizes_and_modes(tmp_path: Path) -> None:
    """Grey, palette, with alpha, CMYK, 16 bit, as another program wrote them: all are read as RGB."""
    modes = {"L": "PNG", "P": "PNG", "RGBA": "PNG", "CMYK": "JPEG", "I;16": "PNG", "1": "BMP", "LA": "WEBP"}
    files: dict[str, bytes] = {}
    for number, (mode, kind) in enumerate(modes.items()):
        file = io.BytesIO()
        base = Image.new("L" if mode != "I;16" else mode, (20 + 7 * number, 50), 100)
        (base if mode == "I;16" else base.convert(mode)).save(file, kind)
        files |= {f"{c}/{number}.{kind}": file.getvalue() for c in "ab"}
    images = load_folder_set(write(tmp_path, files), image_size=16)
    assert images.batch(torch.arange(14), torch.device("cpu"))[0].shape == (14, 3, 16, 16)


def test_sets_of_the_book_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The crop and the interpolation reach photographs in folders of classes, and rename none of the book's sets."""
    files = {f"{split}/{w}/{n}.JPEG": photo(9) for split in ("train", "val") for w in WNIDS for n in (1, 2)}
    write(tmp_path / "imagenet-small", files)
    write(tmp_path, tiny())
    monkeypatch.setenv("NEURON_CONSISTENCY_DATA", str(tmp_path))
    book = load_images("imagenet", "val", image_size=32)
    found = [load_folder_set("imagenet", image_size=32, margin=margin, per_class=1) for margin in (1.0, 1.2)]
    assert [images.classes for images in found] == [book.classes] * 2
    assert found[0].fingerprint != found[1].fingerprint
    named = load_folder_set("tiny-imagenet", image_size=64, margin=1.2, split="train")
    assert named.fingerprint == load_images("tiny-imagenet", "train", image_size=64).fingerprint
    with pytest.raises(DatasetError, match="scenes-multilabel has images of several labels"):
        load_folder_set("scenes-multilabel", image_size=16, per_class=1)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a/0.jpg": photo(1)}, r"has one class, a: at least two are needed"),
        ({"0.jpg": photo(1), "1.jpg": photo(2)}, r"has no images of any class"),
        ({"a/0.jpg": photo(1), "b/notes.txt": b""}, r"has no images of b\."),
        ({"a/notes.txt": b"", "b/0.gif": b""}, r"has no images of a, b\."),
        ({"train/a/0.jpg": photo(1), "train/b/0.jpg": photo(1), "val/a/0.jpg": photo(1)}, r"has no val images of b"),
        (
            {"a/0.jpg": photo(1), "b/0.jpg": photo(1), "synsets.csv": b"a,zzzzz\n"},
            r"'zzzzz' has no synset.*synsets\.csv",
        ),
    ],
)
def test_folders_that_are_refused(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        load_folder_set(write(tmp_path, files), image_size=16)


def test_arguments_that_are_refused(tmp_path: Path) -> None:
    place = write(tmp_path, photos("a", "b"))
    with pytest.raises(ParameterError, match=r"margin=0\.5, interpolation='bilinear', split=None: use a margin of at"):
        load_folder_set(place, image_size=16, margin=0.5)
    with pytest.raises(ParameterError, match="interpolation='nearest'"):
        load_folder_set(place, image_size=16, interpolation="nearest")
    with pytest.raises(ParameterError, match=r"split='test': use .* and train, val or None"):
        load_folder_set(place, image_size=16, split="test")
    with pytest.raises(ParameterError, match=r"no folder or zip|Unknown dataset '.*nowhere'"):
        load_folder_set(tmp_path / "nowhere", image_size=16)
    (tmp_path / "photo.jpg").write_bytes(photo(1))
    with pytest.raises(DatasetError, match=r"photo\.jpg is not a complete zip archive"):
        load_folder_set(tmp_path / "photo.jpg", image_size=16)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    """File systems hold any bytes: such an image is read, and its name can be written to a table."""
    place = write(tmp_path, photos("a", "b", each=1))
    (place / "a" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(photo(7))
    images = load_folder_set(place, image_size=16)
    assert images.names is not None
    assert images.names.tolist() == ["a/0.jpg", "a/caf\ufffd.jpg", "b/0.jpg"]


def test_every_kind_of_picture_is_taken(tmp_path: Path) -> None:
    """Else pictures of some kinds are left out of the numbers without a word."""
    kinds = ("jpg", "jpeg", "png", "bmp", "webp", "ppm", "pgm", "tif", "TIFF")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for kind in kinds:
            Image.new("L" if kind == "pgm" else "RGB", (9, 9)).save(tmp_path / name / f"0.{kind}")
    assert len(load_folder_set(tmp_path, image_size=8)) == 2 * len(kinds)
