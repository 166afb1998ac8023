"""How good the detectors are: areas under the curve with intervals and verdicts, and the worst an attacker does."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.runtime import Runtime
from neuron_consistency.show import Named, matched, stacked, with_intervals
from neuron_consistency.statistics import LEVEL, OPEN, Estimate, holm, share
from neuron_consistency.tracing.detection import MAHALANOBIS, MISMATCH, SOFTMAX, adaptive_pgd
from neuron_consistency.tracing.ranking import Auroc, auroc
from neuron_consistency.tracing.trials import Trial, fooled

ERRORS = "errors, no attack"
KEYS = ["model", "attack", "detector"]


def detection_table(
    clean: pd.DataFrame, attacked: Mapping[str, pd.DataFrame], *, k: int, false_alarms: float = 0.05
) -> pd.DataFrame:
    """Every detector under every attack, and on the errors that the network makes unaided.

    Positives are the successful attacks alone, those that turned a right answer into a wrong one; negatives are all
    clean images that the network gets right, among them those that the positives came from. In the rows of errors
    the positives are the clean images that the network gets wrong.

    Args:
        clean: scores of the test images.
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
    right = clean[clean["right"]]
    rows = []
    for name, scores in {ERRORS: clean, **attacked}.items():
        unaided = name == ERRORS
        positives = clean[~clean["right"]] if unaided else fooled(clean, scores)
        tried = clean[:0] if unaided else scores[scores.index.isin(right.index)]
        areas = dict[str, Auroc]()
        for detector in (MISMATCH, SOFTMAX, MAHALANOBIS):
            suspicion = f"{MISMATCH} {k}" if detector == MISMATCH else detector
            areas[detector] = found = auroc(positives[suspicion], right[suspicion])
            row: dict[str, object] = {"attack": name, "detector": detector, "attacked": len(tried)}
            row |= share(~tried["right"], whole=100).row("success") | found.columns() | {"chance": 0.5}
            lacking = _lacking(found, unaided)
            row["verdict"] = lacking or found.verdict(above=0.5, words=_words("chance"))
            if detector != MISMATCH:
                lead = areas[MISMATCH].minus(found)
                row |= lead.row("lead") | {"mismatch is": lacking or lead.verdict(above=0, words=_words("it"))}
            alarm = right[suspicion].quantile(1 - false_alarms, interpolation="higher") if len(right) else torch.inf
            row |= share(~tried["right"] & (tried[suspicion] <= alarm), whole=100).row("unseen")
            rows.append(row)
    return pd.DataFrame(rows)


def detections(trials: Mapping[str, Trial], *, false_alarms: float) -> pd.DataFrame:
    """`detection_table` of every network under all that it has met, with its title in the column model.

    All verdicts are one family: each is given where it holds with all the others at 95 %, by Holm.
    """
    table = partial(detection_table, false_alarms=false_alarms)
    return _together(stacked({name: table(one.clean, one.attacked, k=one.k) for name, one in trials.items()}, "model"))


def adaptive_detections(
    trials: Mapping[str, Trial], images: ImageSet, places: Tensor, on: Runtime, *,
    weights: Sequence[float], epsilon: float, steps: int, false_alarms: float,
) -> pd.DataFrame:  # fmt: skip
    """As `detections`, under PGD, which each network has met, and under attackers who know its detector.

    Args:
        images: the test images; those at `places` (N',) are attacked.
        weights: that the attackers give to hiding.
        epsilon, steps: of `detection.adaptive_pgd`.
    """
    tables = {}
    for title, trial in trials.items():
        met = {"PGD": trial.attacked["PGD"]}
        for weight in weights:
            seeded = torch.Generator(on.device).manual_seed(0)
            knowing = partial(adaptive_pgd, detectors=trial.detectors, k=trial.k, weight=weight, generator=seeded)
            attack = partial(knowing, epsilon=epsilon, steps=steps)
            met[f"adaptive, w = {weight:g}"] = trial.scores(images.subset(places), on, sources=places, attack=attack)
        table = detection_table(trial.clean, met, k=trial.k, false_alarms=false_alarms)
        tables[title] = table[table["attack"] != ERRORS]
    return _together(stacked(tables, "model"))


def _together(table: pd.DataFrame) -> pd.DataFrame:
    rows = table.to_dict("records")
    area, lead = ([Estimate.read(row, name).p(above=at) for row in rows] for name, at in (("AUROC", 0.5), ("lead", 0)))
    above = np.array(holm(area + lead)).reshape(2, -1) >= 1 - LEVEL  # NaN, with a reason for a verdict, is not
    return table.assign(
        **{name: table[name].mask(some, OPEN) for name, some in zip(("verdict", "mismatch is"), above, strict=True)}
    )


def errors_lead(table: pd.DataFrame) -> pd.DataFrame:
    """Of the rows on natural errors, for each network that of the best rival: over it the mismatch leads least.

    Args:
        table: from `detections`.
    """
    rivals = table[(table["attack"] == ERRORS) & (table["detector"] != MISMATCH)].dropna(subset="lead")
    return rivals.sort_values("lead", kind="stable").drop_duplicates("model").sort_index()


def training_changes(recipes: Sequence[Named], titles: Mapping[str, str], table: pd.DataFrame) -> pd.DataFrame:
    """What training by P1's Eq. 6 changes of the mismatch: one row a pair of networks and attack that both fell for.

    Columns: model (the trained one), attack, and difference of the AUROC, trained less normal, with its interval. The
    images that fool two networks differ, so the two areas count as independent.

    Args:
        titles: by the networks' keys.
        table: from `detections`.
    """
    own = table[table["detector"] == MISMATCH].dropna(subset="AUROC").set_index(KEYS[:2])
    areas = {key: Estimate.read(row, "AUROC") for key, row in own.to_dict("index").items()}
    rows = []
    for trained, normal in matched(recipes, "consistent", "normal"):
        for attack in own.index.unique("attack"):
            keys = [(titles[net.key], attack) for net in (trained, normal)]
            if all(key in areas for key in keys):
                change = areas[keys[0]].minus(areas[keys[1]])
                rows.append({"model": keys[0][0], "attack": attack, **change.row("difference")})
    return pd.DataFrame(rows, columns=["model", "attack", "difference", "difference low", "difference high"])


def verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """What the intervals settle about the mismatch: one row a network and attack, against chance and each rival.

    Args:
        table: from `detections`.
    """
    own = table[table["detector"] == MISMATCH].set_index(KEYS[:2])[["AUROC", "verdict"]]
    rivals = table[table["detector"] != MISMATCH].set_index(KEYS)["mismatch is"].unstack(sort=False)
    return own.rename(columns={"verdict": "against chance"}).join(rivals.add_prefix("against "))


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


def worst_cases(table: pd.DataFrame) -> pd.DataFrame:
    """For each network the attack under which the mismatch has the lowest AUROC; none where no attack succeeded.

    Args:
        table: from `detections`.
    """
    rows = table[(table["detector"] == MISMATCH) & (table["attack"] != ERRORS)].dropna(subset="AUROC")
    rows = rows.reset_index(drop=True)
    return rows.sort_values("AUROC", kind="stable").drop_duplicates("model").sort_index()


def chosen_k(trials: Mapping[str, Trial]) -> pd.DataFrame:
    """The AUROC on selection images for every k, a line a network, and the k that it was given."""
    areas = pd.DataFrame({title: trial.choice.set_index("k")["AUROC"] for title, trial in trials.items()})
    return areas.T.round(3).assign(**{"k chosen": [trial.k for trial in trials.values()]})


def areas_shown(table: pd.DataFrame) -> pd.DataFrame:
    """A line a network and attack as text: its success in per cent, and every detector's AUROC.

    Args:
        table: from `detections`.
    """
    keyed = table.set_index(KEYS)
    success = with_intervals(keyed[["success", "success low", "success high", "positives"]], decimals=0)
    areas = with_intervals(keyed[["AUROC", "low", "high"]], decimals=2)["AUROC"].unstack(sort=False)
    return success.xs(MISMATCH, level="detector").join(areas)


def leads_shown(table: pd.DataFrame) -> pd.DataFrame:
    """A line a network and attack as text: how far the mismatch is ahead of every rival.

    Args:
        table: from `detections`.
    """
    leads = with_intervals(table.set_index(KEYS)[["lead", "lead low", "lead high"]], decimals=2)["lead"]
    return leads.unstack(sort=False).drop(columns=MISMATCH).add_prefix("lead over ")


def unseen_shown(table: pd.DataFrame) -> pd.DataFrame:
    """A line a network and attack as text: success, AUROC and verdict of the mismatch, and what goes unseen.

    Args:
        table: from `adaptive_detections`, or `worst_cases` of it.
    """
    columns = ["success", "AUROC", "low", "high", "verdict", "unseen", "unseen low", "unseen high"]
    own = table[table["detector"] == MISMATCH].set_index(["model", "attack"])
    return with_intervals(own[columns], decimals=2)


def _words(rival: str) -> tuple[str, str, str]:
    return f"better than {rival}", f"worse than {rival}", OPEN


def _lacking(found: Auroc, unaided: bool) -> str:
    if not found.negatives:
        return "no right answer"
    return "" if found.positives else ("no error" if unaided else "no successful attack")
