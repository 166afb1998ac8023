"""What P2 claims of neurons and distances, and of the cure by training: networks that differ in seeds are one case."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.representation.tables import OWN, Measured
from neuron_consistency.show import Named, matched, seed_groups, stacked, with_intervals
from neuron_consistency.statistics import LEVEL, OPEN, Estimate, holm, mean_over_seeds, over_seeds

NEURON_CLAIMS = {  # of `NeuronMeasures.claimed`: on which side of 0
    "CS1 below chance": "below",
    "CS1 falls with LC": "below",
    "CS2 above chance": "above",
    "CS2 above CS1": "above",
    "merely targets above chance": "above",
    "merely targets above shows": "above",
}


def by_seeds(
    recipes: Iterable[Named], titles: Mapping[str, str], measured: Mapping[str, Measured]
) -> dict[str, list[Measured]]:
    """What networks that differ in seeds alone make of a set, brought together: by title, with OWN for their own set.

    Args:
        titles: by the networks' keys.
        measured: from `tables.measure_networks`.
    """
    found = {}
    for title, same in seed_groups([(recipe,) for recipe in recipes], titles).items():
        for which in ("", OWN):
            labels = [titles[recipe.key] + which for (recipe,) in same]
            if all(label in measured for label in labels):
                found[title + which] = [measured[label] for label in labels]
    return found


def neuron_claims(seeds: Sequence[Measured], *, bins: int) -> pd.DataFrame:
    """The claims of P2 about neurons, settled by intervals: claim, value, low, high, verdict and p.

    Of the neurons of the highest LC: CS1 lies below chance; it is lower than that of the neurons of the lowest LC;
    CS2 lies above chance; it exceeds CS1. Of the neurons with a clear concept: top images that merely target it are
    more than chance has, and more than those that show it.

    Args:
        seeds: networks that differ in seeds alone, on one set.
        bins: see `NeuronMeasures.claimed`.
    """
    each = [one.neurons.claimed(bins=bins) for one in seeds]
    return pd.DataFrame(
        _row(claim, over_seeds([one[claim] for one in each]), **{side: 0.0}) for claim, side in NEURON_CLAIMS.items()
    )


def ratio_claims(seeds: Sequence[Measured], *, tolerance: float) -> pd.DataFrame:
    """The claims of P2 about r1 and r2, over all images, settled by intervals: claim, value, low, high, verdict and p.

    Against noise the value is the mean difference to the noise of the same norm.

    Args:
        seeds: as for `neuron_claims`.
        tolerance: so far from 1 still counts as about 1.
    """
    r1, r2 = (_by_clean(seeds, name) for name in ("r1", "r2"))
    noise1, noise2 = (_by_clean(seeds, f"{name} noise") for name in ("r1", "r2"))
    rows = [
        _row("r1 above 1", mean_over_seeds(r1), above=1.0),
        _row("r1 above noise", mean_over_seeds(r1 - noise1), above=0.0),
        _row("r1 about 1", mean_over_seeds(r1), above=1 - tolerance, below=1 + tolerance),
        _row("r2 below 1", mean_over_seeds(r2), below=1.0),
        _row("r2 below noise", mean_over_seeds(r2 - noise2), below=0.0),
    ]
    return pd.DataFrame(rows)


def training_claims(
    recipes: Iterable[Named], titles: Mapping[str, str], measured: Mapping[str, Measured], objective: str
) -> dict[str, pd.DataFrame]:
    """What training changes: a trained network less the normal one of its seed, by title as `by_seeds` has it.

    Two claims: merely targeting images become fewer ("merely targets less than normal") and the target's class is
    farther ("r2 above normal"). The normal network is always shown the first set, which was made on networks like it;
    the trained one this set, and, under OWN, that of networks like itself.

    Returns:
        Tables as `neuron_claims` gives them.

    Source: P2, figures 2 and 5, after training; the trained network's own set is ours.
    """
    found = {}
    for title, same in seed_groups(matched(recipes, objective, "normal"), titles).items():
        for which in ("", OWN):
            pairs = [(measured.get(titles[a.key] + which), measured[titles[b.key]]) for a, b in same]
            both = [(trained, normal) for trained, normal in pairs if trained is not None]
            if len(both) < len(same):
                continue
            merely = [a.neurons.estimate("merely targets").minus(b.neurons.estimate("merely targets")) for a, b in both]
            trained, normal = (_by_clean(seeds, "r2") for seeds in zip(*both, strict=True))
            rows = [
                _row("merely targets less than normal", over_seeds(merely), below=0.0),
                _row("r2 above normal", mean_over_seeds(trained - normal), above=0.0),
            ]
            found[title + which] = pd.DataFrame(rows)
    return found


def cure_table(groups: Mapping[str, Sequence[Measured]], recipes: Iterable[Named]) -> pd.DataFrame:
    """How many of a neuron's top adversarial images merely target its concept, on whose images: one row a group.

    Columns: network, architecture, objective, own (whether its images were made against networks like it), seeds;
    "merely targets" and "shows" over all layers, each with its interval over images and seeds and its chance; lowest
    and highest, of "merely targets" among the seeds; "RMSD of 255" of the images.

    Args:
        groups: from `by_seeds`, of these recipes.

    Source: P2, figure 2, after training; the trained networks' own sets are ours.
    """
    rows, known = [], {recipe.key: recipe for recipe in recipes}
    for label, seeds in groups.items():
        recipe = known[seeds[0].network]
        row: dict[str, float | str] = {"network": label, "architecture": recipe.architecture}
        row |= {"objective": recipe.objective, "own": label.endswith(OWN) or recipe.objective == "normal"}
        row["seeds"] = len(seeds)
        for measure in ("merely targets", "shows"):
            each = [one.neurons.estimate(measure) for one in seeds]
            levels = [one.neurons.summary()[f"{measure} chance"].iloc[-1] for one in seeds]
            row |= over_seeds(each).row(measure) | {f"{measure} chance": float(np.mean(levels))}
            if measure == "merely targets":
                values = [one.value for one in each]
                row |= {"lowest": min(values), "highest": max(values)}
        rows.append(row | {"RMSD of 255": 255 * float(seeds[0].ratios["rmsd"].mean())})
    return pd.DataFrame(rows)


def claim_columns(claims: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The claims of all networks, a column each: number, interval and verdict as text.

    All that stand in the table are one family: a verdict is given where it holds with all the others at 95 %, by Holm.
    """
    rows = stacked(claims)
    settled = np.array(holm(rows["p"].to_list())) < 1 - LEVEL
    shown = with_intervals(rows.drop(columns="p"), decimals=2)
    shown["value"] += ": " + shown["verdict"].where(settled, OPEN)
    return shown.set_index(["network", "claim"])["value"].unstack(sort=False)


def _row(claim: str, found: Estimate, **bounds: float) -> dict[str, float | str]:
    return {"claim": claim, **found.settles(**bounds), "p": found.p(**bounds)}


def _by_clean(seeds: Sequence[Measured], column: str) -> Tensor:
    """The mean of a column of `Measured.ratios` over each clean image's adversarial images, (seeds, clean images)."""
    return torch.stack([torch.tensor(one.ratios.groupby("clean")[column].mean().to_numpy(float)) for one in seeds])
