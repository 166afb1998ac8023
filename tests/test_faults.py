"""What is kept stands kills, damage and full disks: a few of each; `make test-faults` has hundreds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from faults.damage import KEPT, damaged
from faults.disks import beside, filled
from faults.works import WORKS, killed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked and killed, and disks mounted")


@pytest.mark.parametrize("name", WORKS)
def test_a_killed_work_goes_on_to_the_same_bytes(tmp_path: Path, name: str) -> None:
    """Else what a crash leaves is lost, or goes on otherwise, or half a file stays for ever."""
    found = killed(WORKS[name], tmp_path, kills=1, seed=3)
    assert found["kills"] >= 1
    assert not found["errors"] + found["other results"] + found["leftovers"]


@pytest.mark.parametrize("name", KEPT)
def test_damage_is_refused_and_named(tmp_path: Path, name: str) -> None:
    """Else a flipped bit is a wrong number in a table, or a traceback that says nothing of the cure."""
    found = damaged(KEPT[name], tmp_path / "kept", rounds=8)
    assert found["refused"] + found["right"] == 8
    assert found["refused"] > 3


def test_a_disk_too_small_and_a_second_process_lose_nothing(tmp_path: Path) -> None:
    """Else a set that did not fit is begun anew, or two writers spoil each other's."""
    two = beside(WORKS["adversarial set"], tmp_path / "two", rounds=1)
    assert not two["failed"] + two["others"] + two["leftovers"]
    found = filled(WORKS["adversarial set"], tmp_path / "small", rounds=2)
    assert found["refused"] >= 1
    assert not found["foreign"] + found["others"] + found["leftovers"]
