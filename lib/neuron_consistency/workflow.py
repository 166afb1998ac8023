"""The workflow on the command line: the whole book or the long studies, by Snakemake, and the steps that it runs."""

import argparse
import fcntl
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from neuron_consistency.errors import DatasetError, NeuronConsistencyError, ParameterError
from neuron_consistency.pairs import sync_pairs, write_pair
from neuron_consistency.parameters import (
    DEMO,
    notebook_parameters,
    notebook_path,
    profile_parameters,
    read_value,
    repository_root,
    validate,
)
from neuron_consistency.store import artifacts, write_json

DATA = "NEURON_CONSISTENCY_DATA"
ERRORS = "NEURON_CONSISTENCY_ERRORS"  # names the file that gathers what the steps of one run failed of


def injected_parameters(notebook: Path, profile: str, device: str) -> dict[str, object]:
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
        if "\r" in self.rest and time.monotonic() - self.last > 10:
            lines, self.rest = [*lines, self.rest], ""
        for line in lines:
            if line := line.rsplit("\r", 1)[-1].rstrip():
                self.last = time.monotonic()
                print(f"[{self.name}] {line}", flush=True)

    def flush(self) -> None:
        """Nothing is held back."""


def _told(notebook: Path, cells: int, starts: list[float], before: list[float]) -> Callable[..., None]:
    """Says which of the code cells begins, and how long is left where the starts and the end of an earlier run tell.

    The starts of this run, in seconds, are appended to `starts`.
    """
    pages = sorted(notebook.parent.glob("*.ipynb"))
    place = f"[{notebook.stem}] notebook {pages.index(notebook) + 1} of {len(pages)}, cell"
    began, shown = time.monotonic(), -math.inf

    def cell_starts(cell: Any, cell_index: int) -> None:
        nonlocal shown
        if cell.cell_type == "code":
            starts.append(time.monotonic() - began)
            if starts[-1] - shown > 2:
                shown = starts[-1]
                left = f", about {before[-1] - before[len(starts) - 1]:.0f} s left" if len(before) > cells else ""
                print(f"{place} {len(starts)} of {cells}, {shown:.0f} s{left}", flush=True)

    return cell_starts


def _seconds(path: Path) -> list[float]:
    """The starts of the cells of an earlier run and its end; nothing where no file, or a damaged one, tells."""
    try:
        return [float(second) for second in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError):
        return []


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

    partial = artifacts(profile) / "partial" / notebook.name
    partial.parent.mkdir(parents=True, exist_ok=True)
    kept = f"\nThe notebook as far as it got: {partial}"
    content = json.loads(notebook.read_text("utf-8"))
    cells = sum(cell["cell_type"] == "code" for cell in content["cells"]) + bool(values)  # with the injected one
    seconds, starts = partial.with_suffix(".seconds"), list[float]()
    began = time.monotonic()
    try:
        papermill.execute_notebook(
            str(notebook),
            str(partial),
            parameters=values,
            kernel_name="python3",
            progress_bar=False,
            on_cell_start=_told(notebook, cells, starts, _seconds(seconds)),
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
    took = time.monotonic() - began
    write_json(seconds, [round(second, 1) for second in [*starts, took]])
    print(f"[{notebook.stem}] done in {took:.0f} s", flush=True)


def train_planned(profile: str, name: str, device: str) -> None:
    """Trains one network of the book, named as its files are, and keeps it where it belongs.

    Raises:
        ParameterError: the book has none of that name.
    """
    from neuron_consistency.compute import resolve_device
    from neuron_consistency.distributed import process_group, ranks
    from neuron_consistency.plans import book_models
    from neuron_consistency.trained import obtain

    plans = {plan.path.stem: plan for plan in book_models(profile)}
    if name not in plans:
        raise ParameterError(f"no network {name!r} in the book; there are: {', '.join(plans) or 'none yet'}")
    if ranks().rank == 0:
        print(f"[training {list(plans).index(name) + 1} of {len(plans)}] {name}", flush=True)
    with process_group(resolve_device(device)):
        obtain(plans[name], device=device)


@contextmanager
def _alone(path: Path) -> Iterator[int]:
    """Holds a lock, which the kernel frees however this process and the one it is handed to end.

    Raises:
        NeuronConsistencyError: another process holds it.
    """
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read()
            raise NeuronConsistencyError(
                f"the workflow runs here already (process {holder}): wait for it, or end it"
            ) from error
        lock.truncate(0)
        print(os.getpid(), end="", file=lock, flush=True)
        yield lock.fileno()


def _snakemake(lock: int, words: Sequence[str], **config: object) -> tuple[int, str]:
    """Runs Snakemake, whose errors, triggers of reruns and lines on the terminal are the Snakefile's and these.

    Returns:
        Its exit code, and the errors of its steps.
    """
    options = ["--nolock", "--rerun-incomplete", "--keep-going", "--quiet", "rules", "host", "reason"]
    options += ["--rerun-triggers", "mtime", "input", "params"]  # where and how a step is started is no reason
    command = [sys.executable, "-m", "snakemake", *words, *options, "--config"]
    command += [f"{name}={value}" for name, value in config.items()]
    errors = artifacts("") / "errors.txt"
    errors.unlink(missing_ok=True)
    done = subprocess.run(command, cwd=repository_root(), pass_fds=[lock], env=os.environ | {ERRORS: str(errors)})
    return done.returncode, errors.read_text() if errors.is_file() else ""


def make_book(
    profile: str, device: str, site: Path, cores: str, more: Sequence[str] = (), *, processes: int = 1, strict: bool
) -> int:
    """Runs the trainings and notebooks that are out of date, builds the book, prints its path; Snakemake does the rest.

    Args:
        profile: one of notebooks/profiles/, or "demo".
        device: injected where given.
        site: the folder that gets `notebooks/` (executed copies) and `_build/html/`.
        cores: how many processor cores the jobs share, or "all".
        more: further arguments for Snakemake.
        processes: how many train a network together, one a GPU where there are GPUs.
        strict: a pair whose halves differ is an error, and not brought together.

    Returns:
        Snakemake's exit code.

    Raises:
        ParameterError: an unknown profile, a parameter that cannot work, or pairs that cannot be brought together.
        DatasetError: the data folder does not exist.
        NeuronConsistencyError: the workflow runs already.
    """
    root = repository_root()
    if os.environ.get(DATA) and not Path(os.environ[DATA]).is_dir():
        raise DatasetError(f"{DATA} (DATA= of make) is {os.environ[DATA]!r}: there is no such folder")
    with _alone(artifacts("") / ".lock") as lock:
        sync_pairs(root, strict=strict)
        for notebook in sorted((root / "notebooks").glob("*.ipynb")):
            injected_parameters(notebook, profile, device)
        from neuron_consistency.plans import default_plans, write_current

        write_current(profile, default_plans(profile, device), chosen=False)
        config = {"profile": profile, "site": site, "device": device, "processes": processes}
        code, errors = _snakemake(lock, ["--cores", cores, *more], **config)
    if code:  # said again, below whatever ran on beside the failed step
        print(f"The book is not complete.\n{errors}", end="", file=sys.stderr, flush=True)
    else:
        print(f"The book: {(root / site / '_build' / 'html' / 'index.html').resolve()}", flush=True)
    return code


def make_results(names: Sequence[str], device: str) -> int:
    """Runs the named studies, or all that are out of date, by Snakemake; returns its exit code.

    Raises:
        ParameterError: there is no study of that name.
        NeuronConsistencyError: the workflow runs already.
    """
    from neuron_consistency.studies import read_studies

    studies = read_studies()
    if unknown := [name for name in names if name not in studies]:
        raise ParameterError(f"no study {', '.join(unknown)}; there are: {', '.join(studies)}")
    wanted = names or [name for name, study in studies.items() if not study.is_kept()]
    if not wanted:
        print("every study is up to date")
        return 0
    with _alone(artifacts("") / ".lock") as lock:
        copies = [str(artifacts("studies") / f"{name}.ipynb") for name in wanted]
        code, errors = _snakemake(lock, [*copies, "--cores", "all", "--force"], device=device)
    print(errors, end="", file=sys.stderr)
    return code


def _run(chosen: argparse.Namespace) -> None:
    notebook = notebook_path(chosen.notebook)
    known = notebook_parameters(notebook)
    values = injected_parameters(notebook, chosen.profile, chosen.device)
    given = [*chosen.p, *(word.partition("=")[::2] for word in shlex.split(chosen.set))]
    values |= {name: read_value(text, known[name]) if name in known else text for name, text in given}
    output = chosen.output or artifacts(chosen.profile) / "runs" / notebook.name
    run_notebook(notebook, output, profile=chosen.profile, values=values)
    if not chosen.output:
        print(f"The executed notebook: {output}")


def _step(chosen: argparse.Namespace) -> int:
    root = repository_root()
    match chosen.command:
        case "book":
            options = {"processes": chosen.processes, "strict": chosen.strict}
            more = shlex.split(chosen.snakemake)
            return make_book(chosen.profile, chosen.device, chosen.site, chosen.cores, more, **options)
        case "results":
            return make_results(chosen.names, chosen.device)
        case "train":
            train_planned(chosen.profile, chosen.name, chosen.device or "auto")
        case "run":
            _run(chosen)
        case "study":
            from neuron_consistency.studies import read_studies

            study = read_studies()[chosen.name]
            values = study.values(chosen.device)
            run_notebook(notebook_path(study.notebook), chosen.output, profile=study.profile, values=values)
        case "pages":
            from neuron_consistency.book import build_site

            build_site(root, chosen.site)
        case "pairs":
            for script in sorted((root / "notebooks").glob("*.py")):
                write_pair(script, edited=f".{chosen.edited}")
            sync_pairs(root)  # notes that they agree
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m neuron_consistency.workflow", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    book = commands.add_parser("book", help="run what is out of date and build the book")
    book.add_argument("--cores", default="all")
    book.add_argument("--processes", type=int, default=1, help="that train a network together, one a GPU")
    book.add_argument("--strict", action="store_true", help="a notebook pair that differs is an error")
    book.add_argument("--snakemake", default="", help="further arguments for Snakemake")
    results = commands.add_parser("results", help="run studies; their tables go to book/results/")
    results.add_argument("names", nargs="*", help="of notebooks/studies.yaml (all that are out of date if not given)")
    train = commands.add_parser("train", help="train one network of the book")
    train.add_argument("name", help="of its files in artifacts/<profile>/models/")
    run = commands.add_parser("run", help="run one notebook with checked parameters")
    run.add_argument("notebook", help="number, stem or path")
    run.add_argument("output", nargs="?", type=Path, help="the executed copy (artifacts/<profile>/runs/ if not given)")
    run.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    run.add_argument("--set", default="", help='"name=value name=value"')
    study = commands.add_parser("study", help="run one study")
    study.add_argument("name", help="of notebooks/studies.yaml")
    study.add_argument("output", type=Path, help="the executed copy")
    pages = commands.add_parser("pages", help="build and check the pages from the executed notebooks")
    pairs = commands.add_parser("pairs", help="write each pair's other half")
    pairs.add_argument("--edited", choices=("py", "ipynb"), default="py")
    for command in (book, train, run):
        command.add_argument("--profile", default=DEMO)
    for command in (book, results, train, run, study):
        command.add_argument("--device", default="", help="auto, cpu, cuda, cuda:1 ... (as the notebooks say)")
    for command in (book, pages):
        command.add_argument("--site", type=Path, default=Path("book"), help="folder of notebooks/ and _build/")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; exit code 2 for a parameter that cannot work, 1 for any other failure."""
    try:
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
