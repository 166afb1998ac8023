"""Scores of a map against boxes and masks, by hand; insertion and deletion against a plain loop."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from neuron_consistency.errors import ParameterError
from neuron_consistency.explanation.map_scores import (
    box_iou,
    box_masks,
    centre_maps,
    insertion_deletion,
    mask_iou,
    pointing_game,
    tight_boxes,
)
from neuron_consistency.networks.models import Classifier
from toys import assert_same_state, state_of


def drawn(*rows: str) -> Tensor:
    """A mask (1, 1, H, W) from a drawing."""
    return torch.tensor([[letter == "#" for letter in row] for row in rows])[None, None]


# boxes


def test_box_masks_leave_the_ends_out_and_join_several_boxes() -> None:
    found = box_masks(torch.tensor([[[1, 0, 3, 2], [0, 2, 1, 3], [0, 0, 0, 0]]]), (3, 4))
    assert torch.equal(found, drawn(".##.", ".##.", "#..."))


def test_the_tight_box_is_of_the_largest_connected_part_of_each_image() -> None:
    """A stray pixel may not blow the box up; parts that touch by a corner are one; an image's parts end with it."""
    regions = torch.cat(
        [
            drawn("#....", "...#.", "..##.", "....."),
            drawn("#....", ".#...", "...##", "....."),  # two of two pixels: the first
            drawn(".....", ".....", ".....", "....."),
            drawn("#####", "#####", "#####", "#####"),
        ]
    )
    assert tight_boxes(regions).tolist() == [[2, 1, 4, 3], [0, 0, 2, 2], [0, 0, 0, 0], [0, 0, 5, 4]]
    assert tight_boxes(regions[1:2]).tolist() == [[0, 0, 2, 2]]


# the pointing game


def test_the_maximum_points_at_the_object_or_within_the_tolerance() -> None:
    """The strongest of 7 x 7 places at 224 pixels is centred on 16 + 32 i; 15 pixels away is a hit, 16 is not."""
    maps = torch.zeros(5, 7, 7)
    maps[:4, 2, 5] = 1.0  # points to row 80, column 176
    boxes = torch.tensor([[170, 75, 180, 90], [191, 80, 224, 81], [192, 80, 224, 81], [0, 0, 40, 40], [0, 0, 40, 40]])[
        :, None
    ]
    masks = box_masks(boxes, (224, 224))
    assert pointing_game(maps, masks).tolist() == [1, 1, 0, 0, 0]  # the last map is zero: it points nowhere
    assert pointing_game(maps, masks, tolerance=0).tolist() == [1, 0, 0, 0, 0]
    assert pointing_game(maps, masks, tolerance=16)[2] == 1


def test_the_tolerance_is_in_proportion_to_the_side() -> None:
    """At 64 pixels 15 become 4.3: four pixels off is a hit, five is not."""
    maps = torch.zeros(2, 64, 64)
    maps[:, 10, 10] = 1.0
    masks = box_masks(torch.tensor([[[14, 10, 20, 11]], [[15, 10, 20, 11]]]), (64, 64))
    assert pointing_game(maps, masks).tolist() == [1, 0]


def test_a_random_map_hits_as_often_as_the_object_is_large() -> None:
    """The chance level: a quarter of the places, with no tolerance."""
    maps = torch.rand(4000, 8, 8, generator=torch.Generator().manual_seed(0))
    masks = box_masks(torch.tensor([[[0, 0, 16, 16]]]).expand(4000, -1, -1), (32, 32))
    assert abs(float(pointing_game(maps, masks, tolerance=0).mean()) - 0.25) < 0.03


def test_the_centre_map_points_to_the_middle() -> None:
    maps = centre_maps(2, (32, 48), device=torch.device("cpu"))
    assert maps.shape == (2, 32, 48)
    masks = box_masks(torch.tensor([[[23, 15, 25, 17]], [[0, 0, 20, 12]]]), (32, 48))
    assert pointing_game(maps, masks, tolerance=0).tolist() == [1, 0]


# intersection over union


def test_iou_by_hand() -> None:
    """At its own size a map is not upsampled. Its part above .2 of the maximum is 3 pixels in a box of 4."""
    maps = torch.tensor([[[1.0, 0.3, 0.0, 0.0], [0.2, 0.1, 0.0, 0.0], [0.0] * 4, [0.0] * 4]])
    truth = drawn("##..", "##..", "##..", "....")
    assert mask_iou(maps, truth).item() == pytest.approx(3 / 6)
    assert mask_iou(maps, truth, threshold=0.25).item() == pytest.approx(2 / 6)
    assert box_iou(maps, torch.tensor([[[0, 0, 2, 3]]]), (4, 4)).item() == pytest.approx(4 / 6)
    assert box_iou(maps, torch.tensor([[[1, 1, 3, 3]]]), (4, 4)).item() == pytest.approx(1 / 7)
    assert box_iou(maps, torch.tensor([[[2, 2, 4, 4]]]), (4, 4)).item() == 0
    several = torch.tensor([[[2, 2, 4, 4], [0, 0, 2, 2], [0, 0, 0, 0]]])
    assert box_iou(maps, several, (4, 4)).item() == 1  # the one that fits best


def test_maps_are_upsampled_to_the_image() -> None:
    maps = torch.zeros(1, 4, 4)
    maps[0, :2, :2] = 1.0
    boxes = torch.tensor([[[0, 0, 32, 32]]])
    assert box_iou(maps, boxes, (64, 64), threshold=0.5).item() == pytest.approx(1)
    assert mask_iou(maps, box_masks(boxes, (64, 64)), threshold=0.5).item() > 0.95


@given(seed=st.integers(0, 500), rows=st.integers(1, 7), threshold=st.floats(0, 1))
@settings(max_examples=30)
def test_scores_are_in_zero_to_one_for_any_map_and_nan_only_without_truth(
    seed: int, rows: int, threshold: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(6, rows, rows + 1, generator=generator).relu()
    maps[0], maps[1] = 0, 2
    corners = torch.randint(0, 12, (6, 2), generator=generator)
    boxes = torch.cat([corners, corners + torch.randint(1, 5, (6, 2), generator=generator)], 1)
    boxes = boxes[:, None]
    boxes[5] = 0  # an object that was cut off
    masks = box_masks(boxes, (16, 16))
    for scores in (
        pointing_game(maps, masks),
        mask_iou(maps, masks, threshold=threshold),
        box_iou(maps, boxes, (16, 16), threshold=threshold),
    ):
        assert bool(((scores[:5] >= 0) & (scores[:5] <= 1)).all())
        assert scores[0] == 0  # a map of zeros
        assert scores[5].isnan()


# insertion and deletion


class Spot(nn.Module):
    """Class 1 is as likely as the red of a 4 x 4 spot is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        spot: Tensor = self.last(images)[:, 0, 4:8, 8:12].mean((1, 2))
        return torch.stack([torch.zeros_like(spot), 4 * spot], 1)


@pytest.fixture
def spot() -> Classifier:
    return Classifier(Spot(), "spot", {"last": ("last", 3)})


def bright() -> Tensor:
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    images[:, 0, 4:8, 8:12] = 1
    return images


def test_insertion_and_deletion_equal_a_plain_loop(spot: Classifier) -> None:
    """Pixel by pixel, as in Petsiuk et al.: into the blurred image, and to the mean colour."""
    images, classes = bright(), torch.tensor([1, 0, 1])
    maps = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(1))
    insertion, deletion = insertion_deletion(spot, images, maps, classes, steps=8, blur=28.0)
    blurred = gaussian_blur(images, [5, 5], [2.0, 2.0])
    for row in range(3):
        order = maps[row].flatten().argsort(descending=True)
        canvases = {"in": blurred[row].clone(), "out": images[row].clone()}
        curves: dict[str, list[float]] = {"in": [], "out": []}
        for step in range(9):
            for place in order[max(0, 32 * (step - 1)) : 32 * step].tolist():
                y, x = divmod(place, 16)
                canvases["in"][:, y, x] = images[row, :, y, x]
                canvases["out"][:, y, x] = spot.mean[0, :, 0, 0]
            for name, canvas in canvases.items():
                curves[name].append(float(spot(canvas[None].to(images)).softmax(1)[0, classes[row]]))
        for found, curve in ((insertion, curves["in"]), (deletion, curves["out"])):
            area = (sum(curve) - (curve[0] + curve[-1]) / 2) / 8
            assert found[row].item() == pytest.approx(area, abs=1e-5)


def test_a_true_map_inserts_more_and_deletes_faster_than_a_random_or_an_opposite_one(spot: Classifier) -> None:
    images, classes = bright(), torch.ones(3, dtype=torch.int64)
    true = torch.zeros(3, 16, 16)
    true[:, 4:8, 8:12] = 1
    random = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(2))
    scores = [insertion_deletion(spot, images, maps, classes, steps=16, blur=50.0) for maps in (true, random, 1 - true)]
    for (inserted, deleted), (less, slower) in itertools.pairwise(scores):
        assert bool((inserted > less).all())
        assert bool((deleted < slower).all())


def test_pixels_of_equal_value_come_in_an_order_that_favours_no_place(spot: Classifier) -> None:
    """A map of zeros scores as random maps do: row by row, an object near the top would be found by a map that says
    nothing. And it scores the same each time."""
    images, classes = bright(), torch.ones(3, dtype=torch.int64)
    maps = torch.rand(20, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    maps[:2] = 0
    areas = [insertion_deletion(spot, images, each, classes, steps=16, blur=50.0)[1][0].item() for each in maps]
    assert min(areas[2:]) - 0.01 < areas[0] < max(areas[2:]) + 0.01
    assert areas[0] == areas[1]
    rows = torch.linspace(1, 0, 256).view(1, 16, 16).expand(3, -1, -1)
    by_rows = insertion_deletion(spot, images, rows, classes, steps=16, blur=50.0)[1][0].item()
    assert by_rows < sum(areas) / 20 - 0.1


def test_several_labels_are_followed_by_their_own_probability(spot: Classifier) -> None:
    """The sigmoid of a logit does not hang on the other classes; the first, always 0, stays at one half."""
    images, classes = bright(), torch.zeros(3, dtype=torch.int64)
    maps = torch.rand(3, 4, 4)
    areas = insertion_deletion(spot, images, maps, classes, steps=2, multi_label=True)
    for area in areas:
        torch.testing.assert_close(area, torch.full((3,), 0.5))


def test_insertion_leaves_the_model_as_it_was_and_needs_a_step(spot: Classifier) -> None:
    model = spot.train()
    before, images = state_of(model), bright()
    given = images.clone()
    classes = torch.zeros(3, dtype=torch.int64)
    insertion, _ = insertion_deletion(model, images, torch.rand(3, 4, 4), classes, steps=1)
    assert not insertion.requires_grad
    assert torch.equal(images, given)
    assert_same_state(before, model)
    with pytest.raises(ParameterError, match="step"):
        insertion_deletion(model, images, torch.rand(3, 4, 4), classes, steps=0)
