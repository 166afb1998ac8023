"""Neurons to look at: which ones, the images that fire them most, and where in those images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from neuron_consistency.consistency.measure import unbiased_consistency
from neuron_consistency.consistency.occlusion import discrepancy_maps, highlighted_region
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import Attack, evaluating
from neuron_consistency.plotting import Picture, PictureGrid
from neuron_consistency.responses import Responses
from neuron_consistency.runtime import Runtime


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


def top_image_rows(
    model: Classifier,
    sets: Sequence[tuple[str, ImageSet, Responses, Attack | None]],
    on: Runtime,
    *,
    layer: str,
    neurons: Sequence[int],
    correlation: Tensor,
    count: int,
    marked: Mapping[str, Tensor] | None = None,
) -> PictureGrid:
    """For every neuron a row of its strongest images in every set, to be drawn by `plotting.picture_grid`.

    An image is bright where it drives the neuron. Below it stands its true class, and the predicted one if it differs.

    Args:
        sets: name, images, the pass over them, and the attack that made them adversarial in that pass.
        count: images a row.
        marked: by name of a set, which of its images are framed in the row of each neuron.

    Shape:
        correlation: (K, K), for the U in a row's title; marked: (len(neurons), N) bool.

    Source: P1, figures 3 and 4; P2, figure 2.
    """

    def pictures(place: int, name: str, images: ImageSet, responses: Responses, attack: Attack | None) -> list[Picture]:
        found, neuron = responses.layers[layer], neurons[place]
        indices = found.top_indices[:count, neuron][found.top_values[:count, neuron] > 0]
        if len(indices) == 0:
            return []
        batch, labels = images.batch(indices, on.device)
        if attack is not None:
            with evaluating(model):
                batch = attack(model, batch, labels)
        maps = discrepancy_maps(model, batch, on, layer=layer, neurons=[[neuron]] * len(batch))
        shown = []
        for index, image, region in zip(indices, batch.cpu(), highlighted_region(maps[:, 0]).cpu(), strict=True):
            true, predicted = (images.classes[int(of[index])] for of in (responses.labels, responses.predictions))
            caption = true if true == predicted else f"{true}\nas {predicted}"
            framed = bool(marked and name in marked and marked[name][place, index])
            shown.append(Picture(image, caption, bright=region, framed=framed))
        return shown

    rows = []
    for place, neuron in enumerate(neurons):
        for name, images, responses, attack in sets:
            counts = responses.layers[layer].counts["true"].sum(0)[neuron]
            active, u = int(counts.sum()), float(unbiased_consistency(counts, correlation))
            text = f"U = {u:.2f}" if active > 1 else f"{active} active"
            rows.append((f"neuron {neuron}\n{name}\n{text}", pictures(place, name, images, responses, attack)))
    return PictureGrid(rows)
