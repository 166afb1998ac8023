"""Pascal VOC in its official layout: several labels an image, boxes and masks, whole images squeezed into a square."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from layouts import NAMED, devkit, levels, multilabel, packed, photo, segmentation, write
from neuron_consistency.data.load import dataset_fingerprint, load_images
from neuron_consistency.errors import DatasetError

CPU = torch.device("cpu")
CAT, DOG, PERSON = 7, 11, 14  # places among the 20 classes


@pytest.mark.parametrize("archive", ["", "VOCdevkit.zip", "VOCtrainval_06-Nov-2007.tar"])
def test_labels_boxes_and_owners_belong_together(tmp_path: Path, archive: str) -> None:
    """The image of a difficult cat alone shows nothing that counts; a part's name and box are not the object's."""
    root = packed(tmp_path / "data", devkit("VOC2007", "trainval"), archive)
    train = multilabel("voc2007", "train", root=root, image_size=20)
    assert (len(train), train.num_classes, train.image_size) == (3, 20, 20)
    assert (train.classes[DOG], train.synsets[DOG]) == ("dog", "n02084071")
    assert train.labels.dtype == torch.float32
    assert train.labels.nonzero().tolist() == [[0, DOG], [0, PERSON], [1, PERSON], [2, CAT]]
    assert levels(train) == [10, 20, 30]
    assert train.owners.tolist() == [[0, DOG], [0, PERSON], [0, DOG], [1, PERSON], [2, CAT]]
    assert train.boxes is not None
    assert train.boxes.tolist() == [[0, 0, 10, 10], [10, 10, 20, 20], [10, 0, 20, 10], [0, 0, 20, 20], [5, 0, 15, 20]]
    indices, images, labels = next(train.batches(2, device=CPU))
    assert (indices.tolist(), images.shape, labels.shape) == ([0, 1], (2, 3, 20, 20), (2, 20))


def test_difficult_objects_count_where_asked(tmp_path: Path) -> None:
    root = write(tmp_path, devkit())
    every = multilabel("voc2007", "train", root=root, image_size=20, difficult=True)
    assert every.labels[:, CAT].tolist() == [0, 1, 1, 1]
    assert every.owners.tolist()[-3:] == [[1, CAT], [2, CAT], [3, CAT]]
    assert every.fingerprint != multilabel("voc2007", "train", root=root, image_size=20).fingerprint


def test_each_year_has_its_own_lists(tmp_path: Path) -> None:
    """Of 2012 the labels of the test images are not public: its official validation images stand for them."""
    files = devkit() | devkit("VOC2012", "train", "val")
    root = write(tmp_path, files)
    for name in ("voc2007", "voc2012"):
        sizes = [len(load_images(name, split, root=root, image_size=16)) for split in ("train", "val")]
        assert sizes == [3, 2]
    shutil.rmtree(root / "VOCdevkit/VOC2007")
    with pytest.raises(
        DatasetError, match=r"train images of voc2007 are not in .*VOCdevkit/VOC2007/ with ImageSets/Main/"
    ):
        load_images("voc2007", "train", root=root, image_size=16)
    for place in ("VOCdevkit", "VOCdevkit/VOC2012"):
        assert len(load_images("voc2012", "val", root=root / place, image_size=16)) == 2


def test_the_two_archives_of_2007_serve_one_split_each(tmp_path: Path) -> None:
    root = packed(tmp_path / "data", devkit("VOC2007", "trainval"), "VOCtrainval_06-Nov-2007.tar")
    packed(root, devkit("VOC2007", "test"), "VOCtest_06-Nov-2007.tar")
    packed(root, devkit("VOC2012", "train", "val"), "VOCtrainval_11-May-2012.tar")
    val = load_images("voc2007", "val", root=root, image_size=16)
    assert levels(val) == [10, 20]
    assert [path.name for path in root.glob("*.unpacked")] == ["VOCtest_06-Nov-2007.tar.unpacked"]
    assert levels(load_images("voc2007", "train", root=root, image_size=16)) == [10, 20, 30]
    assert len([*root.glob("*.unpacked")]) == 2, "nothing is unpacked that was not asked for"


@pytest.mark.parametrize(("split", "image_set", "images"), [("train", "trainval", 3), ("val", "test", 2)])
def test_torchvision_is_asked_for_the_right_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str, image_set: str, images: int
) -> None:
    asked = []

    def fetch(root: Path, **options: Any) -> None:
        asked.append(options)
        write(root, devkit("VOC2007", options["image_set"]))

    monkeypatch.setattr("torchvision.datasets.VOCDetection", fetch)
    for _ in range(2):  # the second time it is there
        assert len(load_images("voc2007", split, root=tmp_path, image_size=16, download=True)) == images
    assert asked == [{"year": "2007", "image_set": image_set, "download": True}]


def test_masks_are_of_the_classes_and_leave_out_what_was_not_labelled(tmp_path: Path) -> None:
    train = multilabel("voc2007", "train", root=write(tmp_path, devkit()), image_size=20)
    assert train.masked.tolist() == [True, False, False]
    here = torch.tensor([0, 0, 0])
    one = train.masks(here, torch.tensor([DOG, PERSON, CAT]))[:, 0]
    assert (one.shape, one.dtype) == ((3, 20, 20), torch.bool)
    dog, person = torch.zeros(20, 20, dtype=torch.bool), torch.zeros(20, 20, dtype=torch.bool)
    dog[:8], person[12:, 10:] = True, True
    assert torch.equal(one[0], dog)
    assert torch.equal(one[1], person)
    assert not one[2].any()
    assert torch.equal(train.masks(torch.tensor([0]))[0, 0], dog | person)
    assert train.masks(torch.zeros(0, dtype=torch.int64)).shape == (0, 1, 20, 20)
    with pytest.raises(DatasetError, match=r"no SegmentationClass/000007.png: only some .* `masked`.*`subset`"):
        train.masks(torch.tensor([0, 1]))
    assert train.subset(train.masked.nonzero().squeeze(1)).masks(torch.tensor([0])).sum() == 160 + 80


def test_chosen_classes_leave_out_images_without_them_and_renumber_masks(tmp_path: Path) -> None:
    root = write(tmp_path, devkit())
    images = multilabel("voc2007", "train", root=root, image_size=20, classes=["person", "n02084071"])
    assert images.classes == ("person", "dog")
    assert images.labels.tolist() == [[1, 1], [1, 0]]
    assert images.owners.tolist() == [[0, 1], [0, 0], [0, 1], [1, 0]]
    assert images.masks(torch.tensor([0]), torch.tensor([0])).sum() == 80
    only = multilabel("voc2007", "train", root=root, image_size=20, classes=["person"])
    assert only.masks(torch.tensor([0])).sum() == 80, "a dog that was not chosen is background"
    with pytest.raises(DatasetError, match="voc2007 has no train images of aeroplane, bicycle"):
        load_images("voc2007", "train", root=root, image_size=20, classes=["aeroplane", "dog", "bicycle"])


def test_per_class_takes_an_image_while_one_of_its_classes_wants_more(tmp_path: Path) -> None:
    root = write(tmp_path, devkit())
    images = load_images("voc2007", "train", root=root, image_size=20, classes=NAMED, per_class=1)
    assert levels(images) == [10, 30], "the second image shows only a person, who has been in the first"
    assert len(load_images("voc2007", "train", root=root, image_size=20, classes=NAMED, per_class=2)) == 3


def test_all_classes_need_an_image_only_where_they_were_chosen(tmp_path: Path) -> None:
    """A part of the archive keeps all 20 classes, so that networks of both splits fit."""
    images = load_images("voc2007", "val", root=write(tmp_path, devkit()), image_size=20)
    assert images.num_classes == 20


def test_prepared_arrays_keep_everything(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "root": write(tmp_path / "data", devkit()),
        "image_size": 20,
        "cache": tmp_path / "cache",
    }
    first, again = (multilabel("voc2007", "train", **options) for _ in range(2))
    for name in ("labels", "boxes", "owners", "masked"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert torch.equal(first.masks(torch.tensor([0])), again.masks(torch.tensor([0])))
    assert first.fingerprint == again.fingerprint == dataset_fingerprint("voc2007", "train", **options)


def test_a_corrupt_image_is_left_out_with_its_objects_where_asked(tmp_path: Path) -> None:
    root = write(tmp_path / "data", devkit())
    (root / "VOCdevkit/VOC2007/JPEGImages/000005.jpg").write_bytes(photo(1)[:200])
    write(root, {"VOCdevkit/VOC2007/SegmentationClass/000009.png": segmentation(np.full((20, 40), 8))})
    options: dict[str, Any] = {"root": root, "image_size": 20, "cache": tmp_path / "cache"}
    with pytest.raises(DatasetError, match=r"JPEGImages/000005.jpg is not a readable image"):
        load_images("voc2007", "train", **options)
    for _ in range(2):  # the second time from the prepared array
        with pytest.warns(UserWarning, match="000005"):
            images = multilabel("voc2007", "train", skip_corrupt=True, **options)
        assert images.labels.nonzero().tolist() == [[0, PERSON], [1, CAT]]
        assert images.owners.tolist() == [[0, PERSON], [1, CAT]]
        assert images.boxes is not None
        assert images.boxes.tolist() == [[0, 0, 20, 20], [5, 0, 15, 20]]
        assert images.masked.tolist() == [False, True]
        assert images.masks(torch.tensor([1])).all()


def test_a_kit_without_masks_has_none(tmp_path: Path) -> None:
    root = write(tmp_path, {n: d for n, d in devkit().items() if "Segmentation" not in n})
    images = load_images("voc2007", "train", root=root, image_size=20)
    assert not images.masked.any()
    with pytest.raises(DatasetError, match=r"voc2007 .train. has no masks"):
        images.masks(torch.tensor([0]))
