"""Networks trained once and found again, and the images that belong to them."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from neuron_consistency.artifacts import read_json
from neuron_consistency.errors import StoreError, TrainingError
from neuron_consistency.training import obtain as trained
from neuron_consistency.training.obtain import evaluation_images, obtain
from neuron_consistency.training.recipes import Recipe
from planned import CORRELATED, GROUPING, WEIGHING, planned, planned_one
from toys import CPU, assert_equal_weights, assert_same_state, state_of, toy_images

pytestmark = pytest.mark.usefixtures("toy_data")


def test_obtain_trains_once_and_loads_what_it_trained(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file, its record and a line an epoch; the second call loads the same weights and trains nothing."""
    recipe = planned_one(epochs=2)
    first = obtain(recipe, CPU)
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
    second = obtain(Recipe.read(recipe.profile, record["spec"]), CPU)
    assert_same_state(state_of(first.model), second.model)
    assert second.record == first.record
    assert second.title == recipe.title
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(first.model(images), second.model(images))


def test_a_weighted_and_grouped_network_is_trained_as_planned() -> None:
    """The record tells of E before the second epoch; the network in it loads as any other."""
    recipe = planned_one(objectives=["both"], epochs=2, **WEIGHING | {"mask_source": "explanation"}, **GROUPING)
    found = obtain(recipe, CPU)
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
    found = obtain(planned(objectives=["normal"], held_out=0.0)[0], CPU)
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
    obtain(normal, CPU)

    def fails(*_arguments: object, **_options: object) -> None:
        raise TrainingError("the loss became nan in epoch 1")

    monkeypatch.setattr(trained, "train", fails)
    with pytest.raises(TrainingError):
        obtain(consistent, CPU)
    assert not consistent.path.exists()
    assert obtain(normal, CPU).record["key"] == normal.key


def test_a_key_names_one_network_on_however_many_cores() -> None:
    """Else training again gives other weights under the same name; the caller's threads are as before."""
    recipe, found = planned_one(epochs=1), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            found.append(obtain(recipe, CPU).model)
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(1)
        recipe.path.unlink()
    assert_equal_weights(*found)


def test_a_record_of_another_network_is_refused() -> None:
    """Else a file that was renamed passes for a network that it is not."""
    one, other = planned(objectives=["normal", "adversarial"])
    obtain(one, CPU)
    for suffix in (".safetensors", ".json"):
        one.path.with_suffix(suffix).rename(other.path.with_suffix(suffix))
    with pytest.raises(StoreError, match="is the record of another network"):
        obtain(other, CPU)


def test_damaged_files_are_named_with_their_cure() -> None:
    recipe = planned(objectives=["normal"])[0]
    obtain(recipe, CPU)
    weights = recipe.path.read_bytes()
    recipe.path.write_bytes(weights[: len(weights) // 2])
    with pytest.raises(StoreError, match=r"safetensors is damaged.*remove it"):
        obtain(recipe, CPU)
    recipe.path.write_bytes(weights)
    recipe.path.with_suffix(".json").write_text("{")
    with pytest.raises(StoreError, match=r"\.json cannot be read.*remove it"):
        obtain(recipe, CPU)
    recipe.path.with_suffix(".json").unlink()
    assert obtain(recipe, CPU).record["key"] == recipe.key  # without its record it is trained again
