"""The tables of chapter 8: differences by one rule, histories by quantile, planted groups of filters found."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from neuron_consistency.errors import ParameterError
from neuron_consistency.explanation.scores import GAP, OWN_E, SPARED, ImageScores
from neuron_consistency.explanation.tables import (
    beside_each_other,
    compared,
    contrast_table,
    e_of_every_image,
    explanation_history,
    quantiles_in_columns,
    scores_table,
    training_table,
    verdicts,
    within_and_between,
)
from neuron_consistency.explanation.weighting import QUANTILES
from planted_groups import corners, noise
from toys import ON, toy_recipe

TITLES = {f"{objective}{seed}": f"{objective}{seed}" for objective in ("normal", "reweighted") for seed in range(4)}


def draws(shift: float, *, seeds: int, images: int = 200, spread: float = 0.0) -> dict[str, ImageScores]:
    """Planted: reweighting moves "E" by `shift` in every seed, give or take `spread`, and "deletion" down."""
    generator = np.random.default_rng(0)
    found = {}
    for seed in range(seeds):
        base, moved = generator.uniform(0.3, 0.5, images), shift + spread * generator.standard_normal()
        for objective, by in (("normal", 0.0), ("reweighted", moved)):
            noise = generator.normal(0, 0.02, images)
            frame = pd.DataFrame({"E": base + by + noise, "deletion": base - by + noise, "accuracy": base + noise})
            frame[SPARED] = base + by + noise
            found[f"{objective}{seed}"] = ImageScores(frame, {})
    return found


@pytest.mark.parametrize("seeds", [1, 4])
def test_a_planted_difference_is_found_with_its_direction(seeds: int) -> None:
    """Lower is better for deletion; with one seed the unit is the image, with several the seed."""
    recipes = [toy_recipe(objective, seed) for objective in ("normal", "reweighted") for seed in range(seeds)]
    table = compared(draws(0.1, seeds=seeds), recipes, TITLES, "reweighted", "normal").set_index("measure")
    assert table["verdict"].to_dict() == {
        "E": "better",
        "deletion": "better",
        "accuracy": "not shown",
        SPARED: "higher",
    }
    assert set(table["unit"]) == {"image" if seeds == 1 else "seed"}
    assert table.loc["E", "difference"] == pytest.approx(0.1, abs=0.02)
    assert table.loc["deletion", "difference"] == pytest.approx(-0.1, abs=0.02)
    turned = compared(draws(-0.1, seeds=seeds), recipes, TITLES, "reweighted", "normal").set_index("measure")
    assert turned["verdict"].to_dict() == {
        "E": "worse",
        "deletion": "worse",
        "accuracy": "not shown",
        SPARED: "lower",
    }


def test_seeds_that_disagree_show_nothing_however_many_images_there_are() -> None:
    """The unit of a claim about a method is the seed: images alone would call this difference sure."""
    recipes = [toy_recipe(objective, seed) for objective in ("normal", "reweighted") for seed in range(3)]
    table = compared(draws(0.02, seeds=3, images=5000, spread=0.1), recipes, TITLES, "reweighted", "normal")
    assert set(table["verdict"]) == {"not shown"}


def test_no_difference_is_shown_as_often_as_the_level_allows() -> None:
    """Twenty tables of nothing: the intervals share their level, so about one of them may err."""
    recipes = [toy_recipe("normal"), toy_recipe("reweighted")]
    wrong = 0
    for number in range(20):
        generator = np.random.default_rng(number)
        measured = {
            each.key: ImageScores(pd.DataFrame(generator.random((60, 10)), columns=[f"m{i}" for i in range(10)]), {})
            for each in recipes
        }
        wrong += bool((compared(measured, recipes, TITLES, "reweighted", "normal")["verdict"] != "not shown").any())
    assert wrong <= 4


def test_every_other_objective_is_held_against_the_baseline() -> None:
    recipes = [toy_recipe(objective) for objective in ("normal", "reweighted")]
    table, scores = verdicts(draws(0.1, seeds=1), recipes, TITLES), draws(0.1, seeds=1)
    pd.testing.assert_frame_equal(
        table.drop(columns="objective"), compared(scores, recipes, TITLES, "reweighted", "normal")
    )
    assert set(table["objective"]) == {"reweighted"}


def test_networks_stand_beside_each_other_with_chance() -> None:
    values = pd.DataFrame({"accuracy": [1.0, 0.0, 1.0, 1.0], GAP: [-1.0, 0.0, 1.0, 1.0]})
    scores = {"one": ImageScores(values, {"accuracy": 0.25}), "two": ImageScores(values[["accuracy"]], {})}
    shown = beside_each_other(scores_table(scores))
    assert shown.columns.tolist() == ["one", "two", "chance"]
    assert shown.index.tolist() == ["accuracy", GAP]
    assert str(shown.loc["accuracy", "one"]).startswith("0.750 (")
    assert shown.loc[:, "chance"].tolist() == ["0.250", ""]
    assert shown.loc[GAP, "two"] == ""


def test_e_of_every_image_is_told_by_mask_where_there_is_one() -> None:
    table = e_of_every_image({"one": ImageScores(pd.DataFrame({OWN_E: [0.1, 0.9]}), {})})
    assert table.to_dict("list") == {"model": ["one"] * 2, "mask": ["own explanation"] * 2, "E": [0.1, 0.9]}


def records() -> dict[str, dict[str, object]]:
    """A training that takes its weights before the second epoch, and one that never does."""
    told = {"consistency_quantiles": list(QUANTILES), "flipped": 0.5, "mean_weight": 0.3, "weighing_seconds": 2.0}
    told |= {"spared": 0.4, "unmarked": 0.0, "covered": 0.1}
    end = {"epoch": 2, "clean_loss": 0.7, "validation_accuracy": 0.8}
    about = {"seconds": 9.0, "device": "CPU", "precision": "float32"}
    return {
        "one": about | {"history": [{"epoch": 1}, end | told]},
        "none": about | {"history": [{"epoch": 1}, end]},
    }


def test_history_tells_every_quantile_of_every_refresh_and_skips_other_epochs() -> None:
    table = explanation_history(records())
    assert table["quantile"].tolist() == table["E"].tolist() == list(QUANTILES)
    assert set(table["epoch"]) == {2}
    assert set(table["model"]) == {"one"}
    (row,) = quantiles_in_columns(table).to_dict("records")
    assert [row[quantile] for quantile in QUANTILES] == list(QUANTILES)
    assert (row["mean weight"], row["covered"]) == (0.3, 0.1)


def test_a_training_is_told_by_its_last_epoch_and_the_cost_of_its_weights() -> None:
    one, none = training_table(records()).to_dict("records")
    assert (one["weights taken"], none["weights taken"]) == (1, 0)
    assert (one["seconds for weights"], none["seconds for weights"]) == (2, 0)
    assert (one["epochs"], one["held out"], one["final clean loss"]) == (2, 0.8, 0.7)


def test_nothing_to_compare_or_to_show_is_told() -> None:
    with pytest.raises(ParameterError, match="no reweighted network has its like among normal ones"):
        compared({}, [toy_recipe("reweighted")], {}, "reweighted", "normal")
    with pytest.raises(ParameterError, match="none of these networks weighs its images"):
        explanation_history({"none": records()["none"]})


def test_within_and_between_by_hand() -> None:
    similarity = torch.tensor([[2.0, 1.5, 0.5], [1.5, 2.0, 0.7], [0.5, 0.7, 2.0]])
    assert within_and_between(similarity, torch.tensor([0, 0, 1])) == pytest.approx((1.5, 0.6))


def test_planted_groups_stand_out_and_random_filters_do_not() -> None:
    """Groups formed on some images have to hold on others: filters without groups must stay within chance."""
    models = {"grouped": corners(grouped=True), "ungrouped": corners(grouped=False)}
    table, found = contrast_table(models, noise(128, seed=0), "filters", ON, groups=2)
    rows = {row["network"]: row for row in table.to_dict("records")}
    assert found["grouped"].tolist() == [0, 0, 0, 1, 1, 1]
    assert rows["grouped"]["within"] == pytest.approx(2)
    assert rows["grouped"]["contrast"] > rows["grouped"]["chance high"] - 1e-6
    assert rows["grouped"]["contrast"] > 0.5
    assert abs(rows["ungrouped"]["contrast"]) < 0.2
    assert rows["grouped"]["contrast"] == pytest.approx(rows["grouped"]["within"] - rows["grouped"]["between"])
