"""Planned networks: their keys, the list of those to evaluate, trained once and found again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from neuron_consistency import versions
from neuron_consistency.artifacts import read_json
from neuron_consistency.errors import DatasetError, ParameterError, StoreError, TrainingError
from neuron_consistency.explanation.filter_groups import FilterGroups
from neuron_consistency.explanation.weighting import Weighting
from neuron_consistency.show import distinct_titles, matched
from neuron_consistency.training import obtain as trained
from neuron_consistency.training import recipes
from neuron_consistency.training.obtain import evaluation_images, obtain
from neuron_consistency.training.recipes import Recipe, recipes_of
from neuron_consistency.workflow import networks
from neuron_consistency.workflow.networks import current_models, find_recipe, write_current
from toys import CPU, assert_same_state, state_of, toy_images

PARAMETERS: dict[str, Any] = {
    "device": "cpu",
    "dataset": "toy",
    "image_size": 32,
    "classes": None,
    "per_class": None,
    "architectures": ["resnet18"],
    "objectives": ["normal", "consistent", "adversarial"],
    "seeds": [0],
    "epsilon": 4 / 255,
    "distance": "normalised",
    "feature_layer": None,
    "attack_label": "true",
    "norm_statistics": "both",
    "second_example": False,
    "alpha": 0.5,
    "beta": 1.0,
    "epochs": 1,
    "epochs_of": {},
    "batch_size": 9,
    "learning_rate": 1e-3,
    "weight_decay": 0.01,
    "precision": "float32",
    "weights": None,
    "held_out": 0.25,
    "watched_images": 4,
}
WEIGHING: dict[str, Any] = {
    "warm_up": 1,
    "refresh_period": 2,
    "background_epsilon": 6 / 255,
    "mask_threshold": 0.3,
    "background_steps": 2,
    "map_distance": "iou",
    "mask_source": "truth",
    "explained_layers": ["vgg16.conv4_3", "resnet18.layer3"],
}
CORRELATED: dict[str, Any] = {"background_correlation": 0.8}
GROUPING: dict[str, Any] = {"filter_groups": 4, "group_strength": 0.2, "group_period": 3, "group_layer": ""}


@pytest.fixture(autouse=True)
def toy_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Artifacts in a folder of the test's own, and 24 toy images for any dataset."""
    monkeypatch.setenv("NEURON_CONSISTENCY_ARTIFACTS", str(tmp_path))
    monkeypatch.setattr(recipes, "dataset_fingerprint", lambda **_arguments: "toy-fingerprint")
    monkeypatch.setattr(
        trained, "load_images", lambda split, **_arguments: toy_images(24, size=32, seed=int(split == "val"))
    )


def planned(**changes: Any) -> list[Recipe]:
    return recipes_of("smoke", PARAMETERS | changes)


def planned_one(**changes: Any) -> Recipe:
    return planned(**{"objectives": ["consistent"], **changes})[0]


# recipes and keys


def test_every_architecture_objective_and_seed_is_planned() -> None:
    found = planned(architectures=["alexnet", "vgg16"], seeds=[3, 4], epochs_of={"vgg16": 9})
    assert len({recipe.key for recipe in found}) == len({recipe.path for recipe in found}) == len(found) == 2 * 3 * 2
    assert found[0].name == "alexnet-normal-s3"
    assert {recipe.spec["schedule"]["epochs"] for recipe in found if "vgg16" in recipe.name} == {9}
    assert {recipe.spec["schedule"]["epochs"] for recipe in found if "alexnet" in recipe.name} == {1}
    assert {recipe.spec["schedule"]["seed"] == recipe.spec["seed"] for recipe in found} == {True}


def test_what_each_objective_is() -> None:
    normal, consistent, adversarial = (recipe.spec["loss"] for recipe in planned(beta=2.5))
    assert (normal["alpha"], normal["beta"]) == (1.0, 0.0)
    assert (consistent["alpha"], consistent["beta"]) == (0.5, 2.5)
    assert (adversarial["alpha"], adversarial["beta"]) == (0.5, 0.0)
    assert [recipe.title for recipe in planned(beta=2.5)] == [
        "ResNet-18, normal",
        "ResNet-18, consistent (beta 2.5)",
        "ResNet-18, adversarial",
    ]


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
    plain, grouped = planned_one(), planned_one(**GROUPING)
    monkeypatch.setattr(recipes, "GROUPS", versions.GROUPS + 1)
    assert planned_one().key == plain.key
    assert planned_one(**GROUPING).key != grouped.key


def test_the_key_holds_the_precision_that_auto_comes_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a float32 and a bfloat16 network share a file name, and one passes for the other."""
    for precision in ("float32", "bfloat16"):
        expected = planned_one(precision=precision)
        with monkeypatch.context() as machine:
            machine.setattr(recipes, "resolve_precision", lambda _asked, _device, found=precision: found)
            recipe = planned_one(precision="auto")
        assert recipe.spec["schedule"]["precision"] == precision
        assert recipe.key == expected.key


def test_weighted_objectives_carry_their_weighting_and_the_others_none() -> None:
    """What a notebook calls its parameters reaches the field that is meant; old objectives keep their specs."""
    objectives = ["normal", "consistent", "reweighted", "reweighted-mean1", "both"]
    normal, consistent, paper, even, both = planned(objectives=objectives, **WEIGHING)
    assert normal.spec == planned(objectives=["normal"])[0].spec
    assert consistent.key == planned_one().key
    assert "weighting" not in normal.spec
    weighting = Weighting(
        warm_up=1, period=2, epsilon=6 / 255, threshold=0.3, steps=2, distance="iou", mask="truth", layer="layer3"
    )
    assert Weighting(**paper.spec["weighting"]) == Weighting(**both.spec["weighting"]) == weighting
    assert even.spec["weighting"] == {**paper.spec["weighting"], "normalise": True}
    assert paper.spec["loss"] == even.spec["loss"] == normal.spec["loss"]
    assert both.spec["loss"] == consistent.spec["loss"] != normal.spec["loss"]
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
    assert FilterGroups(**grouped.spec["filter_groups"]) == FilterGroups(strength=0.2, groups=4, period=3)
    assert grouped.title == "ResNet-18, consistent (beta 1), 4 filter groups"
    assert planned_one(**GROUPING | {"filter_groups": 0}).key == plain.key
    assert len({planned_one(**GROUPING | {name: 5}).key for name in GROUPING if name != "group_layer"}) == 3


def test_a_background_that_goes_with_the_class_is_another_set_of_images() -> None:
    plain, none, some = (
        planned_one(dataset="scenes", **more) for more in ({}, {"background_correlation": 0.0}, CORRELATED)
    )
    assert "background_correlation" not in plain.spec["data"]
    assert none.key == plain.key != some.key
    assert some.spec["data"]["background_correlation"] == 0.8
    assert planned_one(**CORRELATED).key == planned_one().key  # photographs have no such parameter


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


# which networks the later notebooks evaluate


def test_the_book_writes_its_own_and_forgets_what_was_chosen() -> None:
    book, chosen = [planned_one()], [planned_one(beta=3.0)]
    write_current("smoke", book, chosen=False)
    assert current_models("smoke") == book
    write_current("smoke", chosen, chosen=True)
    assert current_models("smoke") == book + chosen  # the new network beside the old
    other = [planned_one(beta=5.0)]
    write_current("smoke", other, chosen=True)
    assert current_models("smoke") == book + other
    write_current("smoke", book, chosen=False)
    assert current_models("smoke") == book


def test_a_network_chosen_that_is_the_books_own_is_listed_once() -> None:
    write_current("smoke", planned(), chosen=False)
    write_current("smoke", planned(), chosen=True)
    assert current_models("smoke") == planned()


def test_with_nothing_chosen_notebook_03s_own_parameters_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "default_recipes", lambda profile: recipes_of(profile, PARAMETERS))
    assert current_models("smoke") == planned()
    write_current("smoke", [planned_one(beta=3.0)], chosen=True)
    assert current_models("smoke") == [planned_one(beta=3.0)]


def test_only_some_of_the_networks_are_asked_for() -> None:
    write_current("smoke", planned(), chosen=False)
    first = planned()[0].spec
    some = current_models("smoke", architectures=[first["architecture"]], objectives=[first["objective"]])
    assert [recipe.key for recipe in some] == [planned()[0].key]
    seeded = current_models("smoke", seeds=[first["seed"]])
    assert [recipe.key for recipe in seeded] == [
        recipe.key for recipe in planned() if recipe.spec["seed"] == first["seed"]
    ]
    with pytest.raises(ParameterError, match="no network of lenet, seed 9 among those of notebook 03"):
        current_models("smoke", architectures=["lenet"], seeds=[9])


def test_a_plan_is_found_by_what_it_is() -> None:
    assert find_recipe(planned(), architecture="resnet18", objective="adversarial") == planned()[2]
    with pytest.raises(ParameterError, match=r"no normal vgg16 .*resnet18-consistent-s0"):
        find_recipe([planned_one()], architecture="vgg16", objective="normal")


# trained once, found again


def test_obtain_trains_once_and_loads_what_it_trained(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file, its record and a line an epoch; the second call loads the same weights and trains nothing."""
    recipe = planned_one(epochs=2)
    first = obtain(recipe, device=CPU)
    shown = capsys.readouterr().out
    assert "ResNet-18, consistent (beta 1), seed 0: epoch 1/2, loss" in shown
    assert "PGD" in shown
    assert not first.model.training
    assert sorted(path.suffix for path in recipe.path.parent.iterdir()) == [".json", ".safetensors"]
    record = read_json(recipe.path.with_suffix(".json"))
    assert record["key"] == recipe.key
    assert record["spec"] == json.loads(json.dumps(recipe.spec))
    assert record["precision"] == "float32"
    assert [row["epoch"] for row in record["history"]] == [1, 2]
    assert {"version", "commit", "torch", "device", "seconds", "finished", "classes"} <= record.keys()

    monkeypatch.setattr(trained, "train", lambda *_arguments, **_options: pytest.fail("trained again"))
    second = obtain(Recipe(recipe.profile, recipe.key, json.loads(json.dumps(recipe.spec))), device=CPU)
    assert_same_state(state_of(first.model), second.model)
    assert second.record == first.record
    assert second.title == recipe.title
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(first.model(images), second.model(images))


def test_a_weighted_and_grouped_network_is_trained_as_planned() -> None:
    """The record tells of E before the second epoch; the network in it loads as any other."""
    recipe = planned_one(objectives=["both"], epochs=2, **WEIGHING | {"mask_source": "explanation"}, **GROUPING)
    found = obtain(recipe, device=CPU)
    first, second = found.record["history"]
    assert "consistency" not in first
    assert second["mean_weight"] == pytest.approx(1 - second["consistency"], abs=1e-6)
    assert "group_loss" in first
    assert found.title == recipe.title


def test_evaluation_images_may_be_of_another_variant(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe's correlation of class and background gives way to the one asked for."""
    asked: dict[str, Any] = {}

    def spy(**arguments: Any) -> Any:
        asked.update(arguments)
        return toy_images(4)

    monkeypatch.setattr(trained, "load_images", spy)
    recipe = planned_one(dataset="scenes", **CORRELATED)
    evaluation_images(recipe, background_correlation=0.0, variant="mixed-rand")
    assert (asked["split"], asked["background_correlation"], asked["variant"]) == ("val", 0.0, "mixed-rand")
    assert trained.background_images(recipe) is not None
    assert (asked["variant"], asked["background_correlation"]) == ("mixed-rand", 0.8)
    assert trained.background_images(planned_one(dataset="tiny-imagenet")) is None


def test_nothing_held_out_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    found = obtain(planned(objectives=["normal"], held_out=0.0)[0], device=CPU)
    assert "none held out" in capsys.readouterr().out
    assert "validation_accuracy" not in found.record["history"][0]


def test_held_out_images_are_no_training_images() -> None:
    """Selection uses images of the training set that are not trained on, the same for every network."""
    rest, held_out = trained.training_images(planned_one())
    assert len(rest) == 16
    assert len(held_out) == 8
    for again in trained.training_images(planned_one(seeds=[5])), trained.training_images(planned_one(beta=4.0)):
        assert [part.fingerprint for part in again] == [rest.fingerprint, held_out.fingerprint]
    assert evaluation_images(planned_one()).labels.shape == (24,)


def test_a_failed_training_keeps_the_networks_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    normal, consistent, _ = planned()
    obtain(normal, device=CPU)

    def fails(*_arguments: object, **_options: object) -> None:
        raise TrainingError("the loss became nan in epoch 1")

    monkeypatch.setattr(trained, "train", fails)
    with pytest.raises(TrainingError):
        obtain(consistent, device=CPU)
    assert not consistent.path.exists()
    assert obtain(normal, device=CPU).record["key"] == normal.key


def test_damaged_files_are_named_with_their_cure() -> None:
    recipe = planned(objectives=["normal"])[0]
    obtain(recipe, device=CPU)
    weights = recipe.path.read_bytes()
    recipe.path.write_bytes(weights[: len(weights) // 2])
    with pytest.raises(DatasetError, match=r"safetensors does not hold weights.*remove it"):
        obtain(recipe, device=CPU)
    recipe.path.write_bytes(weights)
    recipe.path.with_suffix(".json").write_text("{")
    with pytest.raises(StoreError, match=r"\.json cannot be read.*remove it"):
        obtain(recipe, device=CPU)
    recipe.path.with_suffix(".json").unlink()
    assert obtain(recipe, device=CPU).record["key"] == recipe.key  # without its record it is trained again


def test_networks_with_the_same_title_are_told_apart_by_key() -> None:
    """Tables are filed by title: two networks under one would overwrite each other."""
    plans_of_two = [*planned(epsilon=2 / 255), *planned(epsilon=8 / 255)]
    titles = distinct_titles(plans_of_two)
    assert len(set(titles.values())) == len({recipe.key for recipe in plans_of_two})


def test_networks_are_matched_by_architecture_and_seed() -> None:
    """A difference between two networks that differ in more than the objective says nothing of the objective."""
    found = matched(planned(architectures=["resnet18", "alexnet"], seeds=[0, 1]), "consistent", "normal")
    assert {(a.name, b.name) for a, b in found} == {
        (f"{architecture}-consistent-s{seed}", f"{architecture}-normal-s{seed}")
        for architecture in ("resnet18", "alexnet")
        for seed in (0, 1)
    }
    assert len(found) == 4
    grouped = planned(objectives=["normal"], **GROUPING)
    other = planned(objectives=["normal"], dataset="scenes")
    assert matched([planned_one(), *grouped, *other], "consistent", "normal") == []
