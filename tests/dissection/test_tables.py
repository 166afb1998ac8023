"""The rows of Table 2 on a planted network: real images find what is wired, every control finds less."""

from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from neuron_consistency.data.broden import CATEGORIES, BrodenSet
from neuron_consistency.dissection import figures
from neuron_consistency.dissection.controls import (
    ADVERSARIAL,
    RANDOM,
    REAL,
    SAME,
    SHUFFLED,
    Dissected,
    dissect_with_controls,
    with_random_weights,
)
from neuron_consistency.dissection.gallery import best_units, example_masks
from neuron_consistency.dissection.tables import (
    before_attack,
    category_shares,
    changes_under_attack,
    commonest_concepts,
    kept_concepts,
    labelled_units,
    offered_concepts,
    summarised,
    table_two,
)
from neuron_consistency.networks.models import Classifier, build_model
from neuron_consistency.plotting import picture_grid
from planted import SIZE, planted_classifier, write_set
from toys import ON


def swapped(model: nn.Module, images: Tensor) -> Tensor:
    """An "attack" that paints red green and green red."""
    return images[:, [1, 0, 2]]


@pytest.fixture(scope="module")
def broden(tmp_path_factory: pytest.TempPathFactory) -> BrodenSet:
    return BrodenSet.open(write_set(tmp_path_factory.mktemp("planted") / "broden"))


@pytest.fixture(scope="module")
def model() -> Classifier:
    return planted_classifier()


@pytest.fixture(scope="module")
def dissected(model: Classifier, broden: BrodenSet) -> dict[str, Dissected]:
    found = dissect_with_controls(
        {"planted": model}, broden, ON, attack=swapped, attacked=24, image_size=SIZE, quantile=0.3
    )
    return dict(found)


def test_every_row_of_the_table_is_there_and_counts_its_images(dissected: dict[str, Dissected]) -> None:
    counts = {name: overlap.images for name, overlap in dissected["planted"].overlaps.items()}
    assert counts == {REAL: 40, SHUFFLED: 40, RANDOM: 40, SAME: 24, ADVERSARIAL: 24}


def test_random_weights_are_measured_once_for_an_architecture(model: Classifier, broden: BrodenSet) -> None:
    """And where all images are attacked, they stand beside the real ones themselves."""
    pair = {"one": model, "other": model}
    found = dict(dissect_with_controls(pair, broden, ON, attack=swapped, image_size=SIZE, quantile=0.3))
    assert found["one"].overlaps[RANDOM] is found["other"].overlaps[RANDOM]
    assert SAME not in found["one"].overlaps
    assert before_attack(labelled_units(found)) == REAL


def test_thresholds_are_the_real_images_unless_own_are_asked_for(model: Classifier, broden: BrodenSet) -> None:
    """At a quantile that no wired channel reaches, its threshold is 0 and its mask is where it fires at all."""
    common: dict[str, Any] = {"attack": lambda _, images: images / 2, "image_size": SIZE, "quantile": 0.05}
    real, own = (
        dict(dissect_with_controls({"": model}, broden, ON, own_thresholds=flag, **common))[""].overlaps[ADVERSARIAL]
        for flag in (False, True)
    )
    assert own.unit_area[6].sum() > 0
    assert not torch.equal(real.unit_area, own.unit_area)


def test_a_part_of_the_images_lowers_the_least_number_in_proportion(dissected: dict[str, Dissected]) -> None:
    """The scenes, images 24 to 31, are not among the 24 attacked: no unit may be named after one."""
    units = labelled_units(dissected, min_images=4)
    assert "scene" in set(units["planted", REAL]["category"])
    assert "scene" not in set(units["planted", SAME]["category"])
    units = labelled_units(dissected, min_images=24)  # of the 24 attacked then 15, and each target is in 16
    assert not units["planted", REAL]["label"].str.contains("target").any()
    assert units["planted", SAME]["label"].str.contains("target").any()


def test_shares_count_each_unit_once_with_wilsons_interval(dissected: dict[str, Dissected]) -> None:
    """Wilson's interval of 1 in 8, as in R's prop.test without correction."""
    units = labelled_units(dissected, min_images=1)["planted", REAL]
    wired = units.assign(category=pd.Series(CATEGORIES), aligned=units["unit"] < 6)
    shares = category_shares({("planted", REAL): wired})
    assert shares["category"].tolist() == list(CATEGORIES)
    assert (shares["share"] == 1 / 8).all()
    assert shares[["low", "high"]].to_numpy()[0] == pytest.approx([0.0224, 0.4709], abs=1e-4)


def test_tables_have_a_row_for_each_set_and_agree(dissected: dict[str, Dissected]) -> None:
    units = labelled_units(dissected, min_images=1)
    sets = list(dissected["planted"].overlaps)
    shares = category_shares(units)
    table = table_two(shares)
    assert list(table.index) == [("planted", name) for name in sets]
    assert list(table.columns) == list(CATEGORIES)
    figures.category_shares(shares)
    summary = summarised(units, dissected)
    assert list(summary.index) == list(table.index)
    assert summary["counted"].tolist() == [40, 40, 40, 24, 24]
    per_set = 100 * shares.groupby("images", sort=False)["share"].sum()
    assert summary["aligned, %"].tolist() == pytest.approx(per_set.tolist())
    change = changes_under_attack(units)
    assert change.columns.tolist() == [SAME, ADVERSARIAL, "change"]
    before, after = summary["aligned, %"].to_numpy()[-2:]
    assert change.to_numpy()[0] == pytest.approx([before, after, after - before])


def test_kept_concepts_count_those_that_stay(dissected: dict[str, Dissected]) -> None:
    units = labelled_units(dissected, min_images=1)
    same = {("still", SAME): units["planted", SAME], ("still", ADVERSARIAL): units["planted", SAME]}
    rows = kept_concepts(units | same).to_dict("index")
    aligned = int(units["planted", SAME]["aligned"].sum())
    assert rows["still"] == {"aligned": aligned, "of these the same, %": 100}
    assert rows["planted"]["aligned"] == aligned
    assert rows["planted"]["of these the same, %"] < 100


def test_the_commonest_concepts_are_counted_over_units(dissected: dict[str, Dissected]) -> None:
    units = labelled_units(dissected, min_images=1)
    real = units["planted", REAL]
    first = real.iloc[[0, 0, 2, 3]].assign(iou=[0.5, 0.7, 0.9, 0.9], aligned=[True, True, False, False])
    (row,) = commonest_concepts({("planted", REAL): first, ("planted", SAME): real}).reset_index().to_dict("records")
    assert (row["label"], row["neurons"], row["best"]) == (real["label"][0], 2, 0.7)


def test_the_best_units_are_shown_inside_their_concept(
    model: Classifier, broden: BrodenSet, dissected: dict[str, Dissected]
) -> None:
    best = best_units(labelled_units(dissected, min_images=1)["planted", REAL], count=3)
    assert best["label"].is_unique
    grid = example_masks(model, broden, ON, dissected=dissected["planted"], units=best, count=2)
    assert [len(pictures) for _, pictures in grid.rows] == [2, 2, 2]
    regions = [picture.bright for _, pictures in grid.rows for picture in pictures]
    assert all(region is not None and region.shape == (SIZE, SIZE) for region in regions)
    picture_grid(grid)


def test_offered_concepts_count_labels_images_and_pixels(dissected: dict[str, Dissected]) -> None:
    offered = offered_concepts(dissected["planted"].overlaps[REAL], (28, 28), min_images=1)
    assert list(offered.loc["scene"]) == [2, 4, 100 * 4 / 40]
    assert list(offered.index) == list(CATEGORIES)


def test_random_weights_change_every_layer_and_leave_the_model_alone() -> None:
    model = build_model("resnet18", num_classes=4, image_size=64, seed=3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    blank = with_random_weights(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    for (name, old), new in zip(model.named_parameters(), blank.parameters(), strict=True):
        assert old.ndim == 1 or not torch.equal(old, new), name
