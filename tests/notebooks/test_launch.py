"""The cell that lets a chapter run on Colab: it installs there, and does nothing elsewhere."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from smoke import NOTEBOOKS, ROOT

PAGE = (ROOT / "book" / "maintaining.md").read_text()
(CELL,) = re.findall(r"```python\n# %% tags=\[\"remove-cell\"\]\n(.*?)\n```", PAGE, flags=re.DOTALL)


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that the cell would run; git's makes the folder, as the real one does."""
    made: list[list[str]] = []

    def run(words: list[str], *, check: bool) -> None:
        assert check, "a failed installation must stop the notebook here"
        made.append(words)
        if words[0] == "git":
            (tmp_path / "consistent-neurons").mkdir()
            (tmp_path / "consistent-neurons" / "Snakefile").touch()

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.chdir(tmp_path)
    return made


def test_elsewhere_the_cell_does_nothing(calls: list[list[str]], tmp_path: Path) -> None:
    exec(CELL, {})
    assert calls == []
    assert Path.cwd() == tmp_path


def test_on_colab_it_fetches_the_book_and_installs_it_from_there(
    calls: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run again, from where it has left the session, it finds all there."""
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    exec(CELL, {})
    assert calls == [
        ["git", "clone", "--quiet", "--depth", "1", "https://github.com/consistent-neurons/consistent-neurons"],
        [sys.executable, "-m", "pip", "install", "--quiet", ".[book]"],
    ]
    assert Path.cwd() == tmp_path / "consistent-neurons"
    exec(CELL, {})
    assert len(calls) == 2
    os.chdir(tmp_path)  # a session that was restarted
    exec(CELL, {})
    assert [words[0] for words in calls] == ["git", sys.executable, sys.executable]


def test_on_colab_an_older_pandas_that_is_loaded_asks_for_a_restart(
    calls: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the old and half of the new package would fail further down, and say nothing of why."""
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    old = ModuleType("pandas")
    old.__version__ = "2.2.2"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pandas", old)
    with pytest.raises(SystemExit, match="Restart the session"):
        exec(CELL, {})
    assert len(calls) == 2


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_that_mentions_colab_has_this_very_cell_before_its_parameters(notebook: Path) -> None:
    code = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    sources = ["".join(cell["source"]) for cell in code]
    found = [place for place, source in enumerate(sources) if "google.colab" in source]
    if found:
        assert found == [0]
        assert sources[0] == CELL
        assert code[0]["metadata"]["tags"] == ["remove-cell"]
