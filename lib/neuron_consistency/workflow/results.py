"""Results that stay with the book: small tables, each folder of them with a record of what made it; the studies."""

import datetime
import hashlib
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from neuron_consistency.artifacts import (
    atomic_path,
    commit,
    library_tree,
    read_json,
    repository_root,
    write_json,
)
from neuron_consistency.errors import StoreError
from neuron_consistency.training.obtain import TrainedModel
from neuron_consistency.versions import MEASURES, current_versions
from neuron_consistency.workflow.files import replace_folder
from neuron_consistency.workflow.parameters import (
    all_parameters,
    notebook_parameters,
    notebook_path,
    profile_parameters,
    read_list,
    validate,
)

RECORD = "record.json"
FIELDS = {"study", "commit", "finished", "tables"}  # of every record
STUDY_FIELDS = {
    "notebook", "versions", "parameters", "dataset", "fingerprint", "seeds", "device", "torch", "precision",
    "training_seconds",
}  # fmt: skip  # of one with a notebook behind it, with "run_seconds" since they are taken; "remarks" may say more


@dataclass(frozen=True)
class Start:
    """What a run of a notebook began with: commit of the checkout, tree of its library, topics measured, clock."""

    notebook: str
    topics: tuple[str, ...]
    commit: str
    library: str
    clock: float


@dataclass(frozen=True)
class Result:
    """Tables by name, and the record of how they were made."""

    tables: dict[str, pd.DataFrame]
    record: dict[str, Any]

    @property
    def current(self) -> bool:
        """Whether the library still computes the same numbers: no version in the record was raised since."""
        return bool(self.record["versions"].items() <= current_versions().items())


def results_folder() -> Path:
    """Where results stay: `book/results` of the repository."""
    return repository_root() / "book" / "results"


def paper_table(name: str) -> pd.DataFrame:
    """A table of the papers' own numbers, `book/paper/<name>.csv`, indexed by its words; pages say where it is from."""
    path = repository_root() / "book" / "paper" / f"{name}.csv"
    table = pd.read_csv(path, comment="#")
    table = table.set_index(list(table.select_dtypes(exclude="number")))
    table.attrs["sources"] = path.read_text("utf-8").splitlines()[0].removeprefix("# ")
    return table


def start_of(notebook: str, *topics: str) -> Start:
    """To be called as a notebook begins: when it ends, the checkout may have moved on.

    Args:
        notebook: the stem.
        topics: what it measures, names of `versions.MEASURES`.
    """
    return Start(notebook, topics, commit(), library_tree(), time.monotonic())


def keep_result(
    study: str,
    start: Start,
    tables: Mapping[str, pd.DataFrame],
    *,
    parameters: Mapping[str, Any],
    nets: Sequence[TrainedModel],
    made_of: Mapping[str, Any] | None = None,
) -> Path:
    """Keeps the tables of a study, and in their record the notebook, its parameters, data, networks and machine.

    Args:
        study: its name, that of the folder.
        start: of the notebook that computed the tables, taken as it began.
        tables: by name; their index is left out.
        parameters: all parameters of that run.
        nets: the networks that the tables are about.
        made_of: dataset, fingerprint, device, torch and precision, where others trained the network.

    Returns:
        The folder.

    Raises:
        StoreError: the library was edited while the study ran, so that no commit tells what made the tables; or as in
            `keep_tables`.
    """
    if library_tree() != start.library:
        raise StoreError(
            f"{study}: the library changed while {start.notebook} ran, so its tables are of no commit. Run it again "
            "from a checkout that stands still; networks that are trained are not trained again"
        )
    records = [net.record for net in nets]
    if made_of is None:
        made_of = {"dataset": nets[0].recipe.dataset, "fingerprint": nets[0].recipe.fingerprint}
        made_of |= {name: records[0][name] for name in ("device", "torch", "precision")}
    topics = ["training", *start.topics]
    topics += ["groups"] * bool(parameters.get("filter_groups"))
    topics += ["renderer"] * any(str(value).startswith("scenes") for value in parameters.values())
    facts = {
        "notebook": start.notebook,
        "commit": start.commit,
        "versions": {name: version for name, version in current_versions().items() if name in topics},
        "parameters": dict(parameters),
        "seeds": sorted({net.recipe.seed for net in nets}),
        "training_seconds": round(sum(record["seconds"] for record in records), 1),
        "run_seconds": round(time.monotonic() - start.clock, 1),
        **made_of,
    }
    return keep_tables(study, tables, facts)


def keep_tables(name: str, tables: Mapping[str, pd.DataFrame], facts: Mapping[str, Any]) -> Path:
    """Writes tables and a record of them with these facts; those of an earlier run give way once all is whole.

    Args:
        name: that of the folder.
        tables: by name; their index is left out.
        facts: what the record says of how they were made, the commit among it.

    Returns:
        The folder.

    Raises:
        StoreError: the disk is full, or the name is not one of lower-case words joined by hyphens.
    """
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise StoreError(f"study={name!r}: name it by lower-case words joined by hyphens")
    folder = results_folder() / name
    new = folder.with_name(f".{name}.new")
    shutil.rmtree(new, ignore_errors=True)
    hashes = {}
    for title, table in tables.items():
        path = new / f"{title}.csv"
        with atomic_path(path) as part:
            table.round(6).to_csv(part, index=False, lineterminator="\n")
        hashes[path.name] = _hash(path)
    finished = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    write_json(new / RECORD, {**facts, "study": name, "finished": finished, "tables": hashes})
    replace_folder(folder, new)
    return folder


def was_run(study: str) -> bool:
    """Whether a study has a result, right or damaged."""
    return (results_folder() / study).is_dir()


def read_result(study: str) -> Result:
    """The tables and the record of a study.

    Raises:
        StoreError: there is none of that name, or a table is not the one that its record tells of.
    """
    folder = results_folder() / study
    if not (folder / RECORD).is_file():
        raise StoreError(f"{folder} has no result: `make results N={study}` makes it")
    if faults := record_faults(folder):
        raise StoreError(f"{folder}: {'; '.join(faults)}. `make results N={study}` makes it anew")
    record = read_json(folder / RECORD)
    return Result({Path(name).stem: pd.read_csv(folder / name) for name in record["tables"]}, record)


def record_faults(folder: Path) -> list[str]:
    """What keeps a folder of results from being believed: a table that its record does not fit, a record with gaps."""
    try:
        record = read_json(folder / RECORD)
    except StoreError as error:
        return [str(error)]
    if not isinstance(record, dict):
        return [f"{RECORD} lacks everything"]
    kinds = {"study": str, "commit": str, "tables": dict, "parameters": dict, "notebook": str}
    if wrong := [name for name, kind in kinds.items() if not isinstance(record.get(name, kind()), kind)]:
        return [f"{RECORD} has no {' or '.join(wrong)} of the right kind"]
    of_study = {"notebook", "versions", "parameters"} & record.keys()
    if missing := (FIELDS | STUDY_FIELDS if of_study else FIELDS) - record.keys():
        return [f"{RECORD} lacks {', '.join(sorted(missing))}"]
    faults, versions = [], record.get("versions", {})
    if not isinstance(versions, dict) or not all(type(version) is int for version in versions.values()):
        return [f"versions of {RECORD} are {versions!r}, not whole numbers by name"]
    if of_study and not ("training" in versions and MEASURES.keys() & versions.keys()):
        faults.append("its record lacks the version of training or of what was measured")
    if unknown := versions.keys() - current_versions().keys():
        faults.append(f"its record has versions of {', '.join(sorted(unknown))}, which this library does not know")
    if record["study"] != folder.name:
        faults.append(f"its record is of {record['study']}")
    if not re.fullmatch(r"[0-9a-f]{12}", record["commit"]):
        faults.append(f"made at commit {record['commit']!r}, not at one that can be checked out")
    files = {path.name for path in folder.iterdir()} - {RECORD}
    faults += [f"{name} is in no record" for name in sorted(files - record["tables"].keys())]
    for name, expected in record["tables"].items():
        if name not in files:
            faults.append(f"{name} is missing")
        elif _hash(folder / name) != expected:
            faults.append(f"{name} is not what its record says")
    return faults


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Study:
    """One run of a notebook, by its stem: its parameters are what differs from a profile's.

    Its name is that of its folder in book/results/; `about` says in a sentence what it is to show. It is `evidence` for
    the claims unless it changes what they are about, as an ablation does, or measures the network of another study.
    """

    name: str
    about: str
    notebook: str
    profile: str
    parameters: dict[str, Any]
    evidence: bool = True

    def values(self, device: str = "") -> dict[str, object]:
        """What the run injects."""
        return profile_parameters(self.profile, self.notebook, device) | self.parameters | {"study": self.name}

    def is_kept(self) -> bool:
        """Whether book/results/ holds it as it is asked for now, from the library as it is now."""
        if not (results_folder() / self.name / RECORD).is_file():
            return False
        found, asked = read_result(self.name), all_parameters(self.profile, self.notebook) | self.values()
        where = {"device": found.record["parameters"].get("device")}  # it is in the record, and no reason to rerun
        return found.current and found.record["parameters"] == asked | where


def read_studies() -> dict[str, Study]:
    """The studies of `notebooks/studies.yaml` by name, their parameters checked.

    Raises:
        ParameterError: an entry lacks something, or names an unknown notebook or parameter, or gives a wrong type.
    """
    studies = read_list("studies.yaml", Study)
    for name, study in studies.items():
        known = notebook_parameters(notebook_path(study.notebook))
        validate(study.parameters | {"study": name}, known, f"studies.yaml, {name}")
    return studies
