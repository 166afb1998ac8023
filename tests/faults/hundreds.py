"""Hundreds of kills, damages, full disks and odd inputs, by hand: `make test-faults`; `make test` has a few of each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.damage import KEPT, damaged
from faults.disks import beside, filled, only_read
from faults.inputs import fed, readers
from faults.works import WORKS, Work, killed

# kills of each work, and damages of each kind of file; inputs of each reader are a hundred times as many
ROUNDS = int(os.environ.get("ROUNDS", "60"))


def show(capsys: pytest.CaptureFixture[str], name: str, what: str, found: Counter[str]) -> None:
    """A line of the table of what was seen."""
    told = ", ".join(f"{count} {word}" for word, count in found.items())
    with capsys.disabled():
        print(f"\n{name:20} {what:12} {told}", flush=True)


@pytest.mark.parametrize("name", WORKS)
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Else work is lost or done otherwise after a crash, or half files fill the disk."""
    found = killed(WORKS[name], tmp_path, kills=ROUNDS)
    show(capsys, name, "killed", found)
    assert not found["errors"] + found["other results"] + found["leftovers"]


@pytest.mark.parametrize("name", KEPT)
def test_damage_is_never_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Else a flipped bit is a wrong number in a table."""
    found = damaged(KEPT[name], tmp_path / "kept", rounds=ROUNDS)
    show(capsys, name, "damaged", found)
    assert found["refused"] + found["right"] == ROUNDS


@pytest.mark.parametrize("way", [filled, only_read, beside], ids=["full disk", "only read", "two at once"])
@pytest.mark.parametrize("name", WORKS)
def test_disks_and_neighbours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, way: Callable[..., Counter[str]]
) -> None:
    """Else a full disk ends in a traceback and loses what was done, or two who do the same do it wrong."""
    work: Work = WORKS[name]
    found = way(work, tmp_path, rounds=max(1, ROUNDS // 6))
    show(capsys, name, way.__name__, found)
    assert not sum(found[what] for what in ("foreign", "others", "leftovers", "unread", "failed"))


def test_every_input_is_read_or_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else a damaged file of a stranger ends in a traceback that names neither the file nor the cure, or hangs."""
    strange = Counter[str]()
    for name, (feed, seeds) in readers(tmp_path).items():
        found = fed(feed, seeds, 100 * ROUNDS)
        show(capsys, name, "fed", found)
        strange.update({what: count for what, count in found.items() if what not in ("read", "refused")})
    assert not strange
