"""The reader of Broden's format, on a small set whose every label is known."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from neuron_consistency.data.broden import CATEGORIES, BrodenSet
from neuron_consistency.errors import DatasetError, ParameterError

HEADER = "image,split,ih,iw,sh,sw,color,object,part,material,scene,texture\r\n"
INDEX = (
    HEADER
    + "a/1.jpg,train,8,8,4,4,a/1_color.png,a/1_object.png,a/1_part_1.png;a/1_part_2.png,,5,6;7\r\n"
    + "a/2.jpg,train,8,8,4,4,a/1_color.png,,,,,\r\n"
    + "a/3.jpg,val,8,8,4,4,a/1_color.png,a/1_object.png,,,5,\r\n"
)
LABELS = (
    "number,name,category,frequency,coverage,syns\r\n"
    "1,red-c,color(3),3,3.0,\r\n2,dog,object(2),2,1.0,\r\n3,ear,part(1);material(2),3,0.1,\r\n"
    "4,leg,part(1),1,0.1,\r\n5,street-s,scene(2),2,2.0,\r\n6,dotted,texture(1),1,1.0,\r\n7,banded,texture(1),1,1.0,\r\n"
    "300,cat,object(1),1,0.5,\r\n"
)


def png(numbers: np.ndarray) -> bytes:
    pixels = np.stack([numbers % 256, numbers // 256, np.zeros_like(numbers)], axis=2).astype(np.uint8)
    return encoded(pixels, "PNG")


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


OBJECT = np.zeros((4, 4), dtype=np.int64)
OBJECT[:2] = 2
OBJECT[3] = 300


def content() -> dict[str, bytes]:
    """The files of the set by name."""
    ear, leg = np.zeros((4, 4), dtype=np.int64), np.zeros((4, 4), dtype=np.int64)
    ear[0], leg[0, :2] = 3, 4
    photo = encoded(np.full((8, 8, 3), 128, dtype=np.uint8), "JPEG")
    return {
        "index.csv": INDEX.encode(),
        "label.csv": LABELS.encode(),
        **{f"images/a/{n}.jpg": photo for n in (1, 2, 3)},
        "images/a/1_color.png": png(np.ones((4, 4), dtype=np.int64)),
        "images/a/1_object.png": png(OBJECT),
        "images/a/1_part_1.png": png(ear),
        "images/a/1_part_2.png": png(leg),
    }


def write(root: Path, files: dict[str, bytes], *, zipped: bool = False) -> Path:
    if zipped:
        with zipfile.ZipFile(root / "broden-small.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(f"broden-small/{name}", data)
        return root / "broden-small.zip"
    for name, data in files.items():
        (root / "broden-small" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "broden-small" / name).write_bytes(data)
    return root / "broden-small"


def read(broden: BrodenSet) -> None:
    """Everything in the set, images and labels."""
    list(broden.image_batches(2, image_size=8))
    list(broden.label_batches(2))


@pytest.mark.parametrize("zipped", [False, True], ids=["folder", "zip"])
def test_every_label_is_read_as_written(tmp_path: Path, zipped: bool) -> None:
    """Numbers over 255 (the green channel), several maps a category, whole-image labels, categories left empty."""
    write(tmp_path, content(), zipped=zipped)
    broden = BrodenSet.open(tmp_path)
    assert (len(broden), broden.label_size) == (3, (4, 4))
    images = list(broden.image_batches(2, image_size=6))
    assert [places.tolist() for places, _ in images] == [[0, 1], [2]]
    assert images[0][1].shape == (2, 3, 6, 6)
    assert torch.allclose(images[0][1], torch.tensor(128 / 255), atol=2 / 255)
    labels = list(broden.label_batches(2))
    assert [len(batch) for batch in labels] == [2, 1]
    first, second, third = labels[0] + labels[1]
    assert list(first) == ["color", "texture", "scene", "part", "object"]
    assert first["object"].dtype == torch.int32
    assert first["object"].tolist() == [OBJECT.tolist()]
    assert first["part"].shape == (2, 4, 4)
    assert [m[0].tolist() for m in first["part"]] == [[3, 3, 3, 3], [4, 4, 0, 0]]
    assert (first["scene"].tolist(), first["texture"].tolist()) == ([5], [6, 7])
    assert (list(second), list(third)) == (["color"], ["color", "scene", "object"])
    assert broden.labelled("object").tolist() == [True, False, True]
    assert torch.equal(broden.image_labels(2, "object"), first["object"])
    exchange = dict.fromkeys(CATEGORIES, torch.arange(3)) | {"color": torch.tensor([1, 2, 0])}
    (exchanged,) = broden.label_batches(3, exchange=exchange)
    assert [list(own) for own in exchanged] == [list(first), list(second), list(third)]
    assert torch.equal(exchanged[0]["color"], second["color"])
    assert torch.equal(exchanged[0]["object"], first["object"])


def test_labels_are_listed_by_category(tmp_path: Path) -> None:
    labels = BrodenSet.open(write(tmp_path, content())).labels
    ears = labels[labels["name"] == "ear"]
    assert list(zip(ears["number"], ears["category"], strict=True)) == [(3, "part"), (3, "material")]
    assert (len(labels), set(labels["category"])) == (9, set(CATEGORIES))


def test_the_first_images_alone(tmp_path: Path) -> None:
    place = write(tmp_path, content())
    for part in (BrodenSet.open(place, limit=2), BrodenSet.open(place).head(2)):
        assert (len(part), len(part.labels), part.labelled("object").tolist()) == (2, 9, [True, False])
    with pytest.raises(ParameterError, match="limit"):
        BrodenSet.open(place, limit=0)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("images/a/1_object.png", png(np.full((4, 4), 299)), r"a/1_object.png .*object label 299 is not in label.csv"),
        ("images/a/1_object.png", png(np.full((4, 4), 9999)), "object label 9999 is not in label.csv"),
        ("images/a/1_object.png", png(np.zeros((5, 4), dtype=np.int64)), "5x4 pixels, but index.csv says 4x4"),
        ("images/a/1_part_2.png", b"not an image", "1_part_2.png is not a readable image"),
        ("images/a/2.jpg", content()["images/a/2.jpg"][:200], "images/a/2.jpg is not a readable image"),
        ("images/a/2.jpg", None, "images/a/2.jpg cannot be read"),
        ("index.csv", INDEX.replace("a/2.jpg", "../../../secret.jpg").encode(), "leads out of the folder"),
    ],
)
def test_bad_file_is_named(tmp_path: Path, name: str, data: bytes | None, message: str) -> None:
    files = content()
    if data is None:
        del files[name]
    else:
        files[name] = data
    broden = BrodenSet.open(write(tmp_path, files))
    with pytest.raises(DatasetError, match=message) as error:
        read(broden)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("index.csv", b"picture,split\r\n1.jpg,train\r\n", "lacks the columns image, sh, sw"),
        ("index.csv", HEADER.encode(), "has no images"),
        ("index.csv", INDEX.replace("8,8,4,4,a/1_color.png,,", "8,8,5,4,a/1_color.png,,").encode(), "one size"),
        ("label.csv", b"", "not a table"),
        ("label.csv", LABELS.replace("300,cat", "many,cat").encode(), "label.csv"),
    ],
)
def test_bad_table_is_named_at_opening(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        BrodenSet.open(write(tmp_path, content() | {name: data}))


def test_missing_set_says_where_it_looked_and_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"(?s)broden\*.*broden1_224.*NEURON_CONSISTENCY_DATA") as error:
        BrodenSet.open(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_truncated_zip_is_named(tmp_path: Path) -> None:
    archive = write(tmp_path, content(), zipped=True)
    archive.write_bytes(archive.read_bytes()[:-300])
    with pytest.raises(DatasetError, match=r"broden-small.zip is not a complete zip archive"):
        BrodenSet.open(tmp_path)


def test_damaged_zip_member_is_named(tmp_path: Path) -> None:
    """A flipped byte inside an archive is found by its checksum, not decoded into other labels."""
    archive = write(tmp_path, content(), zipped=True)
    with zipfile.ZipFile(archive) as opened:
        start = opened.getinfo("broden-small/images/a/1_color.png").header_offset
    data = bytearray(archive.read_bytes())
    data[start + 90] ^= 255
    archive.write_bytes(bytes(data))
    with pytest.raises(DatasetError, match=r"1_color.png in .* is damaged"):
        read(BrodenSet.open(archive))
