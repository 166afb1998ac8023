"""The changes that chapters propose do what the page says: run with the profile `smoke`, beside a run without."""

import functools
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from neuron_consistency.artifacts import artifacts
from neuron_consistency.book.tries import Try, read_tries, try_this
from neuron_consistency.errors import ParameterError
from neuron_consistency.workflow.parameters import (
    notebook_parameters,
    notebook_path,
    profile_parameters,
    read_value,
    validate,
)
from smoke import ROOT

TRIES = read_tries()
CHAPTERS = sorted({one.notebook for one in TRIES})


@pytest.fixture(scope="module", autouse=True)
def artifacts_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """With the networks that other tests have trained; which ones are chosen is nobody else's business."""
    folder = tmp_path_factory.mktemp("artifacts")
    kept = ROOT / "artifacts" / "smoke" / "models"
    (folder / "smoke" / "models").mkdir(parents=True)
    for file in [*kept.glob("*-*.json"), *kept.glob("*.safetensors")]:
        shutil.copy(file, folder / "smoke" / "models")
    with pytest.MonkeyPatch.context() as patch, pd.option_context("display.max_rows", 500, "display.max_colwidth", 200):
        patch.setenv("NEURON_CONSISTENCY_ARTIFACTS", str(folder))
        patch.chdir(ROOT)
        yield


@pytest.fixture(autouse=True)
def nothing_chosen() -> None:
    """Chapter 3 notes which networks it trained; the others are to take the profile's, whatever ran before."""
    (artifacts("smoke") / "models" / "current.json").unlink(missing_ok=True)


def values_after(notebook: Path, values: Mapping[str, Any], expressions: Iterable[str]) -> dict[str, float]:
    """Numbers of a notebook run with parameters: its cells run in this process, up to the one that gives the last."""
    validate(values, notebook_parameters(notebook), notebook.stem)
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    sources = ["".join(cell["source"]) for cell in cells]
    namespace: dict[str, Any] = {"__name__": "__main__", "In": sources}
    missing, found = dict[str, Exception | None].fromkeys(expressions), dict[str, float]()
    for cell, source in zip(cells, sources, strict=True):
        exec(compile(source, notebook.name, "exec"), namespace)
        plt.close("all")
        if "parameters" in cell["metadata"].get("tags", []):
            namespace |= values
        for expression in list(missing):
            try:
                found[expression] = float(eval(expression, namespace))
                del missing[expression]
            except (NameError, AttributeError, LookupError, TypeError) as error:  # not yet, or still another's name
                missing[expression] = error
        if not missing:
            return found
    raise AssertionError(f"{notebook.stem} never gives {missing}")


@functools.cache
def before(notebook: str, quick: str) -> dict[str, float]:
    """All numbers that changes of a notebook with the same quick parameters look at, by the profile `smoke`."""
    expressions = [one.value for one in read_tries(notebook) if json.dumps(one.quick) == quick]
    return values_after(notebook_path(notebook), smoke(notebook) | json.loads(quick), expressions)


def smoke(notebook: str) -> dict[str, object]:
    return profile_parameters("smoke", notebook, "cpu") | {"profile": "smoke"}


def test_each_chapter_proposes_two_changes() -> None:
    assert [one.split("_")[0] for one in CHAPTERS] == ["01", "02", "03", "04", "05", "06", "07", "08", "11", "15"]
    assert {chapter: len(read_tries(chapter)) for chapter in CHAPTERS} == dict.fromkeys(CHAPTERS, 2)


@pytest.mark.parametrize("one", TRIES, ids=lambda one: one.name)
def test_the_number_goes_where_the_page_says(one: Try) -> None:
    then = before(one.notebook, json.dumps(one.quick))[one.value]
    values = smoke(one.notebook) | dict(one.quick) | dict(one.change)
    now = values_after(notebook_path(one.notebook), values, [one.value])[one.value]
    if one.goes == "up":
        assert now > then
    elif one.goes == "down":
        assert now < then
    else:
        assert now == pytest.approx(float(one.goes), abs=1e-6)
        assert then != pytest.approx(float(one.goes), abs=1e-6)


@pytest.mark.parametrize("one", TRIES, ids=lambda one: one.name)
def test_the_command_on_the_page_makes_the_change(one: Try) -> None:
    """Words are split as `make notebook` does, and read by the types of the parameters; none changes nothing."""
    known = notebook_parameters(notebook_path(one.notebook))
    read = {
        name: read_value(text, known[name]) for name, _, text in (word.partition("=") for word in one.words.split())
    }
    assert read == dict(one.change)
    assert all(known[name].default != value for name, value in read.items())


def test_a_chapter_shows_its_proposals_with_their_commands() -> None:
    shown = try_this("04_evaluation").data
    assert shown.count("\n") == 1
    assert '1. `make notebook N=04 PARAMS="sigma=1.5"` (`sigma` is 2.0 here). Related classes' in shown
    assert "(`epsilon` is 4/255 here)" in try_this("03_consistent_loss_training").data


# the runner itself, on a planted notebook


def planted(folder: Path) -> Path:
    sources = ["steps: int = 2  # how many", "double = 2 * steps", "raise RuntimeError('too far')"]
    tags: list[dict[str, Any]] = [{"tags": ["parameters"]}, {}, {}]
    cells = [{"cell_type": "code", "metadata": tag, "source": text} for tag, text in zip(tags, sources, strict=True)]
    path = folder / "01_small.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    return path


def test_a_run_takes_the_parameters_and_stops_where_the_number_is_there(tmp_path: Path) -> None:
    notebook = planted(tmp_path)
    assert values_after(notebook, {}, ["double"]) == {"double": 4}
    assert values_after(notebook, {"steps": 5}, ["sum([double, 1])", "steps"]) == {"sum([double, 1])": 11, "steps": 5}
    with pytest.raises(RuntimeError, match="too far"):
        values_after(notebook, {}, ["double", "never"])
    with pytest.raises(ParameterError, match="did you mean 'steps'"):
        values_after(notebook, {"stepz": 5}, ["double"])
