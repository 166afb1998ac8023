"""Studies: runs of a notebook that take longer than the book may, made once; their tables stay in book/results/."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from neuron_consistency.artifacts import repository_root
from neuron_consistency.errors import ParameterError
from neuron_consistency.workflow.parameters import notebook_parameters, notebook_path, validate
from neuron_consistency.workflow.results import RECORD, read_result, results_folder
from neuron_consistency.workflow.run import injected_parameters


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

    def values(self, device: str = "") -> dict[str, object]:
        """What the run injects."""
        injected = injected_parameters(notebook_path(self.notebook), self.profile, device)
        return injected | self.parameters | {"study": self.name}

    def is_kept(self) -> bool:
        """Whether book/results/ holds it as it is asked for now, from the library as it is now."""
        if not (results_folder() / self.name / RECORD).is_file():
            return False
        found, known = read_result(self.name), notebook_parameters(notebook_path(self.notebook))
        asked = {name: parameter.default for name, parameter in known.items()} | self.values()
        where = {"device": found.record["parameters"].get("device")}  # it is in the record, and no reason to rerun
        return found.current and found.record["parameters"] == asked | where


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
