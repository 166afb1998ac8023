"""CUB-200-2011 in its official layout: tables that belong together by number, and what happens when they do not."""

from pathlib import Path
from typing import Any

import pytest
import torch

from layouts import BIRDS, cub, levels, packed, tarred, write
from neuron_consistency.data.load import dataset_fingerprint, load_images
from neuron_consistency.errors import DatasetError, ParameterError


@pytest.mark.parametrize("archive", ["", "CUB_200_2011.zip", "CUB_200_2011.tgz"])
def test_images_labels_and_boxes_belong_together(tmp_path: Path, archive: str) -> None:
    """Cut to the central square of 60 x 40, ten columns are lost at either side."""
    root = packed(tmp_path / "data", cub(), archive)
    train = load_images("cub200", "train", root=root, image_size=40)
    assert train.classes == ("Laysan Albatross", "Sooty Albatross", "Red winged Blackbird")
    assert train.synsets == ("n02058221", "n02058221", "n01575401")
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    numbers = [1, 2, 4, 5, 6, 8, 9, 10, 12]
    assert [round(level / 20) for level in levels(train)] == numbers
    assert train.boxes is not None
    assert train.boxes.tolist() == [[n, 5, n + 20, 35] for n in numbers]
    small = load_images("cub200", "val", root=root, image_size=20, classes=["Red winged Blackbird"])
    assert (levels(small), small.boxes.tolist()) == ([220], [[6, 2, 16, 18]])  # type: ignore[union-attr]


def test_a_set_that_is_fetched_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(address: str, root: Path, md5: str) -> None:
        tarred(root, cub(), address.rpartition("/")[2])

    monkeypatch.setattr("torchvision.datasets.utils.download_url", fetch)
    assert len(load_images("cub200", "val", root=tmp_path, image_size=16, download=True)) == 3

    def failed(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", failed)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"cub200 cannot be downloaded .no route to host.*data.caltech.edu"):
        load_images("cub200", "val", root=tmp_path / "empty", image_size=16, download=True)


def test_the_folder_itself_may_be_named(tmp_path: Path) -> None:
    root = write(tmp_path, cub()) / "CUB_200_2011"
    assert len(load_images("cub200", "val", root=root, image_size=16)) == 3


def test_boxes_follow_the_images(tmp_path: Path) -> None:
    """Through a subset, and through the prepared arrays of a second call."""
    options: dict[str, Any] = {"root": write(tmp_path / "data", cub()), "image_size": 40, "cache": tmp_path / "cache"}
    first, again = (load_images("cub200", "train", **options) for _ in range(2))
    for name in ("boxes", "labels"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    part = again.subset(torch.tensor([5, 0]))
    assert part.boxes.tolist() == [[8, 5, 28, 35], [1, 5, 21, 35]]  # type: ignore[union-attr]
    with pytest.raises(DatasetError, match=r"cub200 .train. has no masks"):
        part.masks(torch.tensor([0]))


def test_a_set_without_boxes_has_none(tmp_path: Path) -> None:
    files = {n: d for n, d in cub().items() if "bounding" not in n}
    assert load_images("cub200", "train", root=write(tmp_path, files), image_size=16).boxes is None


def test_a_part_of_the_archive_has_the_classes_that_are_there(tmp_path: Path) -> None:
    files = {n: d for n, d in cub().items() if f"images/{BIRDS[1]}" not in n}
    images = load_images("cub200", "train", root=write(tmp_path, files), image_size=16)
    assert images.classes == ("Laysan Albatross", "Red winged Blackbird")
    assert [round(level / 20) for level in levels(images)] == [1, 2, 4, 9, 10, 12]


def test_a_synset_that_two_birds_share_names_neither(tmp_path: Path) -> None:
    """Else asking for an albatross would silently give the last of them."""
    root = write(tmp_path, cub())
    for name in ("n02058221", "albatross"):
        with pytest.raises(DatasetError, match=f"Unknown class '{name}'"):
            load_images("cub200", "train", root=root, image_size=16, classes=[name])
    images = load_images("cub200", "train", root=root, image_size=16, classes=["n01575401", "Sooty Albatross"])
    assert images.classes == ("Red winged Blackbird", "Sooty Albatross")


def test_a_corrupt_image_is_left_out_with_its_box_where_asked(tmp_path: Path) -> None:
    files = cub()
    files[f"CUB_200_2011/images/{BIRDS[0]}/Laysan_Albatross_1.jpg"] = b"no image"
    root = write(tmp_path, files)
    with pytest.raises(DatasetError, match=r"Laysan_Albatross_1.jpg is not a readable image"):
        load_images("cub200", "train", root=root, image_size=40)
    with pytest.warns(UserWarning, match="Laysan_Albatross_1"):
        images = load_images("cub200", "train", root=root, image_size=40, skip_corrupt=True)
    assert images.boxes is not None
    assert images.boxes[:2].tolist() == [[1, 5, 21, 35], [4, 5, 24, 35]]
    assert len(images.boxes) == len(images) == 8


def test_the_fingerprint_follows_every_table(tmp_path: Path) -> None:
    files = cub()

    def found(root: Path) -> str:
        return dataset_fingerprint("cub200", "train", root=root, image_size=16)

    root = write(tmp_path, files)
    prints = {found(root), load_images("cub200", "train", root=root, image_size=16).fingerprint}
    assert len(prints) == 1
    tables = [name for name in files if name.endswith(".txt")]
    for table in tables:
        (root / table).write_bytes(files[table] + b"\n")
        prints.add(found(root))
        (root / table).write_bytes(files[table])
    assert len(prints) == 1 + len(tables)
    with pytest.raises(ParameterError, match="Options that 'cub200' does not have: variant"):
        load_images("cub200", "train", root=root, image_size=16, variant="original")
