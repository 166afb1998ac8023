"""The workflow on the command line: the whole book or the long studies, by Snakemake, and the steps that it runs."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from neuron_consistency.artifacts import artifacts, repository_root
from neuron_consistency.errors import NeuronConsistencyError, ParameterError
from neuron_consistency.workflow.build import ERRORS, build_site, make_book, make_results
from neuron_consistency.workflow.files import read_words
from neuron_consistency.workflow.pairs import sync_pairs, write_pair
from neuron_consistency.workflow.parameters import (
    DEMO,
    notebook_parameters,
    notebook_path,
    profile_parameters,
    read_value,
)
from neuron_consistency.workflow.run import run_notebook


def train_planned(profile: str, name: str, device: str) -> None:
    """Trains one network of the book, named as its files are, and keeps it where it belongs.

    Raises:
        ParameterError: the book has none of that name.
    """
    from neuron_consistency.runtime import launched, process_group, resolve_device
    from neuron_consistency.training.obtain import obtain
    from neuron_consistency.workflow.networks import book_models

    recipes = {recipe.path.stem: recipe for recipe in book_models(profile)}
    if name not in recipes:
        raise ParameterError(f"no network {name!r} in the book; there are: {', '.join(recipes) or 'none yet'}")
    if launched().rank == 0:
        print(f"[training {list(recipes).index(name) + 1} of {len(recipes)}] {name}", flush=True)
    where = resolve_device(device)
    with process_group(where):
        obtain(recipes[name], where)


def _run(chosen: argparse.Namespace) -> None:
    notebook = notebook_path(chosen.notebook)
    known = notebook_parameters(notebook)
    values = profile_parameters(chosen.profile, notebook.stem, chosen.device)
    for name, text in read_words(chosen.set).items():
        values[name] = read_value(text, known[name]) if name in known else text
    output = chosen.output or artifacts(chosen.profile) / "runs" / notebook.name
    run_notebook(notebook, output, profile=chosen.profile, values=values)
    if not chosen.output:
        from neuron_consistency.workflow.run_page import render_run

        print(f"The executed notebook: {output}", flush=True)
        print(f"The page: {render_run(output, output.with_suffix(''))}")


def _step(chosen: argparse.Namespace) -> int:
    root = repository_root()
    match chosen.command:
        case "book":
            try:
                words = ["--cores", chosen.cores, *shlex.split(chosen.snakemake)]
            except ValueError as error:
                raise ParameterError(f"WORKFLOW={chosen.snakemake!r}: {error}; close its quotes") from error
            where = {"profile": chosen.profile, "device": chosen.device, "processes": chosen.processes}
            return make_book(chosen.site, words, strict=chosen.strict, **where)
        case "results":
            return make_results(" ".join(chosen.names).split(), chosen.device)
        case "train":
            train_planned(chosen.profile, chosen.name, chosen.device or "auto")
        case "run":
            _run(chosen)
        case "study":
            from neuron_consistency.workflow.results import read_studies, results_folder

            studies = read_studies()
            if chosen.name not in studies:
                raise ParameterError(f"no study {chosen.name}; there are: {', '.join(studies)}")
            study = studies[chosen.name]
            values = study.values(chosen.device)
            run_notebook(notebook_path(study.notebook), chosen.output, profile=study.profile, values=values)
            print(f"[{study.name}] {results_folder() / study.name}; the executed notebook: {chosen.output}", flush=True)
        case "release":
            from neuron_consistency.training.released import list_release
            from neuron_consistency.workflow.networks import book_models

            print(*list_release(book_models(chosen.profile)), sep="\n")
        case "pages":
            build_site(root, chosen.site)
        case "pairs":
            for script in sorted((root / "notebooks").glob("*.py")):
                write_pair(script, edited=f".{chosen.edited}")
            sync_pairs(root)  # notes that they agree
    return 0


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def _cores(text: str) -> str:
    return text if text == "all" else str(_number(text))


def _own_caches() -> None:
    """Where the home folder cannot be written, what the tools keep there goes below the artifacts."""
    home = Path(os.environ.get("HOME") or os.path.expanduser("~"))
    if home.is_dir() and os.access(home, os.W_OK):
        return
    for name in ("HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        folder = artifacts("") / "home" / name.lower()
        folder.mkdir(parents=True, exist_ok=True)
        os.environ[name] = str(folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m neuron_consistency.workflow", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    book = commands.add_parser("book", help="run what is out of date and build the book")
    book.add_argument("--cores", type=_cores, default="all", help="a number, or all")
    book.add_argument("--processes", type=_number, default=1, help="that train a network together, one a GPU")
    book.add_argument("--strict", action="store_true", help="a notebook pair that differs is an error")
    book.add_argument("--snakemake", default="", help="further arguments for Snakemake")
    results = commands.add_parser("results", help="run studies; their tables go to book/results/")
    results.add_argument("names", nargs="*", help="of notebooks/studies.yaml (all that are out of date if not given)")
    train = commands.add_parser("train", help="train one network of the book")
    train.add_argument("name", help="of its files in artifacts/<profile>/models/")
    run = commands.add_parser("run", help="run one notebook with checked parameters")
    run.add_argument("notebook", help="number, stem or path")
    run.add_argument("output", nargs="?", type=Path, help="the executed copy (artifacts/<profile>/runs/ if not given)")
    run.add_argument("--set", default="", help='"name=value name=value"')
    study = commands.add_parser("study", help="run one study")
    study.add_argument("name", help="of notebooks/studies.yaml")
    study.add_argument("output", type=Path, help="the executed copy")
    release = commands.add_parser(
        "release", help="list the book's networks in notebooks/released.json; print their files"
    )
    pages = commands.add_parser("pages", help="build and check the pages from the executed notebooks")
    pairs = commands.add_parser("pairs", help="write each pair's other half")
    pairs.add_argument("--edited", choices=("py", "ipynb"), default="py")
    for command in (book, train, run, release):
        command.add_argument("--profile", default=DEMO)
    for command in (book, results, train, run, study):
        command.add_argument("--device", default="", help="auto, cpu, cuda, cuda:1 ... (as the notebooks say)")
    for command in (book, pages):
        command.add_argument("--site", type=Path, default=Path("book"), help="folder of notebooks/ and _build/")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; exit code 2 for a parameter that cannot work, 1 for any other failure."""
    try:
        _own_caches()
        return _step(_parser().parse_args(arguments))
    except NeuronConsistencyError as error:
        print(f"error: {error}", file=sys.stderr)
        if file := os.environ.get(ERRORS):
            with open(file, "a", encoding="utf-8") as errors:
                print(f"error: {error}", file=errors)
        return 2 if isinstance(error, ParameterError) else 1
    except KeyboardInterrupt:
        print("stopped; the next call goes on from here", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
