"""Numbers of a topic in a file, with the version they are of: compared, and written where they may be."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

FOLDER = Path(__file__).parent
RELATIVE, ABSOLUTE = 1e-4, 1e-6  # of two floats that count as one; with GOLDEN_EXACT=1 every bit counts
SHOWN = 6  # changed entries that a message names

Numbers = dict[str, Any]  # by entry: a table as lists by column, or plain values


class GoldenError(AssertionError):
    """Golden numbers that cannot be compared or may not be written."""


@dataclass(frozen=True)
class Topic:
    """What is guarded by one version number.

    Attributes:
        name: of its file.
        number: where its version stands, such as MEASURES['dissection'].
        compute: gives its numbers.
    """

    name: str
    number: str
    compute: Callable[[], Mapping[str, object]]

    def path(self, folder: Path) -> Path:
        return folder / f"{self.name}.json"


def plain(value: object) -> Any:
    """Tables, tensors and NumPy's numbers as what JSON holds, with nothing rounded."""
    if isinstance(value, pd.DataFrame):
        return {str(name): plain(column.tolist()) for name, column in value.items()}
    if isinstance(value, Tensor):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    item = getattr(value, "item", None)
    return item() if callable(item) else str(value)


def numbers_of(topic: Topic) -> Numbers:
    """The topic's numbers as the code gives them now, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            found: Numbers = plain(topic.compute())
    finally:
        torch.set_num_threads(threads)
    return found


def differences(old: object, new: object, *, exact: bool, where: str = "") -> Iterator[str]:
    """What is not the same, each as "entry/column[row]: old -> new"."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in old.keys() | new.keys():
            if name not in new or name not in old:
                yield f"{where}/{name}: {'gone' if name in old else 'new'}".lstrip("/")
        if where and list(old) != list(new) and old.keys() == new.keys():
            yield f"{where}: its columns stand in another order"
        for name in old:
            if name in new:
                yield from differences(old[name], new[name], exact=exact, where=f"{where}/{name}".lstrip("/"))
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            yield f"{where}: {len(old)} rows -> {len(new)}"
        for place, (one, other) in enumerate(zip(old, new, strict=False)):
            yield from differences(one, other, exact=exact, where=f"{where}[{place}]")
    elif not _same(old, new, exact):
        yield f"{where}: {old!r} -> {new!r}"


def _same(old: object, new: object, exact: bool) -> bool:
    if isinstance(old, float) and isinstance(new, float):
        if math.isnan(old) or math.isnan(new) or exact:
            return repr(old) == repr(new)
        return math.isclose(old, new, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return type(old) is type(new) and old == new


def _summary(changes: list[str]) -> str:
    more = f"; and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
    return "; ".join(changes[:SHOWN]) + more


def _read(topic: Topic, folder: Path) -> tuple[int, Numbers]:
    kept = json.loads(topic.path(folder).read_text("utf-8"))
    return kept["version"], kept["numbers"]


def check(topic: Topic, version: int, *, folder: Path = FOLDER, exact: bool | None = None) -> None:
    """Hold the numbers that the code gives now against those that are kept.

    Args:
        topic: whose.
        version: its version today.
        folder: of the files.
        exact: bit for bit; None asks GOLDEN_EXACT.

    Raises:
        GoldenError: there is no file, it is of another version, or a number differs.
    """
    path = topic.path(folder)
    if not path.is_file():
        raise GoldenError(f"{_shown(path)} is missing: run `make golden`")
    held, old = _read(topic, folder)
    if held != version:
        raise GoldenError(f"{_shown(path)} holds version {held}, versions.py says {version}: run `make golden`")
    exact = os.environ.get("GOLDEN_EXACT") == "1" if exact is None else exact
    if changes := list(differences(old, numbers_of(topic), exact=exact)):
        raise GoldenError(
            f"numbers of `{topic.name}` changed ({_summary(changes)}). A mistake? Mend it. Meant? Raise "
            f"{topic.number} in versions.py, run `make golden` and `make results`."
        )


def write(topic: Topic, version: int, *, folder: Path = FOLDER) -> str:
    """Keep the numbers that the code gives now, and say what was done.

    A file of today's version stays as it is, but for entries that it does not have yet.

    Raises:
        GoldenError: a number that is kept differs and the version has not been raised, or has been lowered.
    """
    path, new = topic.path(folder), numbers_of(topic)
    said = f"{_shown(path)}: written, version {version}"
    if path.is_file():
        held, old = _read(topic, folder)
        if version < held:
            raise GoldenError(f"{_shown(path)} holds version {held}, versions.py says {version}: a version only rises")
        if version == held:
            again = {name: new[name] for name in old if name in new}
            if changes := list(differences(old, again, exact=False)):
                raise GoldenError(
                    f"numbers of `{topic.name}` changed ({_summary(changes)}) while {topic.number} is still {version}: "
                    "mend the code, or raise it in versions.py and run `make golden` again"
                )
            if added := [name for name in new if name not in old]:
                said = f"{_shown(path)}: added {', '.join(added)}"
                new = {name: old.get(name, new[name]) for name in new}
            else:
                return f"{_shown(path)}: as it was, version {version}"
    path.write_text(_text(version, new), "utf-8")
    return said


def _text(version: int, numbers: Numbers) -> str:
    """JSON with a line for every column."""
    entries = []
    for name, entry in numbers.items():
        if isinstance(entry, dict):
            columns = ",\n".join(f"   {json.dumps(column)}: {json.dumps(entry[column])}" for column in entry)
            entries.append(f"  {json.dumps(name)}: {{\n{columns}\n  }}")
        else:
            entries.append(f"  {json.dumps(name)}: {json.dumps(entry)}")
    return f'{{\n "version": {version},\n "numbers": {{\n' + ",\n".join(entries) + "\n }\n}\n"


def _shown(path: Path) -> str:
    """tests/golden/x.json, from wherever it is called."""
    return "/".join(path.parts[-3:])
