"""How well a map finds the object: pointing game, IoU of boxes and of masks, insertion and deletion."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torchvision.ops import box_iou as pairwise_iou
from torchvision.transforms.functional import gaussian_blur

from neuron_consistency.errors import ParameterError
from neuron_consistency.explanation.measure import explanation_mask, upsampled
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import evaluating

REFERENCE = 224  # side of the images that the sources' pixels are of


def box_masks(boxes: Tensor, size: Sequence[int]) -> Tensor:
    """The pixels inside any of an image's boxes.

    Shape:
        boxes: (B, M, 4), x0 y0 x1 y1 in pixels, ends excluded, an empty box being none; size: H, W;
        result: (B, 1, H, W) bool.
    """
    left, top, right, bottom = boxes[..., None].unbind(2)
    y, x = (torch.arange(side, device=left.device) for side in size)
    inside = ((y >= top) & (y < bottom))[..., :, None] & ((x >= left) & (x < right))[..., None, :]
    return inside.any(1, keepdim=True)


def tight_boxes(regions: Tensor) -> Tensor:
    """The box around the largest connected part of each region (pixels that touch by a corner are connected).

    The first of equally large parts counts; an empty region has the empty box 0 0 0 0.

    Shape:
        regions: (B, 1, H, W) bool; result: (B, 4) int64, x0 y0 x1 y1, ends excluded.

    Source: Zhou et al. 2016, the box of a class activation map.
    """
    boxes = torch.zeros(len(regions), 4, dtype=torch.int64)
    for box, region in zip(boxes, regions[:, 0].cpu().numpy(), strict=True):
        parts, count = ndimage.label(region, structure=np.ones((3, 3)))
        if count:
            rows, columns = ndimage.find_objects(parts)[np.bincount(parts.ravel())[1:].argmax()]
            box[:] = torch.tensor([columns.start, rows.start, columns.stop, rows.stop])
    return boxes.to(regions.device)


def pointing_game(maps: Tensor, masks: Tensor, *, tolerance: float = 15.0) -> Tensor:
    """Whether a map's maximum lies on the object, or within the tolerance of it: 1 or 0.

    The maximum is the centre of the strongest place, where the bilinear map is highest too. A map of zeros points
    nowhere: 0.

    Args:
        masks: the object, or the pixels of its boxes by `box_masks`.
        tolerance: in pixels of an image of 224, otherwise in proportion to its side.

    Shape:
        maps: (B, h, w) >= 0; masks: (B, 1, H, W) bool; result: (B,) float32, NaN where the mask is empty.

    Source: Zhang et al. 2016, whose 15 pixels are not scaled.
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
    found = explanation_mask(maps, size=masks.shape[2:], threshold=threshold)
    common, either = (found & masks).sum((1, 2, 3)), (found | masks).sum((1, 2, 3))
    return torch.where(masks.any((1, 2, 3)), common / either, torch.nan)


def box_iou(maps: Tensor, boxes: Tensor, size: Sequence[int], *, threshold: float = 0.2) -> Tensor:
    """Intersection over union of the object's box and the tight box of the thresholded map (`tight_boxes`).

    If an image has several boxes, the one that fits best counts.

    Shape:
        maps: (B, h, w) >= 0; boxes: (B, M, 4), see `box_masks`; size: H, W of the images; result: (B,) float32, 0 for a
        map of zeros, NaN where there is no box.

    Source: Zhou et al. 2016, with 20 % of the maximum.
    """
    found = tight_boxes(explanation_mask(maps, size=size, threshold=threshold))
    overlap = pairwise_iou(found[:, None], boxes).squeeze(1)
    best = torch.where((boxes[..., 2:] > boxes[..., :2]).all(2), overlap, -1).amax(1)
    return torch.where(best < 0, torch.nan, best)


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

    They are inserted into the blurred image: a good map gives a large area. They are deleted to the mean colour of the
    normalisation: a good map gives a small one. Pixels of equal value come in an order that is random, but always the
    same: a map of zeros scores as a random one does. The model runs in eval mode and in the caller's precision.

    Args:
        classes: whose probability is followed.
        steps: in how many equal parts the pixels change; each costs two images a forward pass.
        blur: standard deviation in pixels of an image of 224, otherwise in proportion to its side.
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
