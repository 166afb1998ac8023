"""Which networks the chapters evaluate: those of the training notebook's latest run."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from neuron_consistency.artifacts import SEAL, artifacts, read_json, write_json
from neuron_consistency.errors import ParameterError, StoreError
from neuron_consistency.training.recipes import Recipe, recipes_of
from neuron_consistency.workflow.parameters import all_parameters

TRAINING_NOTEBOOK = "03_consistent_loss_training"
NORMAL, BASE, WITHOUT = "trained normally", "Eq. 6 as in chapter 3", "beta = 0"  # the standing choices of chapter 11


def training_parameters(profile: str, device: str = "") -> dict[str, Any]:
    """The parameters of notebook 03: those that stand in it, changed by the profile, with the device if any."""
    return all_parameters(profile, TRAINING_NOTEBOOK, device)


def _current_path(profile: str) -> Path:
    return artifacts(profile) / "models" / "current.json"


def write_current(profile: str, recipes: Iterable[Recipe], *, chosen: bool) -> None:
    """Says which networks the later notebooks evaluate.

    A build of the book writes its own (`chosen=False`) and forgets what was chosen; a run of notebook 03 writes
    what it `chosen`, beside which the book's own stay.
    """
    path = _current_path(profile)
    entries = [{"name": recipe.path.stem, "spec": recipe.spec} for recipe in recipes]
    book = read_json(path, book=list)["book"] if chosen and path.exists() else []
    write_json(path, SEAL | {"book": book if chosen else entries, "chosen": entries if chosen else []})


def _listed(profile: str, *whose: str) -> list[Recipe]:
    path = _current_path(profile)
    entries = read_json(path, book=list, chosen=list) if path.exists() else dict.fromkeys(whose, ())
    try:
        return [Recipe.read(profile, entry["spec"]) for name in whose for entry in entries[name]]
    except (StoreError, KeyError, TypeError) as error:
        raise StoreError(f"{path} names no networks ({error}): remove it and run notebook 03 again") from error


def book_models(profile: str) -> list[Recipe]:
    """The networks that the last build of the book wanted; none where there was no build."""
    return _listed(profile, "book")


def current_models(
    profile: str, *, architectures: Sequence[str] = (), objectives: Sequence[str] = (), seeds: Sequence[int] = ()
) -> list[Recipe]:
    """The networks notebook 03 last chose, beside the book's own; by default those it would train.

    Args:
        architectures, objectives, seeds: only those; all where none is named.

    Raises:
        ParameterError: there is none of them.
    """
    listed = _listed(profile, "book", "chosen") or recipes_of(profile, training_parameters(profile))
    recipes = {recipe.key: recipe for recipe in listed}.values()
    asked = {"architecture": architectures, "objective": objectives, "seed": seeds}
    chosen = [
        recipe for recipe in recipes if all(getattr(recipe, name) in some for name, some in asked.items() if some)
    ]
    if not chosen:
        wanted = ", ".join([*architectures, *objectives, *(f"seed {seed}" for seed in seeds)])
        known = ", ".join(recipe.name for recipe in recipes)
        raise ParameterError(f"no network of {wanted} among those of notebook 03: {known}")
    return chosen


def choice_recipes(
    profile: str, changes: Mapping[str, Sequence[object]], *, architecture: str, seeds: Sequence[int]
) -> dict[str, list[Recipe]]:
    """Networks of every seed for the standing choices (NORMAL, BASE, WITHOUT) and for each change of one of them.

    Args:
        changes: other values, by the name of a parameter of notebook 03.

    Raises:
        ParameterError: see `training.recipes.recipes_of`.
    """
    own = training_parameters(profile) | {"architectures": [architecture], "seeds": list(seeds)}
    objectives = {NORMAL: "normal", BASE: "consistent", WITHOUT: "adversarial"}
    found = {name: recipes_of(profile, own | {"objectives": [kind]}) for name, kind in objectives.items()}
    for name, values in changes.items():
        for value in values:
            shown = f"{255 * value:g}/255" if isinstance(value, float) and name == "epsilon" else value
            found[f"{name} = {shown}"] = recipes_of(profile, own | {"objectives": ["consistent"], name: value})
    return found
