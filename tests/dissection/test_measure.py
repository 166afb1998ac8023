"""Dissection on a planted set: wired channels are named with the IoU geometry gives, noise and dead ones are not."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from neuron_consistency.data.broden import CATEGORIES, BrodenSet
from neuron_consistency.dissection import measure
from neuron_consistency.dissection.measure import (
    LayerMaps,
    dissect,
    dissect_beside_chance,
    dissection_size,
    unit_labels,
    unit_masks,
    unit_thresholds,
)
from neuron_consistency.dissection.overlap import Overlap, partners
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier, build_model
from planted import CORNERS, DEAD, LABELS, NOISE, SIZE, THRESHOLDS, WIRED_IOU, planted_classifier, write_set
from toys import ON


@pytest.fixture
def planted() -> Classifier:
    return planted_classifier()


@pytest.fixture(scope="module")
def broden(tmp_path_factory: pytest.TempPathFactory) -> BrodenSet:
    return BrodenSet.open(write_set(tmp_path_factory.mktemp("planted") / "broden"))


def maps_of(model: Classifier, broden: BrodenSet, *, batch_size: int = 32, **options: Any) -> LayerMaps:
    return LayerMaps(model, broden, replace(ON, batch_size=batch_size), layer="maps", image_size=SIZE, **options)


@pytest.fixture
def overlap(planted: Classifier, broden: BrodenSet) -> Overlap:
    return dissect(maps_of(planted, broden), thresholds=THRESHOLDS)


def stored(model: Classifier, broden: BrodenSet) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Everything at once: all maps, all labels."""
    ((_, images),) = broden.image_batches(len(broden), image_size=SIZE)
    (labels,) = broden.label_batches(len(broden))
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


def test_a_wired_channel_is_named_in_each_category_with_its_analytic_iou(overlap: Overlap) -> None:
    units = unit_labels(overlap, min_images=1).set_index("unit")
    for unit, category in enumerate(CATEGORIES):
        assert units.loc[unit, "label"] == f"{category}-target"
        assert units.loc[unit, "category"] == category
        assert units.loc[unit, "iou"] == pytest.approx(WIRED_IOU[category], abs=1e-12)
        assert units.loc[unit, "aligned"]


def test_noise_and_a_dead_channel_are_named_nothing(overlap: Overlap) -> None:
    units = unit_labels(overlap, min_images=1).set_index("unit")
    assert not units.loc[[NOISE, DEAD], "aligned"].any()
    assert float(units["iou"][NOISE]) > 0
    assert units.loc[DEAD, ["label", "category"]].isna().all()


def test_streamed_counts_equal_the_definition_on_stored_maps(
    planted: Classifier, broden: BrodenSet, overlap: Overlap
) -> None:
    """Every unit and concept, also where fields hold several values, and areas only over labelled images."""
    maps, labels = stored(planted, broden)
    iou = overlap.iou()
    for column, (_, concept) in enumerate(broden.labels.iterrows()):
        expected = naive_iou(maps, labels, THRESHOLDS, concept)
        torch.testing.assert_close(iou[:, column].float(), expected, equal_nan=True, rtol=1e-6, atol=0)


@pytest.mark.parametrize("quantile", [0.005, 0.02, 0.3])
def test_thresholds_equal_the_kth_largest_stored_value(planted: Classifier, broden: BrodenSet, quantile: float) -> None:
    maps, _ = stored(planted, broden)
    values = maps.transpose(0, 1).flatten(1)
    k = int(np.ceil(quantile * values.shape[1]))
    for batch_size in (1, 7, 64):
        thresholds = unit_thresholds(maps_of(planted, broden, batch_size=batch_size), quantile=quantile)
        torch.testing.assert_close(thresholds, values.sort(1, descending=True).values[:, k - 1], rtol=0, atol=0)


def test_a_capped_threshold_is_near_the_exact_one_for_any_batch_size(planted: Classifier, broden: BrodenSet) -> None:
    def noise_threshold(batch_size: int, max_kept: int) -> float:
        maps = maps_of(planted, broden, batch_size=batch_size)
        return float(unit_thresholds(maps, quantile=0.1, max_kept=max_kept)[NOISE])

    assert noise_threshold(3, 150) == noise_threshold(40, 150)
    assert noise_threshold(40, 150) != noise_threshold(40, 0)
    assert noise_threshold(40, 150) == pytest.approx(noise_threshold(40, 0), abs=0.05)


def same_counts(one: Overlap, other: Overlap) -> bool:
    names = ("intersection", "unit_area", "concept_area", "concept_images", "best_images")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)


@pytest.mark.parametrize("batch_size", [1, 7])
def test_batch_size_changes_no_count(planted: Classifier, broden: BrodenSet, batch_size: int) -> None:
    one, other = (maps_of(planted, broden, batch_size=size) for size in (32, batch_size))
    pairs = zip(*(dissect_beside_chance(maps, thresholds=THRESHOLDS) for maps in (one, other)), strict=True)
    assert all(same_counts(*pair) for pair in pairs)


@pytest.mark.parametrize("room", [2**30, 0], ids=["kept", "computed anew"])
def test_the_network_runs_once_where_its_maps_have_room(
    planted: Classifier, broden: BrodenSet, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """Two passes over all images and one over the first ten give what maps made for each of them give."""
    monkeypatch.setattr(measure, "KEPT_BYTES", room)
    runs: list[int] = []
    handle = planted.register_forward_hook(lambda _module, inputs, _output: runs.append(len(inputs[0])))
    maps = maps_of(planted, broden, batch_size=7)
    found = [dissect(maps, thresholds=THRESHOLDS) for _ in range(2)] + [dissect(maps.head(10), thresholds=THRESHOLDS)]
    handle.remove()
    for counted, part in zip(found, (broden, broden, broden.head(10)), strict=True):
        assert same_counts(counted, dissect(maps_of(planted, part), thresholds=THRESHOLDS))
    assert sum(runs) == (40 if room else 90)


def test_shuffled_labels_take_the_correspondence_away_and_nothing_else(
    planted: Classifier, broden: BrodenSet, overlap: Overlap
) -> None:
    own, shuffled = dissect_beside_chance(maps_of(planted, broden), thresholds=THRESHOLDS)
    assert same_counts(own, overlap)
    for name in ("unit_area", "concept_area", "concept_images"):
        assert torch.equal(getattr(shuffled, name), getattr(own, name)), name
    real, chance = (unit_labels(counted, min_images=1)["iou"][:6].mean() for counted in (own, shuffled))
    assert chance < 0.75 * real
    for category, columns in own.concepts.groupby("category").groups.items():  # what leaves a label enters another
        if category in CORNERS:
            unit = CATEGORIES.index(category)
            assert shuffled.intersection[unit, list(columns)].sum() < own.intersection[unit, list(columns)].sum()


def test_partners_are_other_labelled_images_each_taken_once() -> None:
    labelled = torch.tensor([True, False, True, True, False, True])
    taken = partners(labelled, generator=torch.Generator().manual_seed(0))
    assert sorted(taken.tolist()) == list(range(6))
    assert (taken != torch.arange(6)).tolist() == labelled.tolist()
    assert labelled[taken].tolist() == labelled.tolist()


def test_an_attack_is_applied_before_measuring(planted: Classifier, broden: BrodenSet) -> None:
    """Swapping red and green makes the object channel fire on parts."""
    attacked = maps_of(planted, broden, attack=lambda model, images: images[:, [1, 0, 2]])
    named = unit_labels(dissect(attacked, thresholds=THRESHOLDS), min_images=1)["label"]
    assert named[CATEGORIES.index("object")] == "part-target"
    assert named[CATEGORIES.index("part")] == "object-target"


def test_best_images_and_masks_show_the_concept(planted: Classifier, overlap: Overlap) -> None:
    assert overlap.best_images[CATEGORIES.index("scene"), :4].tolist() == [24, 26, 28, 30]
    images = torch.zeros(2, 3, SIZE, SIZE)
    images[0, 0, :24, :24] = 1  # red, 6x6 map positions
    masks = unit_masks(planted, images, ON, layer="maps", unit=5, threshold=0.6, size=(LABELS, LABELS))
    assert masks.sum((1, 2)).tolist() == [12 * 12 - 1, 0]  # at the border of the map only one corner is cut


def test_hooks_are_removed_and_the_mode_kept(planted: Classifier, broden: BrodenSet) -> None:
    """After success and after an exception in the middle of a pass."""

    def failing(model: nn.Module, images: Tensor) -> Tensor:
        raise RuntimeError("stop")

    planted.train()
    unit_thresholds(maps_of(planted, broden))
    with pytest.raises(RuntimeError, match="stop"):
        dissect(maps_of(planted, broden, attack=failing), thresholds=THRESHOLDS)
    assert planted.training
    assert not planted.layer_module("maps")._forward_hooks


def test_what_cannot_be_dissected_is_refused_with_the_cure(planted: Classifier, broden: BrodenSet) -> None:
    model = build_model("resnet18", num_classes=4, image_size=64)
    with pytest.raises(ParameterError, match=r"2x2 maps at 64 px.*image_size"):
        unit_thresholds(LayerMaps(model, broden, ON, layer="layer4", image_size=64))
    with pytest.raises(ParameterError, match="no layer 'layer9'"):
        LayerMaps(model, broden, ON, layer="layer9", image_size=64)
    with pytest.raises(ParameterError, match="quantile=0"):
        unit_thresholds(maps_of(planted, broden), quantile=0)
    with pytest.raises(ParameterError, match="7 thresholds for the 8 units of 'maps'"):
        dissect(maps_of(planted, broden), thresholds=THRESHOLDS[:7])


@pytest.mark.parametrize(
    ("architecture", "layer", "size"),
    [("resnet18", "layer4", 224), ("resnet18", "layer2", 64), ("alexnet", "relu5", 128)],
)
def test_dissection_size_is_the_smallest_that_gives_seven(architecture: str, layer: str, size: int) -> None:
    assert dissection_size(build_model(architecture, num_classes=4, image_size=64), layer) == size


def test_too_rare_labels_are_left_out(overlap: Overlap) -> None:
    units = unit_labels(overlap, min_images=9)
    assert "scene-target" not in set(units["label"])
    with pytest.raises(ParameterError, match="min_images=1000"):
        unit_labels(overlap, min_images=1000)


def test_bfloat16_stays_near_the_reference(broden: BrodenSet) -> None:
    model = build_model("alexnet", num_classes=4, image_size=64, seed=2)
    tables = []
    for precision in ("float32", "bfloat16"):
        maps = LayerMaps(model, broden, replace(ON, precision=precision), layer="relu5", image_size=128)
        counted = dissect(maps, thresholds=unit_thresholds(maps, quantile=0.05))
        tables.append(unit_labels(counted, min_images=1)["iou"])
    assert (tables[0] - tables[1]).abs().mean() < 0.02
