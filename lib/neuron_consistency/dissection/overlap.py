"""Counting, exactly and fast, how the masks of a layer's units overlap labelled regions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from neuron_consistency.data.broden import CATEGORIES
from neuron_consistency.runtime import add_up, gathered

ImageLabels = dict[str, Tensor]  # category -> label maps (L, h, w), or the labels (L,) of the whole image
PAIRS_AT_ONCE = 8192  # masks in work on a GPU ...
PAIRS_IN_CACHE = 256  # ... and on a CPU, which is fastest while they stay in its cache


@dataclass(frozen=True)
class Tally:
    """Pixel counts that every score of a dissection comes from; tallies of disjoint sets add up.

    A concept is a label in one category (a label in two categories is two concepts).

    Attributes:
        concepts: one row a concept: label, category.
        intersection: pixels both in a unit's mask and in a concept.
        chance_intersection: the same with each image's labels taken from another image; None if not asked for.
        unit_area: pixels of a unit's mask, over the images labelled in a category.
        concept_area: pixels of a concept.
        concept_images: images that show a concept.
        images: images seen.
        best_images: per unit, the images with its highest responses, highest first (-1: fewer were seen).
        best_values: those responses.

    Shape:
        intersection, chance_intersection: (U, C) int64; unit_area: (U, 6) int64, in the order of CATEGORIES;
        concept_area, concept_images: (C,) int64; best_images: (U, n) int64; best_values: (U, n) float32.
    """

    concepts: pd.DataFrame
    intersection: Tensor
    chance_intersection: Tensor | None
    unit_area: Tensor
    concept_area: Tensor
    concept_images: Tensor
    images: int
    best_images: Tensor
    best_values: Tensor

    def iou(self) -> Tensor:
        """Intersection over union of each unit and concept, over the images labelled in the concept's category.

        Shape:
            result: (U, C) float64 in [0, 1]; NaN where a concept and a unit's mask are both empty.

        Source: Bau et al. 2017, Eq. 1.
        """
        category = torch.tensor([CATEGORIES.index(name) for name in self.concepts["category"]])
        union = self.unit_area[:, category] + self.concept_area - self.intersection
        return self.intersection.double() / union

    def shuffled(self) -> Tally:
        """The chance tally: the same masks and areas, and the intersection with other images' labels."""
        if self.chance_intersection is None:
            raise ValueError("this tally was made without chance=True")
        return replace(self, intersection=self.chance_intersection, chance_intersection=None)


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


class Tallier:
    """Adds batches of maps and labels to a `Tally`.

    A bilinear value never exceeds the largest of its sources, so a unit whose raw map stays below its threshold has
    an empty mask and costs nothing; rows of the upsampled map are left out by the same argument. What remains,
    about 2 % of all unit-pixels at the .005 quantile, is counted with one histogram over (unit, concept).
    """

    def __init__(
        self, thresholds: Tensor, labels: pd.DataFrame, label_size: tuple[int, int], *, chance: bool, best: int
    ) -> None:
        self.thresholds, self.label_size, self.device = thresholds, label_size, thresholds.device
        self.concepts = labels[["name", "category"]].rename(columns={"name": "label"}).reset_index(drop=True)
        self.codes: dict[str, Tensor] = {}  # category -> label number -> row of concepts + 1, 0 for none
        numbers = torch.tensor(labels["number"].to_numpy(dtype=np.int64))
        for category in CATEGORIES:
            rows = torch.tensor((self.concepts["category"] == category).to_numpy(dtype=bool)).nonzero().squeeze(1)
            self.codes[category] = torch.zeros(int(numbers.max()) + 1, dtype=torch.int32)
            self.codes[category][numbers[rows]] = (rows + 1).int()
        units, columns = len(thresholds), len(labels) + 1
        self.units, self.columns = units, columns

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.int64, device=self.device)

        self.intersections = zeros(2 if chance else 1, units * columns)
        self.unit_area = zeros(units, len(CATEGORIES))
        self.concept_area, self.concept_images = zeros(columns), zeros(columns)
        self.images = 0
        self.best_values = torch.full((units, best), -torch.inf, device=self.device)
        self.best_images = zeros(units, best) - 1

    def add(self, indices: Tensor, maps: Tensor, *labels: list[ImageLabels]) -> None:
        """Counts a batch.

        Args:
            indices: numbers of the images in the set.
            maps: the layer's maps.
            labels: of each image; and, for the chance level, of its partner.

        Shape:
            indices: (B,); maps: (B, U, h, w) float32.
        """
        peaks = maps.amax((2, 3))
        self._keep_best(indices.to(self.device), peaks)
        coded = [self._encode(per_image) for per_image in labels]
        pixel_codes, image_codes, labelled = coded[0]
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
            for counts, (pixel_codes, image_codes, _) in zip(self.intersections, coded, strict=True):
                codes = pixel_codes.flatten(0, 1)[image[pair] * (height * width) + pixel]
                cells = (unit * self.columns)[pair, None] + codes
                counts += torch.bincount(cells.flatten(), minlength=len(counts))
                cells = (unit * self.columns)[:, None] + image_codes[image]
                counts.index_add_(0, cells.flatten(), area.repeat_interleave(image_codes.shape[1]))

    def gather(self) -> None:
        """Brings the tallies of all processes together, each of other images; all hold the whole then."""
        add_up(self.intersections, self.unit_area, self.concept_area, self.concept_images)
        self.images = sum(gathered(self.images))
        found = gathered((self.best_values.cpu(), self.best_images.cpu()))
        values, images = (torch.cat(column, 1).to(self.device) for column in zip(*found, strict=True))
        self._keep_highest(values, images)

    def result(self) -> Tally:
        """The tally so far, on the CPU."""
        intersections = self.intersections.view(-1, self.units, self.columns)[:, :, 1:].cpu()
        return Tally(
            concepts=self.concepts,
            intersection=intersections[0],
            chance_intersection=intersections[1] if len(intersections) > 1 else None,
            unit_area=self.unit_area.cpu(),
            concept_area=self.concept_area[1:].cpu(),
            concept_images=self.concept_images[1:].cpu(),
            images=self.images,
            best_images=self.best_images.cpu(),
            best_values=self.best_values.cpu(),
        )

    def _keep_best(self, indices: Tensor, peaks: Tensor) -> None:
        values = torch.cat([self.best_values, peaks.T], dim=1)
        self._keep_highest(values, torch.cat([self.best_images, indices.expand(self.units, -1)], dim=1))

    def _keep_highest(self, values: Tensor, images: Tensor) -> None:
        """Keeps the highest responses of each unit; among equal ones the earlier image."""
        images, order = images.sort(dim=1, stable=True)
        values = values.gather(1, order)
        values, order = values.sort(dim=1, descending=True, stable=True)
        best = self.best_values.shape[1]
        self.best_values, self.best_images = values[:, :best], images.gather(1, order[:, :best])

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
        depth = max(1, *(len(maps) for maps in pixels))
        pixel_codes = torch.stack([functional.pad(maps, (0, 0, 0, depth - len(maps))) for maps in pixels])
        image_codes = torch.nn.utils.rnn.pad_sequence(wholes, batch_first=True)
        return (
            pixel_codes.transpose(1, 2).contiguous().to(self.device),
            image_codes.long().to(self.device),
            labelled.to(self.device),
        )

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
