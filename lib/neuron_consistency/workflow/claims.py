"""The ledger of claims: what the papers say, the numbers that settle it, and verdicts by one rule."""

import html
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from neuron_consistency.artifacts import artifacts, atomic_path
from neuron_consistency.errors import ParameterError, StoreError
from neuron_consistency.statistics import FAILS, HOLDS, OPEN, Estimate
from neuron_consistency.workflow.parameters import notebook_path, read_list

COLUMNS = ["claim", "case", "value", "low", "high", "verdict"]
RULE = {"table", "where", "case", "value", "less", "above", "below"}
Findings = list[dict[str, Any]]


@dataclass(frozen=True)
class Claim:
    """One claim of the papers.

    Attributes:
        name: its key.
        paper: P1, P2 or P3, or "ours" for a question that the papers leave out and their claims call for.
        place: where the paper makes it.
        says: the claim, in our words.
        number: what is measured, and what would make the claim hold.
        theirs: the paper's own number, or what it gives in place of one; "" for a question of ours.
        chapter: stem of the notebook that tests it.
        rule: how its tables settle it, with the keys of RULE, see `settled`; none where code of the chapter does.
    """

    name: str
    paper: str
    place: str
    says: str
    number: str
    theirs: str
    chapter: str
    rule: Mapping[str, Any] = field(default_factory=dict)


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


def finding(claim: str, case: str, found: Estimate, **bounds: float) -> dict[str, Any]:
    """What one case (a network, perhaps under an attack) says of a claim: a row with COLUMNS.

    Args:
        bounds: above, below or both, see `statistics.Estimate.settles`.
    """
    return {"claim": claim, "case": case} | found.settles(**bounds)


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
                bounds = {side: rule[side] for side in ("above", "below") if side in rule}
                said = {} if bounds else {"verdict": row["verdict"]}
                rows.append(finding(claim, rule["case"].format_map(row), found, **bounds) | said)
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


def overall(verdicts: Iterable[str]) -> str:
    """The verdict on a claim from those of its cases.

    "reproduced" where it holds in all, "not reproduced" where it holds in none and fails in some, "cannot be told"
    where no case is settled, "not measured" where there is none, and else "partly".
    """
    seen = list(verdicts)
    if not seen:
        return "not measured"
    if set(seen) == {HOLDS}:
        return "reproduced"
    if set(seen) == {OPEN}:
        return OPEN
    return "partly" if HOLDS in seen else "not reproduced"


def ledger(claims: Mapping[str, Claim], settings: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row a claim: what it says and the paper's number; for each setting the cases, our numbers and the verdict.

    Where no case is settled, the verdict tells the least difference that could have been seen: half the narrowest
    interval.

    Args:
        claims: from `read_claims`.
        settings: findings (COLUMNS) by setting, such as rendered scenes and photographs.
    """
    rows = []
    for name, claim in claims.items():
        row = {"paper": claim.paper, "place": claim.place, "claim": claim.says, "number": claim.number}
        row |= {"paper's": claim.theirs, "tested in": claim.chapter}
        for setting, findings in settings.items():
            cases = findings[findings["claim"] == name]
            row[setting] = _numbers(cases)
            said = overall(cases["verdict"])
            if said == OPEN:
                least = ((cases["high"] - cases["low"]) / 2).min()
                said += "" if math.isnan(least) else f" (least seen {least:.2g})"
            row[f"verdict, {setting}"] = said
        rows.append(row)
    return pd.DataFrame(rows)


def counted(table: pd.DataFrame, setting: str) -> dict[str, int]:
    """How many claims of a `ledger` have each verdict in one of its settings."""
    verdicts = table[f"verdict, {setting}"].str.replace(r" \(.*", "", regex=True)
    words = ("reproduced", "partly", "not reproduced", OPEN, "not measured")
    return {word: int((verdicts == word).sum()) for word in words}


def ledger_page(table: pd.DataFrame, settings: Sequence[str]) -> Styler:
    """Rows of the ledger as a page shows them: five columns that wrap, verdicts in bold above the numbers.

    Args:
        table: from `ledger`, or some of its rows.
        settings: the names of its settings.
    """
    text = table.map(html.escape)
    chapters = [f'<a href="{name}.html">chapter {int(name[:2])}</a>' for name in text["tested in"]]
    shown = {
        "claim": text["claim"] + "<br><i>" + text["paper"] + ", " + text["place"] + "</i>",
        "what decides": text["number"] + " (" + chapters + ")",
        "the paper has": text["paper's"],
    }
    shown |= {name: "<b>" + text[f"verdict, {name}"] + "</b><br>" + text[name] for name in settings}
    wrapped = "white-space: normal; text-align: left; vertical-align: top"
    return pd.DataFrame(shown).style.hide(axis="index").set_table_styles([{"selector": "th, td", "props": wrapped}])


def _numbers(cases: pd.DataFrame) -> str:
    """The only value with its interval, or the span of several and in how many of them the claim holds."""
    if cases.empty:
        return ""
    values = cases["value"]
    if len(cases) == 1:
        one = cases.iloc[0]
        return f"{one['value']:.3g} ({one['low']:.3g} to {one['high']:.3g})"
    holds, fails = ((cases["verdict"] == word).sum() for word in (HOLDS, FAILS))
    return f"{values.min():.3g} to {values.max():.3g}; of {len(cases)} holds {holds}, fails {fails}"


def _path(profile: str, chapter: str) -> Path:
    return artifacts(profile) / "findings" / f"{chapter}.csv"
