"""Tables as a page shows them."""

import math

import pandas as pd

from neuron_consistency.explanation.filter_groups import FilterGroups
from neuron_consistency.show import distinct_titles, in_words, matched, seed_groups, with_intervals
from neuron_consistency.training.objective import Objective
from neuron_consistency.training.recipes import Recipe
from toys import toy_recipe


def test_bounds_join_their_value_and_other_columns_are_rounded() -> None:
    """Were a bound joined to another column's value, a page would show a wrong interval."""
    table = pd.DataFrame({"m": [2.34567], "U": [0.5], "U low": [0.25], "U high": [0.75], "U chance": [0.12345]})
    shown = with_intervals(table, decimals=2)
    assert shown.to_dict("records") == [{"m": 2.35, "U": "0.50 (0.25 to 0.75)", "U chance": 0.12}]


def test_bare_bounds_belong_to_the_column_before_them() -> None:
    table = pd.DataFrame({"U": [0.5], "difference": [-0.1], "low": [-0.2], "high": [0.1], "verdict": ["lower"]})
    assert with_intervals(table, decimals=1).to_dict("records") == [
        {"U": 0.5, "difference": "-0.1 (-0.2 to 0.1)", "verdict": "lower"}
    ]


def test_networks_with_the_same_title_are_told_apart_by_key() -> None:
    """Tables are filed by title: two networks under one would overwrite each other."""
    recipes = [Recipe(**vars(toy_recipe(loss=Objective(epsilon=epsilon)))) for epsilon in (0.1, 0.2)]
    assert len(set(distinct_titles(recipes).values())) == len({recipe.key for recipe in recipes}) == 2


def test_networks_are_matched_by_architecture_and_seed() -> None:
    """A difference between two networks that differ in more than the objective says nothing of the objective."""
    kinds = [(name, seed) for name in ("resnet18", "alexnet") for seed in (0, 1)]
    recipes = [
        toy_recipe(objective, seed, architecture=name) for objective in ("normal", "consistent") for name, seed in kinds
    ]
    found = matched(recipes, "consistent", "normal")
    assert [(a.objective, b.objective) for a, b in found] == [("consistent", "normal")] * 4
    assert [(a.architecture, a.seed) for a, _ in found] == [(b.architecture, b.seed) for _, b in found] == kinds
    others = [toy_recipe(filter_groups=FilterGroups()), toy_recipe(data={"name": "scenes", "image_size": 16})]
    assert matched([toy_recipe("consistent"), *others], "consistent", "normal") == []


def test_seeds_of_one_training_are_one_group() -> None:
    """Another loss is another training, though its title is the same."""
    seeds = [toy_recipe(seed=seed) for seed in (0, 1, 2)]
    other = toy_recipe("consistent", loss=Objective(beta=2.0))
    titles = {recipe.key: f"{recipe.title}, seed {recipe.seed}" for recipe in [*seeds, other]}
    groups = seed_groups([(recipe,) for recipe in [*seeds, other]], titles)
    assert {name: len(rows) for name, rows in groups.items()} == {
        "ResNet-18, normal, 3 seeds": 3,
        "ResNet-18, consistent (beta 2), seed 0": 1,
    }


def test_a_gap_is_said_and_a_small_number_is_not_shown_as_zero() -> None:
    """Were a gap "nan", or 0.0004 shown as 0.000, a reader would take both for what was measured."""
    nan = math.nan
    table = pd.DataFrame({"U": [0.5, nan, 0.25], "U low": [0.0004, 0.1, nan], "U high": [math.inf, 0.2, nan]})
    assert with_intervals(table)["U"].tolist() == ["0.500 (0.0004 to ∞)", "not measured", "0.250 (no interval)"]


def test_a_series_is_told_in_words() -> None:
    """Who cannot see a figure hears its numbers under their names; of many, the ends."""
    index = pd.MultiIndex.from_tuples([("a", "real"), ("a", "FGSM"), ("b", "real")])
    values = pd.Series([0.5, 0.125, math.nan], index=index)
    assert in_words(values) == "a, real: 0.50; a, FGSM: 0.12; b, real: not measured"
    assert in_words(values, decimals=1, most=2) == "3 values, from a, FGSM: 0.1 to a, real: 0.5"
