"""One notebook run by papermill, its parameters checked first."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

from neuron_consistency.artifacts import artifacts, repository_root
from neuron_consistency.errors import NeuronConsistencyError
from neuron_consistency.workflow.parameters import (
    notebook_parameters,
    profile_parameters,
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
