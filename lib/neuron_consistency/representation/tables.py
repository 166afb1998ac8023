"""How often networks are fooled, what is measured of them and the sets made against them, and the claims, as tables."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.attacks.predictions import predictions
from neuron_consistency.attacks.stored_set import AdversarialSet
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.representation.centroids import class_centroids, distance_ratios
from neuron_consistency.representation.measure import measure_neurons, top_responses
from neuron_consistency.representation.neurons import NeuronMeasures
from neuron_consistency.responses import Responses
from neuron_consistency.runtime import Runtime
from neuron_consistency.show import stacked, with_intervals
from neuron_consistency.statistics import mean, share
from neuron_consistency.taxonomy import correlation, distance_matrix

OWN = ", own set"  # after the title of a network that is shown images made against itself, and not the normal networks'


@dataclass(frozen=True)
class Measured:
    """What a network makes of a set of adversarial images.

    Attributes:
        network: its key.
        passes: over the real and over the adversarial images, of the last layer alone.
        ratios: from `distance_ratios`.
    """

    network: str
    passes: tuple[Responses, Responses]
    neurons: NeuronMeasures
    ratios: pd.DataFrame


def measure_networks(
    models: Mapping[str, Classifier],
    titles: Mapping[str, str],
    sets: Sequence[AdversarialSet],
    real: ImageSet,
    places: Tensor,
    training: ImageSet,
    on: Runtime,
    *,
    sigma: float = 2.0,
    pooling: str = "mean",
    top: Mapping[str, Any],
    concepts: Mapping[str, Any],
) -> dict[str, Measured]:
    """Everything that chapter 6 measures: every network on the first set, and on those that were made on it.

    A network's pass over the real images and its centroids serve all its sets.

    Args:
        models, titles: by key.
        sets: all made of the same clean images.
        places: where these are among the real ones, in their order.
        training: what centroids are taken from.
        sigma: of A, P1's Eq. 2.
        pooling: see `class_centroids`.
        top, concepts: options of `top_responses` and of `measure_neurons`.

    Returns:
        By title, which is followed by OWN for a set that was made on the network and is not the first.
    """
    distances, clean, found = distance_matrix(real.synsets), real.subset(places), {}
    for key, model in models.items():
        print(f"measuring {titles[key]}", flush=True)
        strongest = top_responses(model, real, on, **top)
        centroids = class_centroids(model, training, on, pooling=pooling)
        for place, shown in enumerate(sets):
            if place and key not in shown.networks:
                continue
            label = titles[key] + (OWN if place else "")
            fooled = top_responses(model, shown, on, **top)
            origins, similar = places[shown.indices], correlation(distances, sigma=sigma)
            neurons = measure_neurons(strongest, fooled, shown.targets, origins, similar, distances, **concepts)
            ratios = distance_ratios(model, clean, shown, centroids, on, pooling=pooling)
            found[label] = Measured(key, (_last(model, strongest), _last(model, fooled)), neurons, ratios)
    return found


def _last(model: Classifier, passed: Responses) -> Responses:
    return replace(passed, layers={model.last_layer: passed.layers[model.last_layer]})


def lc_table(measured: Mapping[str, Measured]) -> pd.DataFrame:
    """LC over all neurons of all layers, and how many are silent: without top images in one of the sets."""
    neurons = stacked({label: one.neurons.table for label, one in measured.items()})
    each = neurons.assign(silent=neurons["CS1"].isna()).groupby("network", sort=False)
    table = pd.DataFrame(each["LC"].agg(neurons="size", lowest="min", median="median", highest="max"))
    table.insert(1, "silent", each["silent"].sum())
    return table.assign(chance=each["LC chance"].mean())


def ratio_means(ratios: pd.DataFrame) -> pd.DataFrame:
    """Means of r1 and r2 over adversarial images and over their noise, and of the difference.

    Args:
        ratios: from `distance_ratios`.

    Returns:
        One row a ratio ("r1", "r2"), subset ("all" images, those that reach the target in this network, "reached here",
        and those that reach it in all networks of the set, "reached everywhere") and of ("adversarial", "noise",
        "difference"); columns images, clean images, value, low, high.
    """
    reached = {"reached here": ratios[ratios["reached"]], "reached everywhere": ratios[ratios["reached everywhere"]]}
    rows = []
    for ratio, (subset, some) in itertools.product(("r1", "r2"), ({"all": ratios} | reached).items()):
        attacked, noise = (some[name].to_numpy(np.float64) for name in (ratio, f"{ratio} noise"))
        for of, values in {"adversarial": attacked, "noise": noise, "difference": attacked - noise}.items():
            row = {"of": of, "images": len(some), "clean images": some["clean"].nunique()}
            row |= mean(values, some["clean"]).row("value", bare=True)
            rows.append(row | {"ratio": ratio, "subset": subset})
    return pd.DataFrame(rows)


def mean_columns(means: pd.DataFrame) -> pd.DataFrame:
    """The stacked tables of `ratio_means` with intervals as text, images and noise beside each other.

    Means over one clean image, which have no interval, are left out.
    """
    shown = with_intervals(means, decimals=2)
    shown = shown[(shown["of"] != "difference") & (shown["clean images"] > 1)]
    shown = shown.assign(column=shown["ratio"] + ", " + shown["of"])
    return shown.set_index(["network", "subset", "images", "column"])["value"].unstack(sort=False)


def success_table(
    sets: Mapping[str, AdversarialSet], models: Mapping[str, Classifier], clean: ImageSet, on: Runtime
) -> pd.DataFrame:
    """How often the networks that a set was made on say the target: one row each, and one for all of them at once.

    Columns: network, images; `reached`, `reached low`, `reached high`, in per cent (see `share`); `reached clean`,
    its chance level, how often the clean image is taken for the target already; `RMSD` and `RMSD of 255`, means over
    the images that reached their target; set.

    Args:
        sets: by name, whose stored success is read.
        models: their networks, by key.
        clean: the images they were made from.

    Raises:
        ParameterError: `clean` is another set, or a network is missing.

    Source: P2 reports RMSD; chance levels and intervals are ours.
    """
    rows = []
    for title, made in sets.items():
        _check_clean(made, clean)
        if missing := [name for name in made.networks if name not in models]:
            raise ParameterError(f"the set was made on {', '.join(missing)} too: hand in all of its networks")
        said = [predictions(models[name], clean, on)[made.indices] == made.targets for name in made.networks]
        before = torch.stack([*said, torch.stack(said).all(0)])
        reached = [*made.success.unbind(1), made.success.all(1)]
        for name, after, unattacked in zip([*made.networks, "all"], reached, before, strict=True):
            row = {"network": name, "images": len(after), **_shares("reached", after, unattacked, made.indices)}
            rmsd = float(made.rmsd[after].mean())
            rows.append(row | {"RMSD": rmsd, "RMSD of 255": 255 * rmsd, "set": title})
    return pd.DataFrame(rows)


def transfer_table(
    sets: Mapping[str, AdversarialSet], models: Mapping[str, Classifier], clean: ImageSet, on: Runtime
) -> pd.DataFrame:
    """What networks say of the sets that were made without them: one row each.

    Columns: network, images; `reached` (they say the target), `wrong` (any class but the true one), each in per
    cent with its interval, as `reached low` and `reached high` (see `share`), and with its chance level `reached
    clean`, the share of the clean images; set.

    Args:
        sets: by name.
        models: by key; of each set, those that it was not made on.
        clean: the images they were made from.

    Raises:
        ParameterError: `clean` is another set.
    """
    rows = []
    for title, made in sets.items():
        _check_clean(made, clean)
        for name, model in models.items():
            if name in made.networks:
                continue
            after, before = predictions(model, made, on), predictions(model, clean, on)[made.indices]
            reached = _shares("reached", after == made.targets, before == made.targets, made.indices)
            wrong = _shares("wrong", after != made.labels, before != made.labels, made.indices)
            rows.append({"network": name, "images": len(after), **reached, **wrong, "set": title})
    return pd.DataFrame(rows)


def _shares(title: str, after: Tensor, before: Tensor, clusters: Tensor) -> dict[str, float]:
    found = share(after, clusters, whole=100).row(title)
    return found | {f"{title} clean": 100 * float(before.float().mean())}


def _check_clean(adversarial: AdversarialSet, clean: ImageSet) -> None:
    if clean.fingerprint != adversarial.source:
        raise ParameterError(f"{clean.name} ({clean.split}) is not the set that the adversarial images were made from")
