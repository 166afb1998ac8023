"""Which networks the book is about: planned from parameters, identified by a key, listed for the notebooks."""

from __future__ import annotations

import collections
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neuron_consistency.data.images import dataset_fingerprint
from neuron_consistency.errors import ParameterError
from neuron_consistency.keys import code_key
from neuron_consistency.objectives import Objective
from neuron_consistency.parameters import notebook_parameters, profile_parameters, repository_root
from neuron_consistency.store import artifacts, read_json, write_json
from neuron_consistency.training import Schedule

TRAINING_NOTEBOOK = "03_consistent_loss_training"
OBJECTIVES = ("normal", "consistent", "adversarial")  # adversarial: Eq. 6 at beta = 0
TITLES = {"alexnet": "AlexNet", "vgg16": "VGG-16", "resnet18": "ResNet-18"}


@dataclass(frozen=True)
class ModelPlan:
    """One network to have: what it is trained on and how, and where it is kept.

    Attributes:
        profile: whose artifacts it belongs to.
        key: hash of `spec`, of the dataset's fingerprint in it, and of the code that training imports.
        spec: architecture, objective, seed, data, loss, schedule, weights, held_out.
    """

    profile: str
    key: str
    spec: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.spec['architecture']}-{self.spec['objective']}-s{self.spec['seed']}"

    @property
    def path(self) -> Path:
        """The weights; the record lies beside them as .json, the resumable state as .checkpoint."""
        return artifacts(self.profile) / "models" / f"{self.name}-{self.key}.safetensors"

    @property
    def title(self) -> str:
        """For tables and captions, such as "ResNet-18, consistent (beta 1)"."""
        objective, loss = self.spec["objective"], self.spec["loss"]
        note = f" (beta {loss['beta']:g})" if objective == "consistent" else ""
        return f"{TITLES[self.spec['architecture']]}, {objective}{note}"


def plan_models(profile: str, parameters: Mapping[str, Any]) -> list[ModelPlan]:
    """The networks that the parameters of notebook 03 ask for: every architecture, objective and seed.

    Raises:
        ParameterError: an unknown objective.
        DatasetError: the dataset is not there.
    """
    p = dict(parameters)
    data = {
        "name": p["dataset"],
        "image_size": p["image_size"],
        "classes": p["classes"] or None,
        "per_class": p["per_class"] or None,
    }
    fingerprint = dataset_fingerprint(**data_arguments(data, "train", profile))
    loss_names = ("epsilon", "distance", "feature_layer", "attack_label", "norm_statistics", "second_example")
    plans = []
    for architecture in p["architectures"]:
        for objective in p["objectives"]:
            if objective not in OBJECTIVES:
                raise ParameterError(f"objective {objective!r}: use one of {', '.join(OBJECTIVES)}")
            loss = {name: p[name] for name in loss_names} | {"feature_layer": p["feature_layer"] or None}
            loss |= {"alpha": p["alpha"], "beta": p["beta"] if objective == "consistent" else 0.0}
            if objective == "normal":
                loss = asdict(Objective())
            for seed in p["seeds"]:
                spec = {
                    "architecture": architecture,
                    "objective": objective,
                    "seed": seed,
                    "data": data,
                    "fingerprint": fingerprint,
                    "weights": p["weights"] or None,
                    "held_out": p["held_out"],
                    "loss": asdict(Objective(**loss)),
                    "schedule": asdict(
                        Schedule(
                            epochs=p["epochs_of"].get(architecture, p["epochs"]),
                            batch_size=p["batch_size"],
                            learning_rate=p["learning_rate"],
                            weight_decay=p["weight_decay"],
                            precision=p["precision"],
                            watched_images=p["watched_images"],
                            seed=seed,
                        )
                    ),
                }
                plans.append(ModelPlan(profile, _key(spec), spec))
    return plans


@functools.cache
def training_code() -> str:
    """Hash of the modules that a training runs through, comments and docstrings left out."""
    return code_key(["neuron_consistency.training", "neuron_consistency.models"])


def _key(spec: dict[str, Any]) -> str:
    text = json.dumps(spec, sort_keys=True) + training_code()
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def data_arguments(data: Mapping[str, Any], split: str, profile: str) -> dict[str, Any]:
    """The arguments of `load_images` for a split of a plan's dataset."""
    return {**data, "split": split, "cache": artifacts(profile).parent / "data"}


def default_plans(profile: str) -> list[ModelPlan]:
    """What notebook 03 trains with the parameters that stand in it and those of the profile."""
    notebook = repository_root() / "notebooks" / f"{TRAINING_NOTEBOOK}.ipynb"
    standing = {name: value.default for name, value in notebook_parameters(notebook).items()}
    return plan_models(profile, standing | profile_parameters(profile, TRAINING_NOTEBOOK))


def _current_path(profile: str) -> Path:
    return artifacts(profile) / "models" / "current.json"


def write_current(profile: str, plans: Iterable[ModelPlan], *, chosen: bool) -> None:
    """Says which networks the later notebooks evaluate.

    A build of the book writes its own (`chosen=False`) and forgets what was chosen; a run of notebook 03 writes
    what it `chosen`, beside which the book's own stay.
    """
    path = _current_path(profile)
    entries = [{"key": plan.key, "spec": plan.spec} for plan in plans]
    book = read_json(path)["book"] if chosen and path.exists() else []
    write_json(path, {"book": book if chosen else entries, "chosen": entries if chosen else []})


def current_models(profile: str) -> list[ModelPlan]:
    """The networks notebook 03 last chose, beside the book's own; by default those it would train."""
    path = _current_path(profile)
    if not path.exists():
        return default_plans(profile)
    content = read_json(path)
    plans = {e["key"]: ModelPlan(profile, e["key"], e["spec"]) for e in content["book"] + content["chosen"]}
    return list(plans.values())


def distinct_titles(plans: Iterable[ModelPlan]) -> dict[str, str]:
    """By key, a title for tables with the seed in it, and the key where two networks would have the same."""
    titles = {plan.key: f"{plan.title}, seed {plan.spec['seed']}" for plan in plans}
    again = {title for title, times in collections.Counter(titles.values()).items() if times > 1}
    return {key: f"{title} [{key[:6]}]" if title in again else title for key, title in titles.items()}


def find_plan(plans: Iterable[ModelPlan], *, architecture: str, objective: str) -> ModelPlan:
    """The first plan of that architecture and objective.

    Raises:
        ParameterError: there is none.
    """
    plans = list(plans)
    for plan in plans:
        if (plan.spec["architecture"], plan.spec["objective"]) == (architecture, objective):
            return plan
    known = ", ".join(plan.name for plan in plans)
    raise ParameterError(f"no {objective} {architecture} among the networks of notebook 03: {known}")


def matched(plans: Iterable[ModelPlan], first: str, second: str) -> list[tuple[ModelPlan, ModelPlan]]:
    """All pairs of a network of the objective `first` and one of `second` of the same architecture and seed."""
    plans = list(plans)
    return [
        (a, b)
        for a in plans
        for b in plans
        if (a.spec["objective"], b.spec["objective"]) == (first, second)
        and (a.spec["architecture"], a.spec["seed"]) == (b.spec["architecture"], b.spec["seed"])
    ]
