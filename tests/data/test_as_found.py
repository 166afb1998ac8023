"""Sets of images as people have them: read as their owner means them, or refused by name and with the cure."""

from __future__ import annotations

import io
import os
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from layouts import devkit, multilabel, photo, tiny, write, zipped
from neuron_consistency.data.archive import Files, unpacked
from neuron_consistency.data.broden import BrodenSet
from neuron_consistency.data.load import load_images
from neuron_consistency.errors import DatasetError
from neuron_consistency.taxonomy import resolve

TWO = {f"{name}/{n}.jpg": photo(9) for name in ("tabby.n.01", "bus.n.01") for n in range(5)}
BASE = "tiny-imagenet-200"
STRAYS = (
    ".DS_Store",
    "Thumbs.db",
    "desktop.ini",
    "._0.jpg",
    "__MACOSX/._0.jpg",
    "@eaDir/0.jpg",
    ".ipynb_checkpoints/0.jpg",
)


def loaded(name: str, root: Path, split: str = "train", **options: object) -> int:
    return len(load_images(name, split, root=root, image_size=32, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("stray", STRAYS)
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_what_systems_leave_beside_images_is_passed_over(tmp_path: Path, stray: str, packed: bool) -> None:
    """Else every folder that a Mac or a NAS has seen is refused, or has a class too many."""
    files = TWO | {stray: b"\0\5\x16\7", f"bus.n.01/{stray}": b"\0\5\x16\7"}
    files = {f"train/{name}": data for name, data in files.items()}
    place = zipped(tmp_path, files, "x.zip") if packed else write(tmp_path / "x", files)
    images = load_images(str(place), "train", image_size=32)
    assert (len(images), images.num_classes) == (10, 2)


def test_links_are_followed_or_named(tmp_path: Path) -> None:
    """Else a link that leads nowhere is a traceback, and one in a circle lists for ever."""
    write(tmp_path / "x", TWO)
    os.symlink("/nowhere/y.jpg", tmp_path / "x" / "bus.n.01" / "zz.jpg")
    with pytest.raises(DatasetError, match=r"zz\.jpg cannot be read .*link that leads nowhere"):
        load_images(str(tmp_path / "x"), "train", image_size=32)
    with pytest.warns(UserWarning, match=r"Left out: bus\.n\.01/zz\.jpg"):
        assert loaded("folder", tmp_path / "x", skip_corrupt=True) == 8
    os.symlink(tmp_path / "x", tmp_path / "x" / "bus.n.01" / "round")
    with pytest.raises(DatasetError, match="link to a folder that it lies in"):
        loaded("folder", tmp_path / "x")


def test_file_names_that_are_no_utf8_are_read(tmp_path: Path) -> None:
    write(tmp_path, TWO)
    (tmp_path / "bus.n.01" / os.fsdecode(b"Bild-\xe4.jpg")).write_bytes(photo(7))
    assert loaded("folder", tmp_path) == 9


def pack(path: Path, method: int, change: Callable[[bytearray], None] = lambda data: None) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in TWO.items():
            archive.writestr(name, data)
    changing = bytearray(path.read_bytes())
    change(changing)
    path.write_bytes(changing)
    return path


def set_bytes(data: bytearray, central: int, local: int, value: Callable[[int], int]) -> None:
    for mark, at in ((b"PK\1\2", central), (b"PK\3\4", local)):
        for found in re.finditer(re.escape(mark), bytes(data)):
            data[found.start() + at] = value(data[found.start() + at])


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zips_of_every_method_of_the_standard_library_are_read(tmp_path: Path, method: int) -> None:
    files = Files(pack(tmp_path / "x.zip", method))
    assert {name: files.read(name) for name in files.names()} == TWO


@pytest.mark.parametrize(
    ("central", "local", "value", "says"),
    [
        (10, 8, lambda _: 9, "packed by Deflate64: pack the archive again by Deflate"),
        (8, 6, lambda flags: flags | 1, "encrypted: pack the archive again without a password"),
    ],
)
def test_zips_that_are_not_read_say_why(
    tmp_path: Path, central: int, local: int, value: Callable[[int], int], says: str
) -> None:
    """Else they pass for damaged, and their owner fetches them again."""
    path = pack(tmp_path / "x.zip", zipfile.ZIP_DEFLATED, lambda data: set_bytes(data, central, local, value))
    with pytest.raises(DatasetError, match=says):
        Files(path).read(Files(path).names()[0])


def test_names_in_zips_are_read_as_they_were_meant(tmp_path: Path) -> None:
    """As archives of Windows and of macOS have them: backslashes, and UTF-8 that is not marked as such."""
    with zipfile.ZipFile(tmp_path / "back.zip", "w") as archive:
        for name in ("a\\1.txt", "a\\b\\2.txt"):
            archive.writestr(zipfile.ZipInfo(name), b"x")
    assert Files(tmp_path / "back.zip").names() == ["a/1.txt", "a/b/2.txt"]
    with zipfile.ZipFile(tmp_path / "mark.zip", "w") as archive:
        archive.writestr("Schäferhund/1.txt", b"x")
    data = bytearray((tmp_path / "mark.zip").read_bytes())
    set_bytes(data, 9, 7, lambda flags: flags & ~8)
    (tmp_path / "mark.zip").write_bytes(data)
    assert Files(tmp_path / "mark.zip").folders() == ["Schäferhund"]


def test_a_member_that_declares_little_inflates_to_no_more(tmp_path: Path) -> None:
    """Else a kilobyte takes all memory."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.txt", bytes(10_000_000))
    for size in (b"\0\0\0\0", b"\xff\xff\xff\x7f"):
        data = bytearray((tmp_path / "x.zip").read_bytes())
        at = data.index(b"PK\1\2") + 24
        data[at : at + 4] = size
        (tmp_path / "y.zip").write_bytes(data)
        with pytest.raises(DatasetError, match=r"a/1\.txt in .* (is damaged|has 2\.0 GiB)"):
            Files(tmp_path / "y.zip").read("a/1.txt")


def test_a_tar_that_ends_between_two_members_is_not_whole(tmp_path: Path) -> None:
    """Python's tarfile takes such an end for the end: half of the set would be missing in silence."""
    with tarfile.open(whole := tmp_path / "whole.tar", "w") as archive:
        for name, data in TWO.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        second = archive.getmembers()[5].offset
    (tmp_path / "x.tar").write_bytes(whole.read_bytes()[:second])
    with pytest.raises(DatasetError, match=r"x\.tar is not a complete tar archive"):
        unpacked(tmp_path / "x.tar")
    assert len(Files(unpacked(whole)).names()) == len(TWO)


@pytest.mark.parametrize("inner", ["", "images/"])
def test_tiny_imagenet_sorted_by_class_is_read(tmp_path: Path, inner: str) -> None:
    """As many prepare it for other programs: val/<wnid>/, and train/<wnid>/ without images/."""
    files = {name: data for name, data in tiny().items() if "/val/" not in name and "boxes" not in name}
    files = {name.replace("/images/", f"/{inner}"): data for name, data in files.items()}
    files |= {name.replace("/train/", "/val/"): data for name, data in files.items() if "/train/" in name}
    write(tmp_path, files)
    assert loaded("tiny-imagenet", tmp_path, "val") == loaded("tiny-imagenet", tmp_path, "train") == 12


def test_lists_with_a_mark_of_their_encoding_lose_no_row(tmp_path: Path) -> None:
    """Windows editors write it; the first class would vanish without a word."""
    files = tiny() | {f"{BASE}/{name}": b"\xef\xbb\xbf" + tiny()[f"{BASE}/{name}"].replace(b"\n", b"\r\n") for name in
                      ("wnids.txt", "val/val_annotations.txt")}  # fmt: skip
    write(tmp_path, files)
    assert loaded("tiny-imagenet", tmp_path, "val") == 8
    write(tmp_path, {f"{BASE}/wnids.txt": "n02123045\nä".encode("latin-1")})
    with pytest.raises(DatasetError, match=r"wnids\.txt is no text in UTF-8"):
        loaded("tiny-imagenet", tmp_path)


def test_a_class_called_train_is_a_class(tmp_path: Path) -> None:
    """Railway trains are a class of VOC and COCO."""
    write(tmp_path, TWO | {f"train/{n}.jpg": photo(9) for n in range(5)} | {"synsets.csv": b"train,train.n.01\n"})
    assert load_images("folder", "val", root=tmp_path, image_size=32).classes == ("bus.n.01", "tabby.n.01", "train")


CRANES = ["n02012849", "n03126707", "n02113186", "n02963159"]  # bird, machine; the dog Cardigan, the garment cardigan


@pytest.fixture
def cranes(tmp_path: Path) -> Path:
    return write(tmp_path, {f"imagenet/val/{wnid}/1.JPEG": photo(9) for wnid in CRANES})


@pytest.mark.parametrize(
    ("asked", "found"),
    [("Cardigan", "n02113186"), ("cardigan", "n02963159"), ("crane (n02012849)", "n02012849")],
)
def test_a_shown_name_finds_its_own_class(cranes: Path, asked: str, found: str) -> None:
    assert load_images("imagenet", "val", root=cranes, image_size=32, classes=[asked]).synsets == (found,)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (["crane"], "'crane' of imagenet may be each of n02012849"),
        (["CARDIGAN"], "may be each of"),
        (["cardigan", "n02963159"], "'cardigan' and 'n02963159' of imagenet are one"),
        (["x" * 100_000], "Unknown class 'x{60}' of"),
    ],
)
def test_a_name_of_several_classes_or_of_none_is_refused(cranes: Path, asked: list[str], says: str) -> None:
    with pytest.raises(DatasetError, match=says):
        loaded("imagenet", cranes, "val", classes=asked)


def test_a_name_of_any_length_is_refused_at_once() -> None:
    """A hundred thousand letters were compared with all of WordNet for 18 seconds."""
    with pytest.raises(DatasetError, match=r"The class 'x{60}' has no synset"):
        resolve("x" * 100_000)


def test_images_that_are_left_out_are_counted(tmp_path: Path) -> None:
    """Else a user measures three of ten photographs and does not know."""
    write(tmp_path, TWO | {f"bus.n.01/{n}.{kind}": photo(9) for n in range(3) for kind in ("GIF", "heic")})
    with pytest.warns(UserWarning, match=r"3 of \.GIF, 3 of \.heic"):
        assert loaded("folder", tmp_path) == 8


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (b"<name>dog</name>", b"<name> Dog\n</name>", ""),
        (b"<xmin>21</xmin>", b"<xmin>41</xmin>", ""),
        (b"<name>dog</name>", b"<name>dgo</name>", "'dgo' is none of its classes"),
        (b"<width>40</width>", b"<width>nan</width>", "not a finite number"),
        (b"<folder>VOC</folder>", b"<folder>VOC2012</folder>", "it is of voc2012, not of voc2007"),
        (b"<annotation>", b'<?xml version="1.0" encoding="x-none"?><annotation>', "unknown encoding"),
    ],
)
def test_annotations_of_other_tools_are_read_or_refused(tmp_path: Path, before: bytes, after: bytes, says: str) -> None:
    """An object whose name had a blank was dropped in silence, and its image labelled as without it."""
    files = devkit("VOC2007", "trainval")
    name = next(name for name in files if name.endswith("000005.xml"))
    write(tmp_path, files | {name: files[name].replace(before, after)})
    if says:
        with pytest.raises(DatasetError, match=rf"000005\.xml is not an annotation of voc2007 .*{says}"):
            multilabel("voc2007", "train", root=tmp_path, image_size=32)
        return
    images = multilabel("voc2007", "train", root=tmp_path, image_size=32)
    assert int(images.labels[0, images.classes.index("dog")]) == 1
    assert images.boxes is not None
    assert bool((images.boxes[:, :2] <= images.boxes[:, 2:]).all())


def test_images_in_capitals_are_found(tmp_path: Path) -> None:
    write(tmp_path, {name.replace(".jpg", ".JPG"): data for name, data in devkit("VOC2007", "trainval").items()})
    assert len(multilabel("voc2007", "train", root=tmp_path, image_size=32)) == 3


def test_of_two_sets_in_one_folder_none_is_taken(tmp_path: Path) -> None:
    """Else train is read from one of them and val from the other."""
    for name in ("imagenet-100", "imagenet1k"):
        write(tmp_path, {f"{name}/val/n02123045/1.JPEG": photo(9)})
    with pytest.raises(DatasetError, match="several such sets: imagenet-100, imagenet1k"):
        loaded("imagenet", tmp_path, "val")
    assert loaded("imagenet", tmp_path / "imagenet1k", "val") == 1


@pytest.mark.parametrize("number", ["-5", "65536", "9" * 30, ""])
def test_a_label_number_is_bounded_before_anything_is_made_of_its_size(tmp_path: Path, number: str) -> None:
    """A number of nine digits made a table of as many rows."""
    index = b"image,sh,sw,object\na.png,8,8,1\n"
    write(tmp_path, {"index.csv": index, "label.csv": f"number,name,category\n{number},cat,object(1)\n".encode()})
    with pytest.raises(DatasetError, match=r"label\.csv"):
        BrodenSet.open(tmp_path)
