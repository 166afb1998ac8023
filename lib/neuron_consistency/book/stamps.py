"""What stands under every table and figure of a notebook: the run, or the kept results, that its numbers come from."""

import functools
import html
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote

import pandas as pd
import yaml
from IPython.core.getipython import get_ipython
from IPython.display import HTML, display
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from neuron_consistency.artifacts import commit, repository_root
from neuron_consistency.errors import ParameterError
from neuron_consistency.runtime import describe_device, resolve_device
from neuron_consistency.workflow.parameters import all_parameters

CLASS = "provenance"  # of the line in the page
TOLD_ELSEWHERE = {"profile", "study", "device"}  # a line says these in words of its own
CLOCKS = {
    "training_seconds": "{:.0f} s of training",
    "run_seconds": "run in {:.0f} s",
    "seconds_so_far": "{:.0f} s into the run",
}
Shown = TypeVar("Shown", bound=pd.DataFrame | Figure)


@dataclass(frozen=True)
class Run:
    """The run of a notebook, as what is shown in it tells of it.

    Attributes:
        notebook: its stem.
        parameters: with profile and device.
        seeds: gives those of the networks there are by then.
    """

    notebook: str
    parameters: Mapping[str, Any]
    seeds: Callable[[], set[int]]
    commit: str = field(default_factory=commit)
    began: float = field(default_factory=time.monotonic)

    def record(self) -> dict[str, Any]:
        """What made a number that is shown now, under the names that the record of a kept result has."""
        device = describe_device(resolve_device(self.parameters["device"]))
        facts = {"notebook": self.notebook, "parameters": self.parameters, "commit": self.commit, "device": device}
        return facts | {"seeds": sorted(self.seeds()), "seconds_so_far": time.monotonic() - self.began}


def stamp_outputs(run: Run) -> None:
    """From now on each cell that ends with a bare table or a bare figure says below it what made it.

    For a table that is `cited`, that is the record of the kept result. Outside of a notebook nothing happens.
    """
    shell = get_ipython()  # type: ignore[no-untyped-call]
    if shell is None:
        return

    def stamp(cell: Any) -> None:
        if isinstance(cell.result, pd.DataFrame | Styler | Figure):
            line = HTML(f'<p class="{CLASS}">{"; ".join(source_lines(cell.result, run))}</p>')  # type: ignore[no-untyped-call]
            display(line)  # type: ignore[no-untyped-call]

    for earlier in list(shell.events.callbacks["post_run_cell"]):
        if getattr(earlier, "__qualname__", "") == stamp.__qualname__:
            shell.events.unregister("post_run_cell", earlier)  # the cell was run again
    shell.events.register("post_run_cell", stamp)


def cited(shown: Shown, *records: Mapping[str, Any]) -> Shown:
    """The same table or figure, below which a notebook says what made it: the kept results with these records."""
    if isinstance(shown, Figure):
        shown.attrs = {}  # type: ignore[attr-defined]  # a table has them already
    shown.attrs["sources"] = list(records)  # type: ignore[union-attr]
    return shown


def source_lines(shown: object, run: Run) -> list[str]:
    """The sources of a table or figure in HTML, a line each: those that it cites, else the run that shows it."""
    sources = getattr(shown, "attrs", {}).get("sources") or [run.record()]
    if isinstance(sources, str):
        return [html.escape(sources)]
    return [" · ".join(_told(record)) for record in sources]


def repository_file(path: str) -> str:
    """Where a file of the repository is published, from the book's settings."""
    where = _repository()
    return f"{where['url']}/blob/{where['branch']}/{quote(path)}"


def _told(record: Mapping[str, Any]) -> Iterator[str]:
    """What a record has of these, in HTML."""
    results = f"blob/{_repository()['branch']}/book/results/{quote(str(record.get('study')), safe='')}"
    if "study" in record:
        yield _link(f"{results}/record.json", str(record["study"]))
    if "notebook" in record:
        yield html.escape(str(record["notebook"]))
    if "parameters" in record:
        yield "profile " + html.escape(str(record["parameters"]["profile"]))
        yield from map(html.escape, _changes(str(record.get("notebook", "")), record["parameters"]))
    made_at = str(record.get("commit", "unknown"))
    plain = re.fullmatch("[0-9a-f]{7,40}", made_at)
    yield "commit " + (_link(f"commit/{made_at}", made_at) if plain else html.escape(made_at))
    if seeds := record.get("seeds"):
        yield f"seed{'s' * (len(seeds) > 1)} {', '.join(html.escape(str(seed)) for seed in seeds)}"
    if "device" in record:
        yield html.escape(str(record["device"]))
    seconds = {
        "training_seconds": "{} s of training",
        "run_seconds": "run in {} s",
        "seconds_so_far": "{} s into the run",
    }
    yield from (words.format(f"{record[name]:.0f}") for name, words in seconds.items() if name in record)
    if tables := record.get("tables"):
        yield "tables " + ", ".join(_link(f"{results}/{quote(name, safe='')}", name) for name in sorted(tables))


def _changes(notebook: str, parameters: Mapping[str, Any]) -> list[str]:
    """Every parameter that has another value than the profile gives it, "sigma = 1.5 (the profile has 2.0)".

    Where the profile or the notebook is no longer there, these are all parameters.
    """
    try:
        standing = _standing(str(parameters["profile"]), notebook)
    except ParameterError:
        standing = {}
    return [
        f"{name} = {value!r}" + (f" (the profile has {standing[name]!r})" if name in standing else "")
        for name, value in parameters.items()
        if name not in TOLD_ELSEWHERE and not (name in standing and standing[name] == value)
    ]


@functools.lru_cache(maxsize=64)
def _standing(profile: str, notebook: str) -> dict[str, Any]:
    return all_parameters(profile, notebook)


@functools.lru_cache(maxsize=1)
def _repository() -> dict[str, str]:
    """Where the repository is published, with the fields url and branch, from the book's settings."""
    settings: dict[str, Any] = yaml.safe_load((repository_root() / "_config.yml").read_text("utf-8"))
    return {name: str(settings["repository"][name]) for name in ("url", "branch")}


def _link(path: str, text: str) -> str:
    return f'<a href="{html.escape(_repository()["url"])}/{html.escape(path)}">{html.escape(text)}</a>'
