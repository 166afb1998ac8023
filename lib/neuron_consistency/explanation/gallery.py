"""Explanations to look at: of images where they hold and where they do not, and of one image by several networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.explanation.measure import explanation_consistency, grad_cam, normalised, upsampled
from neuron_consistency.explanation.weighting import Weighting
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import evaluating, read_layers
from neuron_consistency.plotting import Picture, PictureGrid, in_lines
from neuron_consistency.runtime import autocast


def extreme_places(consistency: Tensor, *, count: int) -> tuple[list[int], list[int]]:
    """The images of highest and those of lowest E, the most extreme first. Equal ones keep their order.

    Shape:
        consistency: (N,), NaN is left out.
    """
    known = (~consistency.isnan()).nonzero().squeeze(1)
    order = known[consistency[known].argsort(descending=True, stable=True)].tolist()
    low = known[consistency[known].argsort(stable=True)].tolist()
    return order[:count], low[:count]


def explanation_rows(
    model: Classifier,
    images: ImageSet,
    places: Sequence[int],
    weighting: Weighting,
    *,
    device: torch.device,
    precision: str = "auto",
) -> PictureGrid:
    """The images at `places` and their explanations, before and after the attack on their background.

    To be drawn by `figures.explanation_examples`.

    Source: P3, figure 4.
    """
    where = torch.tensor(list(places))
    batch, labels = images.batch(where, device)
    with autocast(device, precision):
        found = explanation_consistency(
            model,
            batch,
            labels,
            epsilon=weighting.epsilon,
            threshold=weighting.threshold,
            steps=weighting.steps,
            distance=weighting.distance,
            mask=images.masks(where).to(device) if weighting.mask == "truth" else None,
            layer=weighting.layer,
        )
        said = model(found.attacked).argmax(1)
    several = found.classes.ndim == 2
    classes = found.classes[:, 0] if several else found.classes
    maps, attacked_maps = (each[:, 0] if several else each for each in (found.maps, found.attacked_maps))
    captions = []
    for old, new, e in zip(classes.tolist(), said.tolist(), found.consistency.tolist(), strict=True):
        flip = "" if several or new == old else f", then {images.classes[new]}"
        captions.append(f"{images.classes[old]}{flip}\nE = {e:.2f}")
    before, after, masks = batch.cpu(), found.attacked.cpu(), found.mask[:, 0].cpu()
    rows = [
        ("image", [Picture(image) for image in before]),
        ("explanation", under_maps(before, maps)),
        ("background\nattacked", [Picture(image, outlined=mask) for image, mask in zip(after, masks, strict=True)]),
        ("explanation", under_maps(after, attacked_maps)),
    ]
    return PictureGrid(rows, captions)


def network_rows(
    models: Mapping[str, Classifier],
    images: ImageSet,
    places: Sequence[int],
    *,
    layers: Mapping[str, str | None],
    device: torch.device,
    precision: str = "auto",
) -> PictureGrid:
    """Images with the Grad-CAM maps that networks give of their true class.

    To be drawn by `figures.maps_of_networks`.

    Args:
        models: the networks, by title.
        images: a set.
        places: which of its images are shown.
        layers: by title, the layer whose maps are shown.
        device: where the networks are.
        precision: of the forward passes.

    Source: P3, figure 3.
    """
    batch, labels = images.batch(torch.tensor(list(places)), device)
    classes = labels.argmax(1) if labels.ndim == 2 else labels
    shown = batch.cpu()
    rows = [("image", [Picture(image) for image in shown])]
    for title, model in models.items():
        with autocast(device, precision):
            maps = grad_cam(model, batch, classes, layer=layers[title])
            with torch.no_grad():
                said = [images.classes[int(label)] for label in model(batch).argmax(1)]
        rows.append((in_lines(title), under_maps(shown, maps, said)))
    return PictureGrid(rows, [images.classes[int(label)] for label in classes])


@torch.no_grad()
def group_rows(
    model: Classifier,
    images: ImageSet,
    groups: Tensor,
    layer: str,
    *,
    count: int,
    device: torch.device,
    batch_size: int = 128,
    precision: str = "auto",
) -> PictureGrid:
    """The `count` largest groups of filters, to be drawn by `figures.maps_of_networks`.

    A column is the image that fires a group most (each group another one), a row a group's mean map over those
    images. Every filter counts alike, by its mean over all images. Below a map stands how many times its own mean the
    group fires.

    Shape:
        groups: (C,) int64.
    """
    parts = []
    with evaluating(model), read_layers(model, [layer]) as outputs, autocast(device, precision):
        for _, batch, _ in images.batches(batch_size, device=device):
            model(batch)
            parts.append(outputs[layer].float().mean((2, 3)).cpu())
        filters = torch.cat(parts)
        mean = filters.mean(0)
        scale = torch.where(mean > 0, 1 / mean, 0)
        sizes = torch.bincount(groups)
        largest = sizes.argsort(descending=True, stable=True)[:count].tolist()
        places: list[int] = []
        for group in largest:
            strength = (filters * scale)[:, groups == group].mean(1)
            strength[places] = -1
            places.append(int(strength.argmax()))
        batch, labels = images.batch(torch.tensor(places), device)
        model(batch)
        maps = outputs[layer].float().cpu() * scale[:, None, None]
    names = labels.argmax(1) if labels.ndim == 2 else labels
    shown = batch.cpu()
    rows = [("image", [Picture(image) for image in shown])]
    for number, group in enumerate(largest, 1):
        own = maps[:, groups == group].mean(1)
        texts = [f"{value:.1f} x its mean" for value in own.mean((1, 2)).tolist()]
        rows.append((f"group {number}\n{int(sizes[group])} filters", under_maps(shown, own, texts)))
    return PictureGrid(rows, [images.classes[int(label)] for label in names])


def under_maps(images: Tensor, maps: Tensor, captions: Sequence[str] = ()) -> list[Picture]:
    """Images, each under its map, with what stands below them.

    Shape:
        images: (B, 3, H, W); maps: (B, h, w).
    """
    heats = upsampled(normalised(maps), images.shape[2:])[:, 0].cpu()
    texts = captions or [""] * len(images)
    return [Picture(image, text, heat) for image, text, heat in zip(images, texts, heats, strict=True)]
