"""What influential neurons stand for: class profiles, the explanation of one prediction, statistics over many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.attacks.linf import Attack
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import evaluating, read_layers
from neuron_consistency.runtime import autocast
from neuron_consistency.statistics import OPEN, mean, middle
from neuron_consistency.tracing.detection import SOFTMAX, Detectors, Scores
from neuron_consistency.tracing.detection_tables import fooled_images
from neuron_consistency.tracing.influence import prediction_difference, rest_of_network
from neuron_consistency.tracing.profiles import Profiles

RIGHT, ERROR, ATTACKED = "a right answer", "an error", "an adversarial image"


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


def typical_examples(clean: Scores, attacked: Scores) -> dict[str, int]:
    """The place of a right answer, of an error and of a successful attack: each the median of its kind in sureness.

    A rule, so that no example is picked for its looks. A kind without images is left out.

    Args:
        clean, attacked: scores of the same images.
    """
    kinds = {
        RIGHT: (clean, clean.predictions == clean.labels),
        ERROR: (clean, clean.predictions != clean.labels),
        ATTACKED: (attacked, fooled_images(clean, attacked)),
    }
    found = {}
    for name, (scores, chosen) in kinds.items():
        places = chosen.nonzero().squeeze(1)
        if len(places):
            order = scores.rivals[SOFTMAX][places].argsort(stable=True)
            found[name] = int(places[order[(len(order) - 1) // 2]])
    return found


@dataclass(frozen=True)
class TracedPrediction:
    """One prediction, the neurons behind it, and as many random ones.

    Attributes:
        title: what the network said, how surely, and what the image shows.
        explanation: from `tables.explain`.
        random: from `tables.against_random_neurons`.
        examples: by neuron of the explanation, the selection images that fire it most.

    Shape:
        image and examples: (3, H, W) in [0, 1], on the CPU.
    """

    image: Tensor
    title: str
    explanation: pd.DataFrame
    random: pd.DataFrame
    examples: dict[int, list[Tensor]]


@torch.no_grad()
def trace_examples(
    detectors: Detectors,
    images: ImageSet,
    selection: ImageSet,
    chosen: Mapping[str, tuple[int, Attack | None]],
    *,
    count: int = 4,
    shown: int = 4,
    precision: str = "auto",
) -> dict[str, TracedPrediction]:
    """Some predictions, each traced to its most influential neurons.

    Args:
        detectors: of the network, for its profiles and its rest.
        images: the set that the predictions are of.
        selection: the set that the profiles are from.
        chosen: by name, the place of the image and what makes it adversarial first.
        count: neurons for, and as many against, the prediction.
        shown: strongest images of each.
        precision: of the forward passes up to the layer.
    """
    profiles, model = detectors.profiles, detectors.model
    device = next(model.parameters()).device
    traced = {}
    for name, (place, attack) in chosen.items():
        batch, labels = images.batch(torch.tensor([place]), device)
        with evaluating(model), read_layers(model, [profiles.layer]) as outputs, autocast(device, precision):
            if attack is not None:
                batch = attack(model, batch, labels)
            model(batch)
        features, true = outputs[profiles.layer], int(labels)
        logits = detectors.rest(features)
        predictions = logits.argmax(1)
        predicted = int(predictions)
        (influence,) = detectors.rest.influence(features, predictions, form=detectors.form).cpu()
        table = explain(influence, profiles, predicted, true=None if predicted == true else true, count=count)
        sureness = float(logits.softmax(1).amax())
        title = f"said: {images.classes[predicted]} (p = {sureness:.2f})\nshows: {images.classes[true]}"
        examples = {}
        for neuron in table["neuron"].tolist():
            strongest = profiles.strongest[:shown, neuron]
            strongest = strongest[strongest >= 0]
            examples[neuron] = list(selection.batch(strongest, device)[0].cpu()) if len(strongest) else []
        random = against_random_neurons(influence, profiles, predicted, count=count)
        traced[name] = TracedPrediction(batch[0].cpu(), title, table, random, examples)
    return traced
