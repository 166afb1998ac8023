"""Sets of images: parts of them keep labels, objects and masks together."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from neuron_consistency.data.image_set import ImageSet, MultiLabelSet
from neuron_consistency.data.pixels import LabelMaps
from neuron_consistency.data.sources.base import Box, Listing, Source
from neuron_consistency.errors import DatasetError, ParameterError

CPU = torch.device("cpu")


class Planted(Source):
    """Image n has the label map n % 3 everywhere; each read is counted, and image 4 has none."""

    name = "planted"
    has_masks = True

    def __init__(self) -> None:
        self.reads: list[int] = []

    def signature(self) -> str:
        raise NotImplementedError

    def listing(self, classes: Any, per_class: int | None) -> Listing:
        raise NotImplementedError

    def read(self, item: Any, size: int, classes: Any) -> tuple[Tensor, list[Box]]:
        raise NotImplementedError

    def has_mask(self, item: Any) -> bool:
        return int(item) != 4

    def mask(self, item: Any, size: int, classes: Any) -> Tensor:
        self.reads.append(int(item))
        return torch.full((size, size), int(item) % 3, dtype=torch.uint8)


def several(counts: list[int], source: Source | None = None) -> MultiLabelSet:
    """Image n has the grey level n and counts[n] objects, the m-th of all with the box m m m+1 m+1 and class m % 2."""
    images = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    owners = torch.stack([images, torch.arange(len(images)) % 2], 1)
    labels = torch.zeros(len(counts), 2)
    labels[owners[:, 0], owners[:, 1]] = 1
    pixels = torch.arange(len(counts), dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4)
    maps = LabelMaps(source, np.arange(len(counts)), 4) if source else None
    at = torch.arange(len(owners))[:, None]
    return MultiLabelSet(
        "planted", "train", ("a", "b"), ("n02084071", "n02121620"), labels, pixels, "print",
        torch.cat([at, at, at + 1, at + 1], 1), maps, owners=owners,
    )  # fmt: skip


def objects(images: MultiLabelSet) -> list[list[tuple[int, list[int]]]]:
    """The class and box of each object, by image."""
    assert images.boxes is not None
    found: list[list[tuple[int, list[int]]]] = [[] for _ in range(len(images))]
    for (image, label), box in zip(images.owners.tolist(), images.boxes.tolist(), strict=True):
        found[image].append((label, box))
    return found


@settings(max_examples=40)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=7), st.data())
def test_objects_stay_with_their_images(counts: list[int], data: st.DataObject) -> None:
    """In any order, with repetitions, and for images without any object."""
    images = several(counts)
    rows = data.draw(st.lists(st.integers(0, len(counts) - 1), max_size=9))
    part = images.subset(torch.tensor(rows, dtype=torch.int64))
    assert isinstance(part, MultiLabelSet)
    assert objects(part) == [objects(images)[row] for row in rows]
    assert torch.equal(part.labels, images.labels[rows])
    assert [int(pixels[0, 0, 0]) for pixels in part.batch(torch.arange(len(rows)), CPU)[0].mul(255).round()] == rows


def test_sets_of_several_labels_split_off_a_share_of_all_images() -> None:
    images = several([1, 2, 0, 1, 3, 2, 1, 1, 1, 2])
    rest, held = images.split_off(0.3, seed=1)
    assert (len(rest), len(held)) == (7, 3)
    both = sorted(objects(rest) + objects(held), key=str)
    assert both == sorted(objects(images), key=str)
    assert rest.fingerprint != held.fingerprint != images.fingerprint
    assert torch.equal(held.labels, images.split_off(0.3, seed=1)[1].labels)
    with pytest.raises(ParameterError, match="fraction"):
        images.split_off(1, seed=0)


def test_label_maps_are_read_once_and_shared_with_parts() -> None:
    source = Planted()
    images = several([1] * 6, source)
    assert source.reads == []
    assert images.masks(torch.tensor([3, 1, 2, 1])).flatten(1).float().mean(1).tolist() == [0, 1, 1, 1]
    assert images.masks(torch.tensor([1, 2]), torch.tensor([1, 1])).flatten(1).float().mean(1).tolist() == [0, 1]
    part = images.subset(torch.tensor([5, 2]))
    assert part.masks(torch.tensor([1, 0])).shape == (2, 1, 4, 4)
    assert source.reads == [3, 1, 2, 5]
    assert images.masked.tolist() == [True] * 4 + [False, True]
    assert part.masked.tolist() == [True, True]


def test_a_set_without_masks_says_so() -> None:
    images = ImageSet(
        "tiny-imagenet", "val", ("a",), ("n02084071",), torch.zeros(2, dtype=torch.int64),
        torch.zeros(2, 3, 4, 4, dtype=torch.uint8), "",
    )  # fmt: skip
    assert images.masked.tolist() == [False, False]
    with pytest.raises(DatasetError, match=r"tiny-imagenet .val. has no masks of its objects.*scenes"):
        images.masks(torch.tensor([0]))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 4))
def test_the_first_of_each_class_are_the_first(labels: list[int], count: int) -> None:
    pixels = torch.zeros(len(labels), 3, 1, 1, dtype=torch.uint8)
    images = ImageSet("planted", "train", tuple("abcd"), ("n02084071",) * 4, torch.tensor(labels), pixels, "print")
    chosen = images.first_of_each_class(count).tolist()
    expected = [i for i, label in enumerate(labels) if count == 0 or labels[:i].count(label) < count]
    assert chosen == expected
