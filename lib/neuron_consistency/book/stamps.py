"""What stands under every table and figure of a notebook: the run, or the kept results, that its numbers come from."""

import html
import time
from collections.abc import Callable, Mapping
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
    began, made_at = time.monotonic(), commit()

    def run() -> str:
        device = describe_device(resolve_device(parameters["device"]))
        facts = {"notebook": notebook, "parameters": parameters, "commit": made_at, "device": device}
        return f"{_told(facts | {'seeds': sorted(seeds())})} · {time.monotonic() - began:.0f} s into the run"

    def stamp(cell: Any) -> None:
        if isinstance(cell.result, pd.DataFrame | Styler | Figure):
            sources = getattr(cell.result, "attrs", {}).get("sources")
            line = HTML(f'<p class="{CLASS}">{html.escape(sources or run())}</p>')  # type: ignore[no-untyped-call]
            display(line)  # type: ignore[no-untyped-call]

    for earlier in list(shell.events.callbacks["post_run_cell"]):
        if getattr(earlier, "__qualname__", "") == stamp.__qualname__:
            shell.events.unregister("post_run_cell", earlier)  # the cell was run again
    shell.events.register("post_run_cell", stamp)


def cited(shown: Shown, *records: Mapping[str, Any]) -> Shown:
    """The same table or figure, below which a notebook says what made it: the kept results with these records."""
    if isinstance(shown, Figure):
        shown.attrs = {}  # type: ignore[attr-defined]  # a table has them already
    shown.attrs["sources"] = "; ".join(map(_told, records))  # type: ignore[union-attr]
    return shown


def _told(record: Mapping[str, Any]) -> str:
    """A record in one line, with what it has of these."""
    seeds = record.get("seeds")
    said = {
        "study": "{study}",
        "notebook": "{notebook}",
        "parameters": "profile {parameters[profile]}",
        "commit": "commit {commit}",
        "seeds": f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}" if seeds else "",
        "device": "{device}",
        "training_seconds": "{training_seconds:.0f} s of training",
        "run_seconds": "run in {run_seconds:.0f} s",
    }
    return " · ".join(words.format_map(record) for name, words in said.items() if words and name in record)
