"""The scores of a whole set: a network that looks at the object stands out from chance, and the means are honest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from neuron_consistency.data.image_set import ImageSet, MultiLabelSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.explanation.localisation import CENTRE, OWN, RANDOM, curves, localise
from neuron_consistency.explanation.measure import Probe
from neuron_consistency.explanation.scores import DELETED, INSERTED, OWN_E, RIGHT_E, score_images
from neuron_consistency.explanation.weighting import Weighting
from neuron_consistency.networks.models import Classifier
from neuron_consistency.runtime import Runtime
from toys import CPU, ON, assert_same_state, image_set, state_of

SIZE = 32


class Colours(nn.Module):
    """Two classes, red and green: each is told by its colour alone, wherever it is, more or less surely.

    A stubborn one says red whatever it sees.
    """

    def __init__(self, sureness: float = 20.0, *, stubborn: bool = False) -> None:
        super().__init__()
        self.seen, self.sureness, self.stubborn = nn.Identity(), sureness, stubborn

    def forward(self, images: Tensor) -> Tensor:
        seen: Tensor = self.seen(images)
        colours = self.sureness * seen[:, :2].mean((2, 3))
        return colours.sum(1, keepdim=True) * torch.tensor([1.0, 0.0]) + 1 if self.stubborn else colours


def network(colours: Colours) -> Classifier:
    model = Classifier(colours, "colours", {"seen": ("seen", 3)})
    model.mean.zero_()
    model.std.fill_(1)
    return model


@pytest.fixture
def colours() -> Classifier:
    return network(Colours())


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
    scores, areas = localise(model, patches(30), ON, Probe()), curves(model, patches(30), ON, Probe(), steps=8)
    assert_same_state(before, model)
    assert scores["map"].value_counts().to_dict() == dict.fromkeys((OWN, RANDOM, CENTRE), 30)
    found = ["pointing game", "box IoU"]  # no masks
    assert list(scores) == ["image", "class", "map", *found, *[f"{name}, off centre" for name in found]]
    mean = scores.groupby("map")[["pointing game", "box IoU"]].mean()
    assert (mean.loc[OWN] == 1).all()
    assert mean.loc[[RANDOM, CENTRE]].to_numpy().max() < 0.5
    area = areas.groupby("map")[["insertion", "deletion"]].mean()
    inserted, deleted = area.loc[OWN].to_numpy(float) - area.loc[RANDOM].to_numpy(float)
    assert inserted > 0
    assert deleted < -0.02


def test_the_batch_size_changes_neither_the_maps_nor_chance(colours: Classifier) -> None:
    whole, parts = (localise(colours, patches(11), Runtime(CPU, "float32", size), Probe()) for size in (64, 4))
    columns = ["map", "image"]
    pd.testing.assert_frame_equal(
        whole.sort_values(columns, ignore_index=True), parts.sort_values(columns, ignore_index=True)
    )


def test_an_image_of_several_classes_is_scored_by_class_against_its_own_boxes(colours: Classifier) -> None:
    """Red's map scored against green's box would be a miss. Two boxes of a class: the better one counts, the larger
    patch's. The image without a class is not scored."""
    scores = localise(colours, pairs(), ON, Probe())
    own = scores[scores["map"] == OWN]
    assert own[["image", "class"]].to_numpy().tolist() == [[0, 0], [0, 1], [1, 1]]
    assert own["pointing game"].tolist() == [1, 1, 1]
    assert own["box IoU"].tolist() == [1, 1, 1]
    unseen = replace(pairs(), owners=torch.tensor([[0, 0], [0, 0], [0, 1], [2, 1]]))  # a class that has no box
    again = localise(colours, unseen.subset(torch.tensor([1, 2])), ON, Probe())
    assert bool(again["box IoU"].isna().all())
    for part in (torch.tensor([1]), torch.tensor([1, 0])):  # boxes follow their images
        again = localise(colours, pairs().subset(part), ON, Probe())
        assert bool((again.loc[again["map"] == OWN, "box IoU"] == 1).all())


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
    scores = localise(colours, masked, ON, Probe())
    assert [*scores][:5] == ["image", "class", "map", "pointing game", "mask IoU"]
    own = scores[scores["map"] == OWN].set_index("image")[["pointing game", "mask IoU"]]
    assert own.loc[0].isna().all()
    assert (own.loc[1:] == 1).all(axis=None)


def test_a_set_without_boxes_or_masks_is_refused(colours: Classifier) -> None:
    with pytest.raises(ParameterError, match="tiny-imagenet"):
        localise(colours, replace(patches(4), boxes=None), ON, Probe())


def test_maps_of_zeros_score_zero(colours: Classifier) -> None:
    """A dark image has no evidence: its map points nowhere, which is a miss and not a NaN."""
    images = patches(4)
    dark = replace(images, pixels=torch.zeros_like(torch.as_tensor(images.pixels)))
    scores = localise(colours, dark, ON, Probe())
    assert (scores.loc[scores["map"] == OWN, ["pointing game", "box IoU"]] == 0).all(axis=None)
    assert curves(colours, dark, ON, Probe(), steps=2)[["insertion", "deletion"]].notna().all(axis=None)


def test_an_image_of_several_classes_counts_once(colours: Classifier) -> None:
    """Classes of one image are not independent: its interval may not be narrowed by having two."""
    values = score_images(
        colours, pairs(), ON, weighting=Weighting(), epsilon=0.1, curve_images=3, curve_steps=2
    ).values
    assert len(values) == 3
    assert values["box IoU"].tolist() == pytest.approx([1, 1, np.nan], nan_ok=True)
    assert values["insertion"].notna().tolist() == [True, True, False]


def test_objects_off_centre_are_scored_apart(colours: Classifier) -> None:
    """Where objects lie on the centre, a map that always points there hits them all, and a network may be no better."""
    images = patches(8)
    assert images.boxes is not None
    images.boxes[:6], images.pixels[:6] = torch.tensor([12, 12, 20, 20]), 0  # type: ignore[index]
    images.pixels[:6, 0, 12:20, 12:20] = 200  # type: ignore[index]
    scores = localise(colours, images, ON, Probe()).set_index("map")
    centre, own = (scores.loc[name].set_index("image") for name in (CENTRE, OWN))
    assert centre["pointing game"].mean() == 0.75
    for name in ("pointing game", "box IoU"):
        assert centre[f"{name}, off centre"].notna().tolist() == [False] * 6 + [True] * 2
        assert (own.loc[6:, f"{name}, off centre"] == 1).all()
    assert centre["pointing game, off centre"].mean() == 0
    on_centre = images.subset(torch.arange(6))
    found = score_images(colours, on_centre, ON, weighting=Weighting(), epsilon=0.1)
    assert not [name for name in map(str, found.values) if "off centre" in name]  # not an error where no object is


def test_a_network_that_is_merely_less_sure_has_no_better_maps() -> None:
    """The maps are the same. By the raw areas the timid one would win the deletion, since it starts from less."""
    options: dict[str, Any] = {"weighting": Weighting(), "epsilon": 0.1, "curve_images": 12, "curve_steps": 8}
    sure, timid = (score_images(network(Colours(each)), patches(12), ON, **options) for each in (60.0, 10.0))
    assert timid.values["deletion"].mean() < sure.values["deletion"].mean() - 0.01
    assert timid.values[DELETED].mean() < sure.values[DELETED].mean()
    assert timid.values[INSERTED].mean() < sure.values[INSERTED].mean()
    assert sure.values[DELETED].min() > 0
    expected = sure.chance["deletion"] - sure.values["deletion"].mean()
    assert sure.values[DELETED].mean() == pytest.approx(expected)
    assert (sure.chance[DELETED], sure.chance[INSERTED]) == (0, 0)


def test_a_network_that_never_changes_its_answer_is_not_the_most_consistent_one() -> None:
    """Its E is 1, right or wrong, as that of an untrained network nearly is. Only where it is right does that count."""
    images = patches(12)
    stubborn, seeing = (
        score_images(network(each), images, ON, weighting=Weighting(), epsilon=0.1)
        for each in (Colours(stubborn=True), Colours())
    )
    assert stubborn.values[OWN_E].mean() == pytest.approx(1)
    assert stubborn.values[RIGHT_E].tolist() == pytest.approx([1, 0] * 6)
    assert seeing.values[RIGHT_E].mean() > 0.75
