"""Studies: runs of a notebook that take longer than the book may, made once; their tables stay in book/results/."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from neuron_consistency.artifacts import artifacts, repository_root
from neuron_consistency.errors import ParameterError
from neuron_consistency.workflow.parameters import notebook_parameters, notebook_path, validate
from neuron_consistency.workflow.results import RECORD, read_result, results_folder
from neuron_consistency.workflow.run import injected_parameters, run_notebook


@dataclass(frozen=True)
class Study:
    """One run of a notebook.

    Attributes:
        name: of its folder in book/results/.
        about: what it is to show, a sentence.
        notebook: the stem.
        profile: whose values it starts from.
        parameters: what differs from them.
    """

    name: str
    about: str
    notebook: str
    profile: str
    parameters: dict[str, Any]

    def values(self, device: str | None = None) -> dict[str, object]:
        """What the run injects."""
        injected = injected_parameters(notebook_path(self.notebook), self.profile, device)
        return injected | self.parameters | {"study": self.name}

    def is_kept(self) -> bool:
        """Whether book/results/ holds it as it is asked for now, from the library as it is now."""
        if not (results_folder() / self.name / RECORD).is_file():
            return False
        found, known = read_result(self.name), notebook_parameters(notebook_path(self.notebook))
        asked = {name: parameter.default for name, parameter in known.items()} | self.values()
        asked["device"] = found.record["parameters"].get(
            "device"
        )  # where it ran is in the record, and no reason to rerun
        return found.current and found.record["parameters"] == asked


def read_studies(root: Path | None = None) -> dict[str, Study]:
    """The studies of `notebooks/studies.yaml` by name, their parameters checked.

    Raises:
        ParameterError: an entry lacks something, or names an unknown notebook or parameter, or gives a wrong type.
    """
    path = (root or repository_root()) / "notebooks" / "studies.yaml"
    entries = yaml.safe_load(path.read_text("utf-8"))
    found = {}
    for name, entry in entries.items():
        if entry.keys() != {"about", "notebook", "profile", "parameters"}:
            raise ParameterError(f"{path}: {name} needs about, notebook, profile and parameters, and nothing else")
        study = Study(name, **entry)
        notebook = notebook_path(study.notebook, root)
        validate(study.parameters | {"study": name}, notebook_parameters(notebook), f"{path.name}, {name}")
        found[name] = study
    return found


def run_studies(names: Sequence[str], *, device: str | None = None) -> None:
    """Runs the named studies, or all that are out of date; networks that are already trained are not trained again.

    Raises:
        ParameterError: there is no study of that name.
        NeuronConsistencyError: a notebook failed.
    """
    studies = read_studies()
    if unknown := [name for name in names if name not in studies]:
        raise ParameterError(f"no study {', '.join(unknown)}; there are: {', '.join(studies)}")
    for name in names or studies:
        study = studies[name]
        if not names and study.is_kept():
            print(f"[{name}] up to date")
            continue
        notebook = notebook_path(study.notebook)
        output = artifacts(study.profile) / "runs" / f"{name}.ipynb"
        run_notebook(notebook, output, profile=study.profile, values=study.values(device))
        print(f"[{name}] {results_folder() / name}; the executed notebook: {output}", flush=True)
