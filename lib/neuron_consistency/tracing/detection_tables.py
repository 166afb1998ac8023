"""How good the detectors are: areas under the curve with intervals and verdicts, and the worst an attacker does."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.statistics import OPEN, share
from neuron_consistency.tracing.detection import Scores
from neuron_consistency.tracing.ranking import Auroc, auroc

MISMATCH, ERRORS = "mismatch", "errors, no attack"


def choose_k(clean: Scores, attacked: Scores) -> tuple[int, pd.DataFrame]:
    """The number of neurons that tells attacked from clean images best, for use on other images.

    Args:
        clean, attacked: scores of the same selection images, for the same values of k.

    Returns:
        The best k (of equals, and where no attack succeeded, the first), and one row a k: AUROC, low, high.

    Source: ours; P2 leaves k open.
    """
    right, fooled = clean.predictions == clean.labels, fooled_images(clean, attacked)
    areas = {
        k: auroc(attacked.mismatch[k][fooled], scores[right], attacked.sources[fooled], clean.sources[right])
        for k, scores in clean.mismatch.items()
    }
    table = pd.DataFrame({"k": k} | area.columns() for k, area in areas.items())
    return int(table["k"].iloc[table["AUROC"].fillna(0).argmax()]), table


def fooled_images(clean: Scores, attacked: Scores) -> Tensor:
    """Which attacked images are successes: the network is right about the clean image and wrong about this one.

    Shape:
        result: (N,) bool, for the N attacked images.
    """
    right = clean.predictions == clean.labels
    return right[attacked.sources] & (attacked.predictions != attacked.labels)


def detection_table(
    clean: Scores, attacked: Mapping[str, Scores], *, k: int, false_alarms: float = 0.05
) -> pd.DataFrame:
    """Every detector under every attack, and on the errors that the network makes unaided.

    Positives are the successful attacks alone, those that turned a right answer into a wrong one; negatives are all
    clean images that the network gets right, among them those that the positives came from. In the rows of errors
    the positives are the clean images that the network gets wrong.

    Args:
        clean: scores of the test images, numbered as they lie.
        attacked: by attack, scores of images made from all or some of them.
        k: of the mismatch.
        false_alarms: share of the negatives that may be flagged, for the share of attacks that go unseen.

    Returns:
        One row an attack and detector: attack, detector, attacked (images whose clean form the network gets right),
        success (per cent of them that fool it); positives, negatives, AUROC, low, high, chance, verdict on
        chance, or why the AUROC is NaN; lead (of the mismatch over this detector), its paired interval and verdict
        ("mismatch is"); unseen (per cent of the attacked that fool the network and are not flagged). Intervals of
        95 %: over source images for areas, Wilson's for shares.

    Source: P2, the detector; positives, rivals, intervals and verdicts are ours.
    """
    right = clean.predictions == clean.labels
    rows = []
    for name, scores in {ERRORS: clean, **attacked}.items():
        unaided = name == ERRORS
        positive = ~right if unaided else fooled_images(clean, scores)
        tried = torch.zeros_like(positive) if unaided else right[scores.sources]
        suspicion, areas = _by_detector(scores, k), dict[str, Auroc]()
        for detector, ordinary in _by_detector(clean, k).items():
            negatives = ordinary[right]
            area = auroc(suspicion[detector][positive], negatives, scores.sources[positive], clean.sources[right])
            areas[detector] = area
            row: dict[str, object] = {"attack": name, "detector": detector, "attacked": int(tried.sum())}
            row |= share(positive[tried], whole=100).row("success") | area.columns() | {"chance": 0.5}
            lacking = _lacking(area, unaided)
            row["verdict"] = lacking or area.verdict(above=0.5, words=_words("chance"))
            if detector != MISMATCH:
                lead = areas[MISMATCH].minus(area)
                row |= lead.row("lead") | {"mismatch is": lacking or lead.verdict(above=0, words=_words("it"))}
            alarm = negatives.quantile(1 - false_alarms, interpolation="higher") if len(negatives) else torch.inf
            row |= share((positive & (suspicion[detector] <= alarm))[tried], whole=100).row("unseen")
            rows.append(row)
    return pd.DataFrame(rows)


def verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """What the intervals settle about the mismatch: one row a network and attack, against chance and each rival.

    Args:
        table: rows of `detection_table`, with the column model.
    """
    keys = ["model", "attack"]
    found = table[table["detector"] == MISMATCH].set_index(keys)[["AUROC", "verdict"]]
    rivals = table[table["detector"] != MISMATCH].set_index([*keys, "detector"])["mismatch is"].unstack(sort=False)
    return found.rename(columns={"verdict": "against chance"}).join(rivals.add_prefix("against "))


def verdict_counts(settled: pd.DataFrame) -> dict[str, int]:
    """In how many cases of a network under an attack the mismatch is better than chance, than all rivals, and so on.

    Args:
        settled: from `verdicts`.
    """
    cases = settled.drop(index=ERRORS, level="attack", errors="ignore").dropna(subset="AUROC")
    rivals = cases.drop(columns=["AUROC", "against chance"])
    return {
        "cases": len(cases),
        "better than chance": int((cases["against chance"] == "better than chance").sum()),
        "worse than chance": int((cases["against chance"] == "worse than chance").sum()),
        "better than all rivals": int((rivals == "better than it").all(axis=1).sum()),
        "worse than a rival": int((rivals == "worse than it").any(axis=1).sum()),
    }


def mass_groups(clean: Scores, attacked: Mapping[str, Scores]) -> dict[str, pd.DataFrame]:
    """The groups of images whose influential neurons `tables.mass_table` compares.

    Args:
        clean: scores of the test images, numbered as they lie.
        attacked: by attack; of these the successful ones.
    """
    right = clean.predictions == clean.labels
    chosen = {"right answers": (clean, right), "errors": (clean, ~right)}
    chosen |= {f"{name}, successful": (scores, fooled_images(clean, scores)) for name, scores in attacked.items()}
    return {
        name: pd.DataFrame({"source": scores.sources[rows], **{key: of[rows] for key, of in scores.mass.items()}})
        for name, (scores, rows) in chosen.items()
    }


def worst_cases(table: pd.DataFrame) -> pd.DataFrame:
    """For each network the attack under which the mismatch has the lowest AUROC; none where no attack succeeded.

    Args:
        table: rows of `detection_table`, with the column model.
    """
    rows = table[(table["detector"] == MISMATCH) & (table["attack"] != ERRORS)].dropna(subset="AUROC")
    rows = rows.reset_index(drop=True)
    return rows.sort_values("AUROC", kind="stable").drop_duplicates("model").sort_index()


def _by_detector(scores: Scores, k: int) -> dict[str, Tensor]:
    return {MISMATCH: scores.mismatch[k], **scores.rivals}


def _words(rival: str) -> tuple[str, str, str]:
    return f"better than {rival}", f"worse than {rival}", OPEN


def _lacking(area: Auroc, unaided: bool) -> str:
    if not area.negatives:
        return "no right answer"
    return "" if area.positives else ("no error" if unaided else "no successful attack")
