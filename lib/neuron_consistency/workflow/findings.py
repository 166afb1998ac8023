"""What each chapter's numbers say of the papers' claims: rows for the ledger, one a claim and case."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.consistency.ambiguity import FGSM, PGD, REAL, SUCCESSFUL, WRONG, Passes
from neuron_consistency.consistency.measure import chance
from neuron_consistency.consistency.reactions import BLANK, BLANK_SHUFFLED, SHUFFLED
from neuron_consistency.data.broden import CATEGORIES
from neuron_consistency.dissection.controls import ADVERSARIAL, RANDOM
from neuron_consistency.dissection.tables import HIGH, LOW, above_chance, before_attack, mean_above_chance
from neuron_consistency.show import Named, matched, seed_groups
from neuron_consistency.statistics import OPEN, Estimate, jackknife, mean_over_seeds, over_seeds, pooled
from neuron_consistency.training.recipes import TITLES
from neuron_consistency.workflow.claims import Findings, finding, settled

FALLS = {  # by kind of label, what is asked at the thresholds of the real images, and of equally many images
    "true": ("less-consistent-under-attack", "less-consistent-at-equal-number"),
    "predicted": ("ambiguous-not-obedient", "ambiguous-at-equal-number"),
}
ACCURACIES = {
    "clean-accuracy-falls": REAL,
    "about-ten-points": REAL,
    "attacked-accuracy-rises": FGSM,
    "no-hidden-gradient": PGD,
}


def evaluation_findings(
    recipes: Sequence[Named],
    titles: Mapping[str, str],
    passes: Mapping[str, Passes],
    correlation: Tensor,
    nulls: Mapping[str, Mapping[str, Passes]] | None = None,
) -> Findings:
    """Chapter 4: consistency and accuracy, real and attacked, before and after training.

    Networks that differ in seeds alone are one case, whose interval covers both other images and other seeds. What is
    said of some of the images, of each network others, is pooled over the seeds as over independent networks.

    Args:
        titles: by the networks' keys.
        passes: by title, with PGD.
        nulls: of normally trained networks by title, from `reactions.null_passes`; None leaves their rows out.
    """

    def estimate(recipe: Named, name: str, kind: str = "true", **how: Any) -> Estimate:
        return passes[titles[recipe.key]].estimate(name, correlation, kind=kind, **how)

    def change(recipe: Named, kind: str = "true", **how: Any) -> Estimate:
        return estimate(recipe, FGSM, kind, **how).minus(estimate(recipe, REAL, kind, **how))

    def top(recipe: Named) -> Estimate:
        found = passes[titles[recipe.key]]
        return found.estimate(FGSM, correlation, equal_m=True, neurons=found.most_consistent(correlation))

    def above(recipe: Named, name: str) -> Estimate:  # without replicates, since each set has other images
        labels = passes[titles[recipe.key]].sets[name].predictions
        return estimate(recipe, name, "predicted").minus(chance(labels, correlation).unbiased)

    def null(recipe: Named, name: str) -> Estimate:
        return (nulls or {})[titles[recipe.key]][name].estimate(REAL, correlation)

    rows: Findings = []

    def say(claim: str, case: str, found: Estimate) -> None:
        rows.append(finding(claim, case, found))

    level = chance(next(iter(passes.values())).sets[REAL].labels, correlation).unbiased
    normal = [(recipe,) for recipe in recipes if recipe.objective == "normal"]
    for title, group in seed_groups(normal, titles).items():
        nets = [recipe for (recipe,) in group]
        say("related-images", title, over_seeds([estimate(one, REAL) for one in nets]).minus(level))
        if nulls:
            blank = over_seeds([null(one, BLANK) for one in nets]).minus(level)
            say("related-images", f"{title} [null: {BLANK}]", blank)
            gains = [estimate(one, REAL).minus(null(one, BLANK)) for one in nets]
            say("related-by-training", title, over_seeds(gains))
            mixed = [null(one, SHUFFLED).minus(null(one, BLANK_SHUFFLED)) for one in nets]
            say("related-by-training", f"{title} [null: {SHUFFLED}]", over_seeds(mixed))
        for kind, claims in FALLS.items():
            for claim, equal_m in zip(claims, (False, True), strict=True):
                say(claim, title, over_seeds([change(one, kind, equal_m=equal_m) for one in nets]))
        if all({WRONG, SUCCESSFUL} <= passes[titles[one.key]].sets.keys() for one in nets):
            errors = [above(one, WRONG).minus(above(one, REAL)) for one in nets]
            say("ambiguous-not-obedient", f"{title} [null: ordinary errors]", pooled(errors))
            say("errors-alike", title, pooled([above(one, SUCCESSFUL).minus(above(one, WRONG)) for one in nets]))
    for claim, rival in (("training-keeps-consistency", "normal"), ("consistent-loss-adds", "adversarial")):
        for title, same in seed_groups(matched(recipes, "consistent", rival), titles).items():
            say(claim, title, over_seeds([estimate(one, FGSM).minus(estimate(other, FGSM)) for one, other in same]))
    for title, same in seed_groups(matched(recipes, "consistent", "normal"), titles).items():
        say("training-lessens-the-fall", title, over_seeds([change(one).minus(change(other)) for one, other in same]))
        say("top-images-agree", title, over_seeds([top(one).minus(top(other)) for one, other in same]))
        hardly = [_per_cent(estimate(one, REAL), estimate(other, REAL), level) for one, other in same]
        say("real-images-hardly-change", title, over_seeds(hardly))
        for claim, name in ACCURACIES.items():
            points = [passes[titles[a.key]].right(name) - passes[titles[b.key]].right(name) for a, b in same]
            say(claim, title, mean_over_seeds(torch.stack(points)))
    return rows


def _per_cent(one: Estimate, other: Estimate, level: float) -> Estimate:
    """By how many per cent of what `other` has above `level` another U differs; NaN where that is nothing."""
    if not other.value > level:
        return jackknife(math.nan, np.full(len(other.replicates), math.nan))
    replicates = 100 * (one.replicates - other.replicates) / (other.replicates - level)
    return jackknife(100 * (one.value - other.value) / (other.value - level), replicates)


def dissection_findings(
    recipes: Sequence[Named], titles: Mapping[str, str], units: Mapping[tuple[str, str], pd.DataFrame]
) -> Findings:
    """Chapter 5: how many more neurons are aligned with a concept than with labels of other images.

    Networks that differ in seeds alone are one case; the interval is that of `mean_above_chance`. Each neuron is
    compared with itself, and with that of the same number in a network that starts from the same weights.

    Args:
        titles: by the networks' keys.
        units: by title and set of images, from `labelled_units`.
    """
    before = before_attack(units)

    def above(recipe: Named, name: str, categories: Sequence[str] = CATEGORIES) -> Tensor:
        return above_chance(units, titles[recipe.key], name, categories)

    def change(recipe: Named, categories: Sequence[str] = CATEGORIES) -> Tensor:
        return above(recipe, ADVERSARIAL, categories) - above(recipe, before, categories)

    rows: Findings = []

    def say(claim: str, case: str, values: Iterable[Tensor]) -> None:
        rows.append(finding(claim, case, mean_above_chance(torch.cat(list(values)))))

    for title, same in seed_groups([(one,) for one in recipes if one.objective == "normal"], titles).items():
        say("neurons-have-concepts", title, (above(one, REAL) for (one,) in same))
        say("neurons-have-concepts", f"{title} [null: random weights]", [above(same[0][0], RANDOM)])
        say("concepts-lost-beyond-chance", title, (change(one) for (one,) in same))
        say("high-level-concepts-lost-more", title, (change(one, HIGH) - change(one, LOW) for (one,) in same))
    for title, same in seed_groups(matched(recipes, "consistent", "normal"), titles).items():
        say("training-keeps-concepts-beyond-chance", title, (change(one) - change(other) for one, other in same))
    return rows


def explanation_findings(verdicts: pd.DataFrame) -> Findings:
    """Chapter 8: what reweighting changes, in the paper's form and with weights of mean one, and its null.

    What two networks cannot be compared in, or their images cannot tell, has no interval here; its case says why.

    Args:
        verdicts: from `explanation.tables.verdicts`.
    """
    untold = verdicts["verdict"].isin(["not comparable", OPEN])
    case = verdicts["architecture"].map(TITLES) + verdicts["objective"].map({"reweighted-mean1": ", mean 1"}).fillna("")
    case += (", " + verdicts["verdict"] + ": " + verdicts["why"]).where(untold, "")
    case += verdicts["objective"].map({"permuted-mean1": " [null: permuted weights]"}).fillna("")
    asked = verdicts["objective"] + " less " + verdicts["against"] + ", filters " + verdicts["filters"]
    found = verdicts.assign(case=case, compared=asked)
    found.loc[untold, ["low", "high"]] = math.nan
    return settled("08_explanation_consistency", verdicts=found)


def own_findings(changes: pd.DataFrame) -> Findings:
    """Chapter 15: what an attack does to U above chance in a network that others trained, and what ordinary errors do.

    Args:
        changes: from `card.tables.change_table`.
    """
    asked = {
        (FGSM, "true"): ("less-consistent-under-attack", ""),
        (FGSM, "predicted"): ("ambiguous-not-obedient", ""),
        (WRONG, "predicted"): ("ambiguous-not-obedient", " [null: ordinary errors]"),
    }
    rows = changes.set_index(["set", "labels"]).to_dict("index")
    found = {of: Estimate.read(row, "difference") for of, row in rows.items() if of in asked}
    return [finding(asked[of][0], f"last layer{asked[of][1]}", one) for of, one in found.items()]
