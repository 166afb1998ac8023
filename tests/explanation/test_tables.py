"""The table of what P3 claims: each column against its own definition, differences by one rule, chance beside all."""

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
from neuron_consistency.explanation.tables import (
    GAP,
    NOISE_E,
    OTHER,
    OWN_E,
    SAME,
    SPARED,
    TRUE_E,
    Measured,
    compared,
    consistency_history,
    measure,
)
from neuron_consistency.explanation.weighting import QUANTILES, Weighting, weigh
from neuron_consistency.networks.models import Classifier
from toys import CPU, assert_same_state, state_of, toy_images, toy_recipe

OPTIONS: dict[str, Any] = {
    "weighting": Weighting(),
    "epsilon": 0.1,
    "pgd_steps": 2,
    "device": CPU,
    "precision": "float32",
}


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
    found = measure(
        trained_toy, images, backgrounds=backgrounds, curve_images=5, curve_steps=2, batch_size=10, **OPTIONS
    )
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
        expected = weigh(trained_toy, images, Weighting(mask=mask), device=CPU, precision="float32").consistency
        assert values[column].tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    assert values[NOISE_E].mean() >= values[OWN_E].mean()
    assert values["insertion"].notna().to_numpy().nonzero()[0].tolist() == [0, 5, 11, 17, 23]
    assert values["box IoU"].tolist() == pytest.approx(values["mask IoU"].tolist(), abs=0.5)
    assert found.chance["accuracy"] == 0.25
    assert found.chance[GAP] == 0
    assert 0 <= found.chance["pointing game"] <= 1


def test_table_gives_means_intervals_and_chance() -> None:
    values = pd.DataFrame(
        {"accuracy": [1.0, 0.0, 1.0, 1.0], GAP: [-1.0, 0.0, 1.0, 1.0], "box IoU": [0.5, np.nan, 0.7, 0.6]}
    )
    table = Measured(values, {"accuracy": 0.25}).table().set_index("measure")
    assert table["mean"].tolist() == pytest.approx([0.75, 0.25, 0.6])
    assert (table["low"] < table["mean"]).all()
    assert (table["high"] > table["mean"]).all()
    assert table["low"].tolist()[1] < -0.5  # a difference may be negative
    assert table["images"].tolist() == [4, 4, 3]
    assert table.loc["box IoU", "excluded"] == 0.25
    assert table["chance"].isna().tolist() == [False, True, True]


def test_a_set_without_boxes_masks_and_backgrounds_has_the_other_measures(trained_toy: Classifier) -> None:
    columns = measure(trained_toy, toy_images(8), **OPTIONS).values.columns
    assert columns.tolist() == ["accuracy", "accuracy, FGSM", "accuracy, PGD-2", OWN_E, NOISE_E, SPARED]


def test_several_labels_give_map_in_place_of_accuracy(trained_toy: Classifier) -> None:
    images = toy_images(24)
    several = MultiLabelSet(
        **vars(images) | {"labels": nn.functional.one_hot(images.labels, 4).float()}, owners=torch.zeros(0, 2).long()
    )
    found = measure(trained_toy, several, **OPTIONS)
    assert found.values.columns.tolist() == ["mAP", OWN_E, NOISE_E, SPARED]
    with torch.no_grad():
        logits = trained_toy(several.batch(torch.arange(24), CPU)[0])
    assert found.values["mAP"].mean() == pytest.approx(average_precision(logits, several.labels).mean().item())


def test_backgrounds_of_other_objects_are_refused(trained_toy: Classifier) -> None:
    with pytest.raises(ParameterError, match="not of the same objects"):
        measure(trained_toy, toy_images(8), backgrounds=(toy_images(8), toy_images(7)), **OPTIONS)


def draws(shift: float, *, seeds: int, images: int = 200, spread: float = 0.0) -> dict[str, Measured]:
    """Planted: reweighting moves "E" by `shift` in every seed, give or take `spread`, and "deletion" down."""
    generator = np.random.default_rng(0)
    found = {}
    for seed in range(seeds):
        base, moved = generator.uniform(0.3, 0.5, images), shift + spread * generator.standard_normal()
        for objective, by in (("normal", 0.0), ("reweighted", moved)):
            noise = generator.normal(0, 0.02, images)
            frame = pd.DataFrame({"E": base + by + noise, "deletion": base - by + noise, "accuracy": base + noise})
            frame[SPARED] = base + by + noise
            found[f"{objective}{seed}"] = Measured(frame, {})
    return found


@pytest.mark.parametrize("seeds", [1, 4])
def test_a_planted_difference_is_found_with_its_direction(seeds: int) -> None:
    """Lower is better for deletion; with one seed the unit is the image, with several the seed."""
    recipes = [toy_recipe(objective, seed) for objective in ("normal", "reweighted") for seed in range(seeds)]
    table = compared(draws(0.1, seeds=seeds), recipes, "reweighted", "normal").set_index("measure")
    assert table["verdict"].to_dict() == {
        "E": "better",
        "deletion": "better",
        "accuracy": "not shown",
        SPARED: "higher",
    }
    assert set(table["unit"]) == {"image" if seeds == 1 else "seed"}
    assert table.loc["E", "difference"] == pytest.approx(0.1, abs=0.02)
    assert table.loc["deletion", "difference"] == pytest.approx(-0.1, abs=0.02)
    turned = compared(draws(-0.1, seeds=seeds), recipes, "reweighted", "normal").set_index("measure")
    assert turned["verdict"].to_dict() == {
        "E": "worse",
        "deletion": "worse",
        "accuracy": "not shown",
        SPARED: "lower",
    }


def test_seeds_that_disagree_show_nothing_however_many_images_there_are() -> None:
    """The unit of a claim about a method is the seed: images alone would call this difference sure."""
    recipes = [toy_recipe(objective, seed) for objective in ("normal", "reweighted") for seed in range(3)]
    table = compared(draws(0.02, seeds=3, images=5000, spread=0.1), recipes, "reweighted", "normal")
    assert set(table["verdict"]) == {"not shown"}


def test_no_difference_is_shown_as_often_as_the_level_allows() -> None:
    """Twenty tables of nothing: the intervals share their level, so about one of them may err."""
    recipes = [toy_recipe("normal", 0), toy_recipe("reweighted", 0)]
    wrong = 0
    for number in range(20):
        generator = np.random.default_rng(number)
        measured = {
            each.key: Measured(pd.DataFrame(generator.random((60, 10)), columns=[f"m{i}" for i in range(10)]), {})
            for each in recipes
        }
        wrong += bool((compared(measured, recipes, "reweighted", "normal")["verdict"] != "not shown").any())
    assert wrong <= 4


def test_history_tells_every_quantile_of_every_refresh_and_skips_other_epochs() -> None:
    row = {"consistency_quantiles": list(QUANTILES), "flipped": 0.5, "mean_weight": 0.3}
    row |= {"spared": 0.4, "unmarked": 0.0, "covered": 0.1}
    table = consistency_history({"one": [{"epoch": 1}, {"epoch": 2, **row}], "none": [{"epoch": 1}]}, QUANTILES)
    assert table["quantile"].tolist() == table["E"].tolist() == list(QUANTILES)
    assert set(table["epoch"]) == {2}
    assert set(table["model"]) == {"one"}


def test_nothing_to_compare_or_to_show_is_told() -> None:
    with pytest.raises(ParameterError, match="no reweighted network has its like among normal ones"):
        compared({}, [toy_recipe("reweighted", 0)], "reweighted", "normal")
    with pytest.raises(ParameterError, match="none of these networks weighs its images"):
        consistency_history({"one": [{"epoch": 1}]}, QUANTILES)
