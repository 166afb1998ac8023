"""Dissection on a planted set: wired channels are named with the IoU geometry gives, noise and dead ones are not."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from neuron_consistency.data.broden import CATEGORIES, BrodenSet
from neuron_consistency.dissection.measure import dissect, dissection_size, unit_labels, unit_masks, unit_thresholds
from neuron_consistency.dissection.overlap import Tally, partners
from neuron_consistency.dissection.tables import category_shares
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier, build_model
from planted import CORNERS, DEAD, LABELS, NOISE, SIZE, THRESHOLDS, WIRED_IOU, planted_classifier, write_set

CPU = torch.device("cpu")


@pytest.fixture
def planted() -> Classifier:
    return planted_classifier()


@pytest.fixture(scope="module")
def broden(tmp_path_factory: pytest.TempPathFactory) -> BrodenSet:
    return BrodenSet.open(write_set(tmp_path_factory.mktemp("planted") / "broden"), min_frequency=1)


@pytest.fixture
def tally(planted: Classifier, broden: BrodenSet) -> Tally:
    return dissect(planted, "maps", broden, thresholds=THRESHOLDS, image_size=SIZE, device=CPU, chance=True)


def stored(model: Classifier, broden: BrodenSet) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Everything at once: all maps, all labels."""
    batches = list(broden.batches(len(broden), image_size=SIZE))
    (_, images, labels) = batches[0]
    return model.network.get_submodule("detectors")(images), labels


def naive_iou(maps: Tensor, labels: list[dict[str, Tensor]], thresholds: Tensor, concept: pd.Series) -> Tensor:
    """IoU of every unit with one concept, straight from the definition."""
    masks = functional.interpolate(maps, size=(LABELS, LABELS), mode="bilinear", align_corners=False)
    masks = masks > thresholds[:, None, None]
    both, either = torch.zeros(len(thresholds)), torch.zeros(len(thresholds))
    for mask, per_image in zip(masks, labels, strict=True):
        if concept["category"] in per_image:
            values = per_image[concept["category"]]
            here = (values == concept["number"]).any(0)
            here = here.expand(LABELS, LABELS) if values.dim() == 1 else here
            both += (mask & here).sum((1, 2))
            either += (mask | here).sum((1, 2))
    return both / either


def test_a_wired_channel_is_named_in_each_category_with_its_analytic_iou(tally: Tally) -> None:
    units = unit_labels(tally, min_images=1).set_index("unit")
    for unit, category in enumerate(CATEGORIES):
        assert units.loc[unit, "label"] == f"{category}-target"
        assert units.loc[unit, "category"] == category
        assert units.loc[unit, "iou"] == pytest.approx(WIRED_IOU[category], abs=1e-12)
        assert units.loc[unit, "aligned"]


def test_noise_and_a_dead_channel_are_named_nothing(tally: Tally) -> None:
    units = unit_labels(tally, min_images=1).set_index("unit")
    assert not units.loc[[NOISE, DEAD], "aligned"].any()
    assert float(units["iou"][NOISE]) > 0
    assert units.loc[DEAD, ["label", "category"]].isna().all()


def test_streamed_counts_equal_the_definition_on_stored_maps(
    planted: Classifier, broden: BrodenSet, tally: Tally
) -> None:
    """Every unit and concept, also where fields hold several values, and areas only over labelled images."""
    maps, labels = stored(planted, broden)
    iou = tally.iou()
    for column, (_, concept) in enumerate(broden.labels.iterrows()):
        expected = naive_iou(maps, labels, THRESHOLDS, concept)
        torch.testing.assert_close(iou[:, column].float(), expected, equal_nan=True, rtol=1e-6, atol=0)


@pytest.mark.parametrize("quantile", [0.005, 0.02, 0.3])
def test_thresholds_equal_the_kth_largest_stored_value(planted: Classifier, broden: BrodenSet, quantile: float) -> None:
    maps, _ = stored(planted, broden)
    values = maps.transpose(0, 1).flatten(1)
    k = int(np.ceil(quantile * values.shape[1]))
    for batch_size in (1, 7, 64):
        thresholds = unit_thresholds(
            planted, "maps", broden, image_size=SIZE, device=CPU, quantile=quantile, batch_size=batch_size
        )
        torch.testing.assert_close(thresholds, values.sort(1, descending=True).values[:, k - 1], rtol=0, atol=0)


def test_a_capped_threshold_is_near_the_exact_one_for_any_batch_size(planted: Classifier, broden: BrodenSet) -> None:
    def noise_threshold(batch_size: int, max_kept: int | None) -> float:
        found = unit_thresholds(
            planted,
            "maps",
            broden,
            image_size=SIZE,
            device=CPU,
            quantile=0.1,
            batch_size=batch_size,
            max_kept=max_kept,
        )
        return float(found[NOISE])

    assert noise_threshold(3, 150) == noise_threshold(40, 150)
    assert noise_threshold(40, 150) != noise_threshold(40, None)
    assert noise_threshold(40, 150) == pytest.approx(noise_threshold(40, None), abs=0.05)


def test_batch_size_changes_no_count(planted: Classifier, broden: BrodenSet, tally: Tally) -> None:
    for batch_size in (1, 7):
        again = dissect(
            planted,
            "maps",
            broden,
            thresholds=THRESHOLDS,
            image_size=SIZE,
            device=CPU,
            chance=True,
            batch_size=batch_size,
        )
        for name in ("intersection", "chance_intersection", "unit_area", "concept_area", "best_images"):
            assert torch.equal(getattr(again, name), getattr(tally, name)), name


def test_shuffled_labels_take_the_correspondence_away_and_nothing_else(tally: Tally) -> None:
    shuffled = tally.shuffled()
    assert torch.equal(shuffled.concept_area, tally.concept_area)
    real, chance = (unit_labels(t, min_images=1)["iou"][:6].mean() for t in (tally, shuffled))
    assert chance < 0.75 * real
    for category, columns in tally.concepts.groupby("category").groups.items():  # what leaves a label enters another
        if category in CORNERS:
            unit = CATEGORIES.index(category)
            assert shuffled.intersection[unit, list(columns)].sum() < tally.intersection[unit, list(columns)].sum()


def test_partners_are_other_labelled_images_each_taken_once() -> None:
    labelled = torch.tensor([True, False, True, True, False, True])
    taken = partners(labelled, generator=torch.Generator().manual_seed(0))
    assert sorted(taken.tolist()) == list(range(6))
    assert (taken != torch.arange(6)).tolist() == labelled.tolist()
    assert labelled[taken].tolist() == labelled.tolist()


def test_an_attack_is_applied_before_measuring(planted: Classifier, broden: BrodenSet, tally: Tally) -> None:
    """Swapping red and green makes the object channel fire on parts."""
    attacked = dissect(
        planted,
        "maps",
        broden,
        thresholds=THRESHOLDS,
        image_size=SIZE,
        device=CPU,
        attack=lambda model, images: images[:, [1, 0, 2]],
    )
    named = unit_labels(attacked, min_images=1)["label"]
    assert named[CATEGORIES.index("object")] == "part-target"
    assert named[CATEGORIES.index("part")] == "object-target"


def test_best_images_and_masks_show_the_concept(planted: Classifier, broden: BrodenSet, tally: Tally) -> None:
    unit = CATEGORIES.index("scene")
    assert tally.best_images[unit, :4].tolist() == [24, 26, 28, 30]
    assert (tally.best_values[unit, :4] == 1).all()
    images = torch.zeros(2, 3, SIZE, SIZE)
    images[0, 0, :24, :24] = 1  # red, 6x6 map positions
    masks = unit_masks(
        planted, "maps", images, torch.tensor([5, 5]), thresholds=torch.full((8,), 0.6), size=(LABELS, LABELS)
    )
    assert masks.sum((1, 2)).tolist() == [12 * 12 - 1, 0]  # at the border of the map only one corner is cut


def test_hooks_are_removed_and_the_mode_kept(planted: Classifier, broden: BrodenSet) -> None:
    """After success and after an exception in the middle of a pass."""

    def failing(model: nn.Module, images: Tensor) -> Tensor:
        raise RuntimeError("stop")

    planted.train()
    unit_thresholds(planted, "maps", broden, image_size=SIZE, device=CPU)
    with pytest.raises(RuntimeError, match="stop"):
        dissect(planted, "maps", broden, thresholds=torch.zeros(8), image_size=SIZE, device=CPU, attack=failing)
    assert planted.training
    assert not planted.layer_module("maps")._forward_hooks


def test_maps_below_seven_are_refused_with_the_cure(broden: BrodenSet) -> None:
    model = build_model("resnet18", num_classes=4, image_size=64)
    with pytest.raises(ParameterError, match=r"2x2 maps at 64 px.*image_size"):
        unit_thresholds(model, "layer4", broden, image_size=64, device=CPU)


@pytest.mark.parametrize(
    ("architecture", "layer", "size"),
    [("resnet18", "layer4", 224), ("resnet18", "layer2", 64), ("alexnet", "relu5", 128)],
)
def test_dissection_size_is_the_smallest_that_gives_seven(architecture: str, layer: str, size: int) -> None:
    assert dissection_size(build_model(architecture, num_classes=4, image_size=64), layer) == size


def test_too_rare_labels_are_left_out(tally: Tally) -> None:
    units = unit_labels(tally, min_images=9)
    assert "scene-target" not in set(units["label"])
    with pytest.raises(ParameterError, match="min_images=1000"):
        unit_labels(tally, min_images=1000)


def test_shares_count_each_unit_once_with_wilsons_interval(tally: Tally) -> None:
    shares = category_shares(unit_labels(tally, min_images=1))
    assert shares["category"].tolist() == list(CATEGORIES)
    assert (shares["share"] == 1 / 8).all()
    low, high = shares.loc[0, ["low", "high"]]
    assert low == pytest.approx(0.0224, abs=1e-4)  # Wilson, 1 of 8, as in R's prop.test without correction
    assert high == pytest.approx(0.4709, abs=1e-4)


def test_bfloat16_stays_near_the_reference(broden: BrodenSet) -> None:
    model = build_model("alexnet", num_classes=4, image_size=64, seed=2)
    tables = []
    for precision in ("float32", "bfloat16"):
        options: dict[str, Any] = {"image_size": 128, "device": CPU, "precision": precision}
        thresholds = unit_thresholds(model, "relu5", broden, quantile=0.05, **options)
        counted = dissect(model, "relu5", broden, thresholds=thresholds, **options)
        tables.append(unit_labels(counted, min_images=1)["iou"])
    assert (tables[0] - tables[1]).abs().mean() < 0.02
