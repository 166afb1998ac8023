"""Recipes: what a notebook's parameters ask for, and the keys that tell networks apart."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from neuron_consistency import runtime, versions
from neuron_consistency.errors import ParameterError, StoreError
from neuron_consistency.explanation.filter_groups import FilterGroups
from neuron_consistency.explanation.weighting import Weighting
from neuron_consistency.training import recipes
from neuron_consistency.training.recipes import Recipe
from planned import CORRELATED, GROUPING, WEIGHING, planned, planned_one

pytestmark = pytest.mark.usefixtures("toy_data")


def test_every_architecture_objective_and_seed_is_planned() -> None:
    found = planned(architectures=["alexnet", "vgg16"], seeds=[3, 4], epochs_of={"vgg16": 9})
    assert len({recipe.key for recipe in found}) == len({recipe.path for recipe in found}) == len(found) == 2 * 3 * 2
    assert found[0].name == "alexnet-normal-s3"
    assert {recipe.schedule.epochs for recipe in found if "vgg16" in recipe.name} == {9}
    assert {recipe.schedule.epochs for recipe in found if "alexnet" in recipe.name} == {1}
    assert {recipe.schedule.seed == recipe.seed for recipe in found} == {True}


def test_what_each_objective_is() -> None:
    normal, consistent, adversarial = (recipe.loss for recipe in planned(beta=2.5))
    assert (normal.alpha, normal.beta) == (1.0, 0.0)
    assert (consistent.alpha, consistent.beta) == (0.5, 2.5)
    assert (adversarial.alpha, adversarial.beta) == (0.5, 0.0)
    assert [recipe.title for recipe in planned(beta=2.5)] == [
        "ResNet-18, normal",
        "ResNet-18, consistent (beta 2.5)",
        "ResNet-18, adversarial",
    ]


def test_weights_that_are_dealt_out_make_another_network_and_leave_the_keys_of_the_others() -> None:
    """Were the field in every spec, all networks weighed before there was a null would be trained again."""
    mean1, permuted = (planned_one(**WEIGHING, objectives=[f"{kind}-mean1"]) for kind in ("reweighted", "permuted"))
    assert mean1.weighting is not None
    assert permuted.weighting == replace(mean1.weighting, permuted=True)
    assert "permuted" not in mean1.spec["weighting"]
    assert Recipe.read("smoke", json.loads(json.dumps(permuted.spec))) == permuted
    assert permuted.key != replace(permuted, weighting=mean1.weighting).key


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "other"},
        {"image_size": 64},
        {"classes": 3},
        {"per_class": 10},
        {"seeds": [1]},
        {"epsilon": 8 / 255},
        {"distance": "raw"},
        {"feature_layer": "layer3"},
        {"attack_label": "predicted"},
        {"norm_statistics": "clean"},
        {"second_example": True},
        {"alpha": 0.4},
        {"beta": 2.0},
        {"epochs": 2},
        {"batch_size": 8},
        {"learning_rate": 2e-3},
        {"weight_decay": 0.0},
        {"precision": "bfloat16"},
        {"weights": "imagenet"},
        {"held_out": 0.1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_change_of_any_parameter_is_another_network(change: dict[str, Any]) -> None:
    assert planned_one(**change).key != planned_one().key


def test_what_does_not_enter_a_training_does_not_change_its_key() -> None:
    """A normal network is the same whatever beta and epsilon Eq. 6 has; other seeds planned beside change nothing."""
    one, two = (planned(objectives=["normal"], **change)[0] for change in ({}, {"beta": 9.0, "epsilon": 0.1}))
    assert one.key == two.key
    assert planned_one().key == planned_one(seeds=[0, 1], architectures=["resnet18", "alexnet"]).key


def test_other_images_are_another_network(monkeypatch: pytest.MonkeyPatch) -> None:
    before = planned_one().key
    monkeypatch.setattr(recipes, "dataset_fingerprint", lambda **_arguments: "other files")
    assert planned_one().key != before


def test_another_version_of_training_is_another_network(monkeypatch: pytest.MonkeyPatch) -> None:
    before = planned_one().key
    monkeypatch.setattr(recipes, "TRAINING", versions.TRAINING + 1)
    assert planned_one().key != before


def test_another_way_to_group_filters_renames_networks_with_groups_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, grouped = planned_one().key, planned_one(**GROUPING).key
    monkeypatch.setattr(recipes, "GROUPS", versions.GROUPS + 1)
    assert planned_one().key == plain
    assert planned_one(**GROUPING).key != grouped


def test_the_key_holds_the_precision_that_auto_comes_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a float32 and a bfloat16 network share a file name, and one passes for the other."""
    for precision in ("float32", "bfloat16"):
        expected = planned_one(precision=precision)
        with monkeypatch.context() as machine:
            machine.setattr(runtime, "has_fast_bfloat16", lambda _device, fast=precision == "bfloat16": fast)
            recipe = planned_one(precision="auto")
        assert recipe.schedule.precision == precision
        assert recipe.key == expected.key


def test_weighted_objectives_carry_their_weighting_and_the_others_none() -> None:
    """What a notebook calls its parameters reaches the field that is meant; old objectives keep their specs."""
    objectives = ["normal", "consistent", "reweighted", "reweighted-mean1", "both"]
    normal, consistent, paper, even, both = planned(objectives=objectives, **WEIGHING)
    assert normal.spec == planned(objectives=["normal"])[0].spec
    assert consistent.key == planned_one().key
    assert "weighting" not in normal.spec
    assert normal.weighting is None
    weighting = Weighting(
        warm_up=1, period=2, epsilon=6 / 255, threshold=0.3, steps=2, distance="iou", mask="truth", layer="layer3"
    )
    assert paper.weighting == both.weighting == weighting
    assert even.weighting == replace(weighting, normalise=True)
    assert paper.loss == even.loss == normal.loss
    assert both.loss == consistent.loss != normal.loss
    assert [recipe.title for recipe in (paper, even, both)] == [
        "ResNet-18, reweighted",
        "ResNet-18, reweighted, mean 1",
        "ResNet-18, consistent (beta 1) and reweighted",
    ]


@pytest.mark.parametrize("change", [{name: value} for name, value in WEIGHING.items()], ids=lambda c: next(iter(c)))
def test_a_change_of_the_weighting_is_another_weighted_network_alone(change: dict[str, Any]) -> None:
    default = {name: getattr(Weighting(warm_up=2), field) for field, name in recipes.WEIGHTING.items()}
    default["explained_layers"] = ["vgg16.conv4_3"]  # another architecture's
    for objective, same in (("reweighted", False), ("both", False), ("normal", True)):
        one, other = (planned_one(objectives=[objective], **default | now) for now in ({}, change))
        assert (one.key == other.key) == same


def test_grouped_filters_are_another_network_and_told_apart() -> None:
    plain, grouped = planned_one(), planned_one(**GROUPING)
    assert grouped.filter_groups == FilterGroups(strength=0.2, groups=4, period=3)
    assert grouped.title == "ResNet-18, consistent (beta 1), 4 filter groups"
    assert planned_one(**GROUPING | {"filter_groups": 0}).key == plain.key
    assert len({planned_one(**GROUPING | {name: 5}).key for name in GROUPING if name != "group_layer"}) == 3


def test_a_background_that_goes_with_the_class_is_another_set_of_images() -> None:
    plain, none, some = (
        planned_one(dataset="scenes", **more) for more in ({}, {"background_correlation": 0.0}, CORRELATED)
    )
    assert "background_correlation" not in plain.data
    assert none.key == plain.key != some.key
    assert some.data["background_correlation"] == 0.8
    assert planned_one(**CORRELATED).key == planned_one().key  # photographs have no such parameter


@pytest.mark.parametrize(
    "odd",
    [
        [],
        {},
        {"architecture": 5},
        {"architecture": "lenet"},
        {"loss": []},
        {"loss": {"alhpa": 1}},
        {"seed": "0"},
        {"data": {"name": "toy"}},
        {"fingerprint": None},
        {"more": 1},
        {"schedule": {"epochs": 0}},
    ],
    ids=str,
)
def test_a_spec_of_something_else_is_refused(odd: Any) -> None:
    """Else a damaged or foreign record ends in a TypeError, or trains a network that nobody asked for."""
    spec = planned_one().spec | odd if odd else odd
    with pytest.raises(StoreError, match="no network of this version has the description"):
        Recipe.read("smoke", spec)


def test_a_notebook_without_the_parameters_of_an_objective_is_told_which() -> None:
    with pytest.raises(
        ParameterError, match=r"objective 'both' needs the parameters warm_up, refresh_period.*notebook"
    ):
        planned(objectives=["both"])
    with pytest.raises(ParameterError, match="filter_groups needs the parameters group_strength"):
        planned(filter_groups=4)
    for entry in ("layer3", "resnet18.", "lenet.layer3"):
        with pytest.raises(ParameterError, match=f"explained_layers: write entries such as .* not '{entry}'"):
            planned(objectives=["reweighted"], **WEIGHING | {"explained_layers": [entry]})


def test_unknown_objective_and_bad_value_are_named() -> None:
    with pytest.raises(ParameterError, match="objective 'better': use one of normal, consistent, adversarial"):
        planned(objectives=["better"])
    with pytest.raises(ParameterError, match=r"alpha=1\.5"):
        planned(alpha=1.5)


def test_a_record_gives_the_recipe_back_and_keys_stay() -> None:
    """Another key for the same training would orphan every network that is stored."""
    several = planned(objectives=["normal", "consistent", "both"], **WEIGHING, **GROUPING)
    several += planned(objectives=["normal"], dataset="scenes", classes=["dog", "cat"], **CORRELATED)
    assert [recipe.key for recipe in several] == ["179c62bfb96b", "e8703e3b9389", "923d33287be9", "b2df9b7df8bd"]
    assert [Recipe.read("smoke", json.loads(json.dumps(recipe.spec))) for recipe in several] == several
