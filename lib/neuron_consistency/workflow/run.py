"""One notebook run by papermill, its parameters checked first."""

import json
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from neuron_consistency.artifacts import artifacts, repository_root, write_json
from neuron_consistency.errors import NeuronConsistencyError
from neuron_consistency.workflow.parameters import notebook_parameters, profile_parameters, validate


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
                left = f", about {before[-1] - before[len(starts) - 1]:.0f} s left" if len(before) == cells + 1 else ""
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
