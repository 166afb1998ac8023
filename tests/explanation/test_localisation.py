"""The scores of a whole set: a network that looks at the object stands out from chance, and the means are honest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from neuron_consistency.data.image_set import ImageSet, MultiLabelSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.explanation.localisation import MAPS, SCORES, localise, score_row
from neuron_consistency.explanation.tables import localisation_table
from neuron_consistency.networks.models import Classifier
from toys import CPU, assert_same_state, image_set, state_of

SIZE = 32


class Colours(nn.Module):
    """Two classes, red and green: each is told by its colour alone, wherever it is."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        seen: Tensor = self.seen(images)
        return 20 * seen[:, :2].mean((2, 3))


@pytest.fixture
def colours() -> Classifier:
    model = Classifier(Colours(), "colours", {"seen": ("seen", 3)})
    model.mean.zero_()
    model.std.fill_(1)
    return model


def patches(count: int) -> ImageSet:
    """One square an image, red or green, near a corner; black around it."""
    pixels, labels = torch.zeros(count, 3, SIZE, SIZE, dtype=torch.uint8), torch.arange(count) % 2
    boxes = torch.zeros(count, 4, dtype=torch.int64)
    shifts = torch.randint(0, 6, (count, 2), generator=torch.Generator().manual_seed(0))
    for index, (x, y) in enumerate(shifts.tolist()):
        x, y = (side if index % 3 else SIZE - 8 - side for side in (x, y))
        boxes[index] = torch.tensor([x, y, x + 8, y + 8])
        pixels[index, labels[index], y : y + 8, x : x + 8] = 200
    return replace(image_set(pixels, labels, num_classes=2), boxes=boxes)


def pairs() -> MultiLabelSet:
    """Red on the left twice and green on the right; green alone; nothing."""
    pixels = torch.zeros(3, 3, SIZE, SIZE, dtype=torch.uint8)
    boxes = torch.tensor([[1, 1, 9, 9], [1, 20, 13, 32], [20, 4, 30, 14], [4, 4, 12, 12]])
    owners = torch.tensor([[0, 0], [0, 0], [0, 1], [1, 1]])
    for (image, label), (x0, y0, x1, y1) in zip(owners.tolist(), boxes.tolist(), strict=True):
        pixels[image, label, y0:y1, x0:x1] = 200
    plain = image_set(pixels, torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]]), num_classes=2)
    return MultiLabelSet(
        "toy", "val", plain.classes, plain.synsets, plain.labels, plain.pixels, "", boxes, owners=owners
    )


def test_a_network_that_sees_the_object_is_told_from_chance(colours: Classifier) -> None:
    """Its maps are the object: every score is the best there is. A random map and the middle of the image are not."""
    model = colours.train()
    before = state_of(model)
    scores = localise(model, patches(30), device=CPU, steps=8, precision="float32")
    assert_same_state(before, model)
    assert scores.groupby("map", sort=False).size().to_dict() == dict.fromkeys(MAPS, 30)
    table = localisation_table(scores)
    mean = dict(zip(zip(table["map"], table["score"], strict=True), table["mean"], strict=True))
    assert list(table["score"].unique()) == [score for score in SCORES if score != "mask IoU"]  # no masks
    own, *chances = MAPS
    assert mean[own, "pointing game"] == mean[own, "box IoU"] == 1
    assert not table["empty"].any()
    for chance in chances:
        assert max(mean[chance, "pointing game"], mean[chance, "box IoU"]) < 0.5
        assert mean[chance, "insertion"] < mean[own, "insertion"]
        assert mean[chance, "deletion"] > mean[own, "deletion"] + 0.02
    assert bool((table["low"] <= table["mean"]).all())
    assert bool((table["mean"] <= table["high"]).all())


def test_the_batch_size_changes_neither_the_maps_nor_chance(colours: Classifier) -> None:
    whole, parts = (localise(colours, patches(11), device=CPU, batch_size=size) for size in (64, 4))
    columns = ["map", "image"]
    pd.testing.assert_frame_equal(
        whole.sort_values(columns, ignore_index=True), parts.sort_values(columns, ignore_index=True)
    )


def test_an_image_of_several_classes_is_scored_by_class_against_its_own_boxes(colours: Classifier) -> None:
    """Red's map scored against green's box would be a miss. Two boxes of a class: the better one counts, the larger
    patch's. The image without a class is not scored."""
    scores = localise(colours, pairs(), device=CPU, steps=2)
    own = scores[scores["map"] == MAPS[0]]
    assert own[["image", "class"]].to_numpy().tolist() == [[0, 0], [0, 1], [1, 1]]
    assert own["pointing game"].tolist() == [1, 1, 1]
    assert own["box IoU"].tolist() == [1, 1, 1]
    unseen = replace(pairs(), owners=torch.tensor([[0, 0], [0, 0], [0, 1], [2, 1]]))  # a class that has no box
    again = localise(colours, unseen.subset(torch.tensor([1, 2])), device=CPU)
    assert bool(again["box IoU"].isna().all())
    for part in (torch.tensor([1]), torch.tensor([1, 0])):  # boxes follow their images
        again = localise(colours, pairs().subset(part), device=CPU)
        assert bool((again.loc[again["map"] == MAPS[0], "box IoU"] == 1).all())


class Masked(ImageSet):
    """A set with the squares' masks for all but the first image."""

    @property
    def masked(self) -> Tensor:
        return torch.arange(len(self)) > 0

    def masks(self, indices: Tensor) -> Tensor:
        assert bool((indices > 0).all())  # never asked for where there is none
        return (torch.as_tensor(self.pixels)[indices] > 0).any(1, keepdim=True)


def test_masks_score_where_there_are_some_and_the_rest_is_counted(colours: Classifier) -> None:
    """Without boxes the pointing game is scored by the masks; an image without one is left out, and the share said."""
    plain = patches(8)
    masked = Masked("toy", "val", plain.classes, plain.synsets, plain.labels, plain.pixels, plain.fingerprint, None)
    table = localisation_table(localise(colours, masked, device=CPU))
    assert set(table["score"]) == {"pointing game", "mask IoU"}
    own = table[table["map"] == MAPS[0]]
    assert own["mean"].tolist() == [1, 1]
    assert own["images"].tolist() == [7, 7]
    assert own["excluded"].tolist() == [1 / 8, 1 / 8]


def test_a_set_without_boxes_or_masks_is_refused(colours: Classifier) -> None:
    with pytest.raises(ParameterError, match="tiny-imagenet"):
        localise(colours, replace(patches(4), boxes=None), device=CPU)


def test_maps_of_zeros_score_zero_and_their_share_is_said(colours: Classifier) -> None:
    """A dark image has no evidence: its map points nowhere, which is a miss and not a NaN."""
    images = patches(4)
    dark = replace(images, pixels=torch.zeros_like(torch.as_tensor(images.pixels)))
    table = localisation_table(localise(colours, dark, device=CPU, steps=2))
    own = table[table["map"] == MAPS[0]].set_index("score")
    assert own.loc[["pointing game", "box IoU"], "mean"].tolist() == [0, 0]
    assert own["empty"].tolist() == [1] * 4
    assert table[["mean", "low", "high"]].notna().all(axis=None)


# intervals


def test_intervals_are_wilsons_for_hits_and_students_for_others() -> None:
    hits = score_row(torch.tensor([1.0, 1.0, 0.0, 0.0, torch.nan]))
    assert (hits["mean"], hits["images"]) == (0.5, 4)
    assert hits["excluded"] == pytest.approx(0.2)
    assert hits["low"] == pytest.approx(0.150, abs=1e-3)
    assert hits["high"] == pytest.approx(0.850, abs=1e-3)
    others = score_row(torch.tensor([0.2, 0.3, 0.4]))
    assert others["low"] == pytest.approx(0.3 - 4.3027 * 0.1 / 3**0.5, abs=1e-4)
    assert others["high"] == pytest.approx(0.3 + 4.3027 * 0.1 / 3**0.5, abs=1e-4)
    perfect = score_row(torch.ones(10))
    assert (perfect["mean"], perfect["high"]) == (1, 1)
    assert 0.6 < perfect["low"] < 0.8  # ten of ten is not certainty


def test_one_image_says_nothing_and_none_is_an_error() -> None:
    assert score_row(torch.tensor([0.4])) | {"mean": 0} == {
        "mean": 0, "low": 0, "high": 1, "images": 1, "excluded": 0,
    }  # fmt: skip
    for nothing in (torch.tensor([]), torch.tensor([torch.nan])):
        with pytest.raises(ParameterError, match="no image"):
            score_row(nothing)


def test_an_interval_counts_images_and_not_their_classes() -> None:
    """Classes of one image are not independent: ten copies of each row may not narrow the interval."""
    once = pd.DataFrame(
        {"image": np.arange(6), "class": 0, "map": MAPS[0], "empty": False, "box IoU": np.linspace(0.1, 0.6, 6)}
    )
    often = pd.concat([once.assign(**{"class": label}) for label in range(10)])
    first, second = (localisation_table(pd.concat([rows.assign(map=name) for name in MAPS])) for rows in (once, often))
    pd.testing.assert_frame_equal(first, second)
