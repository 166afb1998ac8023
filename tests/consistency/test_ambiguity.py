"""The sets that stand beside consis_adv: each holds the images it says, at the real images' thresholds."""

from __future__ import annotations

import copy

import pytest
import torch

from neuron_consistency.attacks.linf import fgsm
from neuron_consistency.attacks.predictions import accuracy
from neuron_consistency.consistency.ambiguity import (
    FGSM,
    NOISE,
    PGD,
    REAL,
    SUCCESSFUL,
    WRONG,
    accuracy_table,
    common,
    compare_trainings,
    consistency_table,
    measure_networks,
    measure_with_controls,
    neuron_values,
    value_counts,
    view,
)
from neuron_consistency.consistency.measure import chance
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.runtime import Runtime
from neuron_consistency.show import distinct_titles
from neuron_consistency.workflow.findings import evaluation_findings
from toys import CPU, fitted, toy_images, toy_model, toy_recipe

EPSILON = 40 / 255
ON = Runtime(CPU, "float32")


def test_every_control_holds_its_own_images(trained_toy: Classifier) -> None:
    """Were "successful only" drawn from all attacks, the verdict on ambiguity would be diluted."""
    images = toy_images(48, noise=0.25, seed=7)
    measured = measure_with_controls(trained_toy, images, ON, epsilon=EPSILON, top_k=4)
    passes = measured.sets
    right = passes[REAL].predictions == images.labels
    fooled = right & (passes[FGSM].predictions != images.labels)
    assert int(fooled.sum()) >= 2
    assert len(passes[SUCCESSFUL].labels) == int(fooled.sum())
    assert bool((passes[SUCCESSFUL].predictions != passes[SUCCESSFUL].labels).all())
    assert (WRONG in passes) == (int((~right).sum()) >= 2)
    for responses in passes.values():  # one threshold for all sets
        assert torch.equal(responses.layers["last"].thresholds, passes[REAL].layers["last"].thresholds)
    batch, labels = images.batch(torch.arange(len(images)), CPU)
    by_hand = trained_toy(fgsm(trained_toy, batch, labels, epsilon=EPSILON)).argmax(1)
    assert torch.equal(passes[FGSM].predictions, by_hand)


def test_the_common_set_comes_from_a_network_that_is_not_compared(trained_toy: Classifier) -> None:
    """Its name says whose images they are, and all networks see the same; noise is milder than an attack."""
    images = toy_images(48, noise=0.25, seed=7)
    other, second = (fitted(toy_model(seed=seed), toy_images(48, seed=3)) for seed in (5, 6))
    models = {"a": trained_toy, "b": second}
    found = measure_networks(models, images, ON, epsilon=EPSILON, attackers={"another": other}, top_k=4)
    assert common("another") == "FGSM of another"
    batch, labels = images.batch(torch.arange(len(images)), CPU)
    shown = fgsm(other, batch, labels, epsilon=EPSILON)
    for title, model in models.items():
        sets = found[title].sets
        assert torch.equal(sets["FGSM of another"].predictions, model(shown).argmax(1))
        assert not torch.equal(sets["FGSM of another"].predictions, sets[FGSM].predictions)
        right = {name: int((sets[name].predictions == images.labels).sum()) for name in (REAL, NOISE, FGSM)}
        assert right[FGSM] < right[NOISE] <= right[REAL]
    rows = consistency_table(found, torch.eye(4), equal_m=4)
    assert set(rows[rows["set"] == "FGSM of another"]["model"]) == {"a", "b"}
    assert found["a"].sets.keys() - measure_with_controls(trained_toy, images, ON, epsilon=EPSILON, top_k=4).sets.keys()


def test_an_attacker_that_is_compared_itself_is_refused(trained_toy: Classifier) -> None:
    """For it alone the images would be of an attack that knows it: by seed, that turned the sign of a difference."""
    again = copy.deepcopy(trained_toy)  # loaded twice it is another object
    with pytest.raises(ParameterError, match="again attacks for all, and is compared itself as b: take another"):
        measure_networks(
            {"a": toy_model(), "b": trained_toy}, toy_images(8), ON, epsilon=EPSILON, attackers={"again": again}
        )


def test_tables_hold_what_a_page_shows(trained_toy: Classifier) -> None:
    """One view for every page: were its rows or columns wrong, every table of the book would be."""
    images = toy_images(48, noise=0.25, seed=7)
    passes = {"net": measure_with_controls(trained_toy, images, ON, epsilon=EPSILON, top_k=4, pgd_steps=2)}
    rows = consistency_table(passes, torch.eye(4), equal_m=4)
    assert set(rows["set"]) == set(passes["net"].sets) - {PGD}
    assert list(view(rows, "paper").index) == [("net", REAL), ("net", FGSM)]
    assert list(view(rows, "pair").index) == [
        ("net", name, kind) for name in (REAL, FGSM) for kind in ("true", "predicted")
    ]
    assert len(view(rows, "controls")) == len(rows)
    table = accuracy_table(passes, {REAL: "clean", PGD: "PGD, 2 steps"}).set_index("images")
    assert table["accuracy"]["clean"] == pytest.approx(100 * accuracy(trained_toy, images, ON))
    assert table["accuracy"]["PGD, 2 steps"] == pytest.approx(float(passes["net"].right(PGD).mean()))
    assert table["accuracy"]["PGD, 2 steps"] < table["accuracy"]["clean"]
    neurons = neuron_values(passes, torch.eye(4))
    counted = value_counts(neurons).groupby("measure")["neurons"].sum()
    assert counted.to_dict() == neurons.groupby("measure")["V"].count().to_dict()  # those that have one


def test_without_controls_only_the_two_sets_of_the_paper_are_passed(trained_toy: Classifier) -> None:
    """Who shows no control would else pay for it: as much again as for what is shown."""
    images = toy_images(48, noise=0.25, seed=7)
    few = measure_with_controls(trained_toy, images, ON, epsilon=EPSILON, top_k=4, controls=False)
    every = measure_with_controls(trained_toy, images, ON, epsilon=EPSILON, top_k=4)
    assert list(few.sets) == [REAL, FGSM]
    assert few.estimate(FGSM, torch.eye(4)) == every.estimate(FGSM, torch.eye(4))


def test_several_seeds_are_one_case_and_their_mean_stands_below_them(trained_toy: Classifier) -> None:
    """Two seeds whose difference has two signs: each alone is settled, the method is not."""
    images = toy_images(48, noise=0.25, seed=7)
    other = fitted(toy_model(seed=5), toy_images(48, seed=3))
    models = {"normal0": trained_toy, "consistent0": other, "normal1": other, "consistent1": trained_toy}
    recipes = [toy_recipe(objective, seed) for seed in (0, 1) for objective in ("normal", "consistent")]
    titles = distinct_titles(recipes)
    assert titles["normal1"] == "ResNet-18, normal, seed 1"
    found = {
        titles[key]: measure_with_controls(model, images, ON, epsilon=4 / 255, top_k=4, pgd_steps=1, controls=False)
        for key, model in models.items()
    }
    correlation = torch.eye(4)
    rows = compare_trainings(found, recipes, titles, correlation, [("consistent", "normal")], [(FGSM, "true")])
    assert rows["first"].to_list() == [
        titles["consistent0"],
        titles["consistent1"],
        "ResNet-18, consistent (beta 1), 2 seeds",
    ]
    assert rows["second"].iloc[-1] == "ResNet-18, normal, 2 seeds"
    one, two, mean = rows["difference"]
    assert one == -two != 0
    assert abs(mean) < 1e-12
    assert rows["U is"].iloc[-1] == "cannot be told"
    findings = evaluation_findings(recipes, titles, found, correlation)
    cases = {(row["claim"], row["case"]): row for row in findings}
    method = cases["training-keeps-consistency", "ResNet-18, consistent (beta 1), 2 seeds"]
    assert abs(method["value"]) < 1e-12
    assert method["verdict"] == "cannot be told"
    related = cases["related-images", "ResNet-18, normal, 2 seeds"]
    assert related["verdict"] == "holds"
    level = chance(images.labels, correlation).unbiased
    mean_u = sum(found[titles[f"normal{seed}"]].estimate(REAL, correlation).value for seed in (0, 1)) / 2
    assert abs(related["value"] - (mean_u - level)) < 1e-12
    assert all("seeds" in case for _, case in cases)
