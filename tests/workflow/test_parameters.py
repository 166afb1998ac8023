"""Parameters of notebooks: read, changed by profiles, checked before anything runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from neuron_consistency.artifacts import repository_root
from neuron_consistency.errors import ParameterError
from neuron_consistency.workflow.parameters import (
    Parameter,
    check,
    notebook_parameters,
    notebook_path,
    profile_names,
    profile_parameters,
    read_value,
    validate,
)

CELL = """profile: str = "demo"  # whose results
epsilon: float = 8 / 255  # radius
steps: int = 5
classes: int | None = None  # all
# above its line
layers: list[str] = ["a"]
epochs_of: dict[str, int] = {"alexnet": 12}
"""


def write_notebook(path: Path, source: str = CELL, tags: tuple[str, ...] = ("parameters",)) -> Path:
    """A notebook whose first cell only speaks of parameters, and whose second holds `source`."""
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# A notebook with parameters"]},
        {"cell_type": "code", "metadata": {"tags": list(tags)}, "source": source.splitlines(keepends=True)},
        {"cell_type": "code", "metadata": {}, "source": ["other: int = 1"]},
    ]
    path.write_text(json.dumps({"cells": cells}))
    return path


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bare repository with one notebook, and the working folder inside it."""
    (tmp_path / "notebooks" / "profiles").mkdir(parents=True)
    (tmp_path / "Snakefile").touch()
    write_notebook(tmp_path / "notebooks" / "04_evaluation.ipynb")
    monkeypatch.chdir(tmp_path / "notebooks")
    return tmp_path


def test_cell_is_read_with_types_and_defaults(tmp_path: Path) -> None:
    found = notebook_parameters(write_notebook(tmp_path / "04.ipynb"))
    assert list(found) == ["profile", "epsilon", "steps", "classes", "layers", "epochs_of"]
    assert found["epsilon"] == Parameter("float", 8 / 255)
    assert found["classes"] == Parameter("int | None", None)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("sigma = 2.0", "sigma = 2.0"),
        ("sigma: tuple = (1,)", "not supported"),
        ("sigma: int = 2.5", "has to be int"),
        ("sigma: int", "name: type = value"),
    ],
)
def test_cell_that_cannot_be_checked_is_refused(tmp_path: Path, line: str, says: str) -> None:
    file = write_notebook(tmp_path / "x.ipynb", line)
    with pytest.raises(ParameterError, match=says):
        notebook_parameters(file)


def test_notebook_without_parameters_cell_is_refused(tmp_path: Path) -> None:
    file = write_notebook(tmp_path / "x.ipynb", tags=())
    with pytest.raises(ParameterError, match="no cell tagged"):
        notebook_parameters(file)


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        ("int", [1, -3], [1.0, True, "1", None]),
        ("float", [1, 0.5], ["1e-3", True, None]),
        ("bool", [True], [1, "true"]),
        ("str", [""], [1, None]),
        ("list[str]", [[], ["a"]], [["a", 1], "a", ("a",)]),
        ("list[float]", [[1, 2.5]], [[True], ["1"]]),
        ("list[int]", [[1]], [[1.5]]),
        ("dict[str, int]", [{}, {"a": 1}], [{"a": 1.5}, {1: 1}, []]),
        ("int | None", [None, 1], ["none"]),
        ("list[int] | None", [None, [1]], [[None]]),
    ],
)
def test_values_are_held_to_their_annotation(annotation: str, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert check({"x": value, "In": [f"x: {annotation} = 0"]}) == {"x": value}
    for value in bad:
        with pytest.raises(ParameterError, match="parameter x is"):
            check({"x": value, "In": [f"x: {annotation} = 0"]})


def test_hints_name_the_usual_mistakes() -> None:
    with pytest.raises(ParameterError, match=r"write 1\.0e-3"):
        validate({"e": "1e-3"}, {"e": Parameter("float", 0.1)}, "04")
    with pytest.raises(ParameterError, match="write True"):
        validate({"e": "true"}, {"e": Parameter("bool", False)}, "04")


def test_unknown_name_is_refused_with_the_closest_and_all_known() -> None:
    known = {"sigma": Parameter("float", 2.0), "beta": Parameter("float", 1.0)}
    with pytest.raises(ParameterError, match=r"'sigm' \(did you mean 'sigma'\?\).*known: beta, sigma"):
        validate({"sigm": 2.0}, known, "04")


@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [
        ("1e-3", "float", 0.001),
        ("true", "bool", True),
        ("[resnet18, vgg16]", "list[str]", ["resnet18", "vgg16"]),
        ("['a']", "list[str]", ["a"]),
        ("{alexnet: 3}", "dict[str, int]", {"alexnet": 3}),
        ("None", "int | None", None),
        ("null", "str | None", None),
        ("1", "str", "1"),
        ("true", "str", "true"),
        ("x", "float", "x"),
    ],
)
def test_command_line_text_becomes_the_value_its_parameter_wants(text: str, annotation: str, value: object) -> None:
    assert read_value(text, Parameter(annotation, None)) == value


def session(*cells: str) -> dict[str, Any]:
    """The namespace of a notebook after some cells, as IPython keeps it."""
    namespace: dict[str, Any] = {"In": [""], "get_ipython": print, "exit": print}
    for cell in cells:
        namespace["In"].append(cell)
        exec(cell, namespace)
    return namespace


def test_check_passes_what_papermill_injects_and_returns_it() -> None:
    assert check(session("sigma: float = 2.0", "# Parameters\nsigma = 3\n")) == {"sigma": 3}


def test_check_stops_an_injected_name_that_papermill_only_warns_about() -> None:
    with pytest.raises(ParameterError, match="did you mean 'sigma'"):
        check(session("sigma: float = 2.0", "# Parameters\nsigm = 3\n"))


def test_check_can_be_run_again_in_a_used_session() -> None:
    """In Jupyter the names of later cells are there when the first ones are run again: they are no parameters."""
    check(session("sigma: float = 2.0", "import math\nresult = 5\nrows: set = set()"))


def test_check_reads_a_script_where_there_is_no_ipython(tmp_path: Path) -> None:
    (tmp_path / "04.py").write_text("sigma: float = 2.0\n")
    assert check({"__file__": str(tmp_path / "04.py"), "sigma": 1.0, "Path": Path}) == {"sigma": 1.0}
    with pytest.raises(ParameterError, match="sigma is 'x'"):
        check({"__file__": str(tmp_path / "04.py"), "sigma": "x"})


def test_a_cell_that_failed_hides_none_of_the_others() -> None:
    with pytest.raises(ParameterError, match="'sigm'"):
        check(session("sigma: float = 2.0") | {"In": ["sigma: float = 2.0", "1 +", "# Parameters\nsigm = 3\n"]})


def write_profile(repository: Path, text: str) -> None:
    (repository / "notebooks" / "profiles" / "big.yaml").write_text(text)


def test_profile_gives_each_notebook_its_section_and_what_it_has_of_common(repository: Path) -> None:
    write_profile(repository, "common: {steps: 1, epsilon: 0.5}\n04_evaluation: {steps: 7}\n")
    assert profile_names() == ["demo", "big"]
    assert profile_parameters("demo", "04_evaluation") == {}
    for name in ("04", "04_evaluation", "notebooks/04_evaluation.ipynb"):
        assert profile_parameters("big", name) == {"profile": "big", "steps": 7, "epsilon": 0.5}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("04_evaluation: {sigm: 1}", "unknown parameter 'sigm'"),
        ("04_evaluation: {epsilon: 1e-3}", r"1\.0e-3"),
        ("05_other: {steps: 1}", "no notebook 05_other"),
        ("common: {stepz: 1}", "did you mean 'steps'"),
        ("common: [steps]", "write sections"),
        ("common: {steps: 1", "not valid YAML"),
    ],
)
def test_faulty_profile_is_refused(repository: Path, text: str, says: str) -> None:
    write_profile(repository, text)
    with pytest.raises(ParameterError, match=says):
        profile_parameters("big", "04_evaluation")


def test_unknown_profile_lists_the_profiles(repository: Path) -> None:
    write_profile(repository, "")
    with pytest.raises(ParameterError, match="unknown profile 'huge'; there are: demo, big"):
        profile_parameters("huge", "04_evaluation")


def test_unknown_notebook_lists_the_notebooks(repository: Path) -> None:
    with pytest.raises(ParameterError, match="no notebook '07'; there are: 04_evaluation"):
        notebook_path("07")


def test_root_is_found_from_the_folder_of_the_notebooks(repository: Path) -> None:
    assert repository_root() == repository
