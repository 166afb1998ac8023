"""Is it ambiguity? The sets and labels that have to stand beside consis_adv before it can be read as such."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.attacks.linf import fgsm, pgd, sign_noise
from neuron_consistency.attacks.predictions import accuracy_row
from neuron_consistency.consistency.measure import (
    chance,
    comparison,
    consistency_row,
    mean_consistency,
    neuron_table,
    unbiased_consistency,
)
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import Attack
from neuron_consistency.responses import Responses, respond
from neuron_consistency.runtime import Runtime
from neuron_consistency.show import Named, matched, seed_groups
from neuron_consistency.statistics import Estimate, over_seeds

REAL, FGSM, SUCCESSFUL, NOISE, WRONG, PGD = (
    "real",
    "FGSM",
    "FGSM, successful only",
    "sign noise, same size",
    "real, misclassified",
    "PGD",
)
BRIEF = ["m", "V", "V chance", "U", "U low", "U high", "U chance"]
VIEWS = {  # the columns of `measure.consistency_row` that a page shows
    "paper": ["m", "V", "V low", "V high", *BRIEF[2:], "V top", "U top", "excluded"],
    "pair": ["images", *BRIEF, "excluded"],
    "controls": ["images", *BRIEF, "U top", "excluded"],
    "reactions": ["accuracy", *BRIEF, "excluded"],
}


@dataclass(frozen=True)
class Passes:
    """The passes of one network over the real images and what stands beside them, read at one layer.

    Attributes:
        sets: by name; that of PGD has predictions alone.
    """

    layer: str
    sets: dict[str, Responses]

    def estimate(
        self,
        name: str,
        correlation: Tensor,
        *,
        kind: str = "true",
        equal_m: bool = False,
        neurons: Tensor | None = None,
    ) -> Estimate:
        """The mean of U over neurons on one of the sets.

        Args:
            equal_m: over the strongest images that the pass kept of each neuron, equally many in every set, and not
                over all that reach its threshold, of which an attack makes more or fewer.
            neurons: their numbers; None takes all.
        """
        found = self.sets[name].layers[self.layer]
        kept = len(found.top_indices)
        counts = self.sets[name].top_counts(self.layer, kind, kept) if equal_m else found.counts[kind]
        return mean_consistency(counts if neurons is None else counts[:, neurons], correlation, unbiased=True)

    def most_consistent(self, correlation: Tensor, *, share: float = 0.1) -> Tensor:
        """The share of the neurons that have the highest U on real images, under true labels. Shape: (n,) int64."""
        counts = self.sets[REAL].layers[self.layer].counts["true"].sum(0)
        return unbiased_consistency(counts, correlation).nan_to_num(-1).topk(math.ceil(share * len(counts))).indices

    def right(self, name: str) -> Tensor:
        """Per cent right, image by image. Shape: (N,) float64, 0 or 100."""
        return 100 * (self.sets[name].predictions == self.sets[name].labels).double()


def attacks_of(on: Runtime, *, epsilon: float, pgd_steps: int) -> dict[str, tuple[Attack, torch.Generator | None]]:
    """FGSM, noise of its size and, unless `pgd_steps` is 0, PGD: each with the generator that it draws from.

    The generators are new ones of seed 0, so that every pass over the same images draws the same.
    """
    drawn = {name: torch.Generator(on.device).manual_seed(0) for name in (NOISE, PGD)}
    pgd_attack = partial(pgd, epsilon=epsilon, steps=pgd_steps, generator=drawn[PGD])
    noise: Attack = lambda _network, batch, _labels: sign_noise(batch, epsilon=epsilon, generator=drawn[NOISE])  # noqa: E731
    found: dict[str, tuple[Attack, torch.Generator | None]] = {FGSM: (partial(fgsm, epsilon=epsilon), None)}
    found[NOISE] = noise, drawn[NOISE]
    return found | ({PGD: (pgd_attack, drawn[PGD])} if pgd_steps else {})


def common(attacker: str) -> str:
    """What the set of FGSM images is called that were made against one network, by its title, and shown to all."""
    return f"FGSM of {attacker}"


def measure_networks(
    models: Mapping[str, Classifier],
    images: ImageSet,
    on: Runtime,
    *,
    attackers: Mapping[str, Classifier] | None = None,
    **how: Any,
) -> dict[str, Passes]:
    """`measure_with_controls` of the networks that are compared, by title, with the common images of `attackers`.

    Raises:
        ParameterError: an attacker has the weights of a network compared, for which alone its images are those of an
            attack that knows it.
    """
    for (name, attacker), (title, model) in itertools.product((attackers or {}).items(), models.items()):
        one, other = attacker.state_dict(), model.state_dict()
        if one.keys() == other.keys() and all(torch.equal(one[key].cpu(), other[key].cpu()) for key in one):
            raise ParameterError(f"{name} attacks for all, and is compared itself as {title}: take another attacker")
    return {
        title: measure_with_controls(model, images, on, attackers=attackers, **how) for title, model in models.items()
    }


def measure_with_controls(
    model: Classifier,
    images: ImageSet,
    on: Runtime,
    *,
    epsilon: float,
    quantile: float = 0.005,
    top_k: int = 20,
    pgd_steps: int = 0,
    controls: bool = True,
    attackers: Mapping[str, Classifier] | None = None,
) -> Passes:
    """The real images, their FGSM images, and the controls, each in one pass with the real images' thresholds.

    The controls: FGSM images that turned a right answer into a wrong one; noise of the same size without the
    attack's direction; real images that the network misclassifies without any attack; and the FGSM images of other
    networks, the same for every network compared. With predicted labels in place of the true ones, a neuron
    that follows the (wrong) decision is as consistent as before; one that has become ambiguous is not.

    Args:
        epsilon: size of FGSM, PGD and the noise.
        quantile, top_k: see `responses.respond`.
        pgd_steps: 0 leaves PGD out.
        controls: whether they are measured at all.
        attackers: those networks by title, which their sets are named after: see `common`.

    Source: P1, Table 1; the controls are ours.
    """
    see = partial(respond, model, on=on, quantile=quantile, top_k=top_k)
    real = see(images)
    fixed = {name: layer.thresholds for name, layer in real.layers.items()}
    attacks = {name: attack for name, (attack, _) in attacks_of(on, epsilon=epsilon, pgd_steps=pgd_steps).items()}
    own = attacks[FGSM]
    sets = {REAL: real, FGSM: see(images, thresholds=fixed, attack=own)}
    if controls:
        sets[NOISE] = see(images, thresholds=fixed, attack=attacks[NOISE])
        for title, attacker in (attackers or {}).items():
            attacker.to(on.device).eval()
            foreign: Attack = lambda _network, batch, labels: own(attacker, batch, labels)  # noqa: B023, E731 (used at once)
            sets[common(title)] = see(images, thresholds=fixed, attack=foreign)
        right = real.predictions == real.labels
        fooled = right & (sets[FGSM].predictions != real.labels)
        for name, chosen, attack in ((SUCCESSFUL, fooled, own), (WRONG, ~right, None)):
            if int(chosen.sum()) >= 2:  # fewer say nothing of consistency
                sets[name] = see(images.subset(chosen.nonzero().squeeze(1)), thresholds=fixed, attack=attack)
    if pgd_steps:
        sets[PGD] = see(images, layers=[], attack=attacks[PGD])
    return Passes(model.last_layer, sets)


def consistency_table(passes: Mapping[str, Passes], correlation: Tensor, *, equal_m: int) -> pd.DataFrame:
    """One row a network, set and kind of label: model (its title), set, labels, and `measure.consistency_row`."""
    return pd.DataFrame(
        {"model": title, "set": name, "labels": kind}
        | consistency_row(responses, one.layer, correlation, kind=kind, equal_m=equal_m)
        for title, one in passes.items()
        for name, responses in one.sets.items()
        if responses.layers
        for kind in ("true", "predicted")
    )


def view(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """The columns of such a table that a page shows, a name of `VIEWS`, indexed by what the rows are of.

    "paper" are the two sets of Table 1 under the true labels, "pair" these under both.
    """
    if name in ("paper", "pair"):
        rows = rows[rows["set"].isin([REAL, FGSM])]
    if name == "paper":
        rows = rows[rows["labels"] == "true"].drop(columns="labels")
    return rows.set_index([key for key in ("model", "case", "set", "labels") if key in rows])[VIEWS[name]]


def accuracy_table(passes: Mapping[str, Passes], sets: Mapping[str, str]) -> pd.DataFrame:
    """Table 3 of P1: one row a network and set, with accuracy in per cent and its Wilson interval.

    Args:
        passes: by title.
        sets: those shown, each with what the page calls it.
    """
    return pd.DataFrame(
        {"model": title, "images": shown} | accuracy_row(one.sets[name].predictions, one.sets[name].labels)
        for title, one in passes.items()
        for name, shown in sets.items()
    )


def neuron_pairs(passes: Passes, correlation: Tensor) -> pd.DataFrame:
    """U of every neuron on real and on FGSM images: neuron, labels (a kind), real, adversarial, chance."""
    tables, level = [], chance(passes.sets[REAL].labels, correlation).unbiased
    for kind in ("true", "predicted"):
        one, other = (neuron_table(passes.sets[name], passes.layer, correlation, kind=kind) for name in (REAL, FGSM))
        values = {"labels": kind, "real": one["U"], "adversarial": other["U"], "chance": level}
        tables.append(one[["neuron"]].assign(**values))
    return pd.concat(tables)


def neuron_values(passes: Mapping[str, Passes], correlation: Tensor) -> pd.DataFrame:
    """V and U of every neuron on the two sets of Table 1: `measure.neuron_table` with the columns model and measure."""
    return pd.concat(
        neuron_table(one.sets[name], one.layer, correlation).assign(model=title, measure=measure)
        for title, one in passes.items()
        for name, measure in ((REAL, "consis"), (FGSM, "consis_adv"))
    )


def value_counts(neurons: pd.DataFrame) -> pd.DataFrame:
    """How many neurons of each network have each V, to three digits: what is kept of `neuron_values`."""
    grouped = neurons.round({"V": 3}).groupby(["model", "measure", "V"], sort=False)
    return grouped.size().rename("neurons").reset_index()


def compare_sets(passes: Passes, correlation: Tensor, sets: Iterable[tuple[str, str]]) -> pd.DataFrame:
    """U on sets of images less U on the real ones: the columns of `measure.comparison`, by set and kind of label.

    Args:
        sets: names, each with the kind of label.
    """
    rows = {
        (name, kind): comparison(*(passes.estimate(one, correlation, kind=kind) for one in (name, REAL)))
        for name, kind in sets
    }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis(["set", "labels"])
    return table.rename(columns={"U there": "U of real images"})


def compare_trainings(
    passes: Mapping[str, Passes],
    recipes: Sequence[Named],
    titles: Mapping[str, str],
    correlation: Tensor,
    pairs: Iterable[tuple[str, str]],
    sets: Iterable[tuple[str, str]],
) -> pd.DataFrame:
    """U of a network less that of another which differs in its objective alone; for several seeds also their mean.

    Args:
        passes: by title.
        titles: by key.
        pairs: objectives, the first less the second.
        sets: names of sets of images, each with the kind of label.

    Returns:
        One row a pair of networks, or of groups of networks of several seeds, and set: first, second, set, labels, and
        the columns of `measure.comparison`.
    """
    rows = []
    for objectives, (name, kind) in itertools.product(pairs, sets):
        for title, same in seed_groups(matched(recipes, *objectives), titles).items():
            found = [
                [passes[titles[recipe.key]].estimate(name, correlation, kind=kind) for recipe in pair] for pair in same
            ]
            lines = {
                (titles[a.key], titles[b.key]): comparison(one, other)
                for (a, b), (one, other) in zip(same, found, strict=True)
            }
            if len(same) > 1:
                one, other = (over_seeds(each) for each in zip(*found, strict=True))
                difference = over_seeds([first.minus(second) for first, second in found])
                lines[title, f"{same[0][1].title}, {len(same)} seeds"] = comparison(one, other, difference)
            rows += [{"first": a, "second": b, "set": name, "labels": kind, **line} for (a, b), line in lines.items()]
    return pd.DataFrame(rows)
