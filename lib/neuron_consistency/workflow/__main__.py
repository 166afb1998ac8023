"""The workflow's own steps on the command line: one notebook with checked parameters, one training, the book."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from neuron_consistency.artifacts import artifacts, read_json, repository_root
from neuron_consistency.errors import NeuronConsistencyError, ParameterError
from neuron_consistency.workflow.pairs import sync_pairs, write_pair
from neuron_consistency.workflow.parameters import (
    DEMO,
    notebook_parameters,
    notebook_path,
    read_value,
)
from neuron_consistency.workflow.run import injected_parameters, run_notebook


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
            from neuron_consistency.workflow.pages import make_book

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
            from neuron_consistency.workflow.studies import run_studies

            run_studies(chosen.names, device=chosen.device or None)
            return 0
        if chosen.command == "html":
            from neuron_consistency.workflow.pages import build_site

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
