"""What each chapter's numbers say of the papers' claims: rows for the ledger, one a claim and case."""

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.consistency.ambiguity import FGSM, PGD, REAL, Passes
from neuron_consistency.consistency.measure import chance
from neuron_consistency.dissection.controls import ADVERSARIAL, SHUFFLED
from neuron_consistency.dissection.tables import before_attack
from neuron_consistency.show import Named, matched, seed_groups
from neuron_consistency.statistics import Estimate, mean, mean_over_seeds, over_seeds
from neuron_consistency.training.recipes import TITLES
from neuron_consistency.workflow.claims import Findings, finding, settled


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
            ("clean-accuracy-falls", REAL, {"below": 0.0}),
            ("attacked-accuracy-rises", FGSM, {"above": 0.0}),
            ("no-hidden-gradient", PGD, {"above": 0.0}),
        ):
            points = [passes[titles[a.key]].right(name) - passes[titles[b.key]].right(name) for a, b in same]
            rows.append(finding(claim, title, mean_over_seeds(torch.stack(points)), **bounds))
    return rows


def dissection_findings(
    recipes: Sequence[Named], titles: Mapping[str, str], units: Mapping[tuple[str, str], pd.DataFrame]
) -> Findings:
    """Chapter 5: how many neurons are aligned with a concept. Intervals are over neurons, each compared with itself.

    Args:
        titles: by the networks' keys.
        units: by title and set of images, from `unit_labels`.
    """

    def change(recipe: Named, name: str, other: str) -> Estimate:
        first, second = (torch.tensor(units[titles[recipe.key], of]["aligned"].to_numpy(float)) for of in (name, other))
        return mean(100 * (first - second))

    rows, before = [], before_attack(units)
    for recipe in (recipe for recipe in recipes if recipe.objective == "normal"):
        title = titles[recipe.key]
        rows.append(finding("neurons-have-concepts", title, change(recipe, REAL, SHUFFLED), above=0))
        rows.append(finding("concepts-lost-under-attack", title, change(recipe, ADVERSARIAL, before), below=0))
    for one, other in matched(recipes, "consistent", "normal"):  # other neurons in each network
        gain = change(one, ADVERSARIAL, before).minus(change(other, ADVERSARIAL, before))
        rows.append(finding("training-keeps-concepts", titles[one.key], gain, above=0))
    return rows


def explanation_findings(verdicts: pd.DataFrame) -> Findings:
    """Chapter 8: what reweighting changes, in the paper's form and with weights of mean one.

    Args:
        verdicts: from `explanation.tables.verdicts`.
    """
    found = verdicts[verdicts["objective"].str.startswith("reweighted")]
    mean1 = found["objective"].str.endswith("mean1").map({True: ", mean 1", False: ""})
    return settled("08_explanation_consistency", verdicts=found.assign(case=found["architecture"].map(TITLES) + mean1))
