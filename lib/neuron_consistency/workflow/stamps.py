"""What stands under every table and figure of a notebook: the run, or the kept results, that its numbers come from."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pandas as pd
from IPython.core.getipython import get_ipython
from IPython.display import HTML, display
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from neuron_consistency.artifacts import commit
from neuron_consistency.runtime import describe_device, resolve_device

CLASS = "provenance"  # of the line in the page
Shown = TypeVar("Shown", bound=pd.DataFrame | Figure)


@dataclass
class _Stamp:
    """Called by IPython after each cell."""

    notebook: str
    parameters: Mapping[str, Any]
    seeds: Callable[[], set[int]]
    commit: str
    began: float = field(default_factory=time.monotonic)

    def __call__(self, cell: Any) -> None:
        if isinstance(cell.result, pd.DataFrame | Styler | Figure):
            sources = getattr(cell.result, "attrs", {}).get("sources")
            line = HTML(f'<p class="{CLASS}">{html.escape(sources or self.run())}</p>')  # type: ignore[no-untyped-call]
            display(line)  # type: ignore[no-untyped-call]

    def run(self) -> str:
        """This run, up to now."""
        parts = [self.notebook, f"profile {self.parameters['profile']}", f"commit {self.commit}"]
        if seeds := self.seeds():
            parts.append(_counted("seed", sorted(seeds)))
        device = describe_device(resolve_device(self.parameters["device"]))
        return " · ".join([*parts, device, f"{time.monotonic() - self.began:.0f} s into the run"])


def stamp_outputs(notebook: str, parameters: Mapping[str, Any], seeds: Callable[[], set[int]]) -> None:
    """From now on each cell that ends with a table or a figure says below it what made it.

    That is the notebook, profile, commit, seeds of the networks there are by then, device, and how long the run has
    taken so far; for a table that is `cited`, what the record of the kept result says instead. Outside of a notebook
    nothing happens.

    Args:
        notebook: its stem.
        parameters: with profile and device.
        seeds: gives those of the networks there are by then.
    """
    shell = get_ipython()  # type: ignore[no-untyped-call]
    if shell is None:
        return
    for earlier in [call for call in shell.events.callbacks["post_run_cell"] if isinstance(call, _Stamp)]:
        shell.events.unregister("post_run_cell", earlier)  # the cell was run again
    shell.events.register("post_run_cell", _Stamp(notebook, parameters, seeds, commit()))


def cited(shown: Shown, *records: Mapping[str, Any]) -> Shown:
    """The same table or figure, below which a notebook says what made it: the kept results with these records."""
    if isinstance(shown, Figure):
        shown.attrs = {}  # type: ignore[attr-defined]  # a table has them already
    shown.attrs["sources"] = "; ".join(map(_told, records))  # type: ignore[union-attr]
    return shown


def _told(record: Mapping[str, Any]) -> str:
    parts = [record["study"]]
    if "notebook" in record:
        parts += [record["notebook"], f"profile {record['parameters']['profile']}"]
    parts.append(f"commit {record['commit']}")
    if "seeds" in record:
        parts.append(_counted("seed", record["seeds"]))
    parts.append(record["device"])
    if "training_seconds" in record:
        parts.append(f"{record['training_seconds']:.0f} s of training")
    if "run_seconds" in record:
        parts.append(f"run in {record['run_seconds']:.0f} s")
    return " · ".join(parts)


def _counted(word: str, numbers: list[int]) -> str:
    return f"{word}{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"
