"""The tables of chapter 8: differences by one rule, histories by quantile, planted groups of filters found."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from neuron_consistency.errors import ParameterError
from neuron_consistency.explanation.filter_groups import FilterGroups
from neuron_consistency.explanation.localisation import OFF_CENTRE
from neuron_consistency.explanation.scores import GAP, OWN_E, RIGHT_E, SPARED, ImageScores
from neuron_consistency.explanation.tables import (
    beside_each_other,
    compared,
    comparisons,
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
from neuron_consistency.statistics import holm, mean_over_seeds
from planted_groups import corners, noise
from toys import ON, toy_recipe

OBJECTIVES = ("normal", "reweighted")
TITLES = {f"{objective}{seed}": f"{objective}{seed}" for objective in OBJECTIVES for seed in range(4)}


def draws(
    shift: float, *, seeds: int, images: int = 200, spread: float = 0.0, chance: float = 0.0
) -> dict[str, ImageScores]:
    """Planted: reweighting moves "box IoU" by `shift` in every seed, give or take `spread`, and the gap down."""
    generator = np.random.default_rng(0)
    found = {}
    for seed in range(seeds):
        base, moved = generator.uniform(0.3, 0.5, images), shift + spread * generator.standard_normal()
        for objective, by in (("normal", 0.0), ("reweighted", moved)):
            noise = generator.normal(0, 0.02, images)
            frame = pd.DataFrame({"box IoU": base + by + noise, GAP: base - by + noise, "accuracy": base + noise})
            frame["deletion"] = base - by + noise
            found[f"{objective}{seed}"] = ImageScores(frame, {"box IoU": chance})
    return found


def of_means(objective: str, images: int = 200, **means: float) -> ImageScores:
    """A network whose measures have these means exactly, and the same spread over images as any other."""
    spread = np.random.default_rng(1).normal(0, 0.05, images)
    names = {"spared": SPARED, "E_right": RIGHT_E, "point": "pointing game", "off": f"pointing game{OFF_CENTRE}"}
    frame = pd.DataFrame({names.get(name, name): value + spread - spread.mean() for name, value in means.items()})
    return ImageScores(frame, {"pointing game": 0.87, f"pointing game{OFF_CENTRE}": 0.1})


def against(first: ImageScores, second: ImageScores) -> pd.DataFrame:
    """The comparison of two networks, by measure. Their images' spread is not all shared."""
    first.values.iloc[0] += 1e-3
    recipes, titles = [toy_recipe("reweighted"), toy_recipe("normal")], {"reweighted0": "one", "normal0": "other"}
    return compared({"one": first, "other": second}, recipes, titles, "reweighted", "normal").set_index("measure")


@pytest.mark.parametrize("seeds", [1, 4])
def test_a_planted_difference_is_found_with_its_direction(seeds: int) -> None:
    """Lower is better for the gap, and neither for a raw area, which also tells how sure a network is."""
    recipes = [toy_recipe(objective, seed) for objective in ("normal", "reweighted") for seed in range(seeds)]
    table = compared(draws(0.1, seeds=seeds), recipes, TITLES, "reweighted", "normal").set_index("measure")
    expected = {"box IoU": "better", GAP: "better", "accuracy": "not shown", "deletion": "not judged"}
    assert table["verdict"].to_dict() == expected
    assert set(table["unit"]) == {"image" if seeds == 1 else "image and seed"}
    assert table.loc["box IoU", "difference"] == pytest.approx(0.1, abs=0.02)
    assert table.loc[GAP, "difference"] == pytest.approx(-0.1, abs=0.02)
    assert table["p"].isna().to_dict()["deletion"]
    turned = compared(draws(-0.1, seeds=seeds), recipes, TITLES, "reweighted", "normal").set_index("measure")
    assert turned["verdict"].to_dict() == expected | {"box IoU": "worse", GAP: "worse"}


def test_an_interval_is_that_of_the_whole_book_and_its_words_are_adjusted_by_holm() -> None:
    """Fourteen standard errors of three seeds, or 95 % for each of many measures, would be a rule of its own."""
    recipes = [toy_recipe(objective, seed) for objective in ("normal", "reweighted") for seed in range(3)]
    scores = draws(0.01, seeds=3, spread=0.002)
    table = compared(scores, recipes, TITLES, "reweighted", "normal").set_index("measure")
    apart = [scores[f"reweighted{seed}"].values - scores[f"normal{seed}"].values for seed in range(3)]
    found = {name: mean_over_seeds(torch.tensor(np.stack([each[name] for each in apart]))) for name in table.index}
    for name, each in found.items():
        assert table.loc[name, ["difference", "low", "high"]].tolist() == [each.value, each.low, each.high]
    judged = ["box IoU", GAP, "accuracy"]
    assert table.loc[judged, "p"].tolist() == holm([found[name].p(above=0) for name in judged])


def test_seeds_that_disagree_show_nothing_however_many_images_there_are() -> None:
    """A claim about a method is one about other seeds: images alone would call this difference sure."""
    recipes = [toy_recipe(objective, seed) for objective in ("normal", "reweighted") for seed in range(3)]
    table = compared(draws(0.02, seeds=3, images=5000, spread=0.1), recipes, TITLES, "reweighted", "normal")
    assert set(table["verdict"]) == {"not shown", "not judged"}


def test_no_difference_is_shown_as_often_as_the_level_allows() -> None:
    """Twenty tables of nothing: the measures of a table are a family, so about one of them may err."""
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


def test_e_is_compared_at_like_accuracy_and_like_spared_share_alone() -> None:
    """An untrained network has the highest E of all: it may not win. Nor may one that merely spares more."""
    normal = of_means("normal", accuracy=0.65, spared=0.6, E=0.6, E_right=0.5)
    untrained = against(of_means("reweighted", accuracy=0.03, spared=0.6, E=0.95, E_right=0.03), normal)
    assert untrained.loc[["E", RIGHT_E], "verdict"].tolist() == ["not comparable"] * 2
    assert untrained.loc["E", "why"] == "accuracy 0.03 and 0.65"
    assert untrained.loc["accuracy", "verdict"] == "worse"
    sparing = against(of_means("reweighted", accuracy=0.65, spared=0.7, E=0.7, E_right=0.6), normal)
    assert sparing["verdict"][RIGHT_E] == "not comparable"
    assert sparing["why"][RIGHT_E] == f"{SPARED} 0.70 and 0.60"
    alike = against(of_means("reweighted", accuracy=0.64, spared=0.62, E=0.7, E_right=0.6), normal)
    assert alike.loc[["E", RIGHT_E, SPARED], "verdict"].tolist() == ["better", "better", "not judged"]


def test_a_localisation_is_judged_where_the_centre_does_worse() -> None:
    """Both networks miss objects that a map of the centre hits: the difference between them says nothing of objects."""
    normal = of_means("normal", point=0.69, off=0.3)
    table = against(of_means("reweighted", point=0.78, off=0.4), normal)
    assert table["verdict"].to_dict() == {"pointing game": "cannot be told", f"pointing game{OFF_CENTRE}": "better"}
    assert table.loc["pointing game", "why"] == "the image's centre 0.87, the networks 0.78 and 0.69"
    better = against(of_means("reweighted", point=0.9, off=0.4), normal)
    assert better.loc["pointing game", "verdict"] == "better"
    few = against(of_means("reweighted", images=29, off=0.4), of_means("normal", images=29, off=0.3))
    assert few.iloc[0][["verdict", "why"]].tolist() == ["cannot be told", "objects off centre: 29"]


def test_every_other_objective_is_held_against_the_baseline_and_reweighting_against_its_null() -> None:
    recipes = [toy_recipe(objective) for objective in ("normal", "reweighted")]
    table, scores = verdicts(draws(0.1, seeds=1), recipes, TITLES), draws(0.1, seeds=1)
    pd.testing.assert_frame_equal(
        table.drop(columns=["objective", "against"]), compared(scores, recipes, TITLES, "reweighted", "normal")
    )
    assert (set(table["objective"]), set(table["against"])) == ({"reweighted"}, {"normal"})
    assert comparisons(["permuted-mean1", "normal", "both", "reweighted-mean1", "consistent"])[-2:] == [
        ("both", "consistent"),
        ("reweighted-mean1", "permuted-mean1"),
    ]
    assert comparisons(["normal", "both"]) == [("both", "normal")]


def test_networks_with_groups_of_filters_are_a_case_of_their_own() -> None:
    """icCNN's networks and plain ones of the same architecture, brought together, would be averaged as if seeds."""
    free = [toy_recipe(objective) for objective in ("normal", "reweighted")]
    grouped = [toy_recipe(each.objective, 1, filter_groups=FilterGroups(groups=8)) for each in free]
    table = compared(draws(0.1, seeds=2), free + grouped, TITLES, "reweighted", "normal")
    assert table["unit"].tolist() == ["image"] * len(table)
    assert set(table["filters"]) == {"free", "in groups"}


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
