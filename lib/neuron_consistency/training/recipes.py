"""Which networks there are to have: recipes made from a notebook's parameters, each identified by a key."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter

from neuron_consistency.artifacts import artifacts
from neuron_consistency.data.load import dataset_fingerprint
from neuron_consistency.errors import ParameterError, StoreError
from neuron_consistency.explanation.filter_groups import FilterGroups
from neuron_consistency.explanation.weighting import Weighting
from neuron_consistency.runtime import Runtime
from neuron_consistency.training.objective import Objective
from neuron_consistency.training.schedule import Schedule
from neuron_consistency.versions import GROUPS, TRAINING

# adversarial: P1's Eq. 6 at beta = 0; reweighted: each image's loss times P3's v = 1 - E, or v with mean 1;
# permuted-mean1: the same numbers dealt to other images, the null of what the choice of images does; both: v
# times P1's Eq. 6
OBJECTIVES = ("normal", "consistent", "adversarial", "reweighted", "reweighted-mean1", "permuted-mean1", "both")
WEIGHTED = ("reweighted", "reweighted-mean1", "permuted-mean1", "both")
TITLES = {"alexnet": "AlexNet", "vgg16": "VGG-16", "resnet18": "ResNet-18", "resnet50": "ResNet-50"}
TITLES |= {"packaged:efficientnet-lite0": "EfficientNet-Lite0", "packaged:cifar10-resnet18": "ResNet-18 of CIFAR-10"}
LOSS = ("epsilon", "distance", "attack_label", "norm_statistics", "second_example")
SCHEDULE = ("batch_size", "learning_rate", "weight_decay", "watched_images")
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
PARTS = {"loss": Objective, "schedule": Schedule, "weighting": Weighting, "filter_groups": FilterGroups}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One network to have: what it is trained on and how, and where it is kept.

    Attributes:
        profile: whose artifacts it belongs to.
        objective: one of `OBJECTIVES`.
        data: the arguments of `load_images` that choose the dataset: name, image_size, classes, per_class ...
        fingerprint: of the dataset's files.
        weights: where training starts from, see `build_model`.
        held_out: the share of the training images that select and are not trained on.
    """

    profile: str
    architecture: str
    objective: str
    seed: int
    data: dict[str, Any]
    fingerprint: str
    loss: Objective
    schedule: Schedule
    weights: str | None = None
    held_out: float = 0.0
    weighting: Weighting | None = None
    filter_groups: FilterGroups | None = None

    @classmethod
    def read(cls, profile: str, spec: Mapping[str, Any]) -> Self:
        """The recipe that a record holds as its `spec`.

        Raises:
            StoreError: it is none of this version.
        """
        try:
            TypeAdapter(cls).validate_json(json.dumps({"profile": profile, **spec}), strict=True)  # 1 would become 1.0
            fields = {name: PARTS[name](**value) if name in PARTS else value for name, value in spec.items()}
            recipe = cls(profile=profile, **fields)
            _ = recipe.title, recipe.dataset, recipe.image_size
        except (TypeError, ValueError, AttributeError, KeyError, ParameterError) as error:
            raise StoreError(f"no network of this version has the description {spec!s:.200} ({error})") from error
        return recipe

    @property
    def spec(self) -> dict[str, Any]:
        """Everything that makes the network, for JSON; weighting and filter_groups only where it has them."""
        fields = asdict(self)
        spec = {name: fields[name] for name in fields if name != "profile" and (name not in PARTS or fields[name])}
        if self.weighting and not self.weighting.permuted:  # younger than the keys of networks without it
            del spec["weighting"]["permuted"]
        return spec

    @property
    def key(self) -> str:
        """A hash of `spec` and of the version of training."""
        text = json.dumps([self.spec, TRAINING, *[GROUPS] * bool(self.filter_groups)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def dataset(self) -> str:
        return str(self.data["name"])

    @property
    def image_size(self) -> int:
        return int(self.data["image_size"])

    @property
    def name(self) -> str:
        return f"{self.architecture.removeprefix('packaged:')}-{self.objective}-s{self.seed}"

    @property
    def path(self) -> Path:
        """The weights; the record lies beside them as .json, the resumable state as .checkpoint."""
        return artifacts(self.profile) / "models" / f"{self.name}-{self.key}.safetensors"

    @property
    def title(self) -> str:
        """For tables and captions, such as "ResNet-18, consistent (beta 1)"."""
        consistent = f"consistent (beta {self.loss.beta:g})"
        said = {
            "consistent": consistent,
            "reweighted-mean1": "reweighted, mean 1",
            "permuted-mean1": "weights permuted, mean 1",
            "both": f"{consistent} and reweighted",
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
    data = {"name": p["dataset"], "image_size": p["image_size"]}
    data |= {name: p[name] or None for name in ("classes", "per_class")}
    if p["dataset"].startswith("scenes") and p.get("background_correlation"):
        data["background_correlation"] = p["background_correlation"]
    fingerprint = dataset_fingerprint(**data_arguments(data, "train", profile))
    precision = Runtime.of(p["device"], p["precision"]).precision
    groups = FilterGroups(**_named(p, GROUPING, "filter_groups")) if p.get("filter_groups") else None
    own = {name: p[name] for name in SCHEDULE if name in p} | {"precision": precision}
    shared: dict[str, Any] = {"profile": profile, "data": data, "fingerprint": fingerprint, "filter_groups": groups}
    shared |= {"weights": p["weights"] or None, "held_out": p["held_out"]}
    return [
        Recipe(
            architecture=architecture, objective=objective, seed=seed, loss=_loss(p, objective),
            schedule=Schedule(epochs=p["epochs_of"].get(architecture, p["epochs"]), seed=seed, **own),
            weighting=weighting_of(p, architecture, objective) if objective in WEIGHTED else None, **shared,
        )
        for architecture, objective, seed in itertools.product(p["architectures"], p["objectives"], p["seeds"])
    ]  # fmt: skip


def _named(p: Mapping[str, Any], names: Mapping[str, str], what: str) -> dict[str, Any]:
    """The fields that a notebook has under names of its own; no layer is the last one."""
    if missing := [name for name in names.values() if name not in p]:
        raise ParameterError(f"{what} needs the parameters {', '.join(missing)}, which this notebook does not have")
    return {field: p[name] or None if field == "layer" else p[name] for field, name in names.items()}


def _loss(p: Mapping[str, Any], objective: str) -> Objective:
    if objective not in OBJECTIVES:
        raise ParameterError(f"objective {objective!r}: use one of {', '.join(OBJECTIVES)}")
    if objective == "normal" or objective.startswith(("reweighted", "permuted")):
        return Objective()
    return Objective(
        alpha=p["alpha"],
        beta=0.0 if objective == "adversarial" else p["beta"],
        feature_layer=p.get("feature_layer") or None,
        **{name: p[name] for name in LOSS if name in p},
    )


def weighting_of(parameters: Mapping[str, Any], architecture: str, objective: str = "reweighted") -> Weighting:
    """The weighting that a notebook's parameters ask for; its layer is the last one where they name no other.

    Raises:
        ParameterError: the notebook lacks a parameter, or an entry of `explained_layers` is not an architecture and a
            layer of it, joined by a point.
    """
    fields = _named(parameters, WEIGHTING | {"layer": "explained_layers"}, f"objective {objective!r}")
    layers: dict[str, str] = {}
    for entry in parameters["explained_layers"]:
        name, _, layer = entry.partition(".")
        if name not in TITLES or not layer:
            raise ParameterError(f"explained_layers: write entries such as 'resnet18.layer3', not {entry!r}")
        layers.setdefault(name, layer)
    how = {"normalise": objective.endswith("mean1"), "permuted": objective.startswith("permuted")}
    return Weighting(**fields | how | {"layer": layers.get(architecture)})


def data_arguments(data: Mapping[str, Any], split: str, profile: str) -> dict[str, Any]:
    """The arguments of `load_images` for a split of a recipe's dataset."""
    return {**data, "split": split, "cache": artifacts(profile).parent / "data"}
