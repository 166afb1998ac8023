"""The built book: every page there, nothing broken, nothing loaded from another host; and the checks themselves."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from check_pages import notebook_faults, page_faults
from neuron_consistency.artifacts import read_json
from neuron_consistency.errors import NeuronConsistencyError
from neuron_consistency.workflow.__main__ import main
from neuron_consistency.workflow.build import build_site
from smoke import NOTEBOOKS, ROOT, smoke_site


def pages_of_contents() -> list[str]:
    contents = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    return [contents["root"], *(page["file"] for part in contents["parts"] for page in part["chapters"])]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_with_the_smoke_profile(notebook: Path) -> None:
    site, failure = smoke_site()
    copy = site / "notebooks" / notebook.name
    assert copy.is_file(), failure
    assert notebook_faults(copy) == []


def test_book_builds_from_the_smoke_run_without_a_warning() -> None:
    site, failure = smoke_site()
    assert failure == ""
    assert page_faults(site / "_build" / "html") == []


def test_every_page_of_the_contents_is_built_and_every_notebook_is_in_the_contents() -> None:
    site, failure = smoke_site()
    pages = pages_of_contents()
    assert [page for page in pages if not (site / "_build" / "html" / f"{page}.html").is_file()] == [], failure
    assert {f"notebooks/{notebook.stem}" for notebook in NOTEBOOKS} <= set(pages)


def test_the_page_of_promises_names_tests_that_there_are() -> None:
    """A promise that no test holds is none."""
    named = re.findall(r"`(tests/[\w/]+\.py)`", (ROOT / "book" / "trust.md").read_text())
    assert len(named) > 15
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_maths_comes_from_the_books_own_files() -> None:
    site, failure = smoke_site()
    html = site / "_build" / "html"
    page = html / "notebooks" / f"{NOTEBOOKS[1].stem}.html"  # the first that has equations
    assert page.is_file(), failure
    assert re.search(r'src="\.\./(_static/\.\./)?mathjax/tex-mml-chtml\.js', page.read_text())
    assert list((html / "mathjax" / "output" / "chtml" / "fonts" / "woff-v2").glob("*.woff"))


def test_no_page_declares_a_constant_twice() -> None:
    """A constant declared a second time, or a theme left without a mode, is an error in every reader's console."""
    site, _failure = smoke_site()
    for path in (site / "_build" / "html").rglob("notebooks/*.html"):
        declared = re.findall(r"<script>\s*(?:const|let) (\w+)", path.read_text())
        assert len(declared) == len(set(declared)), path.name
        assert 'data-default-mode="auto"' in path.read_text()


def test_api_pages_list_every_module() -> None:
    library = ROOT / "lib" / "neuron_consistency"
    modules = {
        ".".join(path.relative_to(library).with_suffix("").parts)
        for path in library.rglob("*.py")
        if path.stem != "__init__"
    }
    pages = "".join(path.read_text() for path in (ROOT / "book" / "api").glob("*.md"))
    listed = set(re.findall(r"automodule:: neuron_consistency\.([\w.]+)\n   :members:", pages))
    assert listed == modules


# the checks themselves, on a planted book


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A book of one page and one executed notebook, with this book's own settings."""
    shutil.copy(ROOT / "_config.yml", tmp_path)
    shutil.copytree(ROOT / "book" / "_static", tmp_path / "book" / "_static")
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    (tmp_path / "book" / "_extra").mkdir()
    (tmp_path / "book" / "notebooks").mkdir()
    shutil.copy(ROOT / "book" / "references.bib", tmp_path / "book")
    contents = "format: jb-book\nroot: intro\nchapters:\n  - file: notebooks/01_small\n"
    (tmp_path / "book" / "_toc.yml").write_text(contents)
    (tmp_path / "book" / "intro.md").write_text("# A book\n\n{doc}`notebooks/01_small`\n")
    write_notebook(tmp_path)
    return tmp_path


def write_notebook(root: Path, *, count: int | None = 1, outputs: tuple[object, ...] = ()) -> Path:
    title: dict[str, object] = {"cell_type": "markdown", "id": "0", "metadata": {}, "source": "# A notebook"}
    code: dict[str, object] = {
        "cell_type": "code",
        "id": "1",
        "metadata": {},
        "execution_count": count,
        "source": "1 / 0",
    }
    notebook = {
        "cells": [title, code | {"outputs": list(outputs)}],
        "metadata": {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path = root / "book" / "notebooks" / "01_small.ipynb"
    path.write_text(json.dumps(notebook))
    return path


def test_broken_references_are_all_named_and_the_old_pages_stay(root: Path) -> None:
    old = root / "book" / "_build" / "html" / "intro.html"
    old.parent.mkdir(parents=True)
    old.write_text("of an earlier build")
    (root / "book" / "intro.md").write_text("# A book\n\n{ref}`nowhere` {doc}`missing` {cite}`nobody1999`\n")
    with pytest.raises(NeuronConsistencyError) as raised:
        build_site(root, Path("book"))
    for what in ("book/intro.md:3", "nowhere", "missing", "nobody1999"):
        assert what in str(raised.value)
    assert old.read_text() == "of an earlier build"


def test_notebook_with_an_error_or_never_run_or_a_table_of_no_source_is_caught(root: Path) -> None:
    assert notebook_faults(write_notebook(root)) == []
    assert "never executed" in notebook_faults(write_notebook(root, count=None))[0]
    error = {"output_type": "error", "ename": "ZeroDivisionError", "evalue": "by zero", "traceback": []}
    path = write_notebook(root, outputs=(error,))
    assert "ZeroDivisionError" in notebook_faults(path)[0]
    with pytest.raises(NeuronConsistencyError, match="ZeroDivisionError"):
        build_site(root, Path("book"))
    table = {"output_type": "execute_result", "data": {"text/html": "<table></table>"}, "metadata": {}}
    stamp = {"output_type": "display_data", "data": {"text/html": '<p class="provenance">x</p>'}, "metadata": {}}
    path = write_notebook(root, outputs=(table | {"execution_count": 1},))
    assert "does not say what made it" in notebook_faults(path)[0]
    assert notebook_faults(write_notebook(root, outputs=(table | {"execution_count": 1}, stamp))) == []


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ('<a href="other.html">x</a>', "leads nowhere"),
        ('<a href="#part">x</a>', "names no place"),
        ('<img src="missing.png" alt="x">', "leads nowhere"),
        ('<script src="https://cdn.example/x.js"></script>', "another host"),
        ('<script src="//cdn.example/x.js"></script>', "another host"),
        ('<link rel="stylesheet" href="https://cdn.example/x.css">', "another host"),
        ('<img src="data:,">', "no alt text"),
        ('<img src="data:," alt=" ">', "no alt text"),
        ('<p id="a"></p><p id="a"></p>', "two places are called a"),
        ('<figure class="exhibit" id="tab-a"><table></table></figure>', "the exhibit tab-a has no caption"),
    ],
)
def test_broken_links_and_outside_requests_are_caught(tmp_path: Path, body: str, says: str) -> None:
    (tmp_path / "index.html").write_text(f"<html><body>{body}</body></html>")
    assert [says in fault for fault in page_faults(tmp_path)] == [True]


def test_sound_pages_and_links_to_other_sites_pass(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(
        '<a href="https://example.org">x</a><a href="#a">x</a><p id="a"><a href="b%20c.html#d">x</a>'
        '<img src="data:," alt="x">'
        '<figure class="exhibit" id="b"><figcaption>x</figcaption></figure><figure></figure>'
    )
    (tmp_path / "b c.html").write_text('<p id="d"><a href="index.html">x</a>')
    assert page_faults(tmp_path) == []


def test_style_sheet_with_an_outside_font_is_caught(tmp_path: Path) -> None:
    (tmp_path / "x.css").write_text("@font-face { src: url('https://fonts.example/a.woff2') }")
    assert "another host" in page_faults(tmp_path)[0]


# the command


def test_book_with_an_unknown_profile_or_data_folder_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NEURON_CONSISTENCY_ARTIFACTS", str(tmp_path))  # other tests may run the workflow meanwhile
    assert main(["book", "--strict", "--profile", "huge"]) == 2
    assert "unknown profile 'huge'; there are: demo" in capsys.readouterr().err
    monkeypatch.setenv("NEURON_CONSISTENCY_DATA", "/nowhere/at/all")
    assert main(["book", "--strict"]) == 1
    assert "no such folder" in capsys.readouterr().err


def test_artifacts_that_cannot_be_written_are_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".lock").mkdir()  # a folder cannot be opened to write by anybody, not even by root
    monkeypatch.setenv("NEURON_CONSISTENCY_ARTIFACTS", str(tmp_path))
    assert main(["book", "--strict"]) == 1
    assert "cannot be written" in capsys.readouterr().err


@pytest.fixture
def book_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A build of the book in a folder of its own, up to the network of the smoke profile that it is asked for."""
    monkeypatch.setenv("NEURON_CONSISTENCY_ARTIFACTS", str(tmp_path))
    options = ["book", "--strict", "--profile", "smoke", "--device", "cpu", "--site", str(tmp_path / "site")]
    return [sys.executable, "-m", "neuron_consistency.workflow", *options]


def test_killed_run_is_no_obstacle_and_another_device_or_number_of_processes_trains_nothing_anew(
    tmp_path: Path, book_in: list[str]
) -> None:
    """Else a power cut would leave a lock behind, and `DEVICE=` would delete networks that took hours."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*book_in, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    assert run("--snakemake=--dry-run").returncode == 0
    models = tmp_path / "smoke" / "models"
    name = next(net["name"] for net in read_json(models / "current.json")["book"] if "alexnet" in net["name"])
    wanted = f"--snakemake={models / name}.safetensors"
    with subprocess.Popen([*book_in, wanted], cwd=ROOT, stdout=subprocess.PIPE, text=True, process_group=0) as first:
        assert any(name in line for line in first.stdout or ())  # the training runs
        assert "the workflow runs here already (process" in run(wanted).stdout
        os.killpg(first.pid, signal.SIGKILL)
    assert not (models / f"{name}.safetensors").exists()
    second = run(wanted)
    assert second.returncode == 0, second.stdout
    assert (models / f"{name}.safetensors").exists()
    assert "Nothing to be done" in run(f"{wanted} --dry-run", "--device", "auto", "--processes", "2").stdout
