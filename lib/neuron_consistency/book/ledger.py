"""The ledger: one verdict a claim, from all its cases together, by one rule."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from neuron_consistency.statistics import FAILS, HOLDS, OPEN, Estimate, holm, majority, pooled
from neuron_consistency.workflow.claims import Claim

MOSTLY, HARDLY, SPLIT = "mostly holds", "mostly fails", "differs by case"
NULL_TOO, BUILT, UNMEASURED = "holds for the null too", "by construction", "not measured"
WORDS = (HOLDS, MOSTLY, SPLIT, OPEN, HARDLY, FAILS, NULL_TOO, BUILT, UNMEASURED)
NULL = re.compile(r" \[null: (.+)\]$")
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
        claim, paper, place, says, number, theirs, chapter, construction; cases, and how many hold and fail; value, low,
        high (pooled, see `statistics.pooled`); p and p Holm; least (half the median interval of the cases, the least
        difference that could have been seen); null (what it is, its number and verdict, or ""); verdict.

    Source: ours; see `statistics.majority` and `holm`.
    """
    rows = []
    for name, claim in claims.items():
        of = findings[findings["claim"] == name]
        null = of["case"].str.extract(NULL, expand=False)
        row: dict[str, Any] = {"claim": name, "paper": claim.paper, "place": claim.place, "says": claim.says}
        row |= {"number": claim.number, "theirs": claim.theirs, "chapter": claim.chapter}
        row |= {"construction": claim.construction} | _together(claim, of[null.isna()])
        other = _together(claim, of[null.notna()])
        row["null p"] = other["p"] if other["side"] == HOLDS else 1.0
        row["null"] = f"{null.dropna().iloc[0]}: {_numbers(other)}" if other["cases"] else claim.against
        rows.append(row)
    table = pd.DataFrame(rows)
    own = np.array([not claim.construction for claim in claims.values()])
    table["p Holm"] = holm(table["p"].where(own).to_list())
    adjusted = zip(rows, table["p Holm"], claims.values(), strict=True)
    table["verdict"] = [_word(row, p, claim) for row, p, claim in adjusted]
    return table.drop(columns=["null p", "side"])


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
        if row["null p"] < ERROR:
            return NULL_TOO
        return MOSTLY if row["fails"] else HOLDS
    return SPLIT if row["holds"] and row["fails"] else OPEN


def counted(table: pd.DataFrame) -> dict[str, int]:
    """How many claims of `judged` have each verdict."""
    return {word: int((table["verdict"] == word).sum()) for word in WORDS}


def ledger_page(table: pd.DataFrame, example: pd.DataFrame | None = None) -> Styler:
    """Rows of the ledger as a page shows them: columns that wrap, verdicts in bold above the numbers.

    Args:
        table: from `judged`, or some of its rows.
        example: the same of a run that is shown beside it and not counted.
    """
    text = table.map(lambda cell: html.escape(cell) if isinstance(cell, str) else cell)
    rows = text.to_dict("records")
    beside: list[dict[Any, Any]] = [{"cases": 0}] * len(rows)
    if example is not None:
        beside = example.set_index("claim").loc[table["claim"]].to_dict("records")
    chapters = [f' (<a href="{row["chapter"]}.html">chapter {int(row["chapter"][:2])}</a>)' for row in rows]
    verdicts = [f"<b>{row['verdict']}</b><br>{_numbers(row)} " for row in rows]
    alone = [
        "only this run measures it" * (run["cases"] > row["cases"] == 0) for row, run in zip(rows, beside, strict=True)
    ]
    shown = {
        "claim": text["says"] + "<br><i>" + text["paper"] + ", " + text["place"] + "</i>",
        "what decides": text["number"] + chapters,
        "the paper has": text["theirs"],
        "the studies say": verdicts + text["construction"] + alone,
        "the null says": text["null"],
    }
    if example is not None:
        shown["this run, an example"] = pd.Series([_numbers(run) for run in beside], text.index)
    wrapped = "white-space: normal; text-align: left; vertical-align: top"
    return pd.DataFrame(shown).style.hide(axis="index").set_table_styles([{"selector": "th, td", "props": wrapped}])


def _numbers(row: Mapping[Any, Any]) -> str:
    """The pooled number with its interval, and how its cases stand."""
    if not row["cases"]:
        return ""
    text = _shown(row)
    if row["cases"] > 1:
        text += f"; of {row['cases']} cases {row['holds']} hold, {row['fails']} fail"
    return text if math.isnan(row["least"]) else text + f"; seen would be a difference of {row['least']:.2g}"


def _shown(row: Mapping[Any, Any]) -> str:
    return f"{row['value']:.3g} ({row['low']:.3g} to {row['high']:.3g})"
