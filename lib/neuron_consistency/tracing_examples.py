"""Single predictions to look at: which images stand for right answers, errors and attacks, and what traces them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.attacks.linf import Attack
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.detection import SOFTMAX, Detectors, Scores
from neuron_consistency.detection_tables import fooled_images
from neuron_consistency.networks.reading import evaluating, read_layers
from neuron_consistency.runtime import autocast
from neuron_consistency.tracing_tables import against_random_neurons, explain

RIGHT, ERROR, ATTACKED = "a right answer", "an error", "an adversarial image"


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
        explanation: from `tracing_tables.explain`.
        random: from `tracing_tables.against_random_neurons`.
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
