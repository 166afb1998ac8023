"""What each chapter's numbers say of the papers' claims: rows for the ledger, one a claim and case."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.consistency.ambiguity import FGSM, PGD, REAL, Passes
from neuron_consistency.consistency.measure import chance
from neuron_consistency.explanation.scores import GAP, OWN_E
from neuron_consistency.show import Named, matched, seed_groups
from neuron_consistency.statistics import Estimate, mean, mean_over_seeds, over_seeds
from neuron_consistency.tracing.detection import MISMATCH
from neuron_consistency.tracing.detection_tables import ERRORS
from neuron_consistency.training.recipes import TITLES
from neuron_consistency.workflow.claims import COLUMNS, finding

Findings = list[dict[str, Any]]
ABOVE, BELOW = {"above": 0.0}, {"below": 0.0}

NEURON_CLAIMS = {  # what chapter 6 calls the claims of the ledger
    "r1 above 1": "leaves-its-class",
    "r2 below 1": "nears-its-target",
    "CS1 below chance": "classes-disagree",
    "CS1 falls with LC": "more-so-for-consistent-neurons",
    "CS2 above chance": "targets-agree",
    "CS2 above CS1": "targets-agree-more",
    "merely targets above chance": "dummy-detectors",
    "merely targets above shows": "dummy-detectors-mostly",
}
OBJECTIVE_CLAIMS = {"normal": NEURON_CLAIMS, "consistent": {"r1 about 1": "training-keeps-the-place"}}
EXPLANATION_CLAIMS = {  # by the measure, without its number of steps
    "accuracy": "reweighting-accuracy",
    "mAP": "reweighting-accuracy",
    "pointing game": "reweighting-points",
    "box IoU": "reweighting-boxes",
    GAP: "reweighting-backgrounds",
    "accuracy, FGSM": "reweighting-fgsm",
    "accuracy, PGD": "reweighting-pgd",
    OWN_E: "reweighting-consistency",
}


def evaluation_findings(
    recipes: Sequence[Named], titles: Mapping[str, str], passes: Mapping[str, Passes], correlation: Tensor
) -> Findings:
    """Chapter 4: consistency and accuracy, real and attacked, before and after training.

    Networks that differ in seeds alone are one case, whose interval covers both other images and other seeds.

    Args:
        titles: by the networks' keys.
        passes: by title, with PGD.
    """

    def estimate(recipe: Named, name: str, kind: str = "true") -> Estimate:
        return passes[titles[recipe.key]].estimate(name, correlation, kind=kind)

    rows = []
    labels = next(iter(passes.values())).sets[REAL].labels
    level = chance(labels, correlation).unbiased
    normal = [(recipe,) for recipe in recipes if recipe.objective == "normal"]
    for title, same in seed_groups(normal, titles).items():
        real = over_seeds([estimate(recipe, REAL) for (recipe,) in same])
        rows.append(finding("related-images", title, real.minus(level), above=0))
        for claim, kind in (("less-consistent-under-attack", "true"), ("ambiguous-not-obedient", "predicted")):
            falls = [estimate(recipe, FGSM, kind).minus(estimate(recipe, REAL, kind)) for (recipe,) in same]
            rows.append(finding(claim, title, over_seeds(falls), below=0))
    for claim, rival in (("training-keeps-consistency", "normal"), ("consistent-loss-adds", "adversarial")):
        for title, same in seed_groups(matched(recipes, "consistent", rival), titles).items():
            gains = [estimate(one, FGSM).minus(estimate(other, FGSM)) for one, other in same]
            rows.append(finding(claim, title, over_seeds(gains), above=0))
    for title, same in seed_groups(matched(recipes, "consistent", "normal"), titles).items():
        changes = [estimate(one, REAL).minus(estimate(other, REAL)) for one, other in same]
        most = over_seeds([estimate(other, REAL) for _, other in same]).value / 10
        rows.append(finding("real-images-unchanged", title, over_seeds(changes), above=-most, below=most))
        for claim, name, bounds in (
            ("clean-accuracy-falls", REAL, BELOW),
            ("attacked-accuracy-rises", FGSM, ABOVE),
            ("no-hidden-gradient", PGD, ABOVE),
        ):
            points = [passes[titles[a.key]].right(name) - passes[titles[b.key]].right(name) for a, b in same]
            rows.append(finding(claim, title, mean_over_seeds(torch.stack(points)), **bounds))
    return rows


def dissection_findings(
    recipes: Sequence[Named],
    titles: Mapping[str, str],
    units: Mapping[tuple[str, str], pd.DataFrame],
    *,
    real: str,
    shuffled: str,
    before: str,
    adversarial: str,
) -> Findings:
    """Chapter 5: how many neurons are aligned with a concept. Intervals are over neurons, each compared with itself.

    Args:
        titles: by the networks' keys.
        units: by title and set of images, from `unit_labels`.
        real, shuffled, before, adversarial: what the sets are called; `before` are the images that became adversarial.
    """

    def change(recipe: Named, name: str, other: str) -> Estimate:
        first, second = (torch.tensor(units[titles[recipe.key], of]["aligned"].to_numpy(float)) for of in (name, other))
        return mean(100 * (first - second))

    rows = []
    for recipe in (recipe for recipe in recipes if recipe.objective == "normal"):
        title = titles[recipe.key]
        rows.append(finding("neurons-have-concepts", title, change(recipe, real, shuffled), above=0))
        rows.append(finding("concepts-lost-under-attack", title, change(recipe, adversarial, before), below=0))
    for one, other in matched(recipes, "consistent", "normal"):  # other neurons in each network
        gain = change(one, adversarial, before).minus(change(other, adversarial, before))
        rows.append(finding("training-keeps-concepts", titles[one.key], gain, above=0))
    return rows


def success_findings(success: pd.DataFrame, *, everywhere: str) -> Findings:
    """Chapter 6: how often one image fools all networks of its ensemble.

    Args:
        success: from `success_table`, with the column set.
        everywhere: what the row of all networks is called.
    """
    return [
        finding("one-image-fools-all", row["set"], Estimate.read(row, "reached").minus(row["reached clean"]), above=0)
        for _, row in success[success["network"] == everywhere].iterrows()
    ]


def representation_findings(
    objectives: Mapping[str, str], ratios: Mapping[str, pd.DataFrame], neurons: Mapping[str, pd.DataFrame]
) -> Findings:
    """Chapter 6: where adversarial images lie, and which neurons they fire.

    Args:
        objectives: of the network behind each label of the two others.
        ratios: by label, from `ratio_claims`.
        neurons: by label, from `NeuronMeasures.claims`.
    """
    rows = []
    for label, objective in objectives.items():
        settled = pd.concat([ratios[label], neurons[label]])
        settled = settled.assign(claim=settled["claim"].map(OBJECTIVE_CLAIMS.get(objective, {})), case=label)
        rows.append(settled.dropna(subset="claim")[COLUMNS])
    return pd.concat(rows).to_dict("records")  # type: ignore[return-value]


def detection_findings(errors: pd.DataFrame, detections: pd.DataFrame, worst: pd.DataFrame) -> Findings:
    """Chapter 7: what influential neurons tell. An attack that never succeeds says nothing.

    Args:
        errors: rows of `mass_table` about errors, by network.
        detections: from `detection_table`, with the column model.
        worst: from `worst_cases`.
    """
    rows = [
        finding("neurons-tell-why", str(title), Estimate.read(row, "predicted - true"), above=0)
        for title, row in errors.dropna(subset="predicted - true").iterrows()
    ]
    attacks = detections[detections["attack"] != ERRORS].dropna(subset="AUROC")
    for claim, table in (("neurons-tell-attacks", attacks), ("survives-adaptation", worst)):
        for _, row in table.iterrows():
            case, detector = f"{row['model']}, {row['attack']}", row["detector"]
            if detector == MISMATCH:
                rows.append(finding(claim, case, Estimate.read(row, "AUROC", bare=True), above=0.5))
            else:
                rows.append(finding("better-than-rivals", f"{case}, {detector}", Estimate.read(row, "lead"), above=0))
    return rows


def explanation_findings(verdicts: pd.DataFrame) -> Findings:
    """Chapter 8: what reweighting changes, in the paper's form and with weights of mean one.

    Args:
        verdicts: from `explanation.tables.verdicts`.
    """
    rows = []
    for _, row in verdicts[verdicts["objective"].str.startswith("reweighted")].iterrows():
        measure = re.sub(r"PGD-\d+$", "PGD", str(row["measure"]))
        if claim := EXPLANATION_CLAIMS.get(measure):
            case = TITLES[row["architecture"]] + (", mean 1" if row["objective"].endswith("mean1") else "")
            bounds = BELOW if measure == GAP else ABOVE
            rows.append(finding(claim, case, Estimate.read(row, "difference", bare=True), **bounds))
    return rows
