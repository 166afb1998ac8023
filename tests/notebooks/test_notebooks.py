"""Every notebook: its pair, its parameters cell, its profiles, and a run with the profile `smoke`."""

import ast
import json
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from check_pages import notebook_faults
from neuron_consistency.errors import NeuronConsistencyError, ParameterError
from neuron_consistency.workflow.__main__ import main
from neuron_consistency.workflow.pairs import pair_agrees, sync_pairs, write_pair
from neuron_consistency.workflow.parameters import notebook_parameters, profile_names, profile_parameters
from neuron_consistency.workflow.run import run_notebook
from smoke import NOTEBOOKS, ROOT

each = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)

GOOD = """# %% [markdown]
# # A notebook

# %% tags=["parameters"]
profile: str = "demo"  # whose results
steps: int = 2  # how many

# %%
from neuron_consistency.workflow.parameters import check

check(globals())

# %%
print("steps:", 1 // steps)
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small repository with one pair in it, and the working folder there."""
    (tmp_path / "notebooks" / "profiles").mkdir(parents=True)
    (tmp_path / "Snakefile").touch()
    script = tmp_path / "notebooks" / "01_small.py"
    script.write_text(GOOD)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    write_pair(script, edited=".py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NEURON_CONSISTENCY_ARTIFACTS", raising=False)
    return tmp_path


# the notebooks of this book


def test_every_script_has_its_notebook_and_every_notebook_its_script() -> None:
    scripts = {path.stem for path in (ROOT / "notebooks").glob("*.py")}
    assert scripts == {path.stem for path in NOTEBOOKS}
    assert scripts


@each
def test_pair_is_in_sync(notebook: Path) -> None:
    """`make pairs` writes the .ipynb from the .py."""
    assert pair_agrees(notebook.with_suffix(".py"))


@each
def test_notebook_is_committed_without_outputs(notebook: Path) -> None:
    content = json.loads(notebook.read_text())
    assert content["metadata"]["kernelspec"]["language"] == "python"  # papermill asks for it where it injects
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


@each
def test_parameters_are_typed_and_explained_and_checked_at_once(notebook: Path) -> None:
    parameters = notebook_parameters(notebook)
    assert {"profile", "device"} <= parameters.keys()
    code = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    code = [cell for cell in code if "remove-cell" not in cell["metadata"].get("tags", [])]  # one is for Colab
    assert "parameters" in code[0]["metadata"]["tags"]
    lines = pairwise(["", *"".join(code[0]["source"]).splitlines()])
    explained = {line.partition(":")[0] for above, line in lines if "# " in above + line}  # on its line, or above
    assert explained >= parameters.keys()
    assert f'open_page("{notebook.stem}", globals()' in "".join(code[1]["source"])


@each
def test_only_the_parameters_cell_annotates(notebook: Path) -> None:
    """An annotated name further down would count as a parameter when the first cells are run again."""
    for cell in json.loads(notebook.read_text())["cells"]:
        if cell["cell_type"] == "code" and "parameters" not in cell["metadata"].get("tags", []):
            assert not [line for line in ast.parse("".join(cell["source"])).body if isinstance(line, ast.AnnAssign)]


@each
@pytest.mark.parametrize("profile", profile_names())
def test_profile_fits_the_notebook(notebook: Path, profile: str) -> None:
    """A parameter misspelt in a profile would leave the notebook at its own value."""
    assert profile_parameters(profile, notebook.stem).keys() <= notebook_parameters(notebook).keys()


# the checks themselves, on a planted notebook


def test_pair_out_of_sync_is_caught_by_content(repository: Path) -> None:
    script = repository / "notebooks" / "01_small.py"
    notebook = script.with_suffix(".ipynb")
    assert pair_agrees(script)
    content = json.loads(notebook.read_text())
    content["cells"][3]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "x"}]
    notebook.write_text(json.dumps(content))
    assert pair_agrees(script), "outputs are no content"
    script.write_text(GOOD.replace("steps:", "steps are"))
    assert not pair_agrees(script)
    with pytest.raises(ParameterError, match=r"01_small\.py and 01_small\.ipynb differ: `make pairs`"):
        sync_pairs(repository, strict=True)


def test_edit_of_either_half_reaches_the_other(repository: Path) -> None:
    script = repository / "notebooks" / "01_small.py"
    notebook = script.with_suffix(".ipynb")
    sync_pairs(repository)  # notes what the two agree on
    script.write_text(GOOD.replace("= 2 ", "= 3 "))
    sync_pairs(repository)
    assert notebook_parameters(notebook)["steps"].default == 3
    notebook.write_text(notebook.read_text().replace("= 3 ", "= 4 "))
    sync_pairs(repository)
    assert "steps: int = 4 " in script.read_text()
    assert pair_agrees(script)


def test_edit_after_make_pairs_reaches_the_other_half(repository: Path) -> None:
    """`make pairs` writes a new agreement: the next edit is one of that, not a conflict with the one before."""
    script = repository / "notebooks" / "01_small.py"
    sync_pairs(repository)
    script.write_text(GOOD.replace("= 2 ", "= 3 "))
    assert main(["pairs"]) == 0
    script.write_text(GOOD.replace("= 2 ", "= 4 "))
    sync_pairs(repository)
    assert notebook_parameters(script.with_suffix(".ipynb"))["steps"].default == 4


def test_different_edits_of_both_halves_are_never_overwritten(repository: Path) -> None:
    script = repository / "notebooks" / "01_small.py"
    notebook = script.with_suffix(".ipynb")
    sync_pairs(repository)
    script.write_text(GOOD.replace("= 2 ", "= 3 "))
    notebook.write_text(notebook.read_text().replace("= 2 ", "= 4 "))
    with pytest.raises(ParameterError, match="differ"):
        sync_pairs(repository)
    assert "steps: int = 3 " in script.read_text()
    assert notebook_parameters(notebook)["steps"].default == 4


def test_run_takes_parameters_and_leaves_the_copy_in_its_place(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = repository / "out" / "copy.ipynb"
    assert main(["run", "01", str(output), "--set", "steps=1"]) == 0
    assert "steps: 1" in output.read_text()
    assert notebook_faults(output) == []
    assert re.search(r"notebook 1 of 1, \d of 5 cells done, 00:\d\d, about .* left", capsys.readouterr().out)
    assert not list((repository / "artifacts").rglob("*.ipynb")), "the partial copy has moved"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--set", "stepz=1"], "unknown parameter 'stepz' (did you mean 'steps'?)"),
        (["--set", "steps=1e-3"], "parameter steps is '1e-3'"),
        (["--profile", "huge"], "unknown profile 'huge'"),
    ],
)
def test_bad_parameter_stops_a_run_before_any_cell(
    repository: Path, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "01", "out.ipynb", *arguments]) == 2
    assert says in capsys.readouterr().err
    assert not (repository / "out.ipynb").exists()
    assert not list(repository.glob("artifacts/*/partial/*"))


def test_notebook_that_raises_fails_with_one_clear_error_and_is_kept(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "01", "out.ipynb", "--set", "steps=0"]) == 1
    kept = repository / "artifacts" / "demo" / "partial" / "01_small.ipynb"
    assert capsys.readouterr().err == (
        "error: 01_small, cell 4: ZeroDivisionError: integer division or modulo by zero\n"
        f"The notebook as far as it got: {kept}\n"
    )
    assert not (repository / "out.ipynb").exists()
    assert any("ZeroDivisionError" in fault for fault in notebook_faults(kept))


def test_kernel_that_dies_is_an_error_and_not_a_hang(repository: Path) -> None:
    script = repository / "notebooks" / "01_small.py"
    script.write_text(GOOD + "\n# %%\nimport os\n\nos._exit(9)\n")
    write_pair(script, edited=".py")
    with pytest.raises(NeuronConsistencyError, match="its kernel died"):
        run_notebook(script.with_suffix(".ipynb"), repository / "out.ipynb", profile="demo", values={})


def test_bare_papermill_stops_at_an_unknown_parameter_from_the_notebooks_folder(repository: Path) -> None:
    """papermill itself only warns; the notebook's own check has to stop it, and must find its way from there."""
    command = [sys.executable, "-m", "papermill", "01_small.ipynb", "out.ipynb", "-p", "stepz", "3"]
    done = subprocess.run(command, cwd=repository / "notebooks", capture_output=True, text=True)
    assert done.returncode == 1
    assert "did you mean 'steps'" in done.stderr
    assert "steps: 1" not in (repository / "notebooks" / "out.ipynb").read_text()
