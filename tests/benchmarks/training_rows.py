"""Rows of the benchmark table about training: Eq. 6 beside a plain step and torchattacks; mixed precision; P3."""

from __future__ import annotations

import copy
from functools import partial

import torch
import torchattacks
from torch import Tensor
from torch.nn import functional

from neuron_consistency.compute import has_fast_bfloat16
from neuron_consistency.data.images import ImageSet
from neuron_consistency.models import Classifier, build_model, read_layers
from neuron_consistency.objectives import Objective, feature_distance
from neuron_consistency.training import Schedule, loss_of, optimiser_of, train, training_step
from neuron_consistency.weighting import Weighting
from pairs import Pair, Row, Size, Work

CLASSES, SIDE, EPSILON = 40, 64, 4 / 255
EQ6 = Objective(alpha=0.5, beta=1.0, epsilon=EPSILON)


def _batch(size: Size) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    count = size.of(64, least=4)
    images = torch.rand(count, 3, SIDE, SIDE, generator=generator)
    return images.to(size.device), (torch.arange(count) % CLASSES).to(size.device)


def _network(size: Size) -> Classifier:
    return build_model("resnet18", num_classes=CLASSES, image_size=SIDE).to(size.device).train()


def _step(size: Size, objective: Objective, precision: str = "float32") -> Work:
    model = _network(size)
    optimiser = optimiser_of(model, Schedule(epochs=1))
    return partial(training_step, loss_of(model, objective), optimiser, *_batch(size), precision=precision)


def eq6_step(size: Size) -> Pair:
    """One step of Eq. 6 against one plain step."""
    return Pair(_step(size, EQ6), _step(size, Objective()), f"ResNet-18, batch of {len(_batch(size)[0])}, {SIDE} px")


def _plainly(model: Classifier, attack: torchattacks.FGSM, images: Tensor, labels: Tensor) -> Tensor:
    """Eq. 6 as one would write it with torchattacks: a forward for the attack, one clean, one adversarial."""
    adversarial = attack(images, labels)
    with read_layers(model, [model.last_layer]) as outputs:
        logits = model(images)
        features = outputs[model.last_layer]
        attacked = model(adversarial)
        distance = feature_distance(features, outputs[model.last_layer], distance=EQ6.distance)
    loss = functional.cross_entropy(logits, labels) + functional.cross_entropy(attacked, labels)
    return 0.5 * loss + EQ6.beta * distance


def eq6_against_torchattacks(size: Size) -> Pair:
    """The same loss with torchattacks' FGSM, in train mode."""
    images, labels = _batch(size)
    model = _network(size)
    optimiser = optimiser_of(model, Schedule(epochs=1))
    attack = torchattacks.FGSM(model, eps=EPSILON)
    attack.set_model_training_mode(model_training=True, batchnorm_training=True, dropout_training=True)

    def theirs() -> None:
        loss = _plainly(model, attack, images, labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    def difference() -> float:
        """Of the two losses, from the same weights: the adversarial images must be the same too."""
        one, other = _network(size), _network(size)
        again = torchattacks.FGSM(other, eps=EPSILON)
        again.set_model_training_mode(model_training=True, batchnorm_training=True, dropout_training=True)
        return abs(EQ6(one, images, labels).loss.item() - _plainly(other, again, images, labels).item())

    words = f"ResNet-18, batch of {len(images)}, {SIDE} px"
    return Pair(_step(size, EQ6), theirs, words, difference=difference, tolerance=1e-3)


def mixed_precision(size: Size) -> Pair:
    """A step of Eq. 6 in bfloat16 against one in float32."""
    return Pair(
        _step(size, EQ6, "bfloat16"), _step(size, EQ6), f"ResNet-18, batch of {len(_batch(size)[0])}, {SIDE} px"
    )


def reweighted_epochs(size: Size) -> Pair:
    """K = 5 epochs with one pass for the weights against five plain ones."""
    count = size.of(320, least=32)
    pixels = torch.randint(
        0, 256, (count, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    names = tuple(str(number) for number in range(16))
    images = ImageSet("noise", "train", names, names, torch.arange(count) % 16, pixels, "noise")
    model = build_model("resnet18", num_classes=16, image_size=SIDE)

    def training(weighting: Weighting | None) -> Work:
        schedule = Schedule(epochs=5, batch_size=32)
        return lambda: train(
            copy.deepcopy(model), images, Objective(), schedule, device=size.device, weighting=weighting
        )

    words = f"ResNet-18, {count} images of {SIDE} px, K = 5"
    return Pair(training(Weighting(warm_up=0, period=5)), training(None), words)


def rows(size: Size) -> list[Row]:
    """The rows; mixed precision has a goal only where the hardware is fast at it."""
    fast = size.device.type == "cuda" or has_fast_bfloat16(size.device)
    return [
        Row("a step of Eq. 6", "a plain step", 1 / 2.45, eq6_step),
        Row("a step of Eq. 6", "the same loss with torchattacks", 1.1, eq6_against_torchattacks),
        Row("a step of Eq. 6 in bfloat16", "in float32", 1.0 if fast else None, mixed_precision),
        Row("an epoch of P3, weights every fifth", "a plain epoch", 1 / 1.5, reweighted_epochs),
    ]
