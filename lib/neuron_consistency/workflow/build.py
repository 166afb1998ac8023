"""Snakemake, called for the whole book or for the long studies, one call at a time; the pages it ends in, checked."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from neuron_consistency.artifacts import artifacts, repository_root
from neuron_consistency.errors import DatasetError, NeuronConsistencyError, ParameterError
from neuron_consistency.workflow.files import replace_folder
from neuron_consistency.workflow.pairs import sync_pairs
from neuron_consistency.workflow.parameters import notebooks, profile_parameters
from neuron_consistency.workflow.run import alone

DATA = "NEURON_CONSISTENCY_DATA"
ERRORS = "NEURON_CONSISTENCY_ERRORS"  # names the file that gathers the errors of the steps of one call
INJECTED = '"injected-parameters"'  # the tag that papermill gives their cell
BUILT = ("notebooks", "_build")  # what a build writes into its site folder


@contextmanager
def _workflow_alone(site: Path = Path("book")) -> Iterator[list[int]]:
    """Holds the locks of the artifacts and of the pages: of two runs that share either, one has to wait."""
    with (
        alone(artifacts("") / ".lock", "the workflow") as artifacts_lock,
        alone(repository_root() / site / "_build" / ".lock", "the workflow") as site_lock,
    ):
        yield [artifacts_lock, site_lock]


def _snakemake(locks: list[int], words: Sequence[str], **config: object) -> tuple[int, str]:
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
    done = subprocess.run(command, cwd=repository_root(), pass_fds=locks, env=os.environ | {ERRORS: str(errors)})
    return done.returncode, errors.read_text() if errors.is_file() else ""


def make_book(site: Path, words: Sequence[str], *, profile: str, device: str, processes: int, strict: bool) -> int:
    """Runs the trainings and notebooks that are out of date, builds the book, prints its path; Snakemake does the rest.

    Args:
        site: the folder that gets `notebooks/` (executed copies) and `_build/html/`.
        words: further arguments for Snakemake.
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
    with _workflow_alone(site) as locks:
        sync_pairs(root, strict=strict)
        for notebook in notebooks():
            profile_parameters(profile, notebook.stem, device)
        from neuron_consistency.training.recipes import recipes_of
        from neuron_consistency.workflow.networks import training_parameters, write_current

        write_current(profile, recipes_of(profile, training_parameters(profile, device)), chosen=False)
        code, errors = _snakemake(locks, words, profile=profile, site=site, device=device, processes=processes)
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
    from neuron_consistency.workflow.results import read_studies

    studies = read_studies()
    if unknown := [name for name in names if name not in studies]:
        raise ParameterError(f"no study {', '.join(unknown)}; there are: {', '.join(studies)}")
    wanted = names or [name for name, study in studies.items() if not study.is_kept()]
    if not wanted:
        print("every study is up to date")
        return 0
    with _workflow_alone() as locks:
        copies = [str(artifacts("studies") / f"{name}.ipynb") for name in wanted]
        code, errors = _snakemake(locks, [*copies, "--cores", "all", "--force"], device=device)
    print(errors, end="", file=sys.stderr)
    return code


def build_site(root: Path, site: Path) -> None:
    """Build the pages from book/ and the executed notebooks of `site`, check them, put them in site/_build/html.

    The pages of an earlier build stay until the new ones are whole and have passed.

    Raises:
        NeuronConsistencyError: a warning, a notebook with an error or never executed, a broken link, a request to
            another host; the message lists all of them.
    """
    copies = sorted((root / site / "notebooks").glob("*.ipynb"))
    if faults := _faults(root, *copies):
        raise _faulty(faults)
    built = root / site / "_build"
    stage = built / "stage"
    shutil.rmtree(stage, ignore_errors=True)
    shutil.copytree(root / "book", stage, ignore=lambda folder, names: BUILT if Path(folder) == root / "book" else ())
    (stage / "notebooks").mkdir()
    for copy in copies:
        text = copy.read_text(
            "utf-8"
        )  # parameters that a profile changes are folded, as those that stand in the notebook
        (stage / "notebooks" / copy.name).write_text(text.replace(INJECTED, f'{INJECTED}, "hide-input"', 1), "utf-8")
    config = ["--config", str(root / "_config.yml"), "--path-output", str(stage)]
    builder = str(Path(sys.executable).with_name("jupyter-book"))
    command = [builder, "build", str(stage), *config, "-W", "-n", "--keep-going", "--all"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout).replace(f"{stage}/", "book/")
    faults = re.findall(r"^.*(?:WARNING|ERROR|CRITICAL).*$", said, flags=re.MULTILINE)
    pages = stage / "_build" / "html"
    if done.returncode and not faults:
        faults = said.strip().splitlines()[-20:]
    if pages.is_dir():
        for files in (root / site / "notebooks").glob("*_files"):  # which notebooks have left, see `run.files_of`
            shutil.copytree(files, pages / "notebooks" / files.name)
        for source in (root / "notebooks").glob("*.ipynb"):  # a reader who downloads one wants it without our outputs
            if (offered := pages / "_sources" / "notebooks" / source.name).exists():
                shutil.copy(source, offered)
        for unread in pages.rglob("*.map"):  # what the theme's makers debug its scripts with
            unread.unlink()
        faults += _faults(root, pages)
    if faults:
        raise _faulty(faults)
    replace_folder(built / "html", pages)
    shutil.rmtree(stage)


def _faults(root: Path, *paths: Path) -> list[str]:
    command = [sys.executable, str(root / "tools" / "check_pages.py"), *map(str, paths)]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout.splitlines()


def _faulty(faults: Sequence[str]) -> NeuronConsistencyError:
    return NeuronConsistencyError("\n".join(["the book has faults:", *(f"  {fault}" for fault in faults)]))
