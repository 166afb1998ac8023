"""Explanations to look at: of images where they hold and where they do not, and of one image by several networks."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from neuron_consistency.attacks.predictions import predictions
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.explanation.measure import Probe, explanation_consistency, grad_cam, normalised, upsampled
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import evaluating, over
from neuron_consistency.plotting import Picture, PictureGrid
from neuron_consistency.runtime import Runtime


def extreme_places(consistency: Tensor, *, count: int) -> tuple[list[int], list[int]]:
    """The images of highest and those of lowest E, the most extreme first. Equal ones keep their order.

    Shape:
        consistency: (N,), NaN is left out.
    """
    known = (~consistency.isnan()).nonzero().squeeze(1)
    high, low = (known[consistency[known].argsort(descending=way, stable=True)].tolist() for way in (True, False))
    return high[:count], low[:count]


def explanation_rows(
    model: Classifier, images: ImageSet, places: Sequence[int], probe: Probe, on: Runtime
) -> PictureGrid:
    """Images and their explanations, before and after the attack on their background.

    It is drawn by `plotting.picture_grid`. Images of several labels show the map of their first class.

    Source: P3, figure 4.
    """
    where = torch.tensor(list(places))
    batch, labels = images.batch(where, on.device)
    with evaluating(model), on.autocast(), torch.no_grad():
        mask = images.masks(where).to(on.device) if probe.mask == "truth" else None
        found = explanation_consistency(model, batch, labels, probe, mask=mask)
        said = model(found.attacked).argmax(1)
    captions = []
    for old, new, e in zip(found.classes[:, 0].tolist(), said.tolist(), found.consistency.tolist(), strict=True):
        flip = "" if labels.ndim == 2 or new == old else f", then {images.classes[new]}"
        captions.append(f"{images.classes[old]}{flip}\nE = {e:.2f}")
    before, after, masks = batch.cpu(), found.attacked.cpu(), found.mask[:, 0].cpu()
    rows = [
        ("image", [Picture(image) for image in before]),
        ("explanation", under_maps(before, found.maps[:, 0])),
        ("background\nattacked", [Picture(image, outlined=mask) for image, mask in zip(after, masks, strict=True)]),
        ("explanation", under_maps(after, found.attacked_maps[:, 0])),
    ]
    return PictureGrid(rows, captions)


def network_rows(
    models: Mapping[str, tuple[Classifier, Probe]], images: ImageSet, places: Sequence[int], on: Runtime
) -> PictureGrid:
    """Images with the Grad-CAM maps that networks give of their true class, to be drawn by `plotting.picture_grid`.

    Args:
        models: by title, each with the probe that names its layer.

    Source: P3, figure 3.
    """
    shown = images.subset(torch.tensor(list(places)))
    batch, _ = shown.batch(torch.arange(len(shown)), on.device)
    classes = _first_classes(shown)
    rows = [("image", [Picture(image) for image in batch.cpu()])]
    for title, (model, probe) in models.items():
        with on.autocast():
            maps = grad_cam(model, batch, classes.to(on.device), layer=probe.layer)
        said = [images.classes[label] for label in predictions(model, shown, on).tolist()]
        rows.append((title, under_maps(batch.cpu(), maps, said)))
    return PictureGrid(rows, [images.classes[label] for label in classes.tolist()])


def group_rows(
    model: Classifier, images: ImageSet, groups: Tensor, layer: str, on: Runtime, *, count: int
) -> PictureGrid:
    """The `count` largest groups of filters, to be drawn by `plotting.picture_grid`.

    A column is the image that fires a group most (each group another one), a row a group's mean map over those
    images. Every filter counts alike, by its mean over all images. Below a map stands how many times its own mean the
    group fires.

    Shape:
        groups: (C,) int64.
    """
    filters = torch.cat(
        [seen.maps[layer].float().mean((2, 3)).cpu() for seen in over(model, images, on, layers=[layer])]
    )
    mean = filters.mean(0)
    scale = torch.where(mean > 0, 1 / mean, 0)
    sizes = torch.bincount(groups)
    largest = sizes.argsort(descending=True, stable=True)[:count].tolist()
    places: list[int] = []
    for group in largest:
        strength = (filters * scale)[:, groups == group].mean(1)
        strength[places] = -1
        places.append(int(strength.argmax()))
    shown = images.subset(torch.tensor(places))
    seen = [*over(model, shown, on, layers=[layer])]
    pictures = torch.cat([one.images.cpu() for one in seen])
    maps = torch.cat([one.maps[layer].float().cpu() for one in seen]) * scale[:, None, None]
    rows = [("image", [Picture(image) for image in pictures])]
    for number, group in enumerate(largest, 1):
        own = maps[:, groups == group].mean(1)
        texts = [f"{value:.1f} times its mean" for value in own.mean((1, 2)).tolist()]
        rows.append((f"group {number}\n{int(sizes[group])} filters", under_maps(pictures, own, texts)))
    above = [images.classes[label] for label in _first_classes(shown).tolist()]
    return PictureGrid(rows, above)


def _first_classes(images: ImageSet) -> Tensor:
    return images.labels.argmax(1) if images.labels.ndim == 2 else images.labels


def under_maps(images: Tensor, maps: Tensor, captions: Sequence[str] = ()) -> list[Picture]:
    """Images, each under its map, with what stands below them.

    Shape:
        images: (B, 3, H, W); maps: (B, h, w).
    """
    heats = upsampled(normalised(maps), images.shape[2:])[:, 0].cpu()
    texts = captions or [""] * len(images)
    return [Picture(image, text, heat) for image, text, heat in zip(images, texts, heats, strict=True)]
