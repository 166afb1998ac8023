"""Where adversarial images lie in feature space: distances to class centroids, beside noise of equal norm."""

from collections.abc import Callable
from functools import partial

import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.attacks.stored_set import AdversarialSet
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import class_sums, each_batch, over, read_layers
from neuron_consistency.runtime import Runtime, drawn_by_row

POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda maps: maps.mean((2, 3)),
    "max": lambda maps: maps.amax((2, 3)),
    "none": lambda maps: maps.flatten(1),
}


def _pooled(pooling: str, maps: Tensor) -> Tensor:
    if pooling not in POOLINGS:
        raise ParameterError(f"pooling={pooling!r}: use one of {', '.join(POOLINGS)}")
    return POOLINGS[pooling](maps.float())


def class_centroids(model: Classifier, images: ImageSet, on: Runtime, *, pooling: str) -> Tensor:
    """The mean features phi of each class, pooled maps of the last layer, streamed as sums in float64.

    Args:
        images: training images, so that no image whose distance is measured lies in its own centroid.
        pooling: of the maps over space: "mean" or "max" for each channel, "none" keeps them.

    Shape:
        result: (K, D) float32, on the device; D is the channels, without pooling channels x height x width.

    Raises:
        ParameterError: a class without an image, or an unknown pooling.

    Source: P2, r1 and r2; the layer, its pooling and the training images are ours.
    """
    sums = counts = torch.zeros((), dtype=torch.float64)
    for seen in over(model, images, on, layers=[model.last_layer]):
        more, number = class_sums(_pooled(pooling, seen.maps[model.last_layer]), seen.labels, images.num_classes)
        sums, counts = sums + more, counts + number
    if bool((counts == 0).any()):
        missing = images.classes[int(counts.argmin())]
        raise ParameterError(f"no image of {missing!r} to take a centroid from: give images of every class")
    return (sums / counts[:, None]).float().to(on.device)


def distance_ratios(
    model: Classifier, clean: ImageSet, adversarial: AdversarialSet, centroids: Tensor, on: Runtime, *, pooling: str
) -> pd.DataFrame:
    """r1 and r2 of every adversarial image, and of the same clean image under Gaussian noise of the same norm.

    r1 = norm(phi(x*) - c) / norm(phi(x) - c) with c the centroid of the true class, r2 with that of the target's. The
    noise is scaled to the L2 norm of x* - x, clipped to [0, 1] and rounded to 8 bits, as adversarial images are. One
    pass over the adversarial images and one over the clean ones; memory: a few numbers an adversarial image.

    Args:
        clean: the images that the set was made of.
        centroids: from `class_centroids`, of the same pooling.

    Returns:
        One row an adversarial image: image (its place), clean (the place of the image it was made of), r1, r2,
        rmsd, and the same of the noise: "r1 noise", "r2 noise", "rmsd noise"; "reached" (this network says the
        target) and "reached everywhere" (all networks of the set do).

    Shape:
        centroids: (K, D).

    Raises:
        ParameterError: an unknown pooling.

    Source: P2, figure 5; the noise is ours.
    """
    name, count = model.last_layer, len(adversarial)
    origins, rmsd = adversarial.indices, adversarial.rmsd.float()
    ends = torch.stack([adversarial.labels, adversarial.targets], dim=1)

    def distances(maps: Tensor, rows: Tensor) -> Tensor:
        """To the centroids of the true and of the target class, (B, 2)."""
        apart = _pooled(pooling, maps)[:, None] - centroids[ends[rows].to(centroids.device)]
        return apart.square().sum(2).sqrt()

    def beside(places: Tensor, batch: Tensor, _labels: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Of what was made of these clean images: its rows; distances of the clean and the noisy, size of the noise."""
        found = []
        with torch.no_grad(), read_layers(model, [name]) as maps:
            model(batch)
            still = maps[name]
            for rows in torch.split(torch.isin(origins, places).nonzero().squeeze(1), on.batch_size):
                own = torch.searchsorted(places, origins[rows]).to(on.device)
                noise = noisy_images(batch[own], rmsd[rows].to(on.device), rows=rows)
                model(noise)
                size = (noise - batch[own]).flatten(1).square().mean(1, keepdim=True).sqrt()
                values = [distances(still[own], rows), distances(maps[name], rows), size]
                found.append((rows, torch.cat(values, dim=1).cpu()))
        return found

    attacked, reached, others = torch.zeros(count, 2), torch.zeros(count, dtype=torch.bool), torch.zeros(count, 5)
    for seen in over(model, adversarial, on, layers=[name]):
        attacked[seen.places] = distances(seen.maps[name], seen.places).cpu()
        reached[seen.places] = seen.logits.argmax(1).cpu() == adversarial.targets[seen.places]
    for _, found in each_batch(model, clean, on, beside):
        for rows, values in found:
            others[rows] = values
    r, r_noise = attacked / others[:, :2], others[:, 2:4] / others[:, :2]
    columns = {"image": torch.arange(count), "clean": origins, "r1": r[:, 0], "r2": r[:, 1], "rmsd": rmsd}
    columns |= {"r1 noise": r_noise[:, 0], "r2 noise": r_noise[:, 1], "rmsd noise": others[:, 4]}
    columns |= {"reached": reached, "reached everywhere": adversarial.success.all(1)}
    return pd.DataFrame({name: column.numpy() for name, column in columns.items()})


def noisy_images(images: Tensor, rmsd: Tensor, *, rows: Tensor) -> Tensor:
    """Gaussian noise scaled to a root mean squared change, clipped to [0, 1] and rounded to 8 bits.

    Clipping takes a little of the change away, rounding adds or takes a little. The noise of an image follows from the
    image's number in the whole, one of `rows`.

    Shape:
        images, result: (B, 3, H, W) in [0, 1]; rmsd: (B,), the change wanted; rows: (B,) int64.
    """
    noise = drawn_by_row(rows.tolist(), partial(torch.randn, images.shape[1:]), seed=0).to(images)
    scale = rmsd / noise.flatten(1).square().mean(1).sqrt()
    return ((images + scale[:, None, None, None] * noise).clamp_(0, 1) * 255).round() / 255
