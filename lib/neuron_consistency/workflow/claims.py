"""The claims: what the papers say and what decides, and what the chapters' numbers say of each, case by case."""

import itertools
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from neuron_consistency.artifacts import artifacts, atomic_path
from neuron_consistency.errors import ParameterError, StoreError
from neuron_consistency.statistics import CLAIM, Estimate
from neuron_consistency.workflow.parameters import notebook_path, read_list

COLUMNS = ["claim", "case", "value", "low", "high", "verdict", "freedom"]
RULE = {"table", "where", "case", "value", "less"}
Findings = list[dict[str, Any]]


@dataclass(frozen=True)
class Claim:
    """One claim of the papers.

    Attributes:
        name: its key.
        paper: P1, P2 or P3, or "ours" for a question that the papers leave out and their claims call for.
        place: where the paper makes it.
        says: the claim, in our words.
        number: what is measured.
        theirs: the paper's own number, or what it gives in place of one; "" for a question of ours.
        chapter: stem of the notebook that tests it.
        above, below: where the number has to lie for the claim to hold.
        rule: how its tables settle it, with the keys of RULE, see `settled`; none where code of the chapter does.
        construction: why it would be true whatever networks had learned; "" where it could fail.
        against: what has no meaning and is asked the same, such as random weights; its findings have it in their case.
        unit: what the number counts in; "share" is a part of one, which pages show in points of a hundred.
    """

    name: str
    paper: str
    place: str
    says: str
    number: str
    theirs: str
    chapter: str
    above: float = -math.inf
    below: float = math.inf
    rule: Mapping[str, Any] = field(default_factory=dict)
    construction: str = ""
    against: str = ""
    unit: str = ""

    def settles(self, found: Estimate) -> str:
        """The verdict of one number: whether its interval lies where the claim says, or outside, or cannot be told."""
        return found.verdict(above=self.above, below=self.below, words=CLAIM)


def read_claims() -> dict[str, Claim]:
    """The claims of `notebooks/claims.yaml` by name, in its order.

    Raises:
        ParameterError: an entry or its rule lacks a field or has another, or it names no notebook.
    """
    claims = read_list("claims.yaml", Claim)
    for name, claim in claims.items():
        notebook_path(claim.chapter)
        if claim.rule and not {"table", "case", "value"} <= claim.rule.keys() <= RULE:
            raise ParameterError(f"claims.yaml: the rule of {name} needs table, case, value, and has some of {RULE}")
    return claims


def finding(claim: str, case: str, found: Estimate) -> dict[str, Any]:
    """What one case (a network, perhaps under an attack) says of a claim: a row with COLUMNS.

    A case that ends in " [null: random weights]" is what the null of that name says.
    """
    row = {"claim": claim, "case": case} | found.row("value", bare=True)
    return row | {"verdict": read_claims()[claim].settles(found), "freedom": found.freedom}


def settled(chapter: str, **tables: pd.DataFrame) -> Findings:
    """What tables of a chapter say of its claims, by the rules of the ledger.

    Args:
        chapter: the stem of its notebook.
        **tables: by the name that the rules call them by. A rule is about the rows whose columns fit its patterns; the
            claim is about its column `value`, or what that exceeds its column `less` by.
    """
    rules = [(name, claim.rule) for name, claim in read_claims().items() if claim.chapter == chapter and claim.rule]
    rows = []
    for title, table in tables.items():
        for row, (claim, rule) in itertools.product(table.reset_index().to_dict("records"), rules):
            where = rule.get("where", {}).items()
            if rule["table"] == title and all(re.fullmatch(fitting, row[column]) for column, fitting in where):
                found = Estimate.read(row, rule["value"]).minus(row[rule["less"]] if "less" in rule else 0.0)
                rows.append(finding(claim, rule["case"].format_map(row), found))
    return rows


def keep_findings(profile: str, chapter: str, rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Keeps a chapter's findings for the ledger, and returns them as a table.

    Args:
        profile: whose run it is.
        chapter: the stem of its notebook.
        rows: from `finding` or `settled`.

    Raises:
        ParameterError: a finding is of a claim that the ledger does not list under this chapter.
        StoreError: the disk is full.
    """
    table = pd.DataFrame(list(rows), columns=COLUMNS)
    listed = {name for name, claim in read_claims().items() if claim.chapter == chapter}
    if strangers := sorted(set(table["claim"]) - listed):
        raise ParameterError(f"claims.yaml lists no {', '.join(strangers)} under {chapter}")
    with atomic_path(_path(profile, chapter)) as part:
        table.to_csv(part, index=False)
    return table


def read_findings(profile: str) -> pd.DataFrame:
    """The findings of all chapters that have been run with a profile; no rows where none has.

    Raises:
        StoreError: a file is no table of findings.
    """
    paths = [_path(profile, chapter) for chapter in dict.fromkeys(claim.chapter for claim in read_claims().values())]
    tables = {path: pd.read_csv(path) for path in paths if path.is_file()}
    for path, table in tables.items():
        if list(table.columns) != COLUMNS:
            raise StoreError(f"{path} is no table of findings: remove it and run the chapter again")
    return pd.concat(tables.values(), ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)


def _path(profile: str, chapter: str) -> Path:
    return artifacts(profile) / "findings" / f"{chapter}.csv"
