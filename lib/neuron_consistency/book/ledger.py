"""The ledger: one verdict a claim, from all its cases together, by one rule."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from neuron_consistency.statistics import FAILS, HOLDS, OPEN, Estimate, holm, majority, pooled
from neuron_consistency.workflow.claims import Claim

MOSTLY, HARDLY, SPLIT = "mostly holds", "mostly fails", "differs by case"
NULL_TOO, BUILT, UNMEASURED = "holds for the null too", "by construction", "not measured"
WORDS = (HOLDS, MOSTLY, SPLIT, OPEN, HARDLY, FAILS, NULL_TOO, BUILT, UNMEASURED)
NULL = re.compile(r" \[null: (.+)\]$")
TOLD = ("paper", "place", "says", "number", "unit", "above", "below", "theirs", "chapter", "construction")
ERROR = 0.05  # of a family: how often any of its verdicts would be given where no claim is true


def judged(claims: Mapping[str, Claim], findings: pd.DataFrame) -> pd.DataFrame:
    """One row a claim: its verdict, from the cases together, and the pooled estimate.

    A case *holds* where its whole interval lies on the claim's side of the line, and *fails* where it lies on the
    other. The p of a claim is that more than half of its cases hold, or fail. All claims that are measured are one
    family, and their p are adjusted by Holm: were none of them true, one ledger in twenty would give a verdict. Below
    .05 a claim *holds*, or *mostly holds* where a case fails, or *fails* and *mostly fails*. Else it *differs by case*
    where a case holds and another fails, and *cannot be told* where not. Where the null holds too, by the same rule
    unadjusted, the claim *holds for the null too*.

    Args:
        claims: from `read_claims`.
        findings: with the columns COLUMNS; a case that ends in " [null: random weights]" is the null's.

    Returns:
        claim, what `read_claims` tells of it (TOLD); cases, and how many hold and fail; value, low, high (pooled, see
        `statistics.pooled`); p and p Holm; least (half the median interval of the cases, the least difference that
        could have been seen); verdict; null (what it is, or ""), "null cases", "null value", "null low", "null high",
        and whether the "null passes".

    Source: ours; see `statistics.majority` and `holm`.
    """
    rows = []
    for name, claim in claims.items():
        of = findings[findings["claim"] == name]
        null = of["case"].str.extract(NULL, expand=False)
        row: dict[str, Any] = {"claim": name} | {field: getattr(claim, field) for field in TOLD}
        other = _together(claim, of[null.notna()])
        row |= _together(claim, of[null.isna()]) | {"null": next(iter(null.dropna()), claim.against)}
        row |= {f"null {name}": other[name] for name in ("cases", "value", "low", "high")}
        row["null passes"] = other["side"] == HOLDS and other["p"] < ERROR
        rows.append(row)
    table = pd.DataFrame(rows)
    own = np.array([not claim.construction for claim in claims.values()])
    table["p Holm"] = holm(table["p"].where(own).to_list())
    adjusted = zip(rows, table["p Holm"], claims.values(), strict=True)
    table["verdict"] = [_word(row, p, claim) for row, p, claim in adjusted]
    return table.drop(columns="side")


def _together(claim: Claim, cases: pd.DataFrame) -> dict[str, Any]:
    """What cases say together, and the side that more than half of them lie on, unadjusted."""
    numbers = cases[["value", "low", "high", "freedom"]].astype(float).to_numpy()
    each = [Estimate(value, low, high, freedom=freedom) for value, low, high, freedom in numbers]
    said = [claim.settles(one) for one in each]
    holds, fails, found = said.count(HOLDS), said.count(FAILS), pooled(each)
    side = HOLDS if holds >= fails else FAILS
    own = [
        one.p(above=claim.above, below=claim.below) if word == side else 1.0
        for one, word in zip(each, said, strict=True)
    ]
    row: dict[str, Any] = {"cases": len(each), "holds": holds, "fails": fails} | found.row("value", bare=True)
    half = pd.Series(numbers[:, 2] - numbers[:, 1], dtype=float) / 2
    return row | {"p": majority(own), "side": side, "least": half.median()}


def _word(row: Mapping[str, Any], p: float, claim: Claim) -> str:
    if not row["cases"]:
        return UNMEASURED
    if claim.construction:
        return BUILT
    if p < ERROR:
        if row["side"] == FAILS:
            return HARDLY if row["holds"] else FAILS
        if row["null passes"]:
            return NULL_TOO
        return MOSTLY if row["fails"] else HOLDS
    return SPLIT if row["holds"] and row["fails"] else OPEN


def why_open(row: Mapping[str, Any]) -> str:
    """Why a claim of `judged` cannot be told."""
    if row["holds"] == row["fails"] == 0:
        return "It cannot be told, since no case has an interval that leaves the line out."
    if row["p"] < ERROR:
        alone = f"Asked alone it would be told (p = {row['p']:.3f})"
        return f"{alone}; among so many claims, chance gives such a p too often."
    return "It cannot be told, since too few cases decide for a majority of all such cases to be sure."


def counted(table: pd.DataFrame) -> dict[str, int]:
    """How many claims of `judged` have each verdict."""
    return {word: int((table["verdict"] == word).sum()) for word in WORDS}


def case_by_case(claims: Mapping[str, Claim], findings: pd.DataFrame) -> pd.DataFrame:
    """The findings with the verdict that each has by today's line, and the column null, "" where the case is none."""
    rows = findings.astype({"value": float, "low": float, "high": float})
    null = rows["case"].str.extract(NULL, expand=False).fillna("")
    each = [claims[row["claim"]].settles(Estimate.read(row, "value")) for row in rows.to_dict("records")]
    return rows.assign(verdict=each, null=null, case=rows["case"].str.replace(NULL, "", regex=True))
