"""Which networks the book is about: planned from parameters, identified by a key, listed for the notebooks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neuron_consistency.artifacts import artifacts
from neuron_consistency.data.load import dataset_fingerprint
from neuron_consistency.errors import ParameterError
from neuron_consistency.explanation.filter_groups import FilterGroups
from neuron_consistency.explanation.weighting import Weighting
from neuron_consistency.runtime import resolve_device, resolve_precision
from neuron_consistency.training.objective import Objective
from neuron_consistency.training.schedule import Schedule
from neuron_consistency.versions import GROUPS, TRAINING

# adversarial: Eq. 6 at beta = 0; reweighted: each image's loss times P3's v = 1 - E, or v with mean 1; both: its Eq. 6
OBJECTIVES = ("normal", "consistent", "adversarial", "reweighted", "reweighted-mean1", "both")
WEIGHTED = ("reweighted", "reweighted-mean1", "both")
TITLES = {"alexnet": "AlexNet", "vgg16": "VGG-16", "resnet18": "ResNet-18", "resnet50": "ResNet-50"}
LOSS = ("epsilon", "distance", "feature_layer", "attack_label", "norm_statistics", "second_example")
WEIGHTING = {  # what a notebook calls the fields of a Weighting
    "warm_up": "warm_up",
    "period": "refresh_period",
    "epsilon": "background_epsilon",
    "threshold": "mask_threshold",
    "steps": "background_steps",
    "distance": "map_distance",
    "mask": "mask_source",
}
GROUPING = {"strength": "group_strength", "groups": "filter_groups", "period": "group_period", "layer": "group_layer"}


@dataclass(frozen=True)
class Recipe:
    """One network to have: what it is trained on and how, and where it is kept.

    Attributes:
        profile: whose artifacts it belongs to.
        key: hash of `spec`, the dataset's fingerprint and the resolved precision in it, and of the version of training.
        spec: architecture, objective, seed, data, loss, schedule, weights, held_out; where images are weighed
            weighting, where filters are grouped filter_groups.
    """

    profile: str
    key: str
    spec: dict[str, Any]

    @property
    def architecture(self) -> str:
        return str(self.spec["architecture"])

    @property
    def objective(self) -> str:
        """One of `OBJECTIVES`."""
        return str(self.spec["objective"])

    @property
    def seed(self) -> int:
        return int(self.spec["seed"])

    @property
    def data(self) -> dict[str, Any]:
        """The arguments of `load_images` that choose the dataset: name, image_size, classes, per_class ..."""
        return dict(self.spec["data"])

    @property
    def dataset(self) -> str:
        return str(self.spec["data"]["name"])

    @property
    def image_size(self) -> int:
        return int(self.spec["data"]["image_size"])

    @property
    def fingerprint(self) -> str:
        """Of the dataset's files."""
        return str(self.spec["fingerprint"])

    @property
    def loss(self) -> Objective:
        return Objective(**self.spec["loss"])

    @property
    def schedule(self) -> Schedule:
        return Schedule(**self.spec["schedule"])

    @property
    def weighting(self) -> Weighting | None:
        return Weighting(**self.spec["weighting"]) if "weighting" in self.spec else None

    @property
    def filter_groups(self) -> FilterGroups | None:
        return FilterGroups(**self.spec["filter_groups"]) if "filter_groups" in self.spec else None

    @property
    def name(self) -> str:
        return f"{self.architecture}-{self.objective}-s{self.seed}"

    @property
    def path(self) -> Path:
        """The weights; the record lies beside them as .json, the resumable state as .checkpoint."""
        return artifacts(self.profile) / "models" / f"{self.name}-{self.key}.safetensors"

    @property
    def title(self) -> str:
        """For tables and captions, such as "ResNet-18, consistent (beta 1)"."""
        with_beta = f"consistent (beta {self.spec['loss']['beta']:g})"
        said = {
            "consistent": with_beta,
            "reweighted-mean1": "reweighted, mean 1",
            "both": f"{with_beta} and reweighted",
        }.get(self.objective, self.objective)
        groups = f", {self.filter_groups.groups} filter groups" if self.filter_groups else ""
        return f"{TITLES[self.architecture]}, {said}{groups}"


def recipes_of(profile: str, parameters: Mapping[str, Any]) -> list[Recipe]:
    """The networks that a notebook's parameters ask for: every architecture, objective and seed.

    Args:
        profile: whose artifacts they belong to.
        parameters: those of notebook 03, or of one that has them and more: `background_correlation` of the rendered
            scenes, the names in `WEIGHTING` and `explained_layers` for objectives that weigh images, those in
            `GROUPING` to group filters. `precision` is resolved on `device`, so that "auto" is never part of a key.

    Raises:
        ParameterError: an unknown objective, or one that needs parameters which the notebook does not have.
        DatasetError: the dataset is not there.
    """
    p = dict(parameters)
    data = {
        "name": p["dataset"],
        "image_size": p["image_size"],
        "classes": p["classes"] or None,
        "per_class": p["per_class"] or None,
    }
    if p["dataset"].startswith("scenes") and p.get("background_correlation"):
        data["background_correlation"] = p["background_correlation"]
    fingerprint = dataset_fingerprint(**data_arguments(data, "train", profile))
    precision = resolve_precision(p["precision"], resolve_device(p["device"]))
    recipes = []
    for architecture in p["architectures"]:
        for objective in p["objectives"]:
            if objective not in OBJECTIVES:
                raise ParameterError(f"objective {objective!r}: use one of {', '.join(OBJECTIVES)}")
            more = {"weighting": asdict(weighting_of(p, architecture, objective))} if objective in WEIGHTED else {}
            if p.get("filter_groups"):
                more["filter_groups"] = asdict(FilterGroups(**_named(p, GROUPING, "filter_groups")))
            for seed in p["seeds"]:
                spec = {
                    "architecture": architecture,
                    "objective": objective,
                    "seed": seed,
                    "data": data,
                    "fingerprint": fingerprint,
                    "weights": p["weights"] or None,
                    "held_out": p["held_out"],
                    "loss": asdict(_objective(p, objective)),
                    "schedule": asdict(
                        Schedule(
                            epochs=p["epochs_of"].get(architecture, p["epochs"]),
                            batch_size=p["batch_size"],
                            learning_rate=p["learning_rate"],
                            weight_decay=p["weight_decay"],
                            precision=precision,
                            watched_images=p.get("watched_images", Schedule.watched_images),
                            seed=seed,
                        )
                    ),
                    **more,
                }
                recipes.append(Recipe(profile, _key(spec), spec))
    return recipes


def _named(p: Mapping[str, Any], names: Mapping[str, str], what: str) -> dict[str, Any]:
    """The fields that a notebook has under names of its own; no layer is the last one."""
    if missing := [name for name in names.values() if name not in p]:
        raise ParameterError(f"{what} needs the parameters {', '.join(missing)}, which this notebook does not have")
    return {field: p[name] or None if field == "layer" else p[name] for field, name in names.items()}


def _objective(p: Mapping[str, Any], objective: str) -> Objective:
    if objective in ("normal", "reweighted", "reweighted-mean1"):
        return Objective()
    beta = 0.0 if objective == "adversarial" else p["beta"]
    loss = {name: p[name] for name in LOSS if name in p}
    return Objective(**loss | {"feature_layer": p.get("feature_layer") or None, "alpha": p["alpha"], "beta": beta})


def explained_layer(parameters: Mapping[str, Any], architecture: str) -> str | None:
    """The layer that a notebook's `explained_layers` name for an architecture; None, the last one, where they do not.

    Raises:
        ParameterError: an entry is not an architecture and a layer of it, joined by a point.
    """
    for entry in parameters["explained_layers"]:
        name, point, layer = entry.partition(".")
        if name not in TITLES or not (point and layer):
            raise ParameterError(f"explained_layers: write entries such as 'resnet18.layer3', not {entry!r}")
        if name == architecture:
            return str(layer)
    return None


def weighting_of(parameters: Mapping[str, Any], architecture: str, objective: str = "reweighted") -> Weighting:
    """The weighting that a notebook's parameters ask for.

    Raises:
        ParameterError: the notebook lacks one of them.
    """
    fields = _named(parameters, WEIGHTING | {"layer": "explained_layers"}, f"objective {objective!r}")
    layer = explained_layer(parameters, architecture)
    return Weighting(**fields | {"layer": layer, "normalise": objective == "reweighted-mean1"})


def _key(spec: dict[str, Any]) -> str:
    text = json.dumps([spec, TRAINING, *[GROUPS] * ("filter_groups" in spec)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def data_arguments(data: Mapping[str, Any], split: str, profile: str) -> dict[str, Any]:
    """The arguments of `load_images` for a split of a recipe's dataset."""
    return {**data, "split": split, "cache": artifacts(profile).parent / "data"}
