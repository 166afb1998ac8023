"""The numbers of every topic are those that are kept, and what guards them does its work."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from golden.kept import GoldenError, Topic, check, differences, write
from golden.topics import MEASURES, TOPICS, version_of
from neuron_consistency import versions


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_numbers_are_those_that_are_kept(topic: Topic) -> None:
    """A change that moves a number unseen would leave results beside the text that another code made."""
    check(topic, version_of(topic))


def test_every_version_has_a_topic() -> None:
    """A version that guards nothing would be raised by nobody."""
    assert {topic.name for topic in TOPICS} == {"training", "groups", "renderer", "attack", *versions.MEASURES}
    assert set(MEASURES) == versions.MEASURES.keys()


TABLE = pd.DataFrame({"neuron": [1, 2], "U": [0.5, math.nan], "verdict": ["holds", "fails"]})


def topic_of(table: pd.DataFrame, **more: object) -> Topic:
    entries: Mapping[str, object] = {"table": table, **more}
    return Topic("fake", "MEASURES['fake']", lambda: entries)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(topic_of(TABLE), 1, folder=tmp_path)
    return tmp_path


def test_numbers_come_back_bit_for_bit(folder: Path) -> None:
    check(topic_of(TABLE), 1, folder=folder, exact=True)
    third = topic_of(TABLE, share=1 / 3, infinite=math.inf, tensor=torch.tensor([0.1]), whole=np.int64(3))
    write(third, 1, folder=folder)
    check(third, 1, folder=folder, exact=True)


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("U", [0.50008, math.nan], "table/U[0]: 0.5 -> 0.50008"),
        ("U", [0.5, 0.0], "table/U[1]: nan -> 0.0"),
        ("neuron", [1, 3], "table/neuron[1]: 2 -> 3"),
        ("neuron", [1.0, 2.0], "table/neuron[0]: 1 -> 1.0"),
        ("verdict", ["holds", "holds"], "table/verdict[1]: 'fails' -> 'holds'"),
        ("rank", [1, 2], "table/rank: new"),
    ],
)
def test_a_planted_change_fails_and_is_named(folder: Path, column: str, values: list[object], said: str) -> None:
    with pytest.raises(GoldenError) as error:
        check(topic_of(TABLE.assign(**{column: pd.Series(values)})), 1, folder=folder)
    assert str(error.value).startswith("numbers of `fake` changed (")
    assert said in str(error.value)
    assert "Raise MEASURES['fake'] in versions.py, run `make golden` and `make results`." in str(error.value)


@pytest.mark.parametrize("table", [TABLE.head(1), TABLE.drop(columns="U"), TABLE[["U", "neuron", "verdict"]]])
def test_rows_and_columns_that_are_gone_or_moved_fail(folder: Path, table: pd.DataFrame) -> None:
    with pytest.raises(GoldenError, match="numbers of `fake` changed"):
        check(topic_of(table), 1, folder=folder)


def test_rounding_passes_unless_every_bit_is_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOLDEN_EXACT", raising=False)
    rounded = topic_of(TABLE.assign(U=[0.50001, math.nan]))
    check(rounded, 1, folder=folder)
    monkeypatch.setenv("GOLDEN_EXACT", "1")
    with pytest.raises(GoldenError, match=r"0\.5 -> 0\.50001"):
        check(rounded, 1, folder=folder)
    assert list(differences(0.0, -0.0, exact=True))


def test_a_long_list_of_changes_is_cut(folder: Path) -> None:
    long = pd.DataFrame({"x": range(20)})
    write(topic_of(TABLE, long=long), 1, folder=folder)
    with pytest.raises(GoldenError, match="and 14 more"):
        check(topic_of(TABLE, long=long + 1), 1, folder=folder)


def test_a_file_that_is_missing_or_of_another_version_is_an_error_of_its_own(folder: Path) -> None:
    with pytest.raises(GoldenError, match=r"fake\.json holds version 1, versions\.py says 2: run `make golden`"):
        check(topic_of(TABLE), 2, folder=folder)
    topic_of(TABLE).path(folder).unlink()
    with pytest.raises(GoldenError, match=r"fake\.json is missing: run `make golden`"):
        check(topic_of(TABLE), 1, folder=folder)


def test_changed_numbers_are_written_with_a_raised_version_alone(folder: Path) -> None:
    """Else a mistake would be one `make golden` away from being the truth."""
    path = topic_of(TABLE).path(folder)
    before, changed = path.read_bytes(), topic_of(TABLE.assign(U=[0.6, 0.7]))
    with pytest.raises(
        GoldenError, match=r"changed \(table/U\[0\]: 0\.5 -> 0\.6.* while MEASURES\['fake'\] is still 1"
    ):
        write(changed, 1, folder=folder)
    assert path.read_bytes() == before
    write(changed, 2, folder=folder)
    check(changed, 2, folder=folder, exact=True)
    with pytest.raises(GoldenError, match="a version only rises"):
        write(topic_of(TABLE), 1, folder=folder)


def test_an_entry_that_is_gone_counts_as_changed(folder: Path) -> None:
    write(topic_of(TABLE, other=1), 1, folder=folder)
    with pytest.raises(GoldenError, match="other: gone"):
        write(topic_of(TABLE), 1, folder=folder)


def test_rewriting_keeps_the_file_and_adds_what_is_new(folder: Path) -> None:
    """Another processor's rounding must not drift into the kept numbers."""
    path = topic_of(TABLE).path(folder)
    before = path.read_bytes()
    rounded = TABLE.assign(U=[0.50001, math.nan])
    assert "as it was" in write(topic_of(rounded), 1, folder=folder)
    assert path.read_bytes() == before
    assert "added more" in write(topic_of(rounded, more=TABLE), 1, folder=folder)
    check(topic_of(TABLE, more=TABLE), 1, folder=folder, exact=True)
