"""What a row of the benchmark table is: our way and another one, timed in turns, and held to the same answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import torch

from neuron_consistency.workflow.costs import paired_seconds

Work = Callable[[], object]


@dataclass(frozen=True)
class Size:
    """How much of everything: 1 for figures that count, less to see that a row runs."""

    device: torch.device
    share: float = 1.0
    data: str | None = None  # a folder with photographs

    def of(self, number: int, *, least: int = 1) -> int:
        return max(least, round(number * self.share))


@dataclass(frozen=True)
class Pair:
    """Two ways to the same result.

    Attributes:
        ours, theirs: both do the whole work, but for `scale`.
        scale: by what the other's seconds are multiplied, where it does a sample of the work only.
        difference: of the two results; None where there is nothing to compare.
        tolerance: the most it may be.
        size: what was timed, in words.
    """

    ours: Work
    theirs: Work
    size: str
    scale: float = 1.0
    difference: Callable[[], float] | None = None
    tolerance: float = 0.0


@dataclass(frozen=True)
class Row:
    """A line of the table: `goal` is how many times less time than the other our way has to take, at least.

    A goal below one is a cost that may not be exceeded: 1 / 2.45 allows 2.45 times the other's time. `needs` names what
    the row cannot do without and does not find; "" where nothing is missing.
    """

    work: str
    against: str
    goal: float | None
    prepare: Callable[[Size], Pair]
    devices: tuple[str, ...] = ("cpu", "cuda")
    needs: str = ""


def run(row: Row, size: Size, *, repeats: int, here: bool = True) -> dict[str, object]:
    """Times a row: the ratio with its quartiles, whether the goal is met, and how far the results are apart.

    Where it is not to be done `here`, or something is missing, it is not measured. Where the two results differ by more
    than the row allows its verdict is "wrong": a faster wrong answer is none.
    """
    about = {"work": row.work, "against": row.against, "on": "GPU" if size.device.type == "cuda" else "CPU"}
    if row.needs or not here:
        why = f", needs {row.needs}" if row.needs else ""
        return about | {"goal": row.goal, "verdict": f"not measured{why}"}
    pair = row.prepare(size)
    table = paired_seconds({"ours": pair.ours, "theirs": pair.theirs}, repeats=repeats, device=size.device)
    apart = pair.difference() if pair.difference else float("nan")
    seconds, ratios = table["seconds"].to_numpy(float), table.loc["theirs"].to_numpy(float) * pair.scale
    names = ("ratio, lower quartile", "ratio", "ratio, upper quartile")
    low, middle, high = (float(ratios[table.columns.get_loc(name)]) for name in names)
    met = "no goal here" if row.goal is None else "met" if middle >= row.goal else "missed"
    if apart > pair.tolerance:
        met = "wrong"
    return about | {
        "size": pair.size,
        "seconds": float(seconds[0]),
        "seconds, other": float(seconds[1]) * pair.scale,
        "times": middle,
        "times low": low,
        "times high": high,
        "goal": row.goal,
        "verdict": met,
        "apart": apart,
    }


def table_of(rows: list[dict[str, object]]) -> pd.DataFrame:
    """The rows as a table, all columns there also where nothing was measured."""
    columns = ["work", "against", "on", "size", "seconds", "seconds, other", "times", "times low", "times high", "goal"]
    return pd.DataFrame(rows).reindex(columns=[*columns, "verdict", "apart"])
