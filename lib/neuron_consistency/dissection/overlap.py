"""Counting, exactly and fast, how the masks of a layer's units overlap labelled regions."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from neuron_consistency.data.broden import CATEGORIES

ImageLabels = dict[str, Tensor]  # category -> label maps (L, h, w), or the labels (L,) of the whole image
PAIRS_AT_ONCE = 8192  # masks in work on a GPU ...
PAIRS_IN_CACHE = 256  # ... and on a CPU, which is fastest while they stay in its cache
BEST_IMAGES = 8  # remembered of each unit


@dataclass(frozen=True)
class Overlap:
    """Pixel counts that every score of a dissection comes from.

    A concept is a label in one category (a label in two categories is two concepts).

    Attributes:
        concepts: one row a concept: label, category.
        intersection: pixels both in a unit's mask and in a concept.
        unit_area: pixels of a unit's mask, over the images labelled in a category.
        concept_area: pixels of a concept.
        concept_images: images that show a concept.
        images: images seen.
        best_images: of each unit, those with its highest responses, highest first (-1: fewer were seen).

    Shape:
        intersection: (U, C) int64; unit_area: (U, 6) int64, in the order of CATEGORIES;
        concept_area, concept_images: (C,) int64; best_images: (U, 8) int64.
    """

    concepts: pd.DataFrame
    intersection: Tensor
    unit_area: Tensor
    concept_area: Tensor
    concept_images: Tensor
    images: int
    best_images: Tensor

    def iou(self) -> Tensor:
        """Intersection over union of each unit and concept, over the images labelled in the concept's category.

        Shape:
            result: (U, C) float64 in [0, 1]; NaN where a concept and a unit's mask are both empty.

        Source: Bau et al. 2017, Eq. 1.
        """
        category = torch.tensor([CATEGORIES.index(name) for name in self.concepts["category"]])
        union = self.unit_area[:, category] + self.concept_area - self.intersection
        return self.intersection.double() / union


def upsampling_matrix(small: int, large: int) -> Tensor:
    """The linear map of bilinear upsampling (align_corners=False) along one side.

    Shape:
        result: (large, small) float32; rows sum to 1.
    """
    identity = torch.eye(small)[None]
    return functional.interpolate(identity, size=large, mode="linear", align_corners=False)[0].T.contiguous()


def partners(labelled: Tensor, *, generator: torch.Generator) -> Tensor:
    """For each labelled image another labelled one, at random, each taken once; all others keep themselves.

    Shape:
        labelled: (N,) bool; result: (N,) int64, a permutation without fixed points among the labelled images.
    """
    result = torch.arange(len(labelled))
    members = labelled.nonzero().squeeze(1)
    members = members[torch.randperm(len(members), generator=generator)]
    result[members] = members.roll(1)
    return result


class OverlapCounter:
    """Adds up the `Overlap` of batches of maps with their labels.

    A bilinear value never exceeds the largest of its sources, so a unit whose raw map stays below its threshold has
    an empty mask and costs nothing; rows of the upsampled map are left out by the same argument. What remains,
    about 2 % of all unit-pixels at the .005 quantile, is counted with one histogram over (unit, concept).

    Args:
        thresholds: of the units, on the device where all is counted.
        labels: those of the set, as `BrodenSet.labels` lists them.
        label_size: of the label maps.

    Shape:
        thresholds: (U,) float32.
    """

    def __init__(self, thresholds: Tensor, labels: pd.DataFrame, label_size: tuple[int, int]) -> None:
        self.thresholds, self.label_size, self.device = thresholds, label_size, thresholds.device
        self.concepts = labels[["name", "category"]].rename(columns={"name": "label"}).reset_index(drop=True)
        empty = torch.zeros(int(labels["number"].max()) + 1, dtype=torch.int32)
        self.codes = {category: empty.clone() for category in CATEGORIES}  # label number -> row + 1, 0 for none
        for row, (number, category) in enumerate(zip(labels["number"], labels["category"], strict=True), start=1):
            self.codes[category][number] = row
        self.units, self.columns, self.images = len(thresholds), len(labels) + 1, 0
        self.intersection = self._zeros(self.units * self.columns)
        self.unit_area = self._zeros(self.units, len(CATEGORIES))
        self.concept_area, self.concept_images = self._zeros(self.columns), self._zeros(self.columns)
        self.best_values = torch.full((self.units, BEST_IMAGES), -torch.inf, device=self.device)
        self.best_images = self._zeros(self.units, BEST_IMAGES) - 1

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.int64, device=self.device)

    def add(self, places: Tensor, maps: Tensor, labels: list[ImageLabels]) -> None:
        """Counts a batch, whose images come after those of all batches before.

        Args:
            places: of the images in their set.
            maps: the layer's maps.
            labels: of each image.

        Shape:
            places: (B,); maps: (B, U, h, w) float32.
        """
        peaks = maps.amax((2, 3))
        self._keep_best(places.to(self.device), peaks)
        pixel_codes, image_codes, labelled = self._encode(labels)
        self._count_concepts(pixel_codes, image_codes)
        self.images += len(maps)
        height, width = self.label_size
        rows = upsampling_matrix(maps.shape[2], height).to(self.device)
        columns = upsampling_matrix(maps.shape[3], width).T.to(self.device)
        active = (peaks > self.thresholds).nonzero()
        at_once = PAIRS_IN_CACHE if self.device.type == "cpu" else PAIRS_AT_ONCE
        for image, unit in (chunk.unbind(1) for chunk in torch.split(active, at_once)):
            levels = self.thresholds[unit]
            tall = rows @ maps[image, unit]  # (pairs, H, w)
            kept = _positions(tall.amax(2) > levels[:, None])
            pair, y = kept // height, kept % height
            kept = _positions(tall.flatten(0, 1)[kept] @ columns > levels[pair, None])
            pair, pixel = pair[kept // width], y[kept // width] * width + kept % width
            area = torch.bincount(pair, minlength=len(unit))
            self.unit_area.index_add_(0, unit, area[:, None] * labelled[image])
            first = unit * self.columns
            codes = pixel_codes.flatten(0, 1)[image[pair] * (height * width) + pixel]
            cells = (first[pair, None] + codes).flatten()
            self.intersection += torch.bincount(cells, minlength=len(self.intersection))
            cells = (first[:, None] + image_codes[image]).flatten()
            self.intersection.index_add_(0, cells, area.repeat_interleave(image_codes.shape[1]))

    def result(self) -> Overlap:
        """What was counted so far, on the CPU."""
        return Overlap(
            concepts=self.concepts,
            intersection=self.intersection.view(self.units, -1)[:, 1:].cpu(),
            unit_area=self.unit_area.cpu(),
            concept_area=self.concept_area[1:].cpu(),
            concept_images=self.concept_images[1:].cpu(),
            images=self.images,
            best_images=self.best_images.cpu(),
        )

    def _keep_best(self, places: Tensor, peaks: Tensor) -> None:
        """Keeps the highest responses of each unit; among equal ones the earlier image."""
        values = torch.cat([self.best_values, peaks.T], dim=1)
        images = torch.cat([self.best_images, places.expand(self.units, -1)], dim=1)
        values, order = values.sort(dim=1, descending=True, stable=True)
        self.best_values, self.best_images = values[:, :BEST_IMAGES], images.gather(1, order[:, :BEST_IMAGES])

    def _encode(self, labels: list[ImageLabels]) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of concepts + 1 (0: none) of each pixel (B, P, M) and of each whole image (B, V); labelled (B, 6)."""
        pixels, wholes = [], []
        for per_image in labels:
            maps, whole = [torch.zeros(0, *self.label_size, dtype=torch.int32)], [torch.zeros(0, dtype=torch.int32)]
            for category, values in per_image.items():
                codes = self.codes[category][values.long()]
                if codes.dim() == 1:
                    whole.append(torch.unique(codes))
                    continue
                for later in range(1, len(codes)):  # a pixel with the same label in two maps counts once
                    codes[later][(codes[:later] == codes[later]).any(0)] = 0
                maps.append(codes)
            pixels.append(torch.cat(maps).flatten(1))
            wholes.append(torch.cat(whole))
        labelled = torch.tensor([[category in per_image for category in CATEGORIES] for per_image in labels])
        pixel_codes = pad_sequence(pixels, batch_first=True).transpose(1, 2).contiguous()
        image_codes = pad_sequence(wholes, batch_first=True).long()
        return pixel_codes.to(self.device), image_codes.to(self.device), labelled.to(self.device)

    def _count_concepts(self, pixel_codes: Tensor, image_codes: Tensor) -> None:
        """Adds the area of each concept, and the images that show it."""
        batch, pixels, _ = pixel_codes.shape
        first = torch.arange(batch, device=self.device)[:, None] * self.columns
        cells = (pixel_codes.flatten(1) + first).flatten()
        areas = torch.bincount(cells, minlength=batch * self.columns).view(batch, -1)
        areas.scatter_add_(1, image_codes, torch.full_like(image_codes, pixels))
        self.concept_area += areas.sum(0)
        self.concept_images += (areas > 0).sum(0)


def _positions(mask: Tensor) -> Tensor:
    """Flat positions of the true entries, (n,) int64; numpy's search is several times faster on a CPU."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.flatten().nonzero().squeeze(1)
