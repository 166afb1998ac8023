"""The workflow's own steps on the command line: one notebook with checked parameters, one training, the book."""

import argparse
import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neuron_consistency.artifacts import artifacts, read_json, repository_root
from neuron_consistency.errors import NeuronConsistencyError, ParameterError
from neuron_consistency.pairs import sync_pairs, write_pair
from neuron_consistency.parameters import (
    DEMO,
    notebook_parameters,
    notebook_path,
    profile_parameters,
    read_value,
    validate,
)


def injected_parameters(notebook: Path, profile: str, device: str | None) -> dict[str, object]:
    """What a run injects: the profile's differences and, where one is given, the device."""
    values = profile_parameters(profile, notebook.stem)
    if device and "device" in notebook_parameters(notebook):
        values["device"] = device
    return values


class _Stream:
    """A kernel's output on the terminal: whole lines at once, a progress bar's states every ten seconds."""

    def __init__(self, name: str) -> None:
        self.name, self.rest, self.last = name, "", 0.0

    def write(self, text: str) -> None:
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            self._show(line.rsplit("\r", 1)[-1])
        if "\r" in self.rest and time.monotonic() - self.last > 10:
            self._show(self.rest.rsplit("\r", 1)[-1])
            self.rest = ""

    def _show(self, line: str) -> None:
        if line.strip():
            self.last = time.monotonic()
            print(f"[{self.name}] {line.rstrip()}", flush=True)

    def flush(self) -> None:
        """Nothing is held back."""


def _engine(notebook: Path, times: Path) -> Any:
    """A papermill engine that says which cell runs, and how long is left where an earlier run tells."""
    from papermill.engines import NBClientEngine

    name, all_of_them = notebook.stem, sorted(notebook.parent.glob("*.ipynb"))
    place = f"notebook {all_of_them.index(notebook) + 1} of {len(all_of_them)}, "

    class Engine(NBClientEngine):  # type: ignore[misc]
        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> Any:
            cells = [index for index, cell in enumerate(nb_man.nb.cells) if cell.cell_type == "code"]
            before = json.loads(times.read_text()) if times.is_file() else []
            began, shown, starts = time.monotonic(), 0.0, list[float]()
            start = nb_man.cell_start

            def announced(cell: Any, cell_index: int | None = None, **more: Any) -> Any:
                nonlocal shown
                if cell_index in cells:
                    starts.append(time.monotonic() - began)
                    if starts[-1] - shown > 2 or len(starts) == 1:
                        shown, at = starts[-1], len(starts)
                        left = ""
                        if len(before) == len(cells) + 1:
                            left = f", about {max(0, before[-1] - before[at - 1]):.0f} s left"
                        print(f"[{name}] {place}cell {at} of {len(cells)}, {shown:.0f} s{left}", flush=True)
                return start(cell, cell_index=cell_index, **more)

            nb_man.cell_start = announced
            result = super().execute_managed_notebook(nb_man, kernel_name, **options)
            times.write_text(json.dumps([round(second, 1) for second in [*starts, time.monotonic() - began]]))
            return result

    return Engine


def run_notebook(notebook: Path, output: Path, *, profile: str, values: dict[str, object]) -> None:
    """Execute a notebook with checked parameters; the executed copy goes to its place once it is whole.

    Args:
        notebook: the .ipynb.
        output: where the executed copy goes.
        profile: names the folder of artifacts that keeps the copy while it grows, and after a failure.
        values: the parameters to inject.

    Raises:
        ParameterError: a parameter is unknown or has the wrong type; nothing was executed.
        NeuronConsistencyError: a cell failed; the message ends with the path of the partial copy.
    """
    validate(values, notebook_parameters(notebook), notebook.stem)
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.engines import papermill_engines

    partial = artifacts(profile) / "partial" / notebook.name
    partial.parent.mkdir(parents=True, exist_ok=True)
    papermill_engines.register("told", _engine(notebook, partial.with_suffix(".seconds")))
    kept = f"\nThe notebook as far as it got: {partial}"
    began = time.monotonic()
    try:
        papermill.execute_notebook(
            str(notebook),
            str(partial),
            parameters=values,
            kernel_name="python3",
            engine_name="told",
            progress_bar=False,
            stdout_file=_Stream(notebook.stem),
            stderr_file=_Stream(notebook.stem),
            extra_arguments=["--IPKernelApp.log_level=CRITICAL"],  # its own local port is no news
            start_timeout=600,  # a kernel on a loaded machine takes its time
            cwd=str(repository_root()),
        )
    except papermill.PapermillExecutionError as error:
        what = f"{notebook.stem}, cell {error.exec_count}: {error.ename}: {error.evalue}"
        raise NeuronConsistencyError(what + kept) from error
    except DeadKernelError as error:
        raise NeuronConsistencyError(f"{notebook.stem}: its kernel died (out of memory?){kept}") from error
    except OSError as error:
        raise NeuronConsistencyError(f"{notebook.stem}: {error}{kept}") from error
    output.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(partial, output)
    print(f"[{notebook.stem}] done in {time.monotonic() - began:.0f} s", flush=True)


def _cores() -> int:
    """The cores this process may use, which in a container can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def train_planned(profile: str, stem: str, device: str | None) -> None:
    """Train one network of the last plan, named by the stem of its files, and keep it where it belongs."""
    from neuron_consistency.runtime import process_group, ranks, resolve_device
    from neuron_consistency.training.obtain import obtain
    from neuron_consistency.training.recipes import ModelPlan

    plans = read_json(artifacts(profile) / "plans.json")["plans"]
    place, plan = next((place, plan) for place, plan in enumerate(plans, 1) if plan["stem"] == stem)
    if ranks().rank == 0:
        print(f"[training {place} of {len(plans)}] {stem}", flush=True)
    with process_group(resolve_device(device or "auto")):
        obtain(ModelPlan(profile, plan["key"], plan["spec"]), device=device or "auto")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; exit code 2 for a parameter that cannot work, 1 for any other failure."""
    parser = argparse.ArgumentParser(prog="python -m neuron_consistency.workflow", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run one notebook with checked parameters")
    run.add_argument("notebook", help="number, stem or path")
    run.add_argument("output", nargs="?", help="the executed copy (artifacts/<profile>/runs/ if not given)")
    run.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    run.add_argument("--set", default="", help='"name=value name=value"')
    train = commands.add_parser("train", help="train one network of the book's last plan")
    train.add_argument("stem", help="of its files in artifacts/<profile>/models/")
    book = commands.add_parser("book", help="run what is out of date and build the book")
    book.add_argument("--cores", type=int, default=_cores())
    book.add_argument("--processes", type=int, default=1, help="that train a network together, one a GPU")
    book.add_argument("--strict", action="store_true", help="a notebook pair that differs is an error")
    book.add_argument("--snakemake", default="", help="further arguments for Snakemake")
    html = commands.add_parser("html", help="build and check the pages from the executed notebooks")
    for command in (book, html):
        command.add_argument("--site", default="book", help="folder of notebooks/ and _build/ (default: book)")
    results = commands.add_parser("results", help="run studies; their tables go to book/results/")
    results.add_argument("names", nargs="*", help="of notebooks/studies.yaml (all that are out of date if not given)")
    results.add_argument("--device", default=None)
    for command in (run, train, book):
        command.add_argument("--profile", default=DEMO)
        command.add_argument("--device", default=None)
    pairs = commands.add_parser("pairs", help="write each pair's other half")
    pairs.add_argument("--edited", choices=("py", "ipynb"), default="py")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "book":
            from neuron_consistency.book import make_book

            more = shlex.split(chosen.snakemake)
            site, device = Path(chosen.site), chosen.device or None
            options = {"processes": chosen.processes, "strict": chosen.strict}
            return make_book(chosen.profile, device, site, chosen.cores, more, **options)
        if chosen.command == "pairs":
            for script in sorted((repository_root() / "notebooks").glob("*.py")):
                write_pair(script, edited=f".{chosen.edited}")
            sync_pairs(repository_root())  # notes that they agree
            return 0
        if chosen.command == "train":
            train_planned(chosen.profile, chosen.stem, chosen.device)
            return 0
        if chosen.command == "results":
            from neuron_consistency.studies import run_studies

            run_studies(chosen.names, device=chosen.device or None)
            return 0
        if chosen.command == "html":
            from neuron_consistency.book import build_site

            build_site(repository_root(), Path(chosen.site))
            return 0
        notebook = notebook_path(chosen.notebook)
        known = notebook_parameters(notebook)
        values = injected_parameters(notebook, chosen.profile, chosen.device or None)
        given = [*chosen.p, *(word.partition("=")[::2] for word in shlex.split(chosen.set))]
        values |= {name: read_value(text, known[name]) if name in known else text for name, text in given}
        default = artifacts(chosen.profile) / "runs" / notebook.name
        output = Path(chosen.output) if chosen.output else default
        run_notebook(notebook, output, profile=chosen.profile, values=values)
        if not chosen.output:
            print(f"The executed notebook: {output}")
    except NeuronConsistencyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ParameterError) else 1
    except KeyboardInterrupt:
        print("stopped; the next call goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
