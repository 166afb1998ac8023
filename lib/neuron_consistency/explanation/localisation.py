"""How well a network's explanations find the objects of a whole set, beside maps that know nothing of it."""

from collections.abc import Iterator
from functools import partial

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from neuron_consistency.data.find import sets_that_tell
from neuron_consistency.data.image_set import ImageSet, MultiLabelSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.explanation import map_scores
from neuron_consistency.explanation.measure import Probe, grad_cam
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import each_batch
from neuron_consistency.runtime import Runtime, drawn_by_row

OWN, RANDOM, CENTRE = "Grad-CAM", "random map", "image centre"
OFF_CENTRE = ", off centre"
RANDOM_MAPS = 3  # of an image, over which insertion and deletion by a random map are averaged


def localise(model: Classifier, images: ImageSet, on: Runtime, probe: Probe) -> pd.DataFrame:
    """Where the maps of every image point, for Grad-CAM of its true class and for two maps that know nothing of it.

    Those are the chance levels: a random map of Grad-CAM's size, and one that points to the middle of the image.
    Images of several labels count once for each of their classes. The pointing game is scored by boxes, or where the
    set has none by masks.

    Args:
        probe: its layer's maps are scored, for an IoU above its threshold.

    Returns:
        One row an image, class and map: image, class, map ("Grad-CAM", "random map" or "image centre"), pointing game,
        and box IoU and mask IoU where the set allows them; NaN where an image has no box or mask. Each once more as
        "pointing game, off centre" and so on, which are NaN too where the object lies on the image's centre: where it
        does, a map that always points there cannot miss.

    Raises:
        ParameterError: the set has neither boxes nor masks.
    """
    masked = images.masked
    if images.boxes is None and not bool(masked.any()):
        raise ParameterError(
            "these images have no boxes or masks of their objects, which a localisation is scored by: use a set that "
            f"has boxes ({sets_that_tell('boxes')})"
        )
    frames = []
    for rows, classes, batch, own, noise in _explained(model, images, on, probe):
        size = batch.shape[2:]
        centre = map_scores.centre_maps(len(rows), size, device=on.device)
        truth = _truth(images, torch.tensor(rows["image"]), classes.cpu(), masked)
        boxes, masks = (None if each is None else each.to(on.device) for each in truth)
        pointed_at = masks if boxes is None else map_scores.box_masks(boxes, size)
        assert pointed_at is not None
        elsewhere = ~pointed_at[:, 0, size[0] // 2, size[1] // 2]
        for name, maps in {OWN: own, RANDOM: noise[:, 0], CENTRE: centre}.items():
            scores = {"pointing game": map_scores.pointing_game(maps, pointed_at)}
            if boxes is not None:
                scores["box IoU"] = map_scores.box_iou(maps, boxes, size, threshold=probe.threshold)
            if masks is not None:
                scores["mask IoU"] = map_scores.mask_iou(maps, masks, threshold=probe.threshold)
            off = {f"{score}{OFF_CENTRE}": torch.where(elsewhere, each, torch.nan) for score, each in scores.items()}
            frames.append(_with_scores(rows, name, scores | off))
    return pd.concat(frames, ignore_index=True)


def curves(model: Classifier, images: ImageSet, on: Runtime, probe: Probe, *, steps: int) -> pd.DataFrame:
    """The areas of `insertion_deletion` of every image, by Grad-CAM of its true class and by random maps.

    An area tells how sure a network is as well as how good a map is: one that is less sure of every picture has the
    smaller areas. What the map is worth is the difference to the areas of random maps, of which the mean of
    RANDOM_MAPS stands here. They cost 2 (RANDOM_MAPS + 1) (steps + 1) forward passes an image and class.

    Returns:
        One row an image, class and map, as in `localise`: image, class, map, insertion, deletion.
    """
    several, frames = isinstance(images, MultiLabelSet), []
    for rows, classes, batch, own, noise in _explained(model, images, on, probe):
        areas = []
        for maps in (own, *noise.unbind(1)):
            with on.autocast():
                found = map_scores.insertion_deletion(model, batch, maps, classes, steps=steps, multi_label=several)
            areas.append(torch.stack(found))
        for name, each in ((OWN, areas[0]), (RANDOM, torch.stack(areas[1:]).mean(0))):
            frames.append(_with_scores(rows, name, dict(zip(("insertion", "deletion"), each, strict=True))))
    return pd.concat(frames, ignore_index=True)


def _explained(
    model: Classifier, images: ImageSet, on: Runtime, probe: Probe
) -> Iterator[tuple[pd.DataFrame, Tensor, Tensor, Tensor, Tensor]]:
    """By batch the rows image and class, the classes, the images (B, ...), an image once for each class, their maps
    (B, h, w), and random ones (B, RANDOM_MAPS, h, w)."""

    def explain(places: Tensor, batch: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        several = labels.ndim == 2
        rows, classes = labels.nonzero().unbind(1) if several else (torch.arange(len(labels)), labels)
        batch = batch[rows]
        return places[rows.cpu()], classes, batch, grad_cam(model, batch, classes, layer=probe.layer)

    for _, (places, classes, batch, own) in each_batch(model, images, on, explain):
        if len(places):
            numbers = (places * images.num_classes + classes.cpu()).tolist()
            noise = drawn_by_row(numbers, partial(torch.rand, (RANDOM_MAPS, *own.shape[1:])), seed=0).to(on.device)
            yield pd.DataFrame({"image": places, "class": classes.cpu()}), classes, batch, own, noise


def _with_scores(rows: pd.DataFrame, name: str, scores: dict[str, Tensor]) -> pd.DataFrame:
    return rows.assign(map=name, **{column: values.cpu().numpy() for column, values in scores.items()})


def _truth(images: ImageSet, places: Tensor, classes: Tensor, masked: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The boxes (P, M, 4) and masks (P, 1, S, S) of a class in each image; empty ones where an image lacks them."""
    several, boxes, masks = isinstance(images, MultiLabelSet), images.boxes, None
    if boxes is not None and isinstance(images, MultiLabelSet):
        wanted = torch.stack([places, classes], 1)
        own = [boxes[(images.owners == pair).all(1)] for pair in wanted]
        boxes = functional.pad(pad_sequence(own, batch_first=True), (0, 0, 0, 1))  # at least an empty one
    elif boxes is not None:
        boxes = boxes[places, None]
    if bool(masked.any()):
        known = masked[places]
        masks = torch.zeros(len(places), 1, images.image_size, images.image_size, dtype=torch.bool)
        masks[known] = images.masks(places[known], *[classes[known]] * several)
    return boxes, masks
