"""Files of the repository and lines of a command, as people have them."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from neuron_consistency.artifacts import commit
from neuron_consistency.errors import NeuronConsistencyError, ParameterError
from neuron_consistency.workflow.__main__ import main
from neuron_consistency.workflow.files import literal, parse_yaml, read_notebook, read_words, replace_folder
from neuron_consistency.workflow.pairs import sync_pairs, write_pair
from neuron_consistency.workflow.parameters import notebook_path, notebooks
from neuron_consistency.workflow.run import alone
from smoke import ROOT

LAUGHS = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [{f'*{a}, ' * 9}]\n" for a, b in pairwise("abcdefghij"))
SCRIPT = '# %% tags=["parameters"]\nsigma: float = 2.0\n'


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small checkout with one chapter, and the working folder in it."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "Snakefile").touch()
    (tmp_path / "notebooks" / "01_small.py").write_text(SCRIPT)
    write_pair(tmp_path / "notebooks" / "01_small.py", edited=".py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NEURON_CONSISTENCY_ARTIFACTS", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\nb: 2\na: 3\n", "x.yaml, line 3: not valid YAML, 'a' is given twice"),
        ("a:\n  b: 1\n  b: 2\n", "line 3: .*'b' is given twice"),
        ("a:\n\tb: 1\n", "line 2"),
        ("[" * 100 + "]" * 100, "nested too deep"),
        ("a: &a [*a]", "refers to itself"),
        (LAUGHS, "too often"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: 2001-99-01", "month"),
    ],
)  # fmt: skip
def test_yaml_that_would_be_read_wrong_or_never_is_refused_by_line(text: str, says: str) -> None:
    """The last of two sections won, and the first was lost in silence; a nested profile hung."""
    with pytest.raises(ParameterError, match=says):
        parse_yaml(text, "x.yaml")


def test_yaml_of_the_book_may_refer_to_itself() -> None:
    assert parse_yaml("a: &a {x: 1}\nb: {<<: *a, y: 2}\n", "x") == {"a": {"x": 1}, "b": {"x": 1, "y": 2}}


@pytest.mark.parametrize(
    ("text", "value"),
    [("8 / 255", 8 / 255), ("-2", -2), ("[1, 2.5]", [1, 2.5]), ("{'a': (1, 'b')}", {"a": (1, "b")}), ("2 * 3 - 1", 5)],
)
def test_values_are_literals_and_arithmetic(text: str, value: object) -> None:
    assert literal(text) == value


@pytest.mark.parametrize(
    "text",
    ["().__class__.__base__", "9 ** 9 ** 9", "[x for x in (1,)]", "print(1)", "'a' * 10", "1 / 0", "(", "f'{1}'"],
)
def test_nothing_else_is_run(text: str) -> None:
    """A walk through classes was executed before a notebook's parameters were shown to be none."""
    with pytest.raises(ValueError, match=r".*"):
        literal(text)


def test_a_line_of_values_may_hold_blanks() -> None:
    line = "sigmas=[1.0, 2.0] data='my photos' title=\"a = b\" classes=[wolf hound, cat] empty= n=3"
    expected = {"sigmas": "[1.0, 2.0]", "data": "my photos", "title": "a = b", "classes": "[wolf hound, cat]"}
    assert read_words(line) == expected | {"empty": "", "n": "3"}
    assert read_words("") == {}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("sigma='1.5", "close its quotes"),
        ("a=1 a=2", "a is given twice: a=1 and a=2"),
        ("nothing", "is not name=value"),
    ],
)
def test_a_line_that_means_nothing_says_so(line: str, says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        read_words(line)


@pytest.mark.parametrize("content", ["", "<<<<<<< HEAD\n{}", "[]", '{"cells": [3]}', "[" * 100_000])
def test_a_broken_notebook_is_named_with_the_cure(repository: Path, content: str) -> None:
    """After a merge that was not resolved, or on a full disk."""
    notebook = repository / "notebooks" / "01_small.ipynb"
    notebook.write_text(content)
    for read in (lambda: read_notebook(notebook), lambda: sync_pairs(repository)):
        with pytest.raises(ParameterError, match=r"01_small\.ipynb is no notebook .*`make pairs`"):
            read()


def test_what_lies_beside_the_chapters_is_none(repository: Path) -> None:
    """Papermill's output, a duplicate of Jupyter's, a scratch notebook: they stopped the book, or hid a chapter."""
    folder = repository / "notebooks"
    for name in ("out", "01_small-Copy1", "Untitled"):
        (folder / f"{name}.ipynb").write_text("{}")
    assert [path.name for path in notebooks()] == ["01_small.ipynb"]
    assert notebook_path("01").name == "01_small.ipynb"
    sync_pairs(repository)
    (repository / "01_small.ipynb").write_text("{}")
    with pytest.raises(ParameterError, match="no notebook"):
        notebook_path("01_small.ipynb")  # another file of that name
    (folder / "01_small.py").unlink()
    with pytest.raises(ParameterError, match=r"notebooks/01_small\.py is missing"):
        sync_pairs(repository)


def test_a_mark_of_the_encoding_is_no_difference(repository: Path) -> None:
    notebook = repository / "notebooks" / "01_small.ipynb"
    notebook.write_bytes(b"\xef\xbb\xbf" + notebook.read_bytes())
    sync_pairs(repository, strict=True)


def test_without_git_an_edit_is_still_carried_over(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync_pairs(repository)
    (repository / "notebooks" / "01_small.py").write_text(SCRIPT.replace("2.0", "3.0"))
    (repository / "artifacts" / "pairs.json").write_text("")  # cut off by a full disk
    monkeypatch.setenv("PATH", str(repository))
    with pytest.raises(ParameterError, match="differ"):
        sync_pairs(repository)


def test_another_repository_around_lends_no_commit(repository: Path) -> None:
    """A copy without .git inside a thesis had the thesis's commit under every figure."""
    inner = repository / "copy"
    (inner / "notebooks").mkdir(parents=True)
    (inner / "Snakefile").touch()
    for words in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        subprocess.run(["git", *words], cwd=repository, check=True)
    assert len(commit().rstrip("+")) == 12
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(inner)
        assert commit() == "unknown"


def test_one_notebook_never_runs_twice_at_once(tmp_path: Path) -> None:
    """A worker that outlives the run it was started by goes on writing where the next run does."""
    again = pytest.raises(NeuronConsistencyError, match=r"04 runs here already \(process")
    with alone(tmp_path / "a.lock", "04"), again, alone(tmp_path / "a.lock", "04"):
        pass
    with alone(tmp_path / "a.lock", "04"):
        pass


def test_a_folder_gives_way_once_the_new_one_is_whole(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    replace_folder(tmp_path / "old", tmp_path / "new")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["old", "old/new"]


@pytest.mark.parametrize("option", [["--cores", "0"], ["--cores", "two"], ["--processes", "-1"]])
def test_numbers_that_make_no_sense_start_nothing(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["book", *option])
    assert "is no whole number of at least 1" in capsys.readouterr().err


def test_words_for_snakemake_with_an_open_quote(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["book", "--snakemake", "--config 'x"]) == 2
    assert "close its quotes" in capsys.readouterr().err


def test_a_home_that_cannot_be_written_is_not_needed(repository: Path) -> None:
    """As of a service's account, or in a container with another user: the caches of Snakemake and matplotlib."""
    said = "import os, neuron_consistency.workflow.__main__ as m; m._own_caches(); print(os.environ['MPLCONFIGDIR'])"
    told = subprocess.run(
        [sys.executable, "-c", said], cwd=repository, env={"HOME": "/dev/null", "PYTHONPATH": str(ROOT / "lib")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(told.stdout.strip()).is_relative_to(repository / "artifacts")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATA", "/data/my photos"),
        ("PARAMS", "x='; touch f; '"),
        ("N", "$(touch f)"),
        ("DEVICE", "`touch f`"),
        ("PROFILE", "a;b"),
    ],
)
def test_make_passes_what_it_is_given_whole(tmp_path: Path, variable: str, value: str) -> None:
    """A folder with a blank was torn, and a value could end the command that it stood in."""
    name = {"DATA": "NEURON_CONSISTENCY_DATA"}.get(variable, variable)
    (tmp_path / "probe.mk").write_text(f'include {ROOT}/Makefile\nshow:\n\t@printf "%s" "$${name}"\n')
    given = value.replace("$", "$$")
    told = subprocess.run(
        ["make", "-s", "-f", tmp_path / "probe.mk", "show", f"{variable}={given}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert told.stdout == value, told.stderr
    assert not (tmp_path / "f").exists()


def test_damaged_records_of_results_say_what_is_wrong(tmp_path: Path) -> None:
    from neuron_consistency.workflow.results import record_faults

    whole = {"study": "a", "commit": "0123456789ab", "finished": "x", "tables": {}}
    for name, wrong in (("tables", []), ("commit", 3), ("study", {})):
        (tmp_path / "record.json").write_text(json.dumps(whole | {name: wrong}))
        assert record_faults(tmp_path) == [f"record.json has no {name} of the right kind"]
