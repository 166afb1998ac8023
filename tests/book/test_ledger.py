"""The ledger: one verdict a claim, by one rule, and what could fool it."""

import math

import numpy as np
import pandas as pd
import pytest

from neuron_consistency.book.kept import Kept
from neuron_consistency.book.ledger import (
    BUILT,
    HARDLY,
    MOSTLY,
    NULL_TOO,
    SPLIT,
    UNMEASURED,
    case_by_case,
    counted,
    judged,
)
from neuron_consistency.statistics import Estimate, majority, pooled
from neuron_consistency.workflow.claims import COLUMNS, Claim

YES, NO, OPEN = (0.5, 0.1), (-0.5, 0.1), (0.05, 0.1)


def claim(name: str = "one", **more: object) -> Claim:
    told = {"paper": "P1", "place": "b", "says": "<c>", "number": "d", "theirs": "e", "chapter": "04_evaluation"}
    return Claim(name=name, **{**told, "above": 0.0, **more})  # type: ignore[arg-type]


def cases(*found: tuple[float, float], of: str = "one", null: str = "") -> pd.DataFrame:
    end = f" [null: {null}]" if null else ""
    rows = [[of, f"{n}{end}", value, value - half, value + half, "", math.inf] for n, (value, half) in enumerate(found)]
    return pd.DataFrame(rows, columns=COLUMNS)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([YES], "holds"),
        ([YES, YES], "holds"),
        ([YES, OPEN], "cannot be told"),  # one of two is no majority
        ([YES, YES, OPEN], "holds"),
        ([YES, YES, NO], MOSTLY),
        ([YES, *[NO] * 10], HARDLY),
        ([NO, *[OPEN] * 10], "cannot be told"),
        ([NO, NO], "fails"),
        ([YES, NO], SPLIT),
        ([OPEN, OPEN], "cannot be told"),
        ([(0.0, 0.0)], "cannot be told"),  # an interval of no width on the line
        ([], UNMEASURED),
    ],
)
def test_a_verdict_is_about_more_than_half_of_the_cases(found: list[tuple[float, float]], expected: str) -> None:
    """One case that holds beside ten that fail must not read as a claim half reproduced, nor one open case undo two."""
    table = judged({"one": claim()}, cases(*found))
    assert table["verdict"].to_list() == [expected]
    assert table.loc[0, "cases"] == len(found)
    assert counted(table)[expected] == 1
    assert sum(counted(table).values()) == 1


def test_where_no_claim_is_true_hardly_any_ledger_gives_a_verdict() -> None:
    """Forty claims of one to six cases each, all exactly on their line: one ledger in twenty may give a verdict."""
    draw = np.random.default_rng(0)
    claims = {f"c{n}": claim(f"c{n}") for n in range(40)}
    spoke = 0
    for _ in range(40):
        found = [cases(*((draw.normal(), 1.96) for _ in range(1 + n % 6)), of=f"c{n}") for n in range(40)]
        spoke += bool(set(judged(claims, pd.concat(found))["verdict"]) & {"holds", MOSTLY, "fails", HARDLY})
    assert spoke <= 4


def test_a_null_that_passes_takes_the_claim_with_it() -> None:
    """Related images fire untrained neurons too: a ledger that hid this would sell colour for meaning."""
    for null, expected in ((YES, NULL_TOO), (OPEN, "holds")):
        found = pd.concat([cases(YES, YES), cases(null, null, null="random weights")])
        table = judged({"one": claim()}, found)
        assert table["verdict"].to_list() == [expected]
        assert table.loc[0, "cases"] == 2  # the null is no case
        row = table.to_dict("records")[0]
        assert (row["null"], row["null cases"], row["null passes"]) == ("random weights", 2, null is YES)
        assert row["null value"] == pytest.approx(null[0])


def test_cases_are_judged_by_the_line_of_today() -> None:
    """A study keeps the verdict that it gave; since then the claim may have another line."""
    found = pd.concat([cases(YES, NO), cases(YES, null="random weights")]).assign(verdict="cannot be told")
    table = case_by_case({"one": claim()}, found)
    assert table["verdict"].to_list() == ["holds", "fails", "holds"]
    assert table["null"].to_list() == ["", "", "random weights"]
    assert table["case"].to_list() == ["0", "1", "0"]


def test_what_is_true_by_construction_is_said_and_takes_no_share_of_the_error() -> None:
    """It has the smallest p of all, and would count among the claims that the others are adjusted for."""
    claims = {"one": claim(), "built": claim("built", construction="the attack minimises it")}
    table = judged(claims, pd.concat([cases((0.5, 0.49)), cases(YES, of="built")]))
    assert table["verdict"].to_list() == ["holds", BUILT]
    assert table["p Holm"].isna().to_list() == [False, True]
    assert table["p Holm"][0] == table["p"][0]


def test_claims_between_two_lines_need_both() -> None:
    between = {"one": claim(above=-1.0, below=1.0)}
    said = [judged(between, cases(one))["verdict"][0] for one in ((0.0, 0.5), (0.0, 1.5), (3.0, 0.5))]
    assert said == ["holds", "cannot be told", "fails"]


def test_a_study_that_no_claim_is_about_or_that_is_out_of_date_is_not_counted() -> None:
    """Ablations and numbers of an earlier version of a measure would stand among the evidence."""
    kept = Kept.read()
    found = kept.findings()
    studies = set(found["study"])
    assert studies
    assert all(table in kept.results[name].tables for name, table in zip(found["study"], found["table"], strict=True))
    assert all(kept.studies[name].evidence and name not in kept.outdated() for name in studies)


def test_the_estimate_over_cases_is_theirs_where_they_agree_and_wider_where_not() -> None:
    """By hand: equal cases of standard error s give s / sqrt(n) and Student's t; a lone one keeps its interval."""
    alike = pooled([Estimate(0.3, 0.2, 0.4)] * 4)
    assert alike.value == pytest.approx(0.3)
    assert alike.freedom == 3
    assert alike.high - alike.value == pytest.approx(3.182446 * 0.1 / 1.959964 / 2, rel=1e-5)
    apart = pooled([Estimate(value, value - 1e-4, value + 1e-4) for value in (0.0, 1.0, 2.0)])
    assert apart.value == pytest.approx(1.0)
    assert apart.high - apart.value == pytest.approx(4.302653 / math.sqrt(3), rel=1e-3)
    lone = Estimate(0.3, 0.1, 0.5)
    assert pooled([lone, Estimate(0.4, math.nan, math.nan)]) == lone
    assert math.isnan(pooled([]).value)
    assert pooled([Estimate(0.0, 0.0, 0.0)] * 3).value == 0.0


def test_more_than_half_needs_more_than_half() -> None:
    """By hand, in Bonferroni's form: of five cases the third smallest p counts three times."""
    assert majority([0.2]) == 0.2
    assert majority([0.001, 0.2]) == 0.2
    assert majority([0.3, 0.001, 0.002, 0.004, 0.9]) == pytest.approx(0.012)
    assert majority([0.001, math.nan]) == 1.0
    assert math.isnan(majority([]))
