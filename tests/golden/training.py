"""Trainings of two epochs: the history and the weights of every objective, choice and architecture."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from golden.setting import PRECISION, images, network, read_out, summary
from neuron_consistency.data.image_set import ImageSet, MultiLabelSet
from neuron_consistency.data.load import load_images
from neuron_consistency.explanation.weighting import Weighting
from neuron_consistency.networks.models import ARCHITECTURES, Classifier, build_model
from neuron_consistency.training.loop import train
from neuron_consistency.training.objective import Objective
from neuron_consistency.training.schedule import Schedule
from toys import CPU

CLOCKS = ("seconds", "weighing_seconds")
EQ6: dict[str, Any] = {"alpha": 0.5, "beta": 1.0, "epsilon": 4 / 255}


def trained(model: Classifier, training: ImageSet, objective: Objective, **options: Any) -> dict[str, object]:
    """The history as lists by column, and mean, mean size and RMS of every tensor of the network after it."""
    held_out = options.pop("validation", None)
    settings = {"epochs": 2, "batch_size": 12, "learning_rate": 5e-4, "watched_images": 8, "watch_steps": 2}
    schedule = Schedule(precision=PRECISION, **settings | options.pop("schedule", {}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a toy may collapse
        history = train(model, training, objective, schedule, device=CPU, validation=held_out, **options)
    columns = dict.fromkeys(name for row in history for name in row if name not in CLOCKS)
    found: dict[str, object] = {name: [row.get(name) for row in history] for name in columns}
    return found | {
        name: summary(tensor)
        for name, tensor in model.state_dict().items()
        if tensor.is_floating_point() and tensor.numel() > 1
    }


def beginner(known: ImageSet) -> Classifier:
    """A small network that is right of some images and wrong of others, with no parameter near zero."""
    model = read_out(network(seed=0), known, sureness=3.0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
            nn.init.constant_(module.bias, 0.1)
    return model


def of_one_object(per_class: int, split: str = "train") -> ImageSet:
    """Scenes with masks."""
    return load_images("scenes", split, image_size=24, classes=4, per_class=per_class)


def numbers() -> dict[str, object]:
    """Of a small network all choices, one at a time; of AlexNet Eq. 6, of ResNet-18 normal training."""
    colours, held_out, scenes = images(36, seed=1, noise=0.5), images(12, seed=2, noise=0.5), of_one_object(9)
    weighed = Weighting(warm_up=1, period=1)
    found: dict[str, object] = {}
    losses: dict[str, dict[str, Any]] = {
        "normal": {"alpha": 1.0, "beta": 0.0},
        "Eq. 6": {},
        "adversarial": {"beta": 0.0},
        "Eq. 6, radius": {"epsilon": 8 / 255},
        "Eq. 6, raw": {"distance": "raw"},
        "Eq. 6, cosine": {"distance": "cosine"},
        "Eq. 6, first layer": {"feature_layer": "first"},
        "Eq. 6, predicted label": {"attack_label": "predicted"},
        "Eq. 6, least likely label": {"attack_label": "least-likely"},
        "Eq. 6, clean statistics": {"norm_statistics": "clean"},
        "Eq. 6, second example": {"second_example": True},
    }
    for name, loss in losses.items():
        found[name] = trained(beginner(colours), colours, Objective(**EQ6 | loss), validation=held_out)
    many = {"batch_size": 4, "weight_decay": 2.0, "seed": 1}
    found["normal, many steps, decay"] = trained(beginner(colours), colours, Objective(), schedule=many)
    weightings = {
        "reweighted": weighed,
        "reweighted, mean 1": Weighting(warm_up=1, period=1, normalise=True),
        "reweighted, truth": Weighting(warm_up=1, period=1, mask="truth"),
        "reweighted, ssim": Weighting(warm_up=0, period=1, distance="ssim"),
        "reweighted, threshold and steps": Weighting(warm_up=1, threshold=0.5, steps=2, layer="first"),
    }
    for name, weighting in weightings.items():
        found[name] = trained(beginner(scenes), scenes, Objective(), weighting=weighting)
    found["both"] = trained(beginner(scenes), scenes, Objective(**EQ6), weighting=weighed)
    found["several labels"] = several_labels(weighed)
    short = {"batch_size": 16, "watched_images": 4, "watch_steps": 1, "learning_rate": 1e-5}
    few = load_images("scenes", "train", image_size=64, classes=4, per_class=4)
    for architecture, loss in [("alexnet", EQ6 | {"epsilon": 0.5 / 255}), ("resnet18", {})]:
        # a deep network blows up what two processors' rounding differs in: mild steps, and the history alone
        model = build_model(architecture, num_classes=4, image_size=64, seed=0)
        history = trained(model, few, Objective(**loss), schedule=short)
        found[architecture] = {name: column for name, column in history.items() if "network" not in name}
    found |= {f"first weights, {name}": first_weights(name) for name in ARCHITECTURES}
    return found


def several_labels(weighting: Weighting) -> dict[str, object]:
    """Images of several labels, with P3's weights and the mean average precision."""
    several = load_images("scenes-multilabel", "train", image_size=24, classes=4, per_class=8)
    assert isinstance(several, MultiLabelSet)
    settings: dict[str, Any] = {"weighting": weighting, "validation": several.subset(torch.arange(0, len(several), 3))}
    return trained(beginner(images(40, seed=1)), several, Objective(), **settings)


def first_weights(architecture: str) -> list[float]:
    """All random weights of an architecture in its small form."""
    model = build_model(architecture, num_classes=4, image_size=64, seed=0)
    return summary(torch.cat([parameter.flatten() for parameter in model.parameters()]))
