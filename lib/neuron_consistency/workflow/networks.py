"""Which networks the chapters evaluate: those of the training notebook's latest run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from neuron_consistency.artifacts import artifacts, read_json, repository_root, write_json
from neuron_consistency.errors import ParameterError
from neuron_consistency.training.recipes import ModelPlan, plan_models
from neuron_consistency.workflow.parameters import notebook_parameters, profile_parameters

TRAINING_NOTEBOOK = "03_consistent_loss_training"


def training_parameters(profile: str) -> dict[str, Any]:
    """The parameters of notebook 03: those that stand in it, changed by the profile."""
    notebook = repository_root() / "notebooks" / f"{TRAINING_NOTEBOOK}.ipynb"
    standing = {name: value.default for name, value in notebook_parameters(notebook).items()}
    return standing | profile_parameters(profile, TRAINING_NOTEBOOK)


def default_plans(profile: str, device: str = "") -> list[ModelPlan]:
    """What notebook 03 trains with the parameters that stand in it and those of the profile, on that device if any."""
    return plan_models(profile, training_parameters(profile) | ({"device": device} if device else {}))


def _current_path(profile: str) -> Path:
    return artifacts(profile) / "models" / "current.json"


def write_current(profile: str, plans: Iterable[ModelPlan], *, chosen: bool) -> None:
    """Says which networks the later notebooks evaluate.

    A build of the book writes its own (`chosen=False`) and forgets what was chosen; a run of notebook 03 writes
    what it `chosen`, beside which the book's own stay.
    """
    path = _current_path(profile)
    entries = [{"name": plan.path.stem, "key": plan.key, "spec": plan.spec} for plan in plans]
    book = read_json(path)["book"] if chosen and path.exists() else []
    write_json(path, {"book": book if chosen else entries, "chosen": entries if chosen else []})


def book_models(profile: str) -> list[ModelPlan]:
    """The networks that the last build of the book wanted; none where there was no build."""
    path = _current_path(profile)
    entries = read_json(path)["book"] if path.exists() else []
    return [ModelPlan(profile, entry["key"], entry["spec"]) for entry in entries]


def current_models(
    profile: str, *, architectures: Sequence[str] = (), objectives: Sequence[str] = (), seeds: Sequence[int] = ()
) -> list[ModelPlan]:
    """The networks notebook 03 last chose, beside the book's own; by default those it would train.

    Args:
        profile: whose.
        architectures, objectives, seeds: only those; all where none is named.

    Raises:
        ParameterError: there is none of them.
    """
    path = _current_path(profile)
    if path.exists():
        content = read_json(path)
        plans = {e["key"]: ModelPlan(profile, e["key"], e["spec"]) for e in content["book"] + content["chosen"]}
    else:
        plans = {plan.key: plan for plan in default_plans(profile)}
    chosen = [
        plan
        for plan in plans.values()
        if (not architectures or plan.spec["architecture"] in architectures)
        and (not objectives or plan.spec["objective"] in objectives)
        and (not seeds or plan.spec["seed"] in seeds)
    ]
    if not chosen:
        wanted = ", ".join([*architectures, *objectives, *(f"seed {seed}" for seed in seeds)])
        known = ", ".join(plan.name for plan in plans.values())
        raise ParameterError(f"no network of {wanted} among those of notebook 03: {known}")
    return chosen


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
