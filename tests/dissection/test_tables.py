"""The rows of Table 2 on a planted network: real images find what is wired, every control finds less."""

from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from neuron_consistency.data.broden import CATEGORIES, BrodenSet
from neuron_consistency.dissection import figures as dissection_figures
from neuron_consistency.dissection.gallery import best_units, example_masks
from neuron_consistency.dissection.tables import (
    ADVERSARIAL,
    RANDOM,
    REAL,
    SAME,
    SHUFFLED,
    Dissected,
    category_shares,
    dissect_with_controls,
    kept_concepts,
    offered_concepts,
    table_two,
    with_random_weights,
)
from neuron_consistency.networks.models import Classifier, build_model
from neuron_consistency.plotting import picture_grid
from planted import SIZE, planted_classifier, write_set


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
def dissected(model: Classifier, broden: BrodenSet) -> Dissected:
    return dissect_with_controls(
        model, broden, attack=swapped, attacked=24, device=torch.device("cpu"), image_size=SIZE, quantile=0.3
    )


def test_every_row_of_the_table_is_there_and_counts_its_images(dissected: Dissected) -> None:
    counts = {name: tally.images for name, tally in dissected.tallies.items()}
    assert counts == {REAL: 40, SHUFFLED: 40, RANDOM: 40, SAME: 24, ADVERSARIAL: 24}


def test_thresholds_are_the_real_images_unless_own_are_asked_for(model: Classifier, broden: BrodenSet) -> None:
    """At a quantile that no wired channel reaches, its threshold is 0 and its mask is where it fires at all."""
    common: dict[str, Any] = {"attack": lambda _, images: images / 2, "device": torch.device("cpu"), "image_size": SIZE}
    real, own = (
        dissect_with_controls(model, broden, quantile=0.05, own_thresholds=flag, **common).tallies[ADVERSARIAL]
        for flag in (False, True)
    )
    assert own.unit_area[6].sum() > 0
    assert not torch.equal(real.unit_area, own.unit_area)


def test_a_part_of_the_images_lowers_the_least_number_in_proportion(dissected: Dissected) -> None:
    """The scenes, images 24 to 31, are not among the 24 attacked: no unit may be named after one."""
    assert "scene" in set(dissected.units(REAL, min_images=4)["category"])
    assert "scene" not in set(dissected.units(SAME, min_images=4)["category"])
    assert len(dissected.units(SAME, min_images=40)) == 8


def test_kept_concepts_count_those_that_stay(dissected: Dissected) -> None:
    real = dissected.units(SAME, min_images=1)
    same = kept_concepts(real, real)
    assert same == {"aligned": int(real["aligned"].sum()), "of these the same, %": 100}
    assert kept_concepts(real, dissected.units(ADVERSARIAL, min_images=1))["of these the same, %"] < 100


def test_table_two_has_a_row_for_each_set_and_a_column_for_each_category(dissected: Dissected) -> None:
    shares = pd.concat(
        category_shares(dissected.units(name, min_images=1)).assign(model="planted", images=name)
        for name in dissected.tallies
    )
    table = table_two(shares, CATEGORIES)
    assert list(table.index.get_level_values("images")) == list(dissected.tallies)
    assert list(table.columns) == list(CATEGORIES)
    dissection_figures.category_shares(shares)


def test_the_best_units_are_shown_inside_their_concept(
    model: Classifier, broden: BrodenSet, dissected: Dissected
) -> None:
    best = best_units(dissected.units(REAL, min_images=1), count=3)
    assert best["label"].is_unique
    grid = example_masks(model, broden, dissected, best, count=2)
    assert [len(pictures) for _, pictures in grid.rows] == [2, 2, 2]
    regions = [picture.bright for _, pictures in grid.rows for picture in pictures]
    assert all(region is not None and region.shape == (SIZE, SIZE) for region in regions)
    picture_grid(grid)


def test_offered_concepts_count_labels_images_and_pixels(dissected: Dissected) -> None:
    offered = offered_concepts(dissected.tallies[REAL], pixels=28 * 28, min_images=1)
    assert list(offered.loc["scene"]) == [2, 4, 100 * 4 / 40]
    assert list(offered.index) == list(CATEGORIES)


def test_random_weights_change_every_layer_and_leave_the_model_alone() -> None:
    model = build_model("resnet18", num_classes=4, image_size=64, seed=3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    blank = with_random_weights(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    for (name, old), new in zip(model.named_parameters(), blank.parameters(), strict=True):
        assert old.ndim == 1 or not torch.equal(old, new), name
