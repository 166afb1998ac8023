"""The pages of the book: built with warnings as errors, then checked."""

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from neuron_consistency.errors import NeuronConsistencyError

BUILT = ("notebooks", "_build")  # what a build writes into its site folder


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
        shutil.copy(copy, stage / "notebooks")
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
        faults += _faults(root, pages)
    if faults:
        raise _faulty(faults)
    shutil.rmtree(built / "html", ignore_errors=True)
    shutil.move(pages, built / "html")
    shutil.rmtree(stage)


def _faults(root: Path, *paths: Path) -> list[str]:
    command = [sys.executable, str(root / "tools" / "check_pages.py"), *map(str, paths)]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout.splitlines()


def _faulty(faults: Sequence[str]) -> NeuronConsistencyError:
    return NeuronConsistencyError("\n".join(["the book has faults:", *(f"  {fault}" for fault in faults)]))
