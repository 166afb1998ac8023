"""What influential neurons stand for: class profiles, the explanation of one prediction, statistics over many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.consistency.measure import chance, unbiased_consistency
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.responses import respond
from neuron_consistency.statistics import OPEN, mean, middle
from neuron_consistency.tracing import prediction_difference, rest_of_network


@dataclass(frozen=True)
class Profiles:
    """What the neurons of a layer fire for, on images that no result is reported on.

    Attributes:
        layer: whose neurons.
        classes: the names of the classes.
        chance: chance level of `consistency`.

    Shape:
        strongest: (k, C) int64, the images that fire each neuron most, strongest first; -1 beyond those that do;
        shares: (C, K) float64, the classes' shares p_n of each neuron's strongest images;
        matches: (C, K) float64, A p_n: the mean correlation of a class with those images;
        consistency: (C,) float64, U of the same images, NaN for fewer than two.
    """

    layer: str
    classes: tuple[str, ...]
    strongest: Tensor
    shares: Tensor
    matches: Tensor
    consistency: Tensor
    chance: float

    def words(self, neuron: int, *, count: int = 3) -> str:
        """A neuron's main classes with their shares, such as "cat .60, dog .25"."""
        shares, places = self.shares[neuron].topk(min(count, len(self.classes)))
        named = zip(shares.tolist(), places.tolist(), strict=True)
        return ", ".join(f"{self.classes[place]} {share:.2f}".replace(" 0.", " .") for share, place in named if share)


def neuron_profiles(
    model: Classifier,
    images: ImageSet,
    correlation: Tensor,
    *,
    layer: str | None = None,
    top_k: int = 10,
    device: torch.device,
    batch_size: int = 256,
    precision: str = "auto",
) -> Profiles:
    """The class profile of every neuron of a layer, from its `top_k` strongest images.

    A neuron that no image fires has the profile of the whole set, which tells nothing.

    Args:
        model: the network.
        images: images on which no result is reported: held out for selection, not the test images.
        correlation: A of Eq. 2.
        layer: None is the last one.
        top_k: how many of its strongest images make a neuron's profile.
        device: where.
        batch_size: images a forward pass.
        precision: of the forward passes.

    Shape:
        correlation: (K, K).

    Raises:
        ParameterError: see `responses.respond`.

    Source: P2, the neurons' meaning; the weighting by A (Eq. 2 of P1) is that of the detector there.
    """
    name = layer or model.last_layer
    responses = respond(
        model, images, device=device, layers=[name], top_k=top_k, batch_size=batch_size, precision=precision
    )
    found, counts = responses.layers[name], responses.top_counts(name, "true", top_k).sum(0)
    everywhere = torch.bincount(responses.labels, minlength=images.num_classes)
    used = torch.where(counts.sum(1, keepdim=True) > 0, counts, everywhere).double()
    shares = used / used.sum(1, keepdim=True)
    return Profiles(
        name,
        images.classes,
        torch.where(found.top_values > 0, found.top_indices, -1),
        shares,
        shares @ correlation.double(),
        unbiased_consistency(counts, correlation),
        chance(responses.labels, correlation).unbiased,
    )


def influence_mass(influence: Tensor, matches: Tensor) -> Tensor:
    """For every class, the share of the positive influence that is carried by neurons whose profile matches it.

    Each neuron counts by how well the class matches its profile, so that the mass of a class is the mean of
    (A p_n)[c] over the neurons, weighted by their positive prediction difference. NaN where none is positive.

    Shape:
        influence: (B, C); matches: (C, K); result: (B, K) float64.

    Source: ours, for P2's question when and why a network errs.
    """
    weights = influence.double().clamp_min(0)
    return weights @ matches.to(weights) / weights.sum(1, keepdim=True)


def explain(
    influence: Tensor, profiles: Profiles, predicted: int, *, true: int | None = None, count: int = 4
) -> pd.DataFrame:
    """The neurons that spoke most for the prediction on one image, and those that spoke most against it.

    Args:
        influence: the prediction difference of every neuron on the image.
        profiles: of the same neurons.
        predicted: the class that the network said.
        true: the class that it should have said, where that is to be shown.
        count: neurons for, and as many against (fewer where fewer have such an influence).

    Shape:
        influence: (C,).

    Returns:
        One row a neuron: side ("for", "against"), neuron, contribution, U (of its profile's images), profile, match
        (of the predicted class with its profile) and match of true; beside them as chance levels the mean over
        all neurons, which is what a neuron drawn at random gives: "contribution chance", "U chance", "match chance".

    Raises:
        ParameterError: the influence is not of the profiles' neurons.

    Source: P2, tracing; the chance levels are ours.
    """
    _same_neurons(influence, profiles)
    order = influence.argsort(descending=True, stable=True).tolist()
    sides = [("for", neuron) for neuron in order[:count] if influence[neuron] > 0]
    sides += [("against", neuron) for neuron in reversed(order[-count:]) if influence[neuron] < 0]
    rows = []
    for side, neuron in sides:
        row = {
            "side": side,
            "neuron": neuron,
            "contribution": float(influence[neuron]),
            "contribution chance": float(influence.mean()),
            "profile": profiles.words(neuron),
            "U": float(profiles.consistency[neuron]),
            "U chance": profiles.chance,
            "match": float(profiles.matches[neuron, predicted]),
            "match chance": float(profiles.matches[:, predicted].mean()),
        }
        rows.append(row if true is None else row | {"match of true": float(profiles.matches[neuron, true])})
    return pd.DataFrame(rows, columns=list(rows[0]) if rows else ["side", "neuron", "contribution"])


def against_random_neurons(
    influence: Tensor, profiles: Profiles, predicted: int, *, count: int, draws: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """The `count` most influential neurons of one image beside as many drawn at random.

    Args:
        influence, profiles, predicted: as for `explain`.
        count: how many neurons.
        draws: random sets of neurons, for the middle 95 % of what they give.
        seed: of the draws.

    Shape:
        influence: (C,).

    Returns:
        One row a measure (summed contribution, mean match of the predicted class): value, random, low, high.

    Raises:
        ParameterError: the influence is not of the profiles' neurons, or has fewer than `count`.

    Source: ours.
    """
    _same_neurons(influence, profiles)
    if not 0 < count <= len(influence):
        raise ParameterError(f"count={count}: there are {len(influence)} neurons to choose from")
    top = influence.topk(count).indices
    generator = torch.Generator().manual_seed(seed)
    sets = torch.rand(draws, len(influence), generator=generator).topk(count).indices
    rows = []
    for name, values, combine in (
        ("summed contribution", influence.double(), torch.sum),
        ("mean match of the predicted class", profiles.matches[:, predicted], torch.mean),
    ):
        row = {"measure": name, "value": float(combine(values[top], 0))}
        rows.append(row | middle(combine(values[sets], 1)).row("random"))
    return pd.DataFrame(rows)


def agreement(model: Classifier, images: Tensor, layer: str | None = None) -> dict[str, object]:
    """How far the closed form is from rerunning the rest of the network, the definition itself, on some images.

    Shape:
        images: (B, 3, H, W) in [0, 1].

    Returns:
        form (the closed one, or that there is none), the largest influence of a neuron by rerun, and the largest
        difference between the two (NaN where there is no closed form).
    """
    by_rerun = prediction_difference(model, images, layer, method="rerun")
    closed = rest_of_network(model, layer).linear is not None
    by_form = prediction_difference(model, images, layer, method="closed") if closed else by_rerun * torch.nan
    return {
        "form": "closed" if closed else "rerun alone: more than pooling and one linear map follow",
        "largest influence": float(by_rerun.abs().max()),
        "largest difference": float((by_form - by_rerun).abs().max()),
    }


def _same_neurons(influence: Tensor, profiles: Profiles) -> None:
    if influence.shape != profiles.consistency.shape:
        raise ParameterError(
            f"the influence of {tuple(influence.shape)} neurons and profiles of {len(profiles.consistency)}: "
            f"give one image's influence at {profiles.layer}"
        )


def mass_table(groups: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """When and why a network errs: which class the influential neurons stand for, by group of images.

    Args:
        groups: by name (right answers, errors, ...), one row an image: source (the clean image it came from), and the
            `influence_mass` of the class predicted, of the true class, and the mean of all other classes ("other").

    Returns:
        One row a group: images, and for predicted, true, other (the chance level) and predicted - true the
        mean with its interval of 95 % over source images (Student's t; NaN for fewer than two), and the verdict.

    Source: ours, for P2's question when and why a network errs.
    """
    rows = []
    for name, images in groups.items():
        means = images.groupby("source")[["predicted", "true", "other"]].mean()
        means["predicted - true"] = means["predicted"] - means["true"]
        row: dict[str, object] = {"group": name, "images": len(images)}
        for column in means:
            found = mean(means[column])
            row |= found.row(str(column))
        one = found.value == found.low == found.high == 0
        words = "the predicted class", "the true class", "both: they are one" if one else OPEN
        rows.append(row | {"neurons speak for": found.verdict(above=0, words=words)})
    return pd.DataFrame(rows)
