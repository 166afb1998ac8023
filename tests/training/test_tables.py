"""Tables of trainings: what a page shows of a history."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch

from neuron_consistency.attacks.linf import fgsm
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import evaluating, read_layers
from neuron_consistency.training.obtain import TrainedModel
from neuron_consistency.training.tables import accuracies, curves, moved, summary, watch
from toys import CPU, ON, toy_images, toy_recipe


def net(model: Classifier, objective: str, **more: list[Any]) -> TrainedModel:
    columns: dict[str, list[Any]] = {"epoch": [1, 2], "loss": [1.0, 0.5], "validation_accuracy": [0.5, 0.75], **more}
    record = {"history": pd.DataFrame(columns).to_dict("records")}
    return TrainedModel(
        toy_recipe(objective), model, record | {"device": "CPU", "precision": "float32", "seconds": 2.0}
    )


def test_histories_become_the_tables_of_the_page(trained_toy: Classifier) -> None:
    """The last epoch is what a training came to, and a collapse in any epoch is told."""
    watched: dict[str, list[Any]] = {"fgsm_accuracy": [0.9, 0.5], "pgd_accuracy": [0.1, 0.4]}
    watched["collapsed"] = [True, False]
    nets = [net(trained_toy, "normal"), net(trained_toy, "adversarial", **watched)]
    table = summary(nets)
    assert (
        table[["epochs", "held-out accuracy", "final loss", "seconds"]].to_numpy().tolist() == [[2, 0.75, 0.5, 2]] * 2
    )
    shown = curves(nets).set_index(["model", "measure", "epoch"])["value"]
    assert shown["ResNet-18, normal, seed 0", "accuracy on held-out images", 2] == 75
    assert len(shown) == 8
    assert watch(nets).to_dict("records") == [
        {
            "network": "ResNet-18, adversarial",
            "seed": 0,
            "FGSM accuracy": 0.5,
            "PGD accuracy": 0.4,
            "collapsed in epochs": [1],
        }
    ]


def test_accuracies_are_of_clean_and_attacked_images(trained_toy: Classifier, fresh_images: ImageSet) -> None:
    attacks = {"strong": lambda model, images, labels: fgsm(model, images, labels, epsilon=0.3)}
    (row,) = accuracies([net(trained_toy, "normal")], fresh_images, ON, attacks).to_dict("records")
    assert row["clean"] == pytest.approx(100, abs=5)
    assert row["strong"] < 50


def test_features_are_moved_by_the_attack_alone(trained_toy: Classifier) -> None:
    """Without an attack nothing moves; with one, by the distance of the features before and after it."""
    nets, images = [net(trained_toy, "normal")], toy_images(20)
    still = moved(nets, images, ON, epsilon=0.0, count=8)
    assert still[["normalised", "cosine"]].to_numpy().tolist() == [[0, pytest.approx(0, abs=1e-6)]]
    batch, labels = images.batch(torch.tensor([0, 6, 12, 19]), CPU)
    features = []
    with evaluating(trained_toy), read_layers(trained_toy, [trained_toy.last_layer]) as outputs:
        for seen in (batch, fgsm(trained_toy, batch, labels, epsilon=0.1)):
            trained_toy(seen)
            features.append(outputs[trained_toy.last_layer].detach())
    before, after = features
    expected = float((after - before).square().mean() / before.square().mean())
    found = moved(nets, images, ON, epsilon=0.1, count=4)
    assert found["normalised"].tolist() == [pytest.approx(expected, rel=1e-4)]
