"""Masks of the rendered scenes, and scenes of several objects: what is labelled is what is seen."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from layouts import multilabel
from neuron_consistency.data.image_set import ImageSet, MultiLabelSet
from neuron_consistency.data.load import dataset_fingerprint, load_images
from neuron_consistency.data.scenes.compositions import compositions, vocabulary
from neuron_consistency.data.scenes.groups import group_classes, render_group
from neuron_consistency.data.scenes.render import render_scene
from neuron_consistency.errors import DatasetError, ParameterError


def test_the_mask_of_a_scene_is_its_object_as_the_maps_and_the_box_have_it() -> None:
    for index in range(0, 56, 3):
        scene = render_scene(index)
        number = vocabulary()["object"].index(scene.name.replace(" ", "_")) + 1
        half, blocks = scene.maps["object"][0] == number, scene.mask.reshape(32, 2, 32, 2).mean((1, 3))
        plain = (blocks == 0) | (blocks == 1)
        assert plain.mean() > 0.8
        assert (blocks == half)[plain].mean() > 0.99
        rows, columns = np.flatnonzero(scene.mask.any(1)), np.flatnonzero(scene.mask.any(0))
        tight = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        assert (abs(tight - scene.box) <= 1).all()


@pytest.mark.parametrize("variant", ["mixed-same", "mixed-rand"])
def test_variants_have_the_same_masks(variant: str) -> None:
    options: dict[str, Any] = {"image_size": 32, "classes": 2, "per_class": 3, "memory": 0}
    one, other = (load_images("scenes", "val", variant=name, **options) for name in ("original", variant))
    every = torch.arange(len(one))
    assert torch.equal(one.masks(every), other.masks(every))
    assert one.masked.all()
    assert one.masks(every).flatten(1).any(1).all()


def test_a_group_depends_on_seed_and_index_only() -> None:
    first, again = render_group(5), render_group(5)
    assert (first.image == again.image).all()
    assert (first.labels == again.labels).all()
    assert (first.boxes, first.classes) == (again.boxes, again.classes)
    assert (first.image != render_group(5, seed=1).image).any()
    assert (first.image != render_group(33).image).any()


def test_a_group_shows_every_object_it_names_and_no_other() -> None:
    """Objects stand beside each other; one behind another would be a label of something not seen."""
    counts = []
    for index in range(60):
        group = render_group(index, classes=6)
        assert group.classes == group_classes(index, 6)
        assert index % 6 in group.classes
        assert set(np.unique(group.labels)) - {0} == {label + 1 for label in group.classes}
        inside = np.zeros_like(group.labels, dtype=bool)
        for label, (x0, y0, x1, y1) in zip(group.classes, group.boxes, strict=True):
            part = group.labels[y0:y1, x0:x1] == label + 1
            assert part.mean() > 0.1, "the object fills a fair part of its box"
            assert part.sum() > 0.015 * group.labels.size
            inside[y0:y1, x0:x1] = True
        assert not (group.labels.astype(bool) & ~inside).any()
        counts.append(len(group.boxes))
    assert set(counts) == {1, 2, 3, 4}
    assert 2 < np.mean(counts) < 3


@pytest.mark.parametrize("size", [32, 97])
def test_shapes_and_types(size: int) -> None:
    group = render_group(3, image_size=size)
    assert group.image.shape == (size, size, 3)
    assert group.labels.shape == (size, size)
    assert group.image.dtype == group.labels.dtype == np.uint8


def test_the_correlation_of_class_and_background_is_as_asked() -> None:
    table = list(compositions()["object"].values())[:4]

    def paired(correlation: float) -> float:
        drawn = [render_group(n, image_size=16, classes=4, background_correlation=correlation).scene for n in range(40)]
        return float(np.mean([scene == table[n % 4].scene for n, scene in enumerate(drawn)]))

    assert paired(0) < 0.2
    assert paired(1) == 1


def test_groups_load_with_labels_boxes_and_masks_that_agree(tmp_path: Path) -> None:
    options: dict[str, Any] = {"image_size": 32, "classes": 4, "per_class": 5, "cache": tmp_path, "seed": 3}
    train, again = (multilabel("scenes-multilabel", "train", **options) for _ in range(2))
    assert (len(train), train.labels.shape, train.labels.dtype) == (20, (20, 4), torch.float32)
    assert train.labels.sum(0).min() >= 5, "each class has its own images"
    assert train.boxes is not None
    assert len(train.boxes) == len(train.owners)
    assert sorted(set(map(tuple, train.owners.tolist()))) == list(map(tuple, train.labels.nonzero().tolist()))
    every = torch.arange(len(train))
    for label in range(4):
        seen = train.masks(every, torch.full((20,), label)).flatten(1).any(1)
        assert torch.equal(seen.float(), train.labels[:, label])
    for (image, label), (x0, y0, x1, y1) in zip(train.owners.tolist(), train.boxes.tolist(), strict=True):
        assert train.masks(torch.tensor([image]), torch.tensor([label]))[0, 0, y0:y1, x0:x1].any()
    for name in ("labels", "boxes", "owners", "pixels"):
        assert torch.equal(getattr(train, name), getattr(again, name))
    assert torch.equal(train.masks(every), again.masks(every))


def test_splits_are_disjoint_and_fingerprints_follow_the_options() -> None:
    options: dict[str, Any] = {"image_size": 16, "classes": 3, "per_class": 4, "memory": 0}
    sets: list[ImageSet] = [load_images("scenes-multilabel", split, **options) for split in ("train", "val")]
    train, val = (images.batch(torch.arange(12), torch.device("cpu"))[0] for images in sets)
    assert not (train[:, None] == val[None]).flatten(2).all(2).any()
    assert all(isinstance(images, MultiLabelSet) for images in sets)
    prints = {
        dataset_fingerprint("scenes-multilabel", "train", **options, **chosen)
        for chosen in ({}, {"seed": 1}, {"background_correlation": 0.5})
    }
    assert len(prints | {images.fingerprint for images in sets}) == 4


def test_errors_name_the_thing() -> None:
    with pytest.raises(ParameterError, match="Unknown options of the rendered scenes: variant"):
        load_images("scenes-multilabel", "val", image_size=16, variant="mixed-same")
    with pytest.raises(ParameterError, match="background_correlation"):
        render_group(0, background_correlation=-1)
    with pytest.raises(DatasetError, match=r"'dalmation'.*dalmatian"):
        render_group(0, classes=["dalmation"])
