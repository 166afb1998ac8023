"""What chapter 5 says of the claims: alignment above chance, before an attack and after it, over neurons and seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import pytest

from neuron_consistency.dissection.controls import ADVERSARIAL, RANDOM, REAL, SAME, shuffled
from neuron_consistency.show import distinct_titles
from neuron_consistency.statistics import OPEN
from neuron_consistency.workflow.claims import read_claims
from neuron_consistency.workflow.findings import dissection_findings
from toys import toy_recipe

NEURONS = 40
Units = dict[tuple[str, str], pd.DataFrame]


def table(*draws: Mapping[range, str]) -> pd.DataFrame:
    """Of forty neurons those aligned, by the category of their concept; a draw below the other."""
    rows = []
    for draw, named in enumerate(draws):
        categories = {neuron: category for neurons, category in named.items() for neuron in neurons}
        rows += [
            {"category": categories.get(neuron), "aligned": neuron in categories, "draw": draw}
            for neuron in range(NEURONS)
        ]
    return pd.DataFrame(rows)


def objects(count: int, *, first: int = 0) -> dict[range, str]:
    return {range(first, first + count): "object"}


def network(before: tuple[int, int], after: tuple[int, int]) -> Units:
    """Numbers aligned: by own labels and, from the last neuron down, in each of ten exchanges."""
    found = {}
    for name, (own, chance) in {REAL: before, SAME: before, ADVERSARIAL: after, RANDOM: (4, 4)}.items():
        found["", name] = table(objects(own))
        found["", shuffled(name)] = table(*[objects(chance, first=NEURONS - chance)] * 10)
    return found


def findings(nets: Mapping[tuple[str, int], Units]) -> dict[tuple[str, str], dict[str, Any]]:
    """Rows by claim and case, of networks by objective and seed."""
    recipes = [toy_recipe(objective, seed) for objective, seed in nets]
    titles = distinct_titles(recipes)
    units = {
        (titles[recipe.key], name): labels
        for recipe, own in zip(recipes, nets.values(), strict=True)
        for (_, name), labels in own.items()
    }
    rows = dissection_findings(recipes, titles, units)
    assert {row["claim"] for row in rows} <= read_claims().keys()
    return {(row["claim"], row["case"].removeprefix("ResNet-18, ")): row for row in rows}


def test_each_claim_has_its_number() -> None:
    """By hand: 30 of 40 above 2 by chance; the attack leaves the normal network 10, the trained one all."""
    found = findings({("normal", 0): network((30, 2), (10, 2)), ("consistent", 0): network((30, 2), (30, 2))})
    trained = next(case for claim, case in found if claim == "training-keeps-concepts-beyond-chance")
    assert trained.startswith("consistent")
    assert {key: row["value"] for key, row in found.items()} == {
        ("neurons-have-concepts", "normal, seed 0"): 70.0,
        ("neurons-have-concepts", "normal, seed 0 [null: random weights]"): 0.0,
        ("concepts-lost-beyond-chance", "normal, seed 0"): -50.0,
        ("high-level-concepts-lost-more", "normal, seed 0"): -50.0,
        ("training-keeps-concepts-beyond-chance", trained): 50.0,
    }
    null = ("neurons-have-concepts", "normal, seed 0 [null: random weights]")
    assert {key for key, row in found.items() if row["verdict"] == "holds"} == found.keys() - {null}


def test_a_network_aligned_by_chance_alone_loses_nothing() -> None:
    """Planted: 20 of 40 aligned, all by chance, and under attack 5. The share falls by 37 points, none above chance."""
    ((_, row),) = (
        item
        for item in findings({("normal", 0): network((20, 20), (5, 5))}).items()
        if "concepts-lost" in item[0][0] and "high" not in item[0][0]
    )
    assert row["value"] == 0
    assert row["low"] < 0 < row["high"]
    assert row["verdict"] == OPEN


def test_levels_of_concepts_are_told_apart() -> None:
    """By hand: an attack takes 12 of 20 objects and 4 of 10 textures, while chance gives each of them none."""
    units = network((0, 0), (0, 0))
    units["", SAME] = table({range(20): "object", range(20, 30): "texture"})
    units["", ADVERSARIAL] = table({range(8): "object", range(20, 26): "texture"})
    row = findings({("normal", 0): units})["high-level-concepts-lost-more", "normal, seed 0"]
    assert row["value"] == pytest.approx(100 * (-12 + 4) / NEURONS)


def test_seeds_are_one_case_whose_interval_covers_them() -> None:
    """Three seeds that lose 10, 20 and 30 of 40: as one case, with an interval wider than that of neurons alone."""
    left = {0: 30, 1: 20, 2: 10}
    found = findings({("normal", seed): network((40, 0), (count, 0)) for seed, count in left.items()})
    assert {case for _, case in found} == {"normal, 3 seeds", "normal, 3 seeds [null: random weights]"}
    row = found["concepts-lost-beyond-chance", "normal, 3 seeds"]
    assert row["value"] == pytest.approx(-50.0)
    assert row["high"] - row["value"] > 4.3 * 25 / 3**0.5  # Student's of three seeds, which lie 25 points apart


def test_the_null_covers_the_random_networks() -> None:
    """Of three random networks 4, 8 and 12 neurons are aligned and none by chance: the spread is in the interval."""
    units = network((30, 2), (30, 2))
    units["", RANDOM] = table(objects(4), objects(8), objects(12))
    units["", shuffled(RANDOM)] = table(*[{}] * 30)
    row = findings({("normal", 0): units})["neurons-have-concepts", "normal, seed 0 [null: random weights]"]
    assert row["value"] == pytest.approx(20.0)
    assert row["low"] < 20 - 4.3 * 10 / 3**0.5
