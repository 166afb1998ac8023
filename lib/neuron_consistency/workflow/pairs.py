"""Notebook pairs: the .py is the source, the .ipynb its equal; either may be edited, neither is lost."""

import hashlib
import json
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from neuron_consistency.artifacts import atomic_path, write_json
from neuron_consistency.errors import ParameterError
from neuron_consistency.workflow.files import read_notebook, read_text
from neuron_consistency.workflow.parameters import CHAPTER

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}  # papermill asks for it


def _content(path: Path) -> list[tuple[str, str, tuple[str, ...]]]:
    if path.suffix == ".ipynb":
        cells = read_notebook(path)["cells"]
    else:
        import jupytext

        cells = jupytext.reads(read_text(path), fmt="py:percent").cells
    return [(cell["cell_type"], "".join(cell["source"]), tuple(cell["metadata"].get("tags", ()))) for cell in cells]


def bare(model: dict[str, Any], path: str = "notebooks/", **_options: object) -> None:
    """Brings a notebook that Jupyter is about to save, or `write_pair`, into the one form in which all are committed.

    That is without outputs, and with the same text for the same cells, whoever writes it: so the diff of an edit in
    JupyterLab shows the edit and nothing else. For `FileContentsManager.pre_save_hook`.

    Args:
        model: Jupyter's, changed in place.
        path: of the file, from the repository's root; one that is not in notebooks/ keeps its outputs.
    """
    if model["type"] != "notebook" or not path.lstrip("/").startswith("notebooks/"):
        return
    notebook = model["content"]
    for place, cell in enumerate(notebook["cells"]):
        cell["id"] = str(place)
        cell["metadata"] = {"tags": cell["metadata"]["tags"]} if cell["metadata"].get("tags") else {}
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    notebook["metadata"] = {"kernelspec": KERNEL}
    notebook["nbformat"], notebook["nbformat_minor"] = 4, 5


def pair_agrees(script: Path) -> bool:
    """Whether a notebook and its script hold the same cells: type, text and tags; outputs and times do not count."""
    notebook = script.with_suffix(".ipynb")
    return notebook.is_file() and _content(script) == _content(notebook)


def write_pair(script: Path, *, edited: str) -> None:
    """Write the other half of a pair from the `edited` one (".py" or ".ipynb"); a written .ipynb has no outputs."""
    notebook = script.with_suffix(".ipynb")
    if edited == ".ipynb":
        read_notebook(notebook)
        with atomic_path(script) as part:
            words = ["-q", "--to", "py:percent", "--output", str(part), str(notebook)]
            subprocess.run([sys.executable, "-m", "jupytext", *words], check=True)
        return
    import jupytext
    import nbformat

    cells = jupytext.read(script)
    bare({"type": "notebook", "content": cells})
    with atomic_path(notebook) as part:
        nbformat.write(cells, part)  # type: ignore[no-untyped-call]


def sync_pairs(root: Path, *, strict: bool = False) -> None:
    """Bring each pair together where one half was edited since the two last agreed; say which.

    What they last agreed on is kept as hashes in artifacts/pairs.json; where that does not tell, git's last commit may.

    Raises:
        ParameterError: both halves were edited in different ways; where `strict`, any pair that differs.
    """
    record = root / "artifacts" / "pairs.json"
    now, agreed = dict[str, str](), dict[str, str]()
    with suppress(OSError, ValueError):  # none yet, or one that a full disk cut off
        agreed = dict(json.loads(record.read_text()))
    for notebook in sorted((root / "notebooks").glob("*.ipynb")):
        if re.fullmatch(CHAPTER, notebook.stem) and not notebook.with_suffix(".py").is_file():
            raise ParameterError(
                f"notebooks/{notebook.stem}.py is missing: `git checkout` takes it back. To leave the "
                "chapter out, remove its .ipynb and its line in book/_toc.yml, too"
            )
    for script in sorted((root / "notebooks").glob("*.py")):
        halves = [script, script.with_suffix(".ipynb")]
        hashes = {half.name: _hash(half) for half in halves}
        if any(agreed.get(name) != digest for name, digest in hashes.items()) and not pair_agrees(script):
            edited = [half for half in halves if hashes[half.name] != agreed.get(half.name)]
            if len(edited) == 2:  # as far as the record goes; what git has cannot be lost either
                edited = [half for half in halves if hashes[half.name] != _committed(half)]
            if not halves[1].is_file():
                edited = [script]
            if strict or len(edited) != 1:
                raise ParameterError(
                    f"notebooks/{script.name} and {script.stem}.ipynb differ: "
                    "`make pairs` keeps the .py, `make pairs FROM=ipynb` keeps the .ipynb"
                )
            write_pair(script, edited=edited[0].suffix)
            other = halves[1] if edited[0] is script else script
            print(f"notebooks/{other.name} updated from the edited {edited[0].name}", flush=True)
        now |= {half.name: _hash(half) for half in halves}
    if now != agreed:
        write_json(record, now)


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _committed(path: Path) -> str:
    try:
        shown = subprocess.run(["git", "show", f"HEAD:./{path.name}"], cwd=path.parent, capture_output=True)
    except OSError:  # there is no git
        return ""
    return hashlib.sha256(shown.stdout).hexdigest() if shown.returncode == 0 else ""
