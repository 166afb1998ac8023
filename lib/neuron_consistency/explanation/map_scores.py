"""How well a map finds the object: pointing game, IoU of boxes and of masks, insertion and deletion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from neuron_consistency.data.find import sets_that_tell
from neuron_consistency.errors import ParameterError
from neuron_consistency.explanation.measure import explanation_mask, upsampled
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import evaluating

REFERENCE = 224  # side of the images that the sources' pixels are of


def box_masks(boxes: Tensor | None, size: Sequence[int]) -> Tensor:
    """The pixels inside boxes; of several boxes an image, inside any of them.

    Shape:
        boxes: (B, 4) or (B, M, 4), x0 y0 x1 y1 in pixels, ends excluded, an empty box being none; size: H, W;
        result: (B, 1, H, W) bool.

    Raises:
        ParameterError: there are no boxes.
    """
    left, top, right, bottom = by_image(boxes)[..., None].unbind(2)
    y, x = (torch.arange(side, device=left.device) for side in size)
    inside = ((y >= top) & (y < bottom))[..., :, None] & ((x >= left) & (x < right))[..., None, :]
    return inside.any(1, keepdim=True)


def by_image(boxes: Tensor | None) -> Tensor:
    """Boxes as (B, M, 4).

    Raises:
        ParameterError: there are none.
    """
    if boxes is None:
        raise ParameterError(
            "these images have no boxes or masks of their objects, which a localisation is scored by: use a set that "
            f"has boxes ({sets_that_tell('boxes')})"
        )
    return boxes if boxes.ndim == 3 else boxes[:, None]


def tight_boxes(regions: Tensor) -> Tensor:
    """The box around the largest connected part of each region (pixels that touch by a corner are connected).

    Of equally large parts it is the first; an empty region has the empty box 0 0 0 0.

    Shape:
        regions: (B, 1, H, W) bool; result: (B, 4) int64, x0 y0 x1 y1, ends excluded.

    Source: Zhou et al. 2016, the box of a class activation map.
    """
    within_image = np.zeros((3, 3, 3), dtype=bool)
    within_image[1] = True
    parts, count = ndimage.label(regions[:, 0].cpu().numpy(), structure=within_image)  # of all images at once
    numbers = np.arange(count + 1)
    area = np.bincount(parts.ravel(), minlength=count + 1)
    standing = np.where(numbers > 0, area * (count + 1) - numbers, 0)[parts]
    largest = torch.from_numpy((standing == standing.max((1, 2), keepdims=True)) & (parts > 0))
    ends = []
    for lit in (largest.any(1), largest.any(2)):  # columns, rows
        lit = lit.int()
        ends.append((lit.argmax(1), torch.where(lit.any(1), lit.shape[1] - lit.flip(1).argmax(1), 0)))
    (left, right), (top, bottom) = ends
    return torch.stack([left, top, right, bottom], 1).to(regions.device)


def pointing_game(maps: Tensor, masks: Tensor, *, tolerance: float = 15.0) -> Tensor:
    """Whether a map's maximum lies on the object, or within the tolerance of it: 1 or 0.

    The maximum is the centre of the strongest place, where the bilinear map is highest too. A map of zeros points
    nowhere: 0.

    Args:
        maps: one an image.
        masks: the object, or the pixels of its boxes by `box_masks`.
        tolerance: in pixels of an image of 224; of another side in proportion.

    Shape:
        maps: (B, h, w) >= 0; masks: (B, 1, H, W) bool; result: (B,) float32, NaN where the mask is empty.

    Source: Zhang et al. 2016, whose 15 pixels are of images at their own size; the scaling is ours.
    """
    (_, rows, columns), (height, width) = maps.shape, masks.shape[2:]
    peak, place = maps.flatten(1).max(1)
    down = ((place // columns + 0.5) * height / rows).long()[:, None, None]
    right = ((place % columns + 0.5) * width / columns).long()[:, None, None]
    y, x = torch.arange(height, device=maps.device)[:, None], torch.arange(width, device=maps.device)
    near = (y - down).square() + (x - right).square() <= (tolerance * max(height, width) / REFERENCE) ** 2
    hit = (near & masks[:, 0]).any((1, 2)) & (peak > 0)
    return torch.where(masks.any((1, 2, 3)), hit.float(), torch.nan)


def mask_iou(maps: Tensor, masks: Tensor, *, threshold: float = 0.2) -> Tensor:
    """Intersection over union of the object and the pixels where the map reaches `threshold` of its maximum.

    Shape:
        maps: (B, h, w) >= 0; masks: (B, 1, H, W) bool; result: (B,) float32, 0 for a map of zeros, NaN where the
        mask is empty.
    """
    return _overlap(explanation_mask(maps, size=masks.shape[2:], threshold=threshold), masks)


def box_iou(maps: Tensor, boxes: Tensor | None, size: Sequence[int], *, threshold: float = 0.2) -> Tensor:
    """Intersection over union of the object's box and the tight box of the thresholded map (`tight_boxes`).

    Of several boxes in an image the one that fits best counts.

    Shape:
        maps: (B, h, w) >= 0; boxes: (B, 4) or (B, M, 4), see `box_masks`; size: H, W of the images; result: (B,)
        float32, 0 for a map of zeros, NaN where there is no box.

    Raises:
        ParameterError: there are no boxes.

    Source: Zhou et al. 2016, with 20 % of the maximum.
    """
    true = by_image(boxes)
    found = tight_boxes(explanation_mask(maps, size=size, threshold=threshold))[:, None]
    common = _area(torch.cat([torch.maximum(found, true)[..., :2], torch.minimum(found, true)[..., 2:]], 2))
    overlap = common / (_area(found) + _area(true) - common)
    best = torch.where(_area(true) > 0, overlap, -1).amax(1)
    return torch.where(best < 0, torch.nan, best)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp_min(0).prod(-1)


def _overlap(found: Tensor, true: Tensor) -> Tensor:
    common, either = ((found & true).sum((1, 2, 3)), (found | true).sum((1, 2, 3)))
    return torch.where(true.any((1, 2, 3)), common / either, torch.nan)


def insertion_deletion(
    model: Classifier,
    images: Tensor,
    maps: Tensor,
    classes: Tensor,
    *,
    steps: int = 28,
    blur: float = 5.0,
    multi_label: bool = False,
) -> tuple[Tensor, Tensor]:
    """The area under a class's probability as pixels are inserted, and as they are deleted, the map's highest first.

    Inserted into the blurred image: a good map gives a large area. Deleted to the mean colour of the normalisation: a
    good map gives a small one. Pixels of equal value come in an order that is random, but always the same: a map of
    zeros scores as a random one does. The caller's precision; eval mode, the model's mode is restored.

    Args:
        model: the network, on the device of the images.
        images: the images explained.
        maps: the explanations.
        classes: whose probability is followed.
        steps: in how many equal parts the pixels change; each costs two images a forward pass.
        blur: standard deviation in pixels of an image of 224; of another side in proportion.
        multi_label: the probability is the logit's sigmoid, not the softmax.

    Shape:
        images: (B, 3, H, W) in [0, 1]; maps: (B, h, w); classes: (B,) int64; results: (B,) float32 in [0, 1].

    Raises:
        ParameterError: fewer than one step.

    Source: Petsiuk et al. 2018 (blur of 11 pixels at a deviation of 5); the order of equal pixels is ours.
    """
    if steps < 1:
        raise ParameterError(f"steps={steps}: insertion and deletion need at least one")
    size = images.shape[2:]
    shuffled = torch.randperm(size.numel(), generator=torch.Generator().manual_seed(0)).to(images.device)
    strongest = upsampled(maps, size).flatten(1)[:, shuffled].sort(dim=1, descending=True, stable=True).indices
    place = shuffled[strongest].argsort(dim=1).view(-1, 1, *size)
    deviation = blur * max(size) / REFERENCE
    blurred = gaussian_blur(images, [2 * round(deviation) + 1] * 2, [deviation] * 2)
    curves = []
    with evaluating(model), torch.no_grad():
        for step in range(steps + 1):
            changed = place < size.numel() * step / steps
            inserted, deleted = torch.where(changed, images, blurred), torch.where(changed, model.mean, images)
            logits = model(torch.cat([inserted, deleted])).float()
            probability = logits.sigmoid() if multi_label else logits.softmax(1)
            curves.append(probability.gather(1, classes.repeat(2)[:, None]).squeeze(1))
    insertion, deletion = torch.trapezoid(torch.stack(curves), dx=1 / steps, dim=0).chunk(2)
    return insertion, deletion


def centre_maps(count: int, size: Sequence[int], *, device: torch.device) -> Tensor:
    """The map that always points to the middle of the image: a chance level where objects are mostly there.

    Shape:
        size: H, W; result: (count, H, W) float32, a Gaussian with a deviation of a quarter of each side.
    """
    rows, columns = ((torch.arange(side, device=device) + 0.5) / side - 0.5 for side in size)
    squares = rows[:, None].square() + columns.square()
    return torch.exp(-squares / (2 * 0.25**2)).expand(count, -1, -1)
