"""The ledger: its rule, its claims, and what it makes of the chapters' numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from neuron_consistency.dissection.tables import HIGH, LOW
from neuron_consistency.errors import ParameterError, StoreError
from neuron_consistency.statistics import Estimate
from neuron_consistency.workflow.claims import (
    COLUMNS,
    finding,
    keep_findings,
    read_claims,
    read_findings,
    settled,
)
from neuron_consistency.workflow.findings import explanation_findings
from neuron_consistency.workflow.results import paper_table

# the claims of this book


def test_the_papers_claims_are_listed() -> None:
    claims = read_claims()
    assert len(claims) >= 20
    assert {claim.paper for claim in claims.values()} == {"P1", "P2", "P3", "ours"}
    assert all(claim.theirs for claim in claims.values() if claim.paper != "ours")


def numbers(text: str) -> list[float]:
    return [float(word) for word in re.findall(r"(?<![\w-])[+-]?\d*\.\d+", text)]


def test_the_papers_numbers_follow_from_its_tables() -> None:
    """Differences that were worked out by hand would be wrong sooner or later."""
    claims, names = read_claims(), ["AlexNet", "VGG-16", "ResNet-18"]
    trained = [f"{name}-Adv" for name in names]
    first = paper_table("table_1")
    fall = first["consis_adv(n)"] - first["consis(n)"]
    gain = first["consis_adv(n)"][trained].to_numpy() - first["consis_adv(n)"][names].to_numpy()
    change = first["consis(n)"][trained].to_numpy() - first["consis(n)"][names].to_numpy()
    level = pd.DataFrame(paper_table("table_2").loc["adversarial"]) - pd.DataFrame(paper_table("table_2").loc["real"])
    second = paper_table("table_2").sum(axis=1)
    ratios = paper_table("distance_ratios")
    lost = second["adversarial"] - second["real"]
    kept = lost[trained].to_numpy() - lost[names].to_numpy()
    expected = {
        "related-images": first["consis(n)"][names].to_list(),
        "less-consistent-under-attack": fall[names].to_list(),
        "training-keeps-consistency": gain.tolist(),
        "training-lessens-the-fall": (fall[trained].to_numpy() - fall[names].to_numpy()).tolist(),
        "real-images-hardly-change": (100 * change / first["consis(n)"][names]).round(1).to_list(),
        "neurons-have-concepts": second["real"][names].to_list(),
        "concepts-lost-beyond-chance": lost[names].to_list(),
        "high-level-concepts-lost-more": (level[[*HIGH]].T.sum() - level[[*LOW]].T.sum())[names].to_list(),
        "training-keeps-concepts-beyond-chance": kept.tolist(),
        "leaves-its-class": ratios["r1 before"].to_list(),
        "nears-its-target": ratios["r2 before"].to_list(),
        "training-keeps-the-place": ratios["r1 after"].to_list(),
    }
    for name, values in expected.items():
        assert numbers(claims[name].theirs) == pytest.approx(values, abs=1e-6), name


FIELDS = ", place: b, says: c, number: d, theirs: e"


@pytest.mark.parametrize(
    "more", ["", FIELDS + ", chapter: 99_none", FIELDS + ", chapter: 01_a, rule: {table: b, case: c, valu: d}"]
)
def test_a_claim_with_a_gap_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str) -> None:
    broken = "a: {paper: P1" + more + "}"
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01_a.ipynb").touch()
    (tmp_path / "notebooks" / "claims.yaml").write_text(broken)
    (tmp_path / "Snakefile").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError):
        read_claims()


# findings


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NEURON_CONSISTENCY_ARTIFACTS", str(tmp_path))
    return tmp_path


def test_findings_come_back_as_they_were_kept(runs: Path) -> None:
    """What a chapter found would else be lost to the ledger, or counted with another verdict."""
    assert read_findings("demo").empty
    measured = [Estimate(0.1 * n, 0.1 * n - 0.15, 0.1 * n + 0.15) for n in (1, 2)]
    rows = [finding("related-images", f"net {n}", one) for n, one in enumerate(measured, 1)]
    keep_findings("demo", "04_evaluation", rows)
    keep_findings("demo", "07_tracing", [finding("neurons-tell-attacks", "net", Estimate(0.6, 0.55, 0.65))])
    found = read_findings("demo")
    assert found["verdict"].to_list() == ["cannot be told", "holds", "holds"]
    assert [found[name][1] for name in ("value", "low", "high")] == pytest.approx([0.2, 0.05, 0.35])


def test_a_finding_of_an_unlisted_claim_is_refused(runs: Path) -> None:
    """A claim that a chapter settles and the ledger lacks would be lost without a word."""
    with pytest.raises(ParameterError, match="lists no neurons-tell-why under 04_evaluation"):
        keep_findings("demo", "04_evaluation", [finding("neurons-tell-why", "net", Estimate(0.5, 0.4, 0.6))])
    (runs / "demo" / "findings").mkdir(parents=True)
    (runs / "demo" / "findings" / "04_evaluation.csv").write_text("a,b\n1,2\n")
    with pytest.raises(StoreError, match="remove it and run the chapter again"):
        read_findings("demo")


def verdicts_of(rows: list[dict[str, object]]) -> dict[tuple[object, object], object]:
    assert all(list(row) == COLUMNS for row in rows)
    listed = read_claims()
    assert all(row["claim"] in listed for row in rows)
    return {(row["claim"], row["case"]): row["verdict"] for row in rows}


def test_success_is_held_against_what_the_clean_images_give() -> None:
    row = {"set": "one", "network": "all of them at once", "reached": 9.0, "reached low": 7.0, "reached high": 11.0}
    row["reached clean"] = 8.0
    rows = settled("06_representations", success=pd.DataFrame([row, row | {"network": "first"}]))
    assert verdicts_of(rows) == {("one-image-fools-all", "one"): "cannot be told"}


def test_claims_of_normal_networks_are_not_those_of_trained_ones() -> None:
    told = {"value": 1.2, "low": 1.1, "high": 1.3}
    claims = {"r1 above 1": "holds", "r1 about 1": "fails", "CS2 above CS1": "holds"}
    objectives = {"n": "normal", "c": "consistent", "a": "adversarial"}
    table = pd.DataFrame(
        {"network": label, "objective": objective, "claim": claim, **told, "verdict": verdict}
        for label, objective in objectives.items()
        for claim, verdict in claims.items()
    )
    rows = settled("06_representations", claims=table)
    assert verdicts_of(rows) == {
        ("leaves-its-class", "n"): "holds",
        ("targets-agree-more", "n"): "holds",
        ("training-keeps-the-place", "c"): "fails",
    }


def test_an_attack_that_never_succeeds_says_nothing_of_the_detector() -> None:
    area = {"AUROC": 0.7, "low": 0.6, "high": 0.8, "lead": -0.2, "lead low": -0.3, "lead high": -0.1}
    detections = pd.DataFrame(
        [
            {
                "model": "net",
                "attack": attack,
                "detector": detector,
                **area,
                "AUROC": math.nan if attack == "b" else 0.7,
            }
            for attack in ("a", "b", "errors, no attack")
            for detector in ("mismatch", "rival")
        ]
    )
    detections.loc[detections["attack"] == "b", "AUROC"] = math.nan
    errors = pd.DataFrame({"predicted - true": [-0.2], "predicted - true low": [-0.3], "predicted - true high": [-0.1]})
    errors = errors.assign(**{"true - alike": 0.1, "true - alike low": 0.05, "true - alike high": 0.15})
    errors.index = pd.Index(["net"], name="model")
    worst = detections.iloc[:1].assign(AUROC=0.4, low=0.3, high=0.45)
    rows = settled("07_tracing", errors=errors, detections=detections.dropna(subset="AUROC"), worst=worst)
    assert verdicts_of(rows) == {
        ("neurons-tell-why", "net"): "fails",
        ("neurons-see-the-true-class", "net"): "holds",
        ("neurons-tell-errors", "net"): "holds",
        ("neurons-tell-attacks", "net, a"): "holds",
        ("better-than-rivals", "net, a, rival"): "fails",
        ("survives-adaptation", "net, a"): "fails",
    }


def comparison(measures: Sequence[str], **fields: str) -> pd.DataFrame:
    row = {"architecture": "resnet18", "filters": "free", "objective": "reweighted-mean1", "against": "normal"}
    row |= {"difference": -0.2, "low": -0.3, "high": -0.1, "verdict": "worse", "why": ""}  # type: ignore[dict-item]
    return pd.DataFrame([row | {"measure": measure} | fields for measure in measures])


def test_a_smaller_background_gap_is_the_better_one() -> None:
    verdicts = comparison(["accuracy", "background gap", "accuracy, PGD-5", "spared"])
    assert verdicts_of(explanation_findings(verdicts)) == {
        ("reweighting-accuracy", "ResNet-18, mean 1"): "fails",
        ("reweighting-backgrounds", "ResNet-18, mean 1"): "holds",
        ("reweighting-pgd", "ResNet-18, mean 1"): "fails",
    }


def test_every_comparison_of_explanations_has_claims_of_its_own() -> None:
    """Permuted weights are the null of reweighting: counted as its cases, they would speak for the paper."""
    asked = {
        "permuted-mean1": {"reweighting-accuracy": "ResNet-18 [null: permuted weights]"},
        "reweighted": {"reweighting-accuracy": "ResNet-18"},
        "consistent": {},
    }
    for objective, expected in asked.items():
        found = explanation_findings(comparison(["accuracy"], objective=objective))
        assert {row["claim"]: row["case"] for row in found} == expected
    for fields, claim in (
        ({"against": "permuted-mean1"}, "choice-accuracy"),
        ({"objective": "both", "against": "consistent"}, "joint-accuracy"),
        ({"filters": "in groups"}, "reweighting-groups"),
        ({"measure": "mAP"}, "reweighting-several-labels"),
    ):
        (row,) = explanation_findings(comparison(["accuracy"], **fields))
        assert (row["claim"], row["verdict"]) == (claim, "fails")


def test_what_cannot_be_compared_says_why_and_has_no_interval() -> None:
    """Its interval would let the ledger judge what the chapter says cannot be judged."""
    untold = {"verdict": "not comparable", "why": "accuracy 0.38 and 0.48"}
    (row,) = explanation_findings(comparison(["E of right answers"], **untold))
    assert (row["claim"], row["verdict"]) == ("reweighting-consistency-of-right-answers", "cannot be told")
    assert row["case"] == "ResNet-18, mean 1, not comparable: accuracy 0.38 and 0.48"
    assert math.isnan(row["low"])
    assert row["value"] == -0.2
