"""The page of filter groups on planted groups: it finds them, and finds none where there are none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.explanation.filter_group_tables import contrast_table, group_contrast
from neuron_consistency.explanation.gallery import group_rows
from neuron_consistency.networks.models import Classifier
from toys import CPU

SHARED: dict[str, Any] = {"device": CPU, "batch_size": 16, "precision": "float32"}


class Corners(nn.Module):
    """Six filters: three of the upper half of an image, three of the lower half; or all of noise of their own."""

    def __init__(self, *, grouped: bool) -> None:
        super().__init__()
        self.grouped, self.filters = grouped, nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        maps = images[:, :1].repeat(1, 6, 1, 1)
        if self.grouped:
            maps[:, :3, 4:], maps[:, 3:, :4] = 0, 0
        else:
            maps = torch.cat([images.roll((shift, shift), (2, 3))[:, :2] for shift in (0, 1, 2)], 1)
        seen: Tensor = self.filters(maps)
        return seen.mean((2, 3))


def network(*, grouped: bool) -> Classifier:
    model = Classifier(Corners(grouped=grouped), "corners", {"filters": ("filters", 6)})
    model.mean.zero_()
    model.std.fill_(1)
    return model.eval()


def noise(count: int, *, seed: int) -> ImageSet:
    pixels = torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    pixels[:, :, :, :] //= 4
    pixels[0, :, :4], pixels[1, :, 4:] = 255, 255  # the two that fire the upper and the lower filters most
    return ImageSet("noise", "val", ("a", "b"), ("a", "b"), torch.arange(count) % 2, pixels, "noise")


def test_contrast_by_hand() -> None:
    similarity = torch.tensor([[2.0, 1.5, 0.5], [1.5, 2.0, 0.7], [0.5, 0.7, 2.0]])
    assert group_contrast(similarity, torch.tensor([0, 0, 1])) == pytest.approx(1.5 - 0.6)


def test_planted_groups_stand_out_and_random_filters_do_not() -> None:
    """Groups formed on some images have to hold on others: filters without groups must stay within chance."""
    models = {"grouped": network(grouped=True), "ungrouped": network(grouped=False)}
    table, found = contrast_table(models, noise(64, seed=0), noise(64, seed=1), "filters", groups=2, **SHARED)
    rows = {row["network"]: row for row in table.to_dict("records")}
    assert found["grouped"].tolist() == [0, 0, 0, 1, 1, 1]
    assert rows["grouped"]["within"] == pytest.approx(2)
    assert rows["grouped"]["contrast"] > rows["grouped"]["chance high"] - 1e-6
    assert rows["grouped"]["contrast"] > 0.5
    assert abs(rows["ungrouped"]["contrast"]) < 0.2
    assert rows["grouped"]["contrast"] == pytest.approx(rows["grouped"]["within"] - rows["grouped"]["between"])


def test_rows_show_each_group_where_it_looks() -> None:
    groups = torch.tensor([0, 0, 0, 1, 1, 1])
    grid = group_rows(network(grouped=True), noise(16, seed=2), groups, "filters", count=2, **SHARED)
    groups_shown = grid.rows[1:]  # below the images
    upper, lower = (torch.stack([one.heat for one in row if one.heat is not None]) for _, row in groups_shown)
    assert grid.above == ["a", "b"]  # images 0 and 1
    assert upper[:, :4].mean() > 5 * upper[:, 4:].mean()
    assert lower[:, 4:].mean() > 5 * lower[:, :4].mean()
    assert [title for title, _ in groups_shown] == ["group 1\n3 filters", "group 2\n3 filters"]
    assert all(picture.caption.endswith("x its mean") for _, row in groups_shown for picture in row)
