"""Neurons to look at: which ones, the images that fire them most, and where in those images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from neuron_consistency.attacks import Attack
from neuron_consistency.consistency import unbiased_consistency
from neuron_consistency.data.images import ImageSet
from neuron_consistency.localisation import discrepancy_maps, highlighted_region
from neuron_consistency.models import Classifier
from neuron_consistency.plotting import Picture, PictureGrid
from neuron_consistency.responses import Responses


def strongest_neurons(responses: Responses, layer: str, correlation: Tensor, *, count: int) -> list[int]:
    """The neurons that are most consistent on a set, each of another main class as far as there are such.

    Shape:
        correlation: (K, K).
    """
    counts = responses.layers[layer].counts["true"].sum(0)
    order = unbiased_consistency(counts, correlation).nan_to_num(-1).argsort(descending=True).tolist()
    first_of_class: dict[int, int] = {}
    for neuron in order:
        first_of_class.setdefault(int(counts[neuron].argmax()), neuron)
    chosen = list(first_of_class.values())
    return (chosen + [neuron for neuron in order if neuron not in chosen])[:count]


def _row(
    model: Classifier,
    images: ImageSet,
    responses: Responses,
    layer: str,
    neuron: int,
    *,
    count: int,
    attack: Attack | None,
    marked: Tensor | None,
    device: torch.device,
    precision: str,
) -> list[Picture]:
    """The images that fire a neuron most, bright where they drive it, under captions "true" or "true as predicted"."""
    found = responses.layers[layer]
    indices = found.top_indices[:count, neuron]
    indices = indices[found.top_values[:count, neuron] > 0]
    if len(indices) == 0:
        return []
    batch, labels = images.batch(indices, device)
    if attack is not None:
        batch = attack(model, batch, labels)
    maps = discrepancy_maps(model, layer, batch, [[neuron]] * len(batch), precision=precision)
    pictures = []
    for index, image, region in zip(indices.tolist(), batch.cpu(), highlighted_region(maps[:, 0]).cpu(), strict=True):
        true, predicted = (images.classes[int(names[index])] for names in (responses.labels, responses.predictions))
        caption = true if true == predicted else f"{true}\nas {predicted}"
        framed = marked is not None and bool(marked[index])
        pictures.append(Picture(image, caption, bright=region, framed=framed))
    return pictures


def top_image_rows(
    model: Classifier,
    layer: str,
    neurons: Sequence[int],
    sets: Sequence[tuple[str, ImageSet, Responses, Attack | None]],
    correlation: Tensor,
    *,
    count: int,
    device: torch.device,
    marked: Mapping[str, Tensor] | None = None,
    precision: str = "auto",
) -> PictureGrid:
    """For every neuron a row of its strongest images in every set, to be drawn by `plotting.picture_grid`.

    Args:
        model: the network, in eval mode.
        layer: whose neurons.
        neurons: which of them.
        sets: name, images, the pass over them, and the attack that made them adversarial in that pass.
        correlation: A of Eq. 2, for the U in a row's title.
        count: images a row.
        device: where.
        marked: by name of a set, which of its images are framed in the row of each neuron.
        precision: of the forward passes.

    Shape:
        correlation: (K, K); marked: (len(neurons), N) bool.

    Source: P1, figures 3 and 4; P2, figure 2.
    """
    rows = []
    for place, neuron in enumerate(neurons):
        for name, images, responses, attack in sets:
            row = _row(
                model,
                images,
                responses,
                layer,
                neuron,
                count=count,
                attack=attack,
                marked=marked[name][place] if marked and name in marked else None,
                device=device,
                precision=precision,
            )
            counts = responses.layers[layer].counts["true"].sum(0)[neuron]
            active, u = int(counts.sum()), float(unbiased_consistency(counts, correlation))
            text = f"U = {u:.2f}" if active > 1 else f"{active} active"
            rows.append((f"neuron {neuron}\n{name}\n{text}", row))
    return PictureGrid(rows)
