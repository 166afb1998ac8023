"""Kept results: what is written comes back; a table that its record does not fit is refused; the book's own fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from neuron_consistency import versions
from neuron_consistency.artifacts import repository_root
from neuron_consistency.book import kept as kept_studies
from neuron_consistency.book.kept import Kept
from neuron_consistency.errors import ParameterError, StoreError
from neuron_consistency.training.obtain import TrainedModel
from neuron_consistency.workflow import build, results
from neuron_consistency.workflow.build import make_results
from neuron_consistency.workflow.parameters import notebook_parameters, notebook_path, validate
from neuron_consistency.workflow.results import (
    Start,
    Study,
    keep_result,
    read_result,
    read_studies,
    record_faults,
    start_of,
)
from toys import toy_model, toy_recipe

NOTEBOOK = "08_explanation_consistency"
TABLE = pd.DataFrame({"measure": ["accuracy", "E"], "mean": [1 / 3, 0.5]})


def net(seed: int) -> TrainedModel:
    record = {"device": "a CPU", "torch": torch.__version__, "precision": "float32", "seconds": 2.5}
    return TrainedModel(toy_recipe(seed=seed), toy_model(), record)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(results, "results_folder", lambda: tmp_path)
    monkeypatch.setattr(results, "commit", lambda: "0123456789ab")
    return keep(seeds=[1, 0])


def keep(study: str = "a-study", start: Start | None = None, table: str = "measures", **parameters: Any) -> Path:
    nets = [net(1), net(0)]
    return keep_result(
        study, start or start_of(NOTEBOOK, "explanation"), {table: TABLE}, parameters=parameters, nets=nets
    )


def edit(folder: Path, **changes: Any) -> None:
    path = folder / results.RECORD
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_out(folder: Path, field: str) -> None:
    path = folder / results.RECORD
    path.write_text(json.dumps({name: value for name, value in json.loads(path.read_text()).items() if name != field}))


def test_tables_and_record_come_back(folder: Path) -> None:
    found = read_result("a-study")
    pd.testing.assert_frame_equal(found.tables["measures"], TABLE.round(6))
    assert found.current
    expected = {"seeds": [0, 1], "training_seconds": 5.0, "commit": "0123456789ab", "parameters": {"seeds": [1, 0]}}
    assert {name: found.record[name] for name in expected} == expected
    assert (
        Kept({"a-study": Study("a-study", "what", NOTEBOOK, "demo", {})}, {"a-study": found})
        .overview()
        .loc["a-study", "library"]
        == "the same"
    )
    assert sorted(path.name for path in folder.parent.iterdir()) == ["a-study"]


def test_a_study_that_was_never_run_stops_no_page_but_the_table_that_asks_for_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A study of a chapter that shows kept results could otherwise never be run for the first time."""
    studies = {name: Study(name, "what", NOTEBOOK, "demo", {}) for name in ("a-study", "a-study-to-come")}
    monkeypatch.setattr(kept_studies, "read_studies", lambda: studies)
    kept = Kept.read()
    assert (kept.named("a-"), kept.outdated()) == (["a-study"], ["a-study-to-come"])
    with pytest.raises(StoreError, match="make results N=a-study-to-come"):
        kept.table("a-study-to-come", "measures")


def test_a_later_run_replaces_an_earlier_one_whole(folder: Path) -> None:
    keep(table="other")
    assert sorted(path.name for path in folder.iterdir()) == ["other.csv", "record.json"]


def test_a_study_is_of_the_commit_it_began_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout that moves on while a study runs for an hour has not made its tables."""
    start = start_of(NOTEBOOK, "explanation")
    monkeypatch.setattr(results, "commit", lambda: "f" * 12)
    keep(start=start)
    assert read_result("a-study").record["commit"] == "0123456789ab"
    with pytest.raises(StoreError, match="the library changed while"):
        keep(start=replace(start, library="0" * 16))


def test_only_results_of_a_topic_whose_version_was_raised_say_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the book shows old numbers as today's, or calls right ones out of date."""
    monkeypatch.setitem(versions.MEASURES, "tracing", versions.MEASURES["tracing"] + 1)
    assert read_result("a-study").current
    monkeypatch.setitem(versions.MEASURES, "explanation", versions.MEASURES["explanation"] + 1)
    assert not read_result("a-study").current


def test_the_record_holds_the_versions_that_matter(folder: Path) -> None:
    keep("photographs", dataset="tiny-imagenet")
    keep("drawn", dataset="scenes")
    expected = {"training": versions.TRAINING, "explanation": versions.MEASURES["explanation"]}
    assert read_result("photographs").record["versions"] == expected
    assert read_result("drawn").record["versions"] == expected | {"renderer": versions.RENDERER}


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / "measures.csv").write_text("measure,mean\naccuracy,1.0\n"), "not what its record"),
        (lambda folder: (folder / "measures.csv").unlink(), "is missing"),
        (lambda folder: (folder / "more.csv").write_text("a\n"), "in no record"),
        (lambda folder: edit(folder, commit="0123456789ab+"), "made at commit"),
        (lambda folder: edit_out(folder, "parameters"), "lacks parameters"),
        (lambda folder: edit_out(folder, "versions"), "lacks versions"),
        (lambda folder: edit(folder, versions={}), "lacks the version of training or of what was measured"),
        (
            lambda folder: edit(folder, versions={"training": 1}),
            "lacks the version of training or of what was measured",
        ),
        (lambda folder: edit(folder, versions=None), "not whole numbers by name"),
        (lambda folder: edit(folder, versions={"training": "1", "explanation": 1}), "not whole numbers by name"),
        (lambda folder: edit(folder, versions={"astrology": 1}), "versions of astrology, which this library does not"),
        (lambda folder: edit(folder, study="another"), "its record is of another"),
        (lambda folder: (folder / results.RECORD).write_text("{}"), "lacks commit"),
        (lambda folder: (folder / results.RECORD).write_text("{"), "cannot be read"),
        (lambda folder: (folder / results.RECORD).unlink(), "make results N=a-study"),
    ],
)
def test_what_does_not_fit_its_record_is_refused(folder: Path, damage: Any, says: str) -> None:
    """A typed-in number would otherwise stand in the book as a measured one."""
    damage(folder)
    with pytest.raises(StoreError, match=says):
        read_result("a-study")


def test_a_name_that_leaves_the_folder_is_refused(folder: Path) -> None:
    with pytest.raises(StoreError, match="lower-case"):
        keep("../elsewhere")
    assert not (folder.parent.parent / "elsewhere").exists()


# studies


def test_every_study_of_the_book_is_kept_and_fits_its_record() -> None:
    """The numbers of the book's results page: from a commit that is there to see, and as the study asks for them."""
    kept = {path.name for path in results.results_folder().iterdir() if path.is_dir()}
    assert kept == read_studies().keys() | {"benchmarks", "growth"}
    assert [fault for name in kept for fault in record_faults(results.results_folder() / name)] == []
    for name, study in read_studies().items():
        record = read_result(name).record
        asked = study.values()
        assert {key: record["parameters"][key] for key in asked} == asked, name
        assert record["notebook"] == study.notebook


def test_a_study_with_a_misspelt_parameter_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = repository_root()
    (tmp_path / "Snakefile").touch()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notebooks").mkdir()
    for name in (f"{NOTEBOOK}.ipynb", f"{NOTEBOOK}.py"):
        (tmp_path / "notebooks" / name).write_text((root / "notebooks" / name).read_text())
    entry = f"one: {{about: it, notebook: {NOTEBOOK}, profile: demo, parameters: {{sedes: [0]}}}}"
    (tmp_path / "notebooks" / "studies.yaml").write_text(entry)
    with pytest.raises(ParameterError, match=r"'sedes' .did you mean 'seeds'"):
        read_studies()
    (tmp_path / "notebooks" / "studies.yaml").write_text("one: {about: it}")
    with pytest.raises(ParameterError, match="one needs about"):
        read_studies()


def test_an_unknown_study_starts_nothing() -> None:
    with pytest.raises(ParameterError, match="no study nothing; there are: "):
        make_results(["nothing"], "")


def test_only_what_is_out_of_date_is_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = Study("a-study", "it", NOTEBOOK, "demo", {"seeds": [3]})
    asked: list[str] = []

    def snakemake(_lock: int, words: list[str], **_config: object) -> tuple[int, str]:
        asked.extend(Path(word).stem for word in words if word.endswith(".ipynb"))
        return 0, ""

    monkeypatch.setattr(results, "read_studies", lambda: {"a-study": study})
    monkeypatch.setattr(build, "_snakemake", snakemake)
    monkeypatch.setattr(build, "artifacts", lambda _profile: folder.parent)
    make_results([], "cpu")
    assert asked == ["a-study"]  # the kept one had other seeds
    known = notebook_parameters(notebook_path(NOTEBOOK))
    whole = {name: parameter.default for name, parameter in known.items()} | study.values()
    validate(whole, known, NOTEBOOK)
    edit(folder, parameters=whole | {"device": "cuda"})
    make_results([], "cpu")
    assert len(asked) == 1
    make_results(["a-study"], "cpu")  # named, it is run anyway
    assert len(asked) == 2
    edit(folder, versions={"training": 1, "explanation": 0})
    make_results([], "cpu")
    assert len(asked) == 3
