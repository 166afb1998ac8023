"""The measure reacts to labels and weights, and sizes of images that a network cannot take are refused at once."""

from __future__ import annotations

import pytest
import torch

from neuron_consistency.consistency.measure import chance
from neuron_consistency.consistency.reactions import check_sizes, reaction_table, shuffled
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier, build_model
from neuron_consistency.runtime import Runtime
from toys import CPU, toy_images, toy_model

ON = Runtime(CPU, "float32")


def test_the_measure_reacts_to_labels_and_weights(trained_toy: Classifier) -> None:
    """Planted: a network that knows its classes. A measure blind to labels would stay up when they are shuffled."""
    images = toy_images(200, noise=0.25, seed=7)
    correlation = torch.eye(4)
    cases = {
        "trained": (trained_toy, images),
        "shuffled": (trained_toy, shuffled(images)),
        "random": (toy_model(seed=5).eval(), images),
    }
    rows = reaction_table(cases, ON, correlation, top_k=20).set_index(["case", "layer"])
    assert list(rows.index) == [(case, layer) for case in cases for layer in ("first", "last")]
    assert bool((rows["U chance"] == chance(images.labels, correlation).unbiased).all())
    last = rows.xs("last", level="layer")
    assert last["U"]["trained"] > last["U"]["random"] > last["U"]["shuffled"]
    assert last["U low"]["shuffled"] < last["U chance"]["shuffled"] < last["U high"]["shuffled"]
    assert last["accuracy"]["trained"] > 90 > 60 > last["accuracy"]["shuffled"]


def test_images_too_small_for_a_network_are_named_before_anything_is_measured() -> None:
    model = build_model("alexnet", num_classes=4, image_size=64)
    check_sizes(model, [64, 96], title="AlexNet")
    with pytest.raises(ParameterError, match=r"sizes=\[96, 16\]: images of 16 px leave AlexNet no maps"):
        check_sizes(model, [96, 16], title="AlexNet")
    assert model.training
