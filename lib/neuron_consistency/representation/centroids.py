"""Where adversarial images lie in feature space: distances to class centroids, beside noise of equal norm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.attacks.stored_set import AdversarialSet
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import class_sums, evaluating, read_layers
from neuron_consistency.runtime import add_up, autocast, drawn_by_row, part, sums_in_order

POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda maps: maps.mean((2, 3)),
    "max": lambda maps: maps.amax((2, 3)),
    "none": lambda maps: maps.flatten(1),
}
Phi = Callable[[Tensor], tuple[Tensor, Tensor]]  # images -> features (B, D), predictions (B,)


@contextmanager
def _reading(model: Classifier, layer: str | None, pooling: str, device: torch.device, precision: str) -> Iterator[Phi]:
    """Within the context, a function from images to the features phi and the predictions of the model in eval mode."""
    if pooling not in POOLINGS:
        raise ParameterError(f"pooling={pooling!r}: use one of {', '.join(POOLINGS)}")
    name = layer or model.last_layer
    model.to(device)
    with evaluating(model), read_layers(model, [name]) as outputs, autocast(device, precision), torch.no_grad():

        def phi(images: Tensor) -> tuple[Tensor, Tensor]:
            predictions = model(images).argmax(1)
            return POOLINGS[pooling](outputs[name].float()), predictions

        yield phi


def class_centroids(
    model: Classifier,
    images: ImageSet,
    *,
    device: torch.device,
    layer: str | None = None,
    pooling: str = "mean",
    batch_size: int = 256,
    precision: str = "auto",
) -> Tensor:
    """The mean features of each class, streamed as sums; several processes share the images.

    Args:
        model: a classifier.
        images: training images, so that no image whose distance is measured lies in its own centroid.
        device: where.
        layer: phi; None is the last one.
        pooling: of phi over space: "mean" or "max" for each channel, "none" keeps the maps.
        batch_size: images a forward pass.
        precision: of the forward passes; features are summed in float64.

    Shape:
        result: (K, D) float32, on the device; D is the channels, without pooling channels x height x width.

    Raises:
        ParameterError: a class without an image, an unknown layer or pooling.

    Source: P2, r1 and r2; the layer, its pooling and the training images are ours.
    """
    with _reading(model, layer, pooling, device, precision) as phi:
        batches = images.batches(batch_size, device=device, part=part())
        found = sums_in_order(class_sums(phi(batch)[0], labels, images.num_classes) for _, batch, labels in batches)
    sums, counts = (each.to(device) for each in found)
    if bool((counts == 0).any()):
        missing = images.classes[int(counts.argmin())]
        raise ParameterError(f"no image of {missing!r} to take a centroid from: give images of every class")
    return (sums / counts[:, None]).float()


def distance_ratios(
    model: Classifier,
    clean: ImageSet,
    adversarial: AdversarialSet,
    centroids: Tensor,
    *,
    device: torch.device,
    layer: str | None = None,
    pooling: str = "mean",
    seed: int = 0,
    batch_size: int = 256,
    precision: str = "auto",
) -> pd.DataFrame:
    """r1 and r2 of every adversarial image, and of the same clean image under Gaussian noise of the same norm.

    r1 = norm(phi(x*) - c) / norm(phi(x) - c) with c the centroid of the true class, r2 with that of the target's. The
    noise is scaled to the L2 norm of x* - x, clipped to [0, 1] and rounded to 8 bits, as adversarial images are. One
    pass over the adversarial images and one over the clean ones, which several processes share; memory: a few numbers
    an adversarial image.

    Args:
        model: the network measured.
        clean: the images that the set was made of.
        adversarial: the set.
        centroids: from `class_centroids`, of the same layer and pooling.
        device: where.
        layer, pooling: phi, as for the centroids.
        seed: of the noise.
        batch_size: images a forward pass.
        precision: of the forward passes.

    Returns:
        One row an adversarial image: image (its place), clean (the place of the image it was made of), r1, r2,
        rmsd, and the same of the noise: "r1 noise", "r2 noise", "rmsd noise"; "reached" (this network says the
        target) and "reached everywhere" (all networks of the set do).

    Shape:
        centroids: (K, D).

    Raises:
        ParameterError: an unknown layer or pooling.

    Source: P2, figure 5; the noise is ours.
    """
    images = len(adversarial)
    origins, rmsd = adversarial.indices, adversarial.rmsd.float()
    ends = torch.stack([adversarial.labels, adversarial.targets], dim=1).to(device)
    options: dict[str, Any] = {"device": device, "part": part()}

    def distances(features: Tensor, rows: Tensor) -> Tensor:
        """To the centroids of the true and of the target class, (B, 2)."""
        apart: Tensor = features[:, None] - centroids[ends[rows.to(device)]]
        return apart.square().sum(2).sqrt()

    near, attacked, noisy = (torch.zeros(images, 2) for _ in range(3))
    reached = torch.zeros(images, dtype=torch.uint8)
    rmsd_noise = torch.zeros(images)
    with _reading(model, layer, pooling, device, precision) as phi:
        for rows, batch, _ in adversarial.batches(batch_size, **options):
            features, predictions = phi(batch)
            attacked[rows] = distances(features, rows).cpu()
            reached[rows] = (predictions.cpu() == adversarial.targets[rows]).to(torch.uint8)
        for places, batch, _ in clean.batches(batch_size, **options):
            features, _ = phi(batch)
            place_in_batch = torch.full((len(clean),), -1)
            place_in_batch[places] = torch.arange(len(places))
            made_of_these = (place_in_batch[origins] >= 0).nonzero().squeeze(1)
            for rows in torch.split(made_of_these, batch_size):
                own = place_in_batch[origins[rows]].to(device)
                near[rows] = distances(features[own], rows).cpu()
                noise = noisy_images(batch[own], rmsd[rows].to(device), rows=rows, seed=seed)
                noisy[rows] = distances(phi(noise)[0], rows).cpu()
                rmsd_noise[rows] = (noise - batch[own]).flatten(1).square().mean(1).sqrt().cpu()
    add_up(near, attacked, noisy, reached, rmsd_noise)  # of the other processes' rows, this one has zeros
    r, r_noise = attacked / near, noisy / near
    columns = {"image": torch.arange(images), "clean": origins, "r1": r[:, 0], "r2": r[:, 1], "rmsd": rmsd}
    columns |= {"r1 noise": r_noise[:, 0], "r2 noise": r_noise[:, 1], "rmsd noise": rmsd_noise}
    columns |= {"reached": reached.bool(), "reached everywhere": adversarial.success.all(1)}
    return pd.DataFrame({name: column.numpy() for name, column in columns.items()})


def noisy_images(images: Tensor, rmsd: Tensor, *, rows: Tensor, seed: int) -> Tensor:
    """Gaussian noise scaled to a root mean squared change, clipped to [0, 1] and rounded to 8 bits.

    Clipping takes a little of the change away, rounding adds or takes a little.

    Args:
        images: without noise.
        rmsd: the change wanted.
        rows: numbers of the images in the whole; of an image's number and the seed the noise is made.
        seed: of all noise.

    Shape:
        images: (B, 3, H, W) in [0, 1]; rmsd: (B,); rows: (B,) int64; result: as images.
    """
    noise = drawn_by_row(rows.tolist(), partial(torch.randn, images.shape[1:]), seed=seed).to(images)
    scale = rmsd / noise.flatten(1).square().mean(1).sqrt()
    return ((images + scale[:, None, None, None] * noise).clamp_(0, 1) * 255).round() / 255
