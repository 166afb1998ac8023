"""The rows of Table 2 on a planted network: real images find what is wired, every control finds less."""

from collections.abc import Mapping
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
    Dissected,
    dissect_with_controls,
    shuffled,
)
from neuron_consistency.dissection.gallery import best_units, example_masks
from neuron_consistency.dissection.measure import LayerMaps, dissect, unit_labels, unit_thresholds
from neuron_consistency.dissection.overlap import Overlap
from neuron_consistency.dissection.tables import (
    above_chance,
    aligned_with,
    before_attack,
    category_shares,
    changes_under_attack,
    commonest_concepts,
    kept_concepts,
    labelled_units,
    mean_above_chance,
    offered_concepts,
    summarised,
    table_two,
)
from neuron_consistency.networks.models import Classifier, build_model
from neuron_consistency.plotting import picture_grid
from neuron_consistency.runtime import Runtime
from planted import NOISE, SIZE, Detectors, planted_classifier, write_set
from toys import CPU, ON

SETS = [set_name for name in (REAL, RANDOM, SAME, ADVERSARIAL) for set_name in (name, shuffled(name))]


def swapped(model: nn.Module, images: Tensor) -> Tensor:
    """An "attack" that paints red green and green red."""
    return images[:, [1, 0, 2]]


class Flat(nn.Module):
    """Channels that differ by a thousandth from place to place, the first `silent` of them none: random weights."""

    def __init__(self, silent: int) -> None:
        super().__init__()
        self.silent = silent

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = 1 + 1e-3 * Detectors()(images)[:, [0, 1, 2, 3, 4, 5, NOISE, NOISE]]
        if torch.is_autocast_enabled("cpu"):
            maps = maps.bfloat16()
        maps[:, : self.silent] = 0
        return maps


class FlatNetwork(nn.Module):
    def __init__(self, silent: int) -> None:
        super().__init__()
        self.detectors = Flat(silent)

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.detectors(images)
        return maps.mean((2, 3))


def flat(_: str, seed: int) -> Classifier:
    """Networks without meaning, of which the second has three silent channels of eight, and the third six."""
    model = planted_classifier()
    model.network = FlatNetwork(3 * seed)
    return model


@pytest.fixture(scope="module")
def broden(tmp_path_factory: pytest.TempPathFactory) -> BrodenSet:
    return BrodenSet.open(write_set(tmp_path_factory.mktemp("planted") / "broden"))


@pytest.fixture(scope="module")
def model() -> Classifier:
    return planted_classifier()


@pytest.fixture(scope="module")
def dissected(model: Classifier, broden: BrodenSet) -> dict[str, Dissected]:
    found = dissect_with_controls(
        {"planted": model},
        broden,
        ON,
        blank=flat,
        attack=swapped,
        attacked=24,
        exchanges=2,
        image_size=SIZE,
        quantile=0.3,
    )
    return dict(found)


def test_every_row_of_the_table_is_there_and_counts_its_images(dissected: dict[str, Dissected]) -> None:
    counts = {name: [one.images for one in counted] for name, counted in dissected["planted"].overlaps.items()}
    assert list(counts) == SETS
    assert counts[REAL] == [40]
    assert counts[RANDOM] == [40] * 3
    assert counts[shuffled(REAL)] == [40] * 2
    assert counts[shuffled(RANDOM)] == [40] * 6
    assert counts[SAME] == counts[ADVERSARIAL] == [24]
    assert counts[shuffled(SAME)] == counts[shuffled(ADVERSARIAL)] == [24] * 2


def test_random_weights_are_measured_once_for_an_architecture(model: Classifier, broden: BrodenSet) -> None:
    """And where all images are attacked, they stand beside the real ones themselves."""
    pair = {"one": model, "other": model}
    found = dict(dissect_with_controls(pair, broden, ON, blank=flat, attack=swapped, image_size=SIZE, quantile=0.3))
    assert found["one"].overlaps[RANDOM] is found["other"].overlaps[RANDOM]
    assert SAME not in found["one"].overlaps
    assert before_attack(labelled_units(found)) == REAL


def test_thresholds_are_the_real_images_unless_own_are_asked_for(model: Classifier, broden: BrodenSet) -> None:
    """At a quantile that no wired channel reaches, its threshold is 0 and its mask is where it fires at all."""
    common: dict[str, Any] = {"attack": lambda _, images: images / 2, "image_size": SIZE, "quantile": 0.05}
    common |= {"blank": flat, "exchanges": 1, "random_networks": 1}

    def attacked(*, own: bool) -> Overlap:
        found = dict(dissect_with_controls({"": model}, broden, ON, own_thresholds=own, **common))
        return found[""].overlaps[ADVERSARIAL][0]

    real, own = attacked(own=False), attacked(own=True)
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
    assert sets == SETS
    assert list(table.columns) == list(CATEGORIES)
    figures.category_shares(shares)
    summary = summarised(units, dissected)
    assert list(summary.index) == list(table.index)
    assert summary["counted"].tolist() == [40] * 4 + [24] * 4
    assert (
        (summary["aligned, % low"] <= summary["aligned, %"]) & (summary["aligned, %"] <= summary["aligned, % high"])
    ).all()
    per_set = 100 * shares.groupby("images", sort=False)["share"].sum()
    assert summary["aligned, %"].tolist() == pytest.approx(per_set.tolist())
    change = changes_under_attack(units)
    before, chance_before, after, chance_after = summary["aligned, %"].to_numpy()[-4:]
    assert change.columns[:3].tolist() == [SAME, ADVERSARIAL, "change"]
    assert change.to_numpy()[0, :3] == pytest.approx([before, after, after - before])
    above = before - chance_before, after - chance_after
    assert change.to_numpy()[0, 3:] == pytest.approx([*above, above[1] - above[0]])


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
    offered = offered_concepts(dissected["planted"].overlaps[REAL][0], (28, 28), min_images=1)
    assert list(offered.loc["scene"]) == [2, 4, 100 * 4 / 40]
    assert list(offered.index) == list(CATEGORIES)


def test_silent_random_networks_are_seen_as_such_and_their_spread_is_shown(broden: BrodenSet) -> None:
    """Planted: of 8 channels 0, 3 and 6 are silent. A null of few aligned channels would be taken for a chance level.

    The run is in bfloat16, in which all other channels are flat too: random weights have to be in float32.
    """
    rounded = Runtime(CPU, "bfloat16", 40)
    options: dict[str, Any] = {"blank": flat, "attack": swapped, "image_size": SIZE, "quantile": 0.3}
    found = dict(dissect_with_controls({"": planted_classifier()}, broden, rounded, **options))
    units = labelled_units(found, min_images=1)
    masked = [int(labels["masked"].sum()) for _, labels in units["", RANDOM].groupby("draw")]
    assert masked == [8, 5, 2]
    summary = summarised(units, found).loc["", :]
    assert summary.loc[RANDOM, "with a mask, %"] == pytest.approx(100 * 15 / 24)
    assert summary.loc[REAL, "with a mask, %"] == 100 * 7 / 8  # one channel is dead
    assert (8 * aligned_with(units["", RANDOM]).mean(1)).tolist() == masked
    ends = [summary.loc[RANDOM, name] for name in ("aligned, %", "aligned, % low", "aligned, % high")]
    assert ends == [62.5, 0, 100]  # three networks that differ so leave all open


def test_the_networks_that_training_starts_from_respond(broden: BrodenSet) -> None:
    """With PyTorch's own initialisation VGG-16 has a mask in a third of its neurons, and none is ever aligned."""
    start = build_model("vgg16", num_classes=4, image_size=64, seed=1)
    maps = LayerMaps(start, broden.head(12), ON, layer=start.last_layer, image_size=112)
    units = unit_labels(dissect(maps, thresholds=unit_thresholds(maps, quantile=0.05)), min_images=1)
    assert units["masked"].mean() > 0.95


def labels_of(*draws: Mapping[int, str]) -> pd.DataFrame:
    """A table of ten units; each draw has the categories of the units that are aligned."""
    rows = [
        {"unit": unit, "category": named.get(unit), "aligned": unit in named, "draw": draw}
        for draw, named in enumerate(draws)
        for unit in range(10)
    ]
    return pd.DataFrame(rows)


def test_what_is_above_chance_is_counted_unit_by_unit() -> None:
    """By hand: units 0 and 1 are aligned, unit 1 and 2 by chance in one exchange, none in the other."""
    units = {
        ("net", REAL): labels_of({0: "object", 1: "color"}),
        ("net", shuffled(REAL)): labels_of({1: "color", 2: "object"}, {}),
    }
    every = above_chance(units, "net", REAL)
    assert every.tolist() == [[[100, 0, -100] + [0] * 7, [100, 100] + [0] * 8]]
    assert above_chance(units, "net", REAL, ["object"]).mean((0, 1)).tolist() == [100, 0, -50] + [0] * 7


def test_each_random_network_is_held_against_exchanges_of_its_own() -> None:
    """By hand: two networks with one and two aligned units, by chance none and two, in both of two exchanges."""
    both = [{0: "object"}, {0: "object", 1: "object"}]
    chance = [{}, {}, {8: "object", 9: "object"}, {8: "object", 9: "object"}]
    units = {("net", RANDOM): labels_of(*both), ("net", shuffled(RANDOM)): labels_of(*chance)}
    assert above_chance(units, "net", RANDOM).sum(2).tolist() == [[100, 100], [0, 0]]


def test_the_interval_covers_what_an_exchange_moves_in_all_units_at_once() -> None:
    """Own labels that are one more exchange are 95 times in 100 within the interval, however many units there are.

    A thousand units that follow the images together: over units alone the interval would miss in most trials.
    """
    generator = torch.Generator().manual_seed(0)
    trials, missed, alone = 400, 0, 0
    for _ in range(trials):
        levels = 30 + 4 * torch.randn(11, generator=generator, dtype=torch.float64)  # the first is the images' own
        units = levels[:, None] + 20 * torch.randn(11, 1000, generator=generator, dtype=torch.float64)
        found = mean_above_chance((units[:1] - units[1:])[None])
        missed += not found.low < 0 < found.high
        alone += abs(found.value) > 1.96 * 20 * (1.1 / 1000) ** 0.5
    assert missed / trials < 0.08
    assert alone / trials > 0.5
