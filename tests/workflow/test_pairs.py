"""What JupyterLab saves of a pair: the edit, and nothing of the run."""

import copy
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pytest

from neuron_consistency.workflow.pairs import bare, write_pair
from smoke import NOTEBOOKS


def executed(notebook: Path) -> dict[str, Any]:
    """A notebook as JupyterLab hands it over for saving after a run: ids, times, outputs and versions of its own."""
    content: dict[str, Any] = copy.deepcopy(dict(nbformat.read(notebook, as_version=4)))  # type: ignore[no-untyped-call]
    for place, cell in enumerate(content["cells"]):
        cell["id"] = f"of-lab-{place}"
        cell["metadata"] |= {"trusted": True, "execution": {"iopub.execute_input": "2026-01-01"}}
        if cell["cell_type"] == "code":
            cell["execution_count"] = 3
            cell["outputs"] = [nbformat.v4.new_output("stream", text="hello")]  # type: ignore[no-untyped-call]
    content["metadata"]["language_info"] = {"name": "python", "version": "3.99"}
    return content


@pytest.mark.parametrize("notebook", NOTEBOOKS[:3], ids=lambda path: path.stem)
def test_a_run_that_is_saved_leaves_the_committed_file(notebook: Path, tmp_path: Path) -> None:
    """Byte by byte: a reader who looks at `git diff` after a save sees nothing but an edit."""
    content = executed(notebook)
    bare({"type": "notebook", "content": content}, path=f"/notebooks/{notebook.name}", contents_manager=None)
    saved = tmp_path / notebook.name
    nbformat.write(nbformat.from_dict(content), saved)  # type: ignore[no-untyped-call]
    assert saved.read_text() == notebook.read_text()


def test_outputs_of_other_notebooks_and_other_files_are_kept() -> None:
    content = executed(NOTEBOOKS[0])
    before = copy.deepcopy(content)
    bare({"type": "notebook", "content": content}, path="artifacts/demo/runs/04.ipynb")
    bare({"type": "notebook", "content": content}, path="book/notebooks/04.ipynb")
    assert content == before
    bare({"type": "file", "content": "text"}, path="notebooks/claims.yaml")


def test_a_script_written_from_a_notebook_has_no_header(tmp_path: Path) -> None:
    """Jupytext's header of versions and kernels would be the noise of every save."""
    script = NOTEBOOKS[0].with_suffix(".py")
    config = jupytext.config.load_jupytext_config(str(script))
    assert jupytext.writes(jupytext.read(NOTEBOOKS[0]), "py:percent", config=config) == script.read_text()
    copied = tmp_path / script.name
    copied.write_text(script.read_text())
    write_pair(copied, edited=".py")
    assert copied.with_suffix(".ipynb").read_text() == NOTEBOOKS[0].read_text()
