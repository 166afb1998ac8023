"""Trained networks: planned from parameters, found by their key, trained where they are missing."""

from __future__ import annotations

import datetime
import functools
import hashlib
import json
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from neuron_consistency.compute import describe_device, resolve_device, resolve_precision
from neuron_consistency.data.images import ImageSet, dataset_fingerprint, load_images
from neuron_consistency.errors import NeuronConsistencyError, ParameterError
from neuron_consistency.models import Classifier, build_model, load_weights
from neuron_consistency.objectives import Objective
from neuron_consistency.parameters import notebook_parameters, profile_parameters, repository_root
from neuron_consistency.store import (
    artifacts,
    atomic_path,
    commit,
    read_json,
    write_json,
)
from neuron_consistency.training import Schedule, train
from neuron_consistency.workflow import code_key

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
        "classes": p["classes"],
        "per_class": p["per_class"],
    }
    fingerprint = dataset_fingerprint(**_data_arguments(data, "train", profile))
    loss_names = ("epsilon", "distance", "feature_layer", "attack_label", "norm_statistics", "second_example")
    plans = []
    for architecture in p["architectures"]:
        for objective in p["objectives"]:
            if objective not in OBJECTIVES:
                raise ParameterError(f"objective {objective!r}: use one of {', '.join(OBJECTIVES)}")
            loss = {name: p[name] for name in loss_names}
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
                    "weights": p["weights"],
                    "held_out": p["held_out"],
                    "loss": asdict(Objective(**loss)),
                    "schedule": asdict(
                        Schedule(
                            epochs=p["epochs_of"].get(architecture, p["epochs"]),
                            batch_size=p["batch_size"],
                            learning_rate=p["learning_rate"],
                            weight_decay=p["weight_decay"],
                            precision=p["precision"],
                            seed=seed,
                        )
                    ),
                }
                plans.append(ModelPlan(profile, _key(spec), spec))
    return plans


@functools.cache
def _training_code() -> str:
    return code_key(["neuron_consistency.training", "neuron_consistency.models"])


def _key(spec: dict[str, Any]) -> str:
    text = json.dumps(spec, sort_keys=True) + _training_code()
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _data_arguments(data: Mapping[str, Any], split: str, profile: str) -> dict[str, Any]:
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


def training_images(plan: ModelPlan, **options: Any) -> tuple[ImageSet, ImageSet]:
    """The plan's training images, and those held out of them for selection."""
    images = load_images(**_data_arguments(plan.spec["data"], "train", plan.profile), **options)
    return images.split_off(plan.spec["held_out"], seed=0)


def evaluation_images(plan: ModelPlan, *, per_class: int | None = None, **options: Any) -> ImageSet:
    """The validation images of the plan's dataset and classes, never used in training or selection."""
    data = {**plan.spec["data"], "per_class": per_class}
    return load_images(**_data_arguments(data, "val", plan.profile), **options)


@dataclass(frozen=True)
class TrainedModel:
    """A network with its plan and the record of its training (history, device, seconds, commit ...)."""

    plan: ModelPlan
    model: Classifier
    record: dict[str, Any]

    @property
    def title(self) -> str:
        return self.plan.title


def obtain(plan: ModelPlan, *, device: str = "auto") -> TrainedModel:
    """The planned network in eval mode: loaded where its file exists, else trained and kept.

    Training shows a line an epoch, and goes on from its checkpoint where a run was killed.

    Raises:
        TrainingError: see `training.train`.
        DatasetError: the images or the weights cannot be read.
        StoreError: the disk is full.
    """
    where = resolve_device(device)
    record_path = plan.path.with_suffix(".json")
    num_classes = plan.spec["data"]["classes"]
    if not (plan.path.exists() and record_path.exists()):
        _train(plan, where)
    record = read_json(record_path)
    num_classes = record["num_classes"]
    model = build_model(plan.spec["architecture"], num_classes=num_classes, image_size=plan.spec["data"]["image_size"])
    load_weights(model, plan.path)
    return TrainedModel(plan, model.to(where).eval(), record)


def _train(plan: ModelPlan, device: torch.device) -> None:
    spec, started = plan.spec, time.perf_counter()
    images, held_out = training_images(plan)
    model = build_model(
        spec["architecture"],
        num_classes=images.num_classes,
        image_size=spec["data"]["image_size"],
        weights=spec["weights"],
        seed=spec["seed"],
    )

    def report(row: dict[str, Any], epochs: int) -> None:
        left = (time.perf_counter() - started) / row["epoch"] * (epochs - row["epoch"])
        pgd = f", PGD {row['pgd_accuracy']:.2f}" if "pgd_accuracy" in row else ""
        print(
            f"{plan.title}, seed {spec['seed']}: epoch {row['epoch']}/{epochs}, loss {row['loss']:.3f}, "
            f"held-out accuracy {row['validation_accuracy']:.2f}{pgd}, {row['seconds']:.0f} s, {left:.0f} s left",
            flush=True,
        )

    checkpoint = plan.path.with_suffix(".checkpoint")
    history = train(
        model,
        images,
        Objective(**spec["loss"]),
        Schedule(**spec["schedule"]),
        device=device,
        validation=held_out,
        checkpoint=checkpoint,
        checkpoint_key=plan.key,
        report=report,
    )
    with atomic_path(plan.path) as part:
        state = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
        safetensors.torch.save_file(state, part)
    record = {
        "key": plan.key,
        "code": _training_code(),
        "spec": spec,
        "num_classes": images.num_classes,
        "classes": images.classes,
        "history": history,
        "commit": commit(),
        "torch": torch.__version__,
        "device": describe_device(device),
        "precision": resolve_precision(spec["schedule"]["precision"], device),
        "seconds": round(sum(row["seconds"] for row in history), 1),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    write_json(plan.path.with_suffix(".json"), record)
    checkpoint.unlink(missing_ok=True)


def main(arguments: list[str]) -> int:
    """`python -m neuron_consistency.trained PLAN.json [DEVICE]`: trains one plan, for the workflow."""
    entry = read_json(Path(arguments[0]))
    try:
        obtain(ModelPlan(entry["profile"], entry["key"], entry["spec"]), device=(arguments[1:] or ["auto"])[0])
    except NeuronConsistencyError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
