"""The measures of a network, image by image: each column against its own definition, chance and intervals beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from neuron_consistency.attacks.linf import fgsm
from neuron_consistency.attacks.predictions import average_precision
from neuron_consistency.data.image_set import ImageSet, MultiLabelSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.explanation.scores import (
    GAP,
    NOISE_E,
    OTHER,
    OWN_E,
    RIGHT_E,
    SAME,
    SPARED,
    TRUE_E,
    ImageScores,
    score,
    score_images,
)
from neuron_consistency.explanation.weighting import Weighting, weigh
from neuron_consistency.networks.models import Classifier
from neuron_consistency.runtime import Runtime
from toys import CPU, ON, assert_same_state, state_of, toy_images

OPTIONS: dict[str, Any] = {"weighting": Weighting(), "epsilon": 0.1, "pgd_steps": 2}


class Maps:
    """The left half of every image is its object."""

    def __init__(self, count: int, size: int) -> None:
        self.count, self.size = count, size

    def known(self) -> torch.Tensor:
        return torch.ones(self.count, dtype=torch.bool)

    def load(self, places: list[int]) -> torch.Tensor:
        found = torch.zeros(len(places), self.size, self.size, dtype=torch.uint8)
        found[:, :, : self.size // 2] = 1
        return found

    def take(self, rows: torch.Tensor) -> Maps:
        return Maps(len(rows), self.size)


def masked_images(count: int) -> ImageSet:
    boxes = torch.tensor([0, 0, 8, 16]).expand(count, 4)
    return replace(toy_images(count), boxes=boxes, label_maps=Maps(count, 16))  # type: ignore[arg-type]


def test_every_column_is_what_its_name_says(trained_toy: Classifier) -> None:
    images = masked_images(24)
    before = state_of(trained_toy)
    backgrounds = (images, toy_images(24, noise=0.6, seed=3))
    on = Runtime(CPU, "float32", 10)
    found = score_images(trained_toy, images, on, backgrounds=backgrounds, curve_images=5, curve_steps=2, **OPTIONS)
    assert_same_state(before, trained_toy)
    values = found.values
    batch, labels = images.batch(torch.arange(24), CPU)
    attacked = fgsm(trained_toy, batch, labels, epsilon=0.1)
    with torch.no_grad():
        right = trained_toy(attacked).argmax(1) == labels
    assert values["accuracy, FGSM"].tolist() == right.double().tolist()
    assert values["accuracy, PGD-2"].mean() <= values["accuracy, FGSM"].mean() < values["accuracy"].mean()
    assert values[SAME].tolist() == values["accuracy"].tolist()
    assert values[GAP].tolist() == (values[SAME] - values[OTHER]).tolist()
    for column, mask in ((OWN_E, "explanation"), (TRUE_E, "truth")):
        expected = weigh(trained_toy, images, Weighting(mask=mask), ON).consistency
        assert values[column].tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    assert values[NOISE_E].mean() >= values[OWN_E].mean()
    assert values[RIGHT_E].tolist() == (values[OWN_E] * values["accuracy"]).tolist()
    assert values["insertion"].notna().to_numpy().nonzero()[0].tolist() == [0, 5, 11, 17, 23]
    assert values["box IoU"].tolist() == pytest.approx(values["mask IoU"].tolist(), abs=0.5)
    assert found.chance["accuracy"] == 0.25
    assert found.chance[GAP] == 0
    assert 0 <= found.chance["pointing game"] <= 1


def test_table_gives_means_intervals_and_chance() -> None:
    values = pd.DataFrame(
        {"accuracy": [1.0, 0.0, 1.0, 1.0], GAP: [-1.0, 0.0, 1.0, 1.0], "box IoU": [0.5, np.nan, 0.7, 0.6]}
    )
    table = ImageScores(values, {"accuracy": 0.25}).table().set_index("measure")
    assert table["mean"].tolist() == pytest.approx([0.75, 0.25, 0.6])
    assert (table["low"] < table["mean"]).all()
    assert (table["high"] > table["mean"]).all()
    assert table["low"].tolist()[1] < -0.5  # a difference may be negative
    assert table["images"].tolist() == [4, 4, 3]
    assert table.loc["box IoU", "excluded"] == 0.25
    assert table["chance"].isna().tolist() == [False, True, True]


def test_a_set_without_boxes_masks_and_backgrounds_has_the_other_measures(trained_toy: Classifier) -> None:
    columns = score_images(trained_toy, toy_images(8), ON, **OPTIONS).values.columns
    assert columns.tolist() == ["accuracy", "accuracy, FGSM", "accuracy, PGD-2", OWN_E, RIGHT_E, NOISE_E, SPARED]


def test_several_labels_give_map_in_place_of_accuracy(trained_toy: Classifier) -> None:
    images = toy_images(24)
    several = MultiLabelSet(
        **vars(images) | {"labels": nn.functional.one_hot(images.labels, 4).float()}, owners=torch.zeros(0, 2).long()
    )
    found = score_images(trained_toy, several, ON, **OPTIONS)
    assert found.values.columns.tolist() == ["mAP", OWN_E, RIGHT_E, NOISE_E, SPARED]
    with torch.no_grad():
        logits = trained_toy(several.batch(torch.arange(24), CPU)[0])
    assert found.values["mAP"].mean() == pytest.approx(average_precision(logits, several.labels).mean().item())
    low = replace(several, labels=torch.ones(24, 4))  # all four classes: those it says count, in part
    found = score_images(trained_toy, low, ON, **OPTIONS)
    said = (logits > 0).double().mean(1)
    assert found.values[RIGHT_E].tolist() == pytest.approx((found.values[OWN_E] * said.numpy()).tolist())
    assert 0 < said.mean() < 1


def test_backgrounds_of_other_objects_are_refused(trained_toy: Classifier) -> None:
    with pytest.raises(ParameterError, match="not of the same objects"):
        score_images(trained_toy, toy_images(8), ON, backgrounds=(toy_images(8), toy_images(7)), **OPTIONS)


def test_intervals_are_wilsons_for_hits_and_students_for_others() -> None:
    hits = score([1.0, 1.0, 0.0, 0.0, np.nan])
    assert (hits.value, hits.excluded) == pytest.approx((0.5, 0.2))
    assert (hits.low, hits.high) == pytest.approx((0.150, 0.850), abs=1e-3)
    others, margin = score([0.2, 0.3, 0.4]), 4.3027 * 0.1 / 3**0.5
    assert (others.low, others.high) == pytest.approx((0.3 - margin, 0.3 + margin), abs=1e-4)
    perfect = score([1.0] * 10)
    assert (perfect.value, perfect.high) == (1, 1)
    assert 0.6 < perfect.low < 0.8  # ten of ten is not certainty


def test_one_image_says_nothing_and_none_is_an_error() -> None:
    lone = score([0.4])
    assert (lone.low, lone.high, lone.excluded) == (0, 1, 0)
    for nothing in ([], [np.nan]):
        with pytest.raises(ParameterError, match="no image"):
            score(nothing)
