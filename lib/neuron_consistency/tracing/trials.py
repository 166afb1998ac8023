"""Networks and their detectors on trial: clean test images first, then one attack after another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from torch import Tensor

from neuron_consistency.attacks.predictions import under_pgd
from neuron_consistency.attacks.stored_set import AdversarialSet
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import Attack
from neuron_consistency.runtime import Runtime
from neuron_consistency.tracing.detection import MISMATCH, Detectors, fit_detectors
from neuron_consistency.tracing.ranking import auroc


@dataclass(frozen=True)
class Trial:
    """The detectors of one network, and what they said of the test images: tables as `Detectors.scores` gives them.

    Attributes:
        detectors: of the network.
        k: the number of influential neurons that its detector reads.
        choice: from `choose_k`.
        clean: of the test images, numbered as they lie.
        attacked: by attack, of the images made from all or some of them; each attack tried is added here.
    """

    detectors: Detectors
    k: int
    choice: pd.DataFrame
    clean: pd.DataFrame
    attacked: dict[str, pd.DataFrame]

    def scores(
        self, images: ImageSet, on: Runtime, *, sources: Tensor | None = None, attack: Attack | None = None
    ) -> pd.DataFrame:
        """`Detectors.scores` for this k."""
        return self.detectors.scores(images, on, ks=[self.k], attack=attack, sources=sources)


def try_networks(
    models: Mapping[str, Classifier], images: ImageSet, on: Runtime, *,
    training: ImageSet, selection: ImageSet, fgsm: Attack, ks: Sequence[int], **fitted: Any,
) -> dict[str, Trial]:  # fmt: skip
    """Fits the detectors of every network, chooses its k on the selection images under FGSM, and scores test images.

    Args:
        models: by title.
        images: the test images, scored as they are and under FGSM.
        training, selection: as for `fit_detectors`.
        ks: what k is chosen from.
        **fitted: the other options of `fit_detectors`.
    """
    trials = {}
    for title, model in models.items():
        detectors = fit_detectors(model, on, training=training, selection=selection, **fitted)
        clean, attacked = (detectors.scores(selection, on, ks=ks, attack=attack) for attack in (None, fgsm))
        k, choice = choose_k(clean, attacked, ks)
        clean, attacked = (detectors.scores(images, on, ks=[k], attack=attack) for attack in (None, fgsm))
        trials[title] = Trial(detectors, k, choice, clean, {"FGSM": attacked})
    return trials


def try_attacks(
    trials: Mapping[str, Trial], images: ImageSet, places: Tensor, on: Runtime, *,
    epsilon: float, steps: int, ensembles: Mapping[str, AdversarialSet],
) -> None:  # fmt: skip
    """Adds to every trial the images at `places` (N',) under PGD, and the set that an ensemble made of them.

    Args:
        images: the test images.
        epsilon, steps: of PGD.
        ensembles: by title of a network, the set that it meets, if there is one.
    """
    for title, trial in trials.items():
        pgd = under_pgd(on, epsilon=epsilon, steps=steps)
        trial.attacked["PGD"] = trial.scores(images.subset(places), on, sources=places, attack=pgd)
        if made := ensembles.get(title):
            trial.attacked["ensemble"] = trial.scores(made, on, sources=places[made.indices])


def fooled(clean: pd.DataFrame, attacked: pd.DataFrame) -> pd.DataFrame:
    """The attacked images that are successes: the network is right about the clean image and wrong about this one.

    Args:
        clean, attacked: from `Detectors.scores`.
    """
    return attacked[attacked.index.isin(clean.index[clean["right"]]) & ~attacked["right"]]


def choose_k(clean: pd.DataFrame, attacked: pd.DataFrame, ks: Sequence[int]) -> tuple[int, pd.DataFrame]:
    """The number of neurons that tells attacked from clean images best, for use on other images.

    Args:
        clean, attacked: scores of the same selection images for these values of k.

    Returns:
        The best k (of equals, and where no attack succeeded, the first), and one row a k: AUROC, low, high.

    Source: ours; P2 leaves k open.
    """
    right, successes = clean[clean["right"]], fooled(clean, attacked)
    areas = {k: auroc(successes[f"{MISMATCH} {k}"], right[f"{MISMATCH} {k}"]) for k in ks}
    table = pd.DataFrame({"k": k} | area.columns() for k, area in areas.items())
    return int(table["k"].iloc[table["AUROC"].fillna(0).argmax()]), table
