"""One notebook run by papermill, its parameters checked first."""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neuron_consistency.artifacts import artifacts, explained, repository_root
from neuron_consistency.errors import NeuronConsistencyError
from neuron_consistency.workflow.parameters import notebook_parameters, notebooks, validate


@contextmanager
def alone(path: Path, what: str) -> Iterator[int]:
    """Holds a lock, which the kernel frees however this process and the one it is handed to end.

    Raises:
        NeuronConsistencyError: another process holds it.
        StoreError: its file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("a+")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = path.read_text()
        raise NeuronConsistencyError(f"{what} runs here already (process {holder}): wait for it, or end it") from error
    except OSError as error:
        raise explained(error, path) from error
    with lock:
        lock.truncate(0)
        print(os.getpid(), end="", file=lock, flush=True)
        yield lock.fileno()


class _Stream:
    """What a run says, on the terminal: whole lines at once, a progress bar's states every few seconds."""

    def __init__(self, name: str, seconds: float = 10) -> None:
        self.name, self.seconds, self.rest, self.last = name, seconds, "", 0.0

    def write(self, text: str) -> None:
        *lines, self.rest = (self.rest + text).split("\n")
        if "\r" in self.rest and time.monotonic() - self.last > self.seconds:
            lines, self.rest = [*lines, self.rest], ""
        for line in lines:
            if line := line.rsplit("\r", 1)[-1].rstrip():
                self.last = time.monotonic()
                print(f"[{self.name}] {line}", flush=True)

    def flush(self) -> None:
        """Nothing is held back."""


def files_of(profile: str, notebook: str) -> Path:
    """The folder in which a notebook, by its stem, leaves files for the site, until its run has ended."""
    return artifacts(profile) / "partial" / f"{notebook}_files"


def run_notebook(notebook: Path, output: Path, *, profile: str, values: dict[str, object]) -> None:
    """Execute a notebook with checked parameters; the executed copy goes to its place once it is whole.

    Args:
        notebook: the .ipynb.
        output: where the executed copy goes; `files_of` it, if there are any, go beside it, as `<its stem>_files`.
        profile: names the folder of artifacts that keeps the copy while it grows, and after a failure.
        values: the parameters to inject.

    Raises:
        ParameterError: a parameter is unknown or has the wrong type; nothing was executed.
        NeuronConsistencyError: it runs already; or a cell failed, and the message ends with the path of the copy.
    """
    validate(values, notebook_parameters(notebook), notebook.stem)
    with alone(artifacts(profile) / "partial" / f"{notebook.stem}.lock", f"{notebook.stem}, with the same artifacts,"):
        _execute(notebook, output, profile, values)


def _execute(notebook: Path, output: Path, profile: str, values: dict[str, object]) -> None:
    import papermill
    from nbclient.exceptions import DeadKernelError

    partial = artifacts(profile) / "partial" / notebook.name
    files, beside = files_of(profile, notebook.stem), output.with_name(f"{output.stem}_files")
    shutil.rmtree(files, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    kept = f"\nThe notebook as far as it got: {partial}"
    pages = [page.name for page in notebooks()]
    progress = {
        "desc": f"notebook {pages.index(notebook.name) + 1} of {len(pages)}",
        "bar_format": "{desc}, {n} of {total} cells done, {elapsed}, about {remaining} left",
        "file": _Stream(notebook.stem, seconds=2),
    }
    began = time.monotonic()
    try:
        papermill.execute_notebook(
            str(notebook),
            str(partial),
            parameters=values,
            kernel_name="python3",
            progress_bar=progress,
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
    if files.is_dir():
        shutil.rmtree(beside, ignore_errors=True)
        shutil.move(files, beside)
    shutil.move(partial, output)
    print(f"[{notebook.stem}] done in {time.monotonic() - began:.0f} s", flush=True)
