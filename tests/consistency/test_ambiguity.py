"""The sets that stand beside consis_adv: each holds the images it says, at the real images' thresholds."""

from __future__ import annotations

import torch

from neuron_consistency.attacks.linf import fgsm
from neuron_consistency.consistency.ambiguity import (
    COMMON,
    FGSM,
    NOISE,
    REAL,
    SUCCESSFUL,
    WRONG,
    compare_trainings,
    measure_with_controls,
    reaction_table,
    shuffled,
)
from neuron_consistency.consistency.measure import chance
from neuron_consistency.networks.models import Classifier
from neuron_consistency.show import distinct_titles
from neuron_consistency.training.recipes import Recipe
from neuron_consistency.workflow.findings import evaluation_findings
from toys import CPU, fitted, toy_images, toy_model

EPSILON = 40 / 255
OPTIONS = {"epsilon": EPSILON, "device": CPU, "precision": "float32"}


def test_every_control_holds_its_own_images(trained_toy: Classifier) -> None:
    """Were "successful only" drawn from all attacks, the verdict on ambiguity would be diluted."""
    images = toy_images(48, noise=0.25, seed=7)
    measured = measure_with_controls(trained_toy, images, attacker=trained_toy, top_k=4, **OPTIONS)  # type: ignore[arg-type]
    passes = measured.passes
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


def test_the_common_set_comes_from_the_attacker(trained_toy: Classifier) -> None:
    """Attacked by itself, a network sees its own FGSM set; attacked by another it does not; noise is milder."""
    images = toy_images(48, noise=0.25, seed=7)
    own = measure_with_controls(trained_toy, images, attacker=trained_toy, top_k=4, **OPTIONS).passes  # type: ignore[arg-type]
    other = fitted(toy_model(seed=5), toy_images(48, seed=3))
    foreign = measure_with_controls(trained_toy, images, attacker=other, top_k=4, **OPTIONS).passes  # type: ignore[arg-type]
    alone = measure_with_controls(trained_toy, images, top_k=4, **OPTIONS).passes  # type: ignore[arg-type]
    counts = {name: own[name].layers["last"].counts["true"] for name in (FGSM, COMMON)}
    assert torch.equal(counts[FGSM], counts[COMMON])
    assert not torch.equal(foreign[COMMON].layers["last"].counts["true"], counts[COMMON])
    assert COMMON not in alone
    right = {name: int((own[name].predictions == images.labels).sum()) for name in (REAL, NOISE, FGSM)}
    assert right[FGSM] < right[NOISE] <= right[REAL]


def test_the_measure_reacts_to_labels_and_weights(trained_toy: Classifier) -> None:
    """Planted: a network that knows its classes. A measure blind to labels would stay up when they are shuffled."""
    images = toy_images(200, noise=0.25, seed=7)
    correlation = torch.eye(4)
    cases = {
        "trained": (trained_toy, images),
        "shuffled": (trained_toy, shuffled(images)),
        "random": (toy_model(seed=5).eval(), images),
    }
    rows = reaction_table(cases, correlation, device=CPU, top_k=20, precision="float32").set_index(["case", "layer"])
    assert list(rows.index) == [(case, layer) for case in cases for layer in ("first", "last")]
    assert bool((rows["U chance"] == chance(images.labels, correlation).unbiased).all())
    last = rows.xs("last", level="layer")
    assert last["U"]["trained"] > last["U"]["random"] > last["U"]["shuffled"]
    assert last["U low"]["shuffled"] < last["U chance"]["shuffled"] < last["U high"]["shuffled"]
    assert last["accuracy"]["trained"] > 90 > 60 > last["accuracy"]["shuffled"]


def recipe(objective: str, seed: int) -> Recipe:
    spec = {"architecture": "resnet18", "objective": objective, "seed": seed, "data": {}, "loss": {"beta": 1.0}}
    return Recipe("smoke", f"{objective}{seed}", spec | {"schedule": {"epochs": 1, "seed": seed}})


def test_several_seeds_are_one_case_and_their_mean_stands_below_them(trained_toy: Classifier) -> None:
    """Two seeds whose difference has two signs: each alone is settled, the method is not."""
    images = toy_images(48, noise=0.25, seed=7)
    other = fitted(toy_model(seed=5), toy_images(48, seed=3))
    models = {"normal0": trained_toy, "consistent0": other, "normal1": other, "consistent1": trained_toy}
    recipes = [recipe(objective, seed) for seed in (0, 1) for objective in ("normal", "consistent")]
    titles = distinct_titles(recipes)
    assert titles["normal1"] == "ResNet-18, normal, seed 1"
    options = OPTIONS | {"epsilon": 4 / 255, "top_k": 4}
    found = {titles[key]: measure_with_controls(model, images, **options) for key, model in models.items()}  # type: ignore[arg-type]
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
    pgd = {title: one.passes[FGSM].predictions for title, one in found.items()}
    findings = evaluation_findings(recipes, titles, found, pgd, images.labels, correlation)
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
