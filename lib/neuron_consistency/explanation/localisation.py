"""How well a network's explanations find the objects of a whole set, beside chance, with intervals over images."""

from __future__ import annotations

import math
from functools import partial

import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.data.image_set import ImageSet, MultiLabelSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.explanation.map_scores import (
    box_iou,
    box_masks,
    by_image,
    centre_maps,
    insertion_deletion,
    mask_iou,
    pointing_game,
)
from neuron_consistency.explanation.measure import grad_cam
from neuron_consistency.networks.models import Classifier
from neuron_consistency.runtime import autocast, drawn_by_row, gathered, part
from neuron_consistency.statistics import mean, share

MAPS = ("Grad-CAM", "random map", "image centre")
SCORES = ("pointing game", "box IoU", "mask IoU", "insertion", "deletion")


def localise(
    model: Classifier,
    images: ImageSet,
    *,
    device: torch.device,
    layer: str | None = None,
    threshold: float = 0.2,
    tolerance: float = 15.0,
    steps: int | None = None,
    seed: int = 0,
    batch_size: int = 128,
    precision: str = "auto",
) -> pd.DataFrame:
    """Every score of every image, for Grad-CAM of its true class and for two maps that know nothing of it.

    Those are the chance levels: a random map of Grad-CAM's size, and one that points to the middle of the image.
    Images of several labels count once for each of their classes. The pointing game is scored by boxes, or where the
    set has none by masks. Several processes share the images.

    Args:
        model: the network; moved to `device`.
        images: the test images, with boxes or masks.
        device: where.
        layer: whose maps; None is the last one.
        threshold: of the map's maximum, for the IoU scores.
        tolerance: see `pointing_game`.
        steps: of `insertion_deletion`; None leaves its scores out, which cost 6 (steps + 1) forward passes an image.
        seed: of the random maps.
        batch_size: images at once.
        precision: of the forward passes.

    Returns:
        One row an image, class and map: image, class, map (one of `MAPS`), empty (the map is zero everywhere), and
        those of `SCORES` that the set allows, NaN where an image has no box or mask.

    Raises:
        ParameterError: the set has neither boxes nor masks.
    """
    masked = images.masked
    if not bool(masked.any()):
        by_image(images.boxes)
    model.to(device)
    frames = []
    for places, batch, labels in images.batches(batch_size, device=device, part=part()):
        several = isinstance(images, MultiLabelSet)
        rows, classes = labels.nonzero().unbind(1) if several else (torch.arange(len(labels), device=device), labels)
        if not len(rows):
            continue
        where, size, batch = places[rows.cpu()], batch.shape[2:], batch[rows]
        boxes, masks = (
            None if each is None else each.to(device) for each in _truth(images, where, classes.cpu(), masked)
        )
        with autocast(device, precision):
            own = grad_cam(model, batch, classes, layer=layer)
        numbers = (where * images.num_classes + classes.cpu()).tolist()
        noise = drawn_by_row(numbers, partial(torch.rand, own.shape[1:]), seed=seed).to(device)
        pointed_at = masks if boxes is None else box_masks(boxes, size)
        assert pointed_at is not None
        for name, maps in zip(MAPS, (own, noise, centre_maps(len(own), size, device=device)), strict=True):
            scores = {
                "empty": maps.amax((1, 2)) == 0,
                "pointing game": pointing_game(maps, pointed_at, tolerance=tolerance),
            }
            if boxes is not None:
                scores["box IoU"] = box_iou(maps, boxes, size, threshold=threshold)
            if masks is not None:
                scores["mask IoU"] = mask_iou(maps, masks, threshold=threshold)
            if steps is not None:
                with autocast(device, precision):
                    scores["insertion"], scores["deletion"] = insertion_deletion(
                        model, batch, maps, classes, steps=steps, multi_label=several
                    )
            columns = {column: values.cpu().numpy() for column, values in scores.items()}
            frames.append(pd.DataFrame({"image": where, "class": classes.cpu(), "map": name} | columns))
    everywhere = [frame for of_process in gathered(frames) for frame in of_process]
    everywhere.sort(key=lambda frame: int(frame["image"].iloc[0]))
    return pd.concat(everywhere, ignore_index=True)


def _truth(images: ImageSet, places: Tensor, classes: Tensor, masked: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The boxes (P, M, 4) and masks (P, 1, S, S) of a class in each image; empty ones where an image lacks them."""
    boxes, masks = images.boxes, None
    if boxes is not None and isinstance(images, MultiLabelSet):
        here = torch.isin(images.owners[:, 0], places)
        own = (images.owners[here] == torch.stack([places, classes], 1)[:, None]).all(2)
        pairs, objects = own.nonzero().unbind(1)
        padded = boxes.new_zeros(len(places), max(1, int(own.sum(1).max())), 4)
        padded[pairs, own.cumsum(1)[pairs, objects] - 1] = boxes[here][objects]
        boxes = padded
    elif boxes is not None:
        boxes = boxes[places]
    if bool(masked.any()):
        known = masked[places]
        masks = torch.zeros(len(places), 1, images.image_size, images.image_size, dtype=torch.bool)
        masks[known] = (
            images.masks(places[known], classes[known])
            if isinstance(images, MultiLabelSet)
            else images.masks(places[known])
        )
    return boxes, masks


def score_row(scores: Tensor) -> dict[str, float]:
    """The mean over images with its interval of 95 %, and the share of images that have no score.

    Scores that are all 0 or 1 get Wilson's interval, others Student's. The interval of scores within [0, 1] is clipped
    to it; that of a single score has no other end.

    Shape:
        scores: (N,), NaN where an image has none.

    Raises:
        ParameterError: no image has a score.
    """
    known = scores[~scores.isnan()].double()
    if not len(known):
        raise ParameterError("no image has a score: none of them has a box or a mask of its class")
    hits = bool(((known == 0) | (known == 1)).all())
    row = (share(known) if hits else mean(known, lone=math.inf)).row("mean", bare=True)
    if known.min() >= 0 and known.max() <= 1:
        row |= {"low": max(0.0, row["low"]), "high": min(1.0, row["high"])}
    return row | {"images": len(known), "excluded": 1 - len(known) / len(scores)}
