"""Which networks the chapters evaluate: those of the training notebook's latest run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from neuron_consistency.artifacts import artifacts, read_json, repository_root, write_json
from neuron_consistency.consistency.choices import BASE, NORMAL, WITHOUT
from neuron_consistency.errors import ParameterError
from neuron_consistency.training.recipes import Recipe, recipes_of
from neuron_consistency.workflow.parameters import notebook_parameters, profile_parameters

TRAINING_NOTEBOOK = "03_consistent_loss_training"


def training_parameters(profile: str) -> dict[str, Any]:
    """The parameters of notebook 03: those that stand in it, changed by the profile."""
    notebook = repository_root() / "notebooks" / f"{TRAINING_NOTEBOOK}.ipynb"
    standing = {name: value.default for name, value in notebook_parameters(notebook).items()}
    return standing | profile_parameters(profile, TRAINING_NOTEBOOK)


def default_recipes(profile: str, device: str = "") -> list[Recipe]:
    """What notebook 03 trains with the parameters that stand in it and those of the profile, on that device if any."""
    return recipes_of(profile, training_parameters(profile) | ({"device": device} if device else {}))


def _current_path(profile: str) -> Path:
    return artifacts(profile) / "models" / "current.json"


def write_current(profile: str, recipes: Iterable[Recipe], *, chosen: bool) -> None:
    """Says which networks the later notebooks evaluate.

    A build of the book writes its own (`chosen=False`) and forgets what was chosen; a run of notebook 03 writes
    what it `chosen`, beside which the book's own stay.
    """
    path = _current_path(profile)
    entries = [{"name": recipe.path.stem, "spec": recipe.spec} for recipe in recipes]
    book = read_json(path)["book"] if chosen and path.exists() else []
    write_json(path, {"book": book if chosen else entries, "chosen": entries if chosen else []})


def book_models(profile: str) -> list[Recipe]:
    """The networks that the last build of the book wanted; none where there was no build."""
    path = _current_path(profile)
    entries = read_json(path)["book"] if path.exists() else []
    return [Recipe.read(profile, entry["spec"]) for entry in entries]


def current_models(
    profile: str, *, architectures: Sequence[str] = (), objectives: Sequence[str] = (), seeds: Sequence[int] = ()
) -> list[Recipe]:
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
        listed = [Recipe.read(profile, entry["spec"]) for entry in content["book"] + content["chosen"]]
    else:
        listed = default_recipes(profile)
    recipes = {recipe.key: recipe for recipe in listed}
    chosen = [
        recipe
        for recipe in recipes.values()
        if (not architectures or recipe.architecture in architectures)
        and (not objectives or recipe.objective in objectives)
        and (not seeds or recipe.seed in seeds)
    ]
    if not chosen:
        wanted = ", ".join([*architectures, *objectives, *(f"seed {seed}" for seed in seeds)])
        known = ", ".join(recipe.name for recipe in recipes.values())
        raise ParameterError(f"no network of {wanted} among those of notebook 03: {known}")
    return chosen


def find_recipe(recipes: Iterable[Recipe], *, architecture: str, objective: str) -> Recipe:
    """The first recipe of that architecture and objective.

    Raises:
        ParameterError: there is none.
    """
    recipes = list(recipes)
    for recipe in recipes:
        if (recipe.architecture, recipe.objective) == (architecture, objective):
            return recipe
    known = ", ".join(recipe.name for recipe in recipes)
    raise ParameterError(f"no {objective} {architecture} among the networks of notebook 03: {known}")


def choice_recipes(
    profile: str,
    parameters: Mapping[str, object],
    changes: Mapping[str, Sequence[object]],
    *,
    architecture: str,
    seeds: Sequence[int],
) -> dict[str, list[Recipe]]:
    """Networks of every seed for the standing choices (NORMAL, BASE, WITHOUT) and for each change of one of them.

    Args:
        profile: whose artifacts they belong to.
        parameters: those of notebook 03.
        changes: by the name of one of them, other values.
        architecture: of all.
        seeds: of each.

    Raises:
        ParameterError: see `training.recipes.recipes_of`.
    """
    own = dict(parameters) | {"architectures": [architecture], "seeds": list(seeds)}
    objectives = {NORMAL: "normal", BASE: "consistent", WITHOUT: "adversarial"}
    found = {name: recipes_of(profile, own | {"objectives": [kind]}) for name, kind in objectives.items()}
    for name, values in changes.items():
        for value in values:
            shown = f"{255 * value:g}/255" if isinstance(value, float) and name == "epsilon" else value
            found[f"{name} = {shown}"] = recipes_of(profile, own | {"objectives": ["consistent"], name: value})
    return found
