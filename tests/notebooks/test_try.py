"""The changes that chapters propose do what the page says: run with the profile `smoke`, beside a run without."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest

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


def value_after(notebook: Path, values: Mapping[str, Any], expression: str) -> float:
    """A number of a notebook run with parameters: its cells run in this process, up to the one that gives it."""
    validate(values, notebook_parameters(notebook), notebook.stem)
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    sources = ["".join(cell["source"]) for cell in cells]
    namespace: dict[str, Any] = {"__name__": "__main__", "In": sources}
    missing: Exception | None = None
    for cell, source in zip(cells, sources, strict=True):
        exec(compile(source, f"{notebook.name}", "exec"), namespace)
        plt.close("all")
        if "parameters" in cell["metadata"].get("tags", []):
            namespace |= values
        try:
            return float(eval(expression, namespace))
        except (NameError, AttributeError, LookupError, TypeError) as error:  # not yet, or still another of that name
            missing = error
    raise AssertionError(f"{notebook.stem} never gives {expression}: {missing!r}")


def test_each_chapter_proposes_two_changes() -> None:
    assert [one.split("_")[0] for one in CHAPTERS] == ["01", "02", "03", "04", "05", "06", "07", "08", "11", "15"]
    assert {chapter: len(read_tries(chapter)) for chapter in CHAPTERS} == dict.fromkeys(CHAPTERS, 2)


@pytest.mark.parametrize("one", TRIES, ids=lambda one: one.name)
def test_the_number_goes_where_the_page_says(one: Try, capsys: pytest.CaptureFixture[str]) -> None:
    notebook = notebook_path(one.notebook)
    book = profile_parameters("smoke", one.notebook, "cpu") | {"profile": "smoke"} | dict(one.quick)
    before = value_after(notebook, book, one.value)
    after = value_after(notebook, book | dict(one.change), one.value)
    if one.goes == "up":
        assert after > before
    elif one.goes == "down":
        assert after < before
    else:
        assert after == pytest.approx(float(one.goes), abs=1e-6)
        assert before != pytest.approx(float(one.goes), abs=1e-6)


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
    assert value_after(notebook, {}, "double") == 4
    assert value_after(notebook, {"steps": 5}, "sum(one for one in [double, 1])") == 11
    with pytest.raises(RuntimeError, match="too far"):
        value_after(notebook, {}, "never")
    with pytest.raises(ParameterError, match="did you mean 'steps'"):
        value_after(notebook, {"stepz": 5}, "double")
