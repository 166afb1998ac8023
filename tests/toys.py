"""Small networks, images and sets that several tests share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuron_consistency.attacks.stored_set import AdversarialSet
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.networks.models import Classifier
from neuron_consistency.runtime import Runtime
from neuron_consistency.training.loop import History, train
from neuron_consistency.training.objective import Objective
from neuron_consistency.training.recipes import Recipe
from neuron_consistency.training.schedule import Schedule

CPU = torch.device("cpu")
ON = Runtime(CPU, "float32")
COLOURS = torch.tensor([[0.7, 0.3, 0.3], [0.3, 0.7, 0.3], [0.3, 0.3, 0.7], [0.6, 0.6, 0.3]])

EQ6 = Objective(alpha=0.5, beta=1.0, epsilon=8 / 255)


def toy_model(*, num_classes: int = 4, seed: int = 0, dropout: float = 0.0) -> Classifier:
    """Two convolutions with batch norm, layers "first" and "last"; learns `toy_images` within seconds."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 12, 3, stride=2, padding=1),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(12, num_classes),
        )
    return Classifier(network, "toy", {"first": ("2", 8), "last": ("5", 12)})


def image_set(pixels: Tensor, labels: Tensor, *, num_classes: int) -> ImageSet:
    """A set in memory, built from its tensors alone."""
    names = tuple(f"class {number}" for number in range(num_classes))
    synsets = tuple(f"n{number:08d}" for number in range(num_classes))
    return ImageSet("toy", "train", names, synsets, labels, pixels, "toy-fingerprint", None)


def toy_images(count: int, *, size: int = 16, noise: float = 0.1, seed: int = 0) -> ImageSet:
    """Four classes in turn, each a colour with noise on it."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 4
    images = COLOURS[labels][:, :, None, None] + noise * torch.randn(count, 3, size, size, generator=generator)
    return image_set((images.clamp(0, 1) * 255).round().to(torch.uint8), labels, num_classes=4)


def bytes_of(images: ImageSet) -> Tensor:
    """The 8-bit pixels of a set in memory."""
    assert isinstance(images.pixels, Tensor)
    return images.pixels


def attacked_set(clean: ImageSet, pixels: Tensor, indices: Tensor, targets: Tensor) -> AdversarialSet:
    """An adversarial set in memory, made of `clean`: its labels, and the change of its pixels as it is."""
    change = (pixels.float() - bytes_of(clean)[indices].float()).flatten(1) / 255
    return AdversarialSet(
        clean.name,
        clean.split,
        clean.classes,
        clean.synsets,
        clean.labels[indices],
        pixels,
        "attacked",
        networks=("a", "b"),
        source=clean.fingerprint,
        targets=targets,
        indices=indices,
        success=torch.stack([targets >= 0, targets > 0], dim=1),
        rmsd=change.square().mean(1).sqrt(),
    )


def fitted(model: Classifier, images: ImageSet, *, steps: int = 60) -> Classifier:
    """`model` trained on `images` by plain full-batch Adam, in eval mode."""
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    batch, labels = images.batch(torch.arange(len(images)), CPU)
    model.train()
    for _ in range(steps):
        optimiser.zero_grad()
        functional.cross_entropy(model(batch), labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return model.eval()


def train_toy(model: Classifier, objective: Objective = EQ6, *, epochs: int = 3, **options: Any) -> History:
    """The library's own training, short and in float32, on 48 toy images: three steps an epoch."""
    schedule = Schedule(epochs=epochs, batch_size=16, learning_rate=0.01, precision="float32", watched_images=16)
    return train(model, toy_images(48, seed=1), objective, schedule, device=CPU, **options)


class NamedRecipe(Recipe):
    """One whose key says what it is."""

    @property
    def key(self) -> str:
        return f"{self.objective}{self.seed}"


def toy_recipe(objective: str = "normal", seed: int = 0, **fields: Any) -> Recipe:
    """A recipe of no dataset that is there; "normal0" is the key of the one without arguments."""
    given: dict[str, Any] = {
        "profile": "smoke",
        "architecture": "resnet18",
        "data": {"name": "toy", "image_size": 16},
        "fingerprint": "toy-fingerprint",
        "loss": Objective(beta=1.0),
        "schedule": Schedule(epochs=1, seed=seed),
    }
    return NamedRecipe(objective=objective, seed=seed, **given | fields)


def state_of(model: nn.Module) -> dict[str, Any]:
    """Everything an attack or a measure must leave as it was: modes, flags, gradients, weights and statistics."""
    return {
        "modes": {name: module.training for name, module in model.named_modules()},
        "flags": {name: parameter.requires_grad for name, parameter in model.named_parameters()},
        "gradients": {
            name: None if parameter.grad is None else parameter.grad.clone()
            for name, parameter in model.named_parameters()
        },
        "state": {name: value.clone() for name, value in model.state_dict().items()},
        "hooks": sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()),
    }


def assert_same_state(before: dict[str, Any], model: nn.Module) -> None:
    """Fails where `model` is not as `state_of` found it."""
    after = state_of(model)
    for part in ("modes", "flags", "hooks"):
        assert after[part] == before[part], part
    for part in ("gradients", "state"):
        assert after[part].keys() == before[part].keys()
        for name, value in before[part].items():
            other = after[part][name]
            assert (value is None and other is None) or torch.equal(value, other), f"{part} of {name}"


def assert_equal_weights(one: nn.Module, two: nn.Module) -> None:
    """Fails where two networks differ by a bit."""
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name]), name
