"""Readers meet files that were changed at random, each reader a few; `make test-faults` has hundreds of thousands."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from faults.inputs import changed, fed, readers


def test_every_reader_reads_or_refuses_by_name(tmp_path: Path) -> None:
    """Else a damaged file ends in a traceback that names neither the file nor the cure, or hangs."""
    found = {name: fed(feed, seeds, 40, seed=1) for name, (feed, seeds) in readers(tmp_path).items()}
    strange = {
        name: {what: n for what, n in told.items() if what not in ("read", "refused")} for name, told in found.items()
    }
    assert {name: told for name, told in strange.items() if told} == {}
    assert sum(told["refused"] for told in found.values()) > 100


def test_a_foreign_exception_and_a_hang_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fuzzer that sees nothing would pass everything."""
    monkeypatch.setattr("faults.inputs.SECONDS", 1)

    def wrong(data: bytes) -> None:
        if len(data) % 2:
            raise KeyError("x")

    assert any(what.startswith("KeyError") for what in fed(wrong, [b"abc"], 40))

    def hangs(_: bytes) -> None:
        while True:
            pass

    assert [what[:5] for what in fed(hangs, [b"abc"], 1)] == ["hangs"]


def test_changes_differ_and_are_the_same_for_a_seed() -> None:
    one, other = ([changed(b"a valid file", random.Random(seed)) for seed in range(50)] for _ in range(2))
    assert one == other
    assert len({*one}) > 30
