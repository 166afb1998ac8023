"""The files that a notebook leaves for the site."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from neuron_consistency.errors import NeuronConsistencyError
from neuron_consistency.workflow.parameters import notebook_path
from neuron_consistency.workflow.run import files_of, run_notebook


def test_files_of_a_run_go_beside_its_copy_and_replace_those_of_the_last_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a book publishes the atlas of a run with other parameters, or half a one of a run that failed."""
    monkeypatch.setenv("NEURON_CONSISTENCY_ARTIFACTS", str(tmp_path / "artifacts"))
    left = ["old.html"]

    def execute(_notebook: str, output: str, **_how: Any) -> None:
        folder = files_of("demo", "16_atlas")
        assert not folder.exists()  # of the run before
        folder.mkdir(parents=True)
        (folder / left[0]).write_text("a page")
        if left[0] == "failed.html":
            raise OSError("no more")
        Path(output).write_text(json.dumps({}))

    monkeypatch.setattr("papermill.execute_notebook", execute)
    for name in ("old.html", "new.html", "failed.html"):
        left[0] = name
        try:
            run_notebook(notebook_path("16"), tmp_path / "site" / "16_atlas.ipynb", profile="demo", values={})
        except NeuronConsistencyError:
            assert name == "failed.html"
        expected = "new.html" if name == "failed.html" else name
        assert [path.name for path in (tmp_path / "site" / "16_atlas_files").iterdir()] == [expected]
