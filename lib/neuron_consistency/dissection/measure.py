"""Network Dissection: which labelled concept, if any, each neuron of a layer stands for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from neuron_consistency.data.broden import CATEGORIES, BrodenSet
from neuron_consistency.dissection.overlap import Tallier, Tally, partners, upsampling_matrix
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import read_layers
from neuron_consistency.runtime import autocast, gathered, part

SMALLEST_MAP = 7  # below this a neuron's mask is too coarse to match any concept (Bau et al. use 7x7 and more)
ImageAttack = Callable[[nn.Module, Tensor], Tensor]  # (model, images) -> adversarial images


def dissection_size(model: Classifier, layer: str, *, smallest_map: int = SMALLEST_MAP) -> int:
    """The smallest multiple of 32 pixels, from 64, that gives the layer maps of at least `smallest_map` a side.

    Raises:
        ParameterError: even 512 pixels give smaller maps, or the model has no such layer.

    Source: design of Bau et al. 2017, whose last layers have 7x7 to 14x14 maps; the search is ours.
    """
    with _reading(model, layer, "float32", smallest_map=0) as read:
        for size in range(64, 513, 32):
            probe = torch.zeros(1, 3, size, size, device=model.mean.device)
            if min(read(probe).shape[2:]) >= smallest_map:
                return size
    raise ParameterError(
        f"layer {layer!r} has maps below {smallest_map}x{smallest_map} even at 512 px: choose an earlier layer"
    )


@contextmanager
def _reading(
    model: Classifier,
    layer: str,
    precision: str,
    *,
    attack: ImageAttack | None = None,
    smallest_map: int = SMALLEST_MAP,
) -> Iterator[Callable[[Tensor], Tensor]]:
    """Gives a function from images to the layer's maps, (B, 3, H, W) -> (B, U, h, w) float32, in eval mode."""
    device, training = model.mean.device, model.training

    def read(images: Tensor) -> Tensor:
        images = images.to(device).contiguous(memory_format=torch.channels_last)
        with autocast(device, precision):
            if attack is not None:
                images = attack(model, images)
            with torch.no_grad():
                model(images)
        maps = outputs.pop(layer).float().contiguous()
        if min(maps.shape[2:]) < smallest_map:
            raise ParameterError(
                f"layer {layer!r} has {maps.shape[2]}x{maps.shape[3]} maps at {images.shape[2]} px, and dissection "
                f"needs {smallest_map}x{smallest_map}: use a larger image_size (dissection_size gives it)"
            )
        return maps

    model.eval()
    try:
        with read_layers(model, [layer]) as outputs:
            yield read
    finally:
        model.train(training)


def unit_thresholds(
    model: Classifier,
    layer: str,
    broden: BrodenSet,
    *,
    image_size: int,
    device: torch.device,
    quantile: float = 0.005,
    attack: ImageAttack | None = None,
    max_kept: int | None = None,
    batch_size: int = 32,
    precision: str = "auto",
    processes: int = 0,
    progress: bool = False,
) -> Tensor:
    """The value that a share `quantile` of a unit's map positions, over all images, reaches: exact, streaming.

    It is the k-th largest of all N h w values of the unit, k = ceil(quantile N h w); only the k largest so far
    (and at most as many waiting) are held, so memory is 2 k U float32: 63,000 images at 7x7 and 512 units are
    63 MB, but 64 units at 112x112 are 2 GB. `max_kept` caps k: then an equal number of positions is drawn from
    each image (at least one, the same for any batch size) and the threshold is the quantile of that sample.

    Args:
        model: the network; moved to `device`, run in eval mode, its mode restored.
        layer: a name among `model.layers`.
        broden: the images; their labels are not read.
        image_size: side of the images shown to the network; maps must be at least 7x7 (see `dissection_size`).
        device: where it is computed.
        quantile: share of positions above the threshold.
        attack: if given, thresholds are those of the attacked images.
        max_kept: cap on k.
        batch_size, precision, processes: how it is computed; they change no threshold beyond rounding.
        progress: show a bar.

    Shape:
        result: (U,) float32, on `device`, in the units of the layer's responses.

    Raises:
        ParameterError: quantile outside (0, 1), maps below 7x7, or unknown layer.

    Source: Bau et al. 2017, section 2.2, P(a_k > T_k) = .005; theirs is an approximate streaming quantile.
    """
    if not 0 < quantile < 1:
        raise ParameterError(f"quantile={quantile}: must lie between 0 and 1")
    model.to(device)
    largest = waiting = torch.empty(model.layers[layer], 0)
    k = 0
    with _reading(model, layer, precision, attack=attack) as read:
        batches = broden.batches(batch_size, image_size=image_size, processes=processes, part=part())
        steps = math.ceil(len(broden) / batch_size / part().size)
        for indices, images, _ in tqdm(batches, "thresholds", steps, disable=not progress):
            values = read(images).flatten(2)
            positions = values.shape[2]
            drawn = positions
            if max_kept is not None and quantile * len(broden) * positions > max_kept:
                drawn = max(1, math.floor(max_kept / (quantile * len(broden))))
                chosen = torch.stack([_drawn(int(place), positions)[:drawn] for place in indices])
                index = chosen.to(values.device)[:, None].expand(-1, values.shape[1], -1)
                values = values.gather(2, index)
            if k == 0:
                k = math.ceil(quantile * len(broden) * drawn)
                largest = waiting = values.new_empty(values.shape[1], 0)
            waiting = torch.cat([waiting, values.transpose(0, 1).flatten(1)], dim=1)
            if waiting.shape[1] >= k:
                largest = torch.cat([largest, waiting], dim=1).topk(k, dim=1, sorted=False).values
                waiting = waiting[:, :0]
    parts = [values.to(device) for values in gathered(torch.cat([largest, waiting], dim=1).cpu())]
    return torch.cat(parts, dim=1).topk(max(gathered(k)), dim=1).values[:, -1]


def _drawn(image: int, positions: int) -> Tensor:
    """The positions of a map in an order of the image's own, whichever images come before it."""
    return torch.randperm(positions, generator=torch.Generator().manual_seed(image))


def dissect(
    model: Classifier,
    layer: str,
    broden: BrodenSet,
    *,
    thresholds: Tensor,
    image_size: int,
    device: torch.device,
    attack: ImageAttack | None = None,
    chance: bool = False,
    best: int = 8,
    seed: int = 0,
    batch_size: int = 32,
    precision: str = "auto",
    processes: int = 0,
    progress: bool = False,
) -> Tally:
    """Counts how each unit's masks overlap each concept of a densely labelled set, in one streaming pass.

    Maps are upsampled bilinearly to the label maps' size; a unit's mask is where they exceed its threshold.

    Args:
        model: the network; moved to `device`, run in eval mode, its mode restored.
        layer: a name among `model.layers`.
        broden: images and labels.
        thresholds: of each unit, from `unit_thresholds`: of the real images also where `attack` is given, unless
            the question is another.
        image_size: side of the images shown to the network; maps must be at least 7x7 (see `dissection_size`).
        device: where it is computed.
        attack: (model, images) -> images, applied before measuring.
        chance: also count with each image's labels of a category exchanged for those of another image labelled in
            it (a random cycle through them): the same masks, areas and label statistics, no correspondence.
        best: how many of its strongest images are remembered for each unit.
        seed: of the exchange.
        batch_size, precision, processes: how it is computed; they change no count beyond rounding.
        progress: show a bar.

    Shape:
        thresholds: (U,).

    Raises:
        ParameterError: maps below 7x7, thresholds of another layer, or unknown layer.

    Source: Bau et al. 2017, section 2.3; P1 applies it to least-likely-class adversarial images. Chance is ours.
    """
    if thresholds.shape != (model.layers.get(layer, len(thresholds)),):
        raise ParameterError(f"{len(thresholds)} thresholds for the {model.layers[layer]} units of {layer!r}")
    model.to(device)
    tallier = Tallier(
        thresholds.to(device),
        broden.labels,
        broden.label_size,
        chance=chance,
        best=best,
    )
    exchange = {}
    if chance:
        generator = torch.Generator().manual_seed(seed)
        exchange = {c: partners(broden.labelled(c), generator=generator) for c in CATEGORIES}
    with _reading(model, layer, precision, attack=attack) as read:
        batches = broden.batches(batch_size, image_size=image_size, processes=processes, part=part())
        steps = math.ceil(len(broden) / batch_size / part().size)
        for indices, images, labels in tqdm(batches, "dissection", steps, disable=not progress):
            if chance:
                other = [
                    {c: broden.image_labels(int(exchange[c][i]), c) for c in own}
                    for i, own in zip(indices.tolist(), labels, strict=True)
                ]
                tallier.add(indices, read(images), labels, other)
            else:
                tallier.add(indices, read(images), labels)
    tallier.gather()
    return tallier.result()


def unit_masks(
    model: Classifier,
    layer: str,
    images: Tensor,
    units: Tensor,
    *,
    thresholds: Tensor,
    size: tuple[int, int],
    precision: str = "auto",
) -> Tensor:
    """The mask of one unit on each image: where its upsampled map exceeds its threshold.

    Shape:
        images: (B, 3, S, S) in [0, 1]; units: (B,) int64; thresholds: (U,); result: `(B, *size)` bool.

    Source: Bau et al. 2017, section 2.3.
    """
    with _reading(model, layer, precision) as read:
        maps = read(images)
    units, levels = units.to(maps.device), thresholds.to(maps.device)
    chosen = maps[torch.arange(len(maps), device=maps.device), units]
    rows, columns = (upsampling_matrix(s, t).to(maps.device) for s, t in zip(maps.shape[2:], size, strict=True))
    return rows @ chosen @ columns.T > levels[units, None, None]


def unit_labels(tally: Tally, *, iou_threshold: float = 0.04, min_images: int = 10) -> pd.DataFrame:
    """The concept each unit matches best, over all categories.

    Args:
        tally: what `dissect` counted.
        iou_threshold: a unit whose best IoU exceeds it is aligned with that concept.
        min_images: concepts shown by fewer of the images counted are left out.

    Returns:
        One row a unit: unit, label, category, iou, aligned. A unit that overlaps nothing has label and category
        None and IoU 0.

    Raises:
        ParameterError: no concept is shown by that many images.

    Source: Bau et al. 2017 (IoU > .04; Broden keeps labels of 10 images or more).
    """
    kept = (tally.concept_images >= min_images).nonzero().squeeze(1)
    if len(kept) == 0:
        raise ParameterError(
            f"min_images={min_images}: no label is in that many of the {tally.images} images; lower it"
        )
    best, column = tally.iou()[:, kept].nan_to_num(0).max(dim=1)
    concepts = tally.concepts.iloc[kept[column].numpy()].reset_index(drop=True)
    units = pd.DataFrame({"unit": range(len(best)), "label": concepts["label"], "category": concepts["category"]})
    units["category"] = pd.Categorical(units["category"].where(best.numpy() > 0), categories=CATEGORIES)
    units["label"] = units["label"].where(best.numpy() > 0)
    return units.assign(iou=best.numpy(), aligned=best.numpy() > iou_threshold)
