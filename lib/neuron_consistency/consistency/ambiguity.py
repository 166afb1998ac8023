"""Is it ambiguity? The sets and labels that have to stand beside consis_adv before it can be read as such."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.attacks.linf import Attack, fgsm, sign_noise
from neuron_consistency.attacks.predictions import accuracy_row
from neuron_consistency.consistency.measure import comparison, consistency_row, mean_consistency
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.networks.models import Classifier
from neuron_consistency.responses import Responses, respond
from neuron_consistency.show import Named, matched, seed_groups
from neuron_consistency.statistics import Estimate, over_seeds

REAL, FGSM, SUCCESSFUL, NOISE, WRONG, COMMON = (
    "real",
    "FGSM",
    "FGSM, successful only",
    "sign noise, same size",
    "real, misclassified",
    "FGSM of one network for all",
)


@dataclass(frozen=True)
class Measured:
    """The passes of one network over the real images and their controls, read at one layer."""

    layer: str
    passes: dict[str, Responses]

    def table(self, correlation: Tensor, *, equal_m: int) -> pd.DataFrame:
        """One row a set and kind of label, with the columns of `measure.consistency_row`.

        Shape:
            correlation: (K, K).
        """
        rows = [
            {"set": name, "labels": kind}
            | consistency_row(responses, self.layer, correlation, kind=kind, equal_m=equal_m)
            for name, responses in self.passes.items()
            for kind in ("true", "predicted")
        ]
        return pd.DataFrame(rows)

    def estimate(self, name: str, correlation: Tensor, *, kind: str = "true", unbiased: bool = True) -> Estimate:
        """The mean over neurons of U (or V) on one of the sets.

        Shape:
            correlation: (K, K).
        """
        counts = self.passes[name].layers[self.layer].counts[kind]
        return mean_consistency(counts, correlation, unbiased=unbiased)

    def real_and_adversarial(self) -> Sequence[tuple[str, Responses]]:
        """The two sets of Table 1, by the name of their measure in the paper."""
        return [("consis", self.passes[REAL]), ("consis_adv", self.passes[FGSM])]


def measure_with_controls(
    model: Classifier,
    images: ImageSet,
    *,
    epsilon: float,
    device: torch.device,
    attacker: Classifier | None = None,
    layer: str | None = None,
    quantile: float = 0.005,
    top_k: int = 20,
    batch_size: int = 256,
    precision: str = "auto",
) -> Measured:
    """The real images, their FGSM images, and the controls, each in one pass with the real images' thresholds.

    The controls: FGSM images that turned a right answer into a wrong one; noise of the same size without the
    attack's direction; real images that the network misclassifies without any attack; and FGSM images of one
    `attacker`, the same for every network compared. With predicted labels in place of the true ones, a neuron
    that follows the (wrong) decision is as consistent as before; one that has become ambiguous is not.

    Args:
        model: the network measured.
        images: the real images.
        epsilon: size of FGSM and noise.
        device: where.
        attacker: the network whose FGSM images all networks are shown; None leaves that set out.
        layer: None is the last one.
        quantile, top_k: see `responses.respond`.
        batch_size: images a forward pass.
        precision: of the forward passes.

    Source: P1, Table 1; the controls are ours.
    """
    name = layer or model.last_layer

    def measure(
        subset: ImageSet, attack: Attack | None = None, thresholds: dict[str, Tensor] | None = None
    ) -> Responses:
        return respond(
            model,
            subset,
            device=device,
            layers=[name],
            quantile=quantile,
            top_k=top_k,
            thresholds=thresholds,
            attack=attack,
            batch_size=batch_size,
            precision=precision,
        )

    real = measure(images)
    fixed = {name: real.layers[name].thresholds}

    def under(subset: ImageSet, attack: Attack | None) -> Responses:
        return measure(subset, attack, fixed)

    own: Attack = lambda network, batch, labels: fgsm(network, batch, labels, epsilon=epsilon)  # noqa: E731
    generator = torch.Generator(device).manual_seed(0)
    passes = {
        REAL: real,
        FGSM: under(images, own),
        NOISE: under(images, lambda _network, batch, _labels: sign_noise(batch, epsilon=epsilon, generator=generator)),
    }
    if attacker is not None:
        source = attacker.to(device).eval()
        passes[COMMON] = under(images, lambda _network, batch, labels: fgsm(source, batch, labels, epsilon=epsilon))
    right = real.predictions == real.labels
    fooled = right & (passes[FGSM].predictions != real.labels)
    for subset_name, chosen, attack in ((SUCCESSFUL, fooled, own), (WRONG, ~right, None)):
        if int(chosen.sum()) >= 2:  # fewer say nothing of consistency
            passes[subset_name] = under(images.subset(chosen.nonzero().squeeze(1)), attack)
    return Measured(name, passes)


def compare_trainings(
    measured: Mapping[str, Measured],
    recipes: Sequence[Named],
    titles: Mapping[str, str],
    correlation: Tensor,
    pairs: Iterable[tuple[str, str]],
    sets: Iterable[tuple[str, str]],
) -> pd.DataFrame:
    """U of a network less that of another which differs in its objective alone; for several seeds also their mean.

    Args:
        measured: by title.
        recipes: of the networks.
        titles: by key.
        correlation: A.
        pairs: objectives, the first less the second.
        sets: names of sets of images, each with the kind of label.

    Returns:
        One row a pair of networks, or of groups of networks of several seeds, and set: first, second, set, labels, and
        the columns of `measure.comparison`.

    Shape:
        correlation: (K, K).
    """
    rows = []
    for objectives, (name, kind) in itertools.product(pairs, sets):
        for title, same in seed_groups(matched(recipes, *objectives), titles).items():
            found = [
                [measured[titles[recipe.key]].estimate(name, correlation, kind=kind) for recipe in pair]
                for pair in same
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


def reaction_table(
    cases: Mapping[str, tuple[Classifier, ImageSet]],
    correlation: Tensor,
    *,
    device: torch.device,
    quantile: float = 0.005,
    top_k: int = 20,
    batch_size: int = 256,
    precision: str = "auto",
) -> pd.DataFrame:
    """Whether the measure reacts to what must move it, such as random weights or shuffled labels, at every layer.

    Args:
        cases: by name, a network and the images that it is shown.
        correlation: A.
        device: where.
        quantile, top_k: see `responses.respond`.
        batch_size: images a forward pass.
        precision: of the forward passes.

    Returns:
        One row a case and layer: case, layer, accuracy in per cent, and the columns of `measure.consistency_row`.

    Shape:
        correlation: (K, K).

    Source: the sanity checks of Adebayo et al. 2018, which randomise weights and labels, for this measure.
    """
    options = {"quantile": quantile, "top_k": top_k, "batch_size": batch_size, "precision": precision}
    rows = []
    for name, (model, images) in cases.items():
        responses = respond(model, images, device=device, layers=list(model.layers), **options)  # type: ignore[arg-type]
        right = accuracy_row(responses.predictions, responses.labels)["accuracy"]
        for layer in model.layers:
            row = consistency_row(responses, layer, correlation, equal_m=top_k)
            rows.append({"case": name, "layer": layer, "accuracy": right} | row)
    return pd.DataFrame(rows)


def shuffled(images: ImageSet, *, seed: int = 0) -> ImageSet:
    """The same images, each under the label of another drawn at random: what they show and are called has no link."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return replace(images, labels=images.labels[order])
