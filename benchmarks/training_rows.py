"""Rows of the benchmark table about training: Eq. 6 beside a plain step and captum's attack; mixed precision; P3."""

from __future__ import annotations

import copy
from functools import partial

import torch
from captum.robust import FGSM
from torch import Tensor, nn
from torch.nn import functional

from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.explanation.weighting import Weighting
from neuron_consistency.networks.models import Classifier, build_model
from neuron_consistency.networks.reading import read_layers
from neuron_consistency.runtime import Runtime, has_fast_bfloat16
from neuron_consistency.training.loop import loss_of, train, training_step
from neuron_consistency.training.objective import Objective, feature_distance
from neuron_consistency.training.schedule import Schedule, optimiser_of
from neuron_consistency.workflow.costs import UNITS, forward_work
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


def _words(size: Size) -> str:
    return f"ResNet-18, batch of {len(_batch(size)[0])}, {SIDE} px"


def _step(size: Size, objective: Objective, precision: str = "float32", *, compiled: bool = False) -> Work:
    model = _network(size)
    if compiled:  # stage by stage: the hooks that read layers stay outside, as they change with every step
        torch._functorch.config.donated_buffer = False  # the attack goes back through the graph that the loss uses
        for block in (child for child in model.network.children() if any(child.children())):
            block.forward = torch.compile(block.forward)  # type: ignore[method-assign]
    optimiser = optimiser_of(model, Schedule(epochs=1))
    on = Runtime(size.device, precision)
    return partial(training_step, loss_of(model, objective), optimiser, *_batch(size), on)


def eq6_step(size: Size) -> Pair:
    """One step of Eq. 6 against one plain step."""
    return Pair(_step(size, EQ6), _step(size, Objective()), _words(size))


def _plainly(model: Classifier, attack: FGSM, images: Tensor, labels: Tensor) -> Tensor:
    """Eq. 6 as one would write it with captum: a forward for the attack, one clean, one adversarial."""
    adversarial = attack.perturb(images, EPSILON, labels).detach()
    with read_layers(model, [model.last_layer]) as outputs:
        logits = model(images)
        features = outputs[model.last_layer]
        attacked = model(adversarial)
        distance = feature_distance(features, outputs[model.last_layer], distance=EQ6.distance)
    loss = functional.cross_entropy(logits, labels) + functional.cross_entropy(attacked, labels)
    return 0.5 * loss + EQ6.beta * distance


def _captums_fgsm(model: Classifier) -> FGSM:
    attack = FGSM(model, nn.CrossEntropyLoss(reduction="none"), 0.0, 1.0)
    attack.zero_thresh = 0.0
    return attack


def _plain_step(size: Size) -> Work:
    """A step of Eq. 6 as written with captum."""
    images, labels = _batch(size)
    model = _network(size)
    optimiser, attack = optimiser_of(model, Schedule(epochs=1)), _captums_fgsm(model)

    def step() -> None:
        loss = _plainly(model, attack, images, labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return step


def eq6_against_captum(size: Size) -> Pair:
    """The same loss with captum's FGSM."""
    images, labels = _batch(size)

    def difference() -> float:
        """Of the two losses, from the same weights: the adversarial images must be the same too."""
        one, other = _network(size), _network(size)
        theirs = _plainly(other, _captums_fgsm(other), images, labels)
        return abs(EQ6(one, images, labels).loss.item() - theirs.item())

    return Pair(_step(size, EQ6), _plain_step(size), _words(size), difference=difference, tolerance=1e-3)


def watched_steps(size: Size) -> dict[str, Work]:
    """The steps whose time `step_profile` takes apart."""
    return {
        "plain": _step(size, Objective()),
        "Eq. 6": _step(size, EQ6),
        "Eq. 6 with captum": _plain_step(size),
        "Eq. 6 in bfloat16": _step(size, EQ6, "bfloat16"),
    }


def eq6_compiled(size: Size) -> Pair:
    """A step of Eq. 6 whose network is compiled against one as the library does it."""
    return Pair(_step(size, EQ6, compiled=True), _step(size, EQ6), _words(size))


def eq6_against_matrix_products(size: Size) -> Pair:
    """Of the rate of a large matrix product, what a step of Eq. 6 reaches: its operations as such products alone."""
    side = 2048
    operations = (
        UNITS["consistent"] * forward_work("resnet18", num_classes=CLASSES, image_size=SIDE) * len(_batch(size)[0])
    )
    left, right = torch.rand(2, side, side, device=size.device)
    words = f"{_words(size)}, {operations / 1e9:.0f} x 10^9 operations"
    return Pair(_step(size, EQ6), lambda: left @ right, words, scale=operations / (2 * side**3))


def mixed_precision(size: Size) -> Pair:
    """A step of Eq. 6 in bfloat16 against one in float32."""
    return Pair(_step(size, EQ6, "bfloat16"), _step(size, EQ6), _words(size))


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
        Row("a step of Eq. 6", "the same loss with captum's FGSM", 1.1, eq6_against_captum),
        Row("a step of Eq. 6 in bfloat16", "in float32", 1.0 if fast else None, mixed_precision),
        Row("a step of Eq. 6, stages compiled", "as it is", None, eq6_compiled),
        Row("a step of Eq. 6", "its operations at the rate of a matrix product", None, eq6_against_matrix_products),
        Row("an epoch of P3, weights every fifth", "a plain epoch", 1 / 1.5, reweighted_epochs),
    ]
