"""Recipes as a notebook's parameters ask for them."""

from __future__ import annotations

from typing import Any

from neuron_consistency.training.recipes import Recipe, recipes_of

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


def planned(**changes: Any) -> list[Recipe]:
    return recipes_of("smoke", PARAMETERS | changes)


def planned_one(**changes: Any) -> Recipe:
    return planned(**{"objectives": ["consistent"], **changes})[0]
