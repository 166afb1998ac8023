"""Small networks and images that the golden numbers are of, made so that another processor's rounding hardly shows.

No network here is trained: after many steps of a sign attack or of Adam two processors would disagree. Filters are
random, and the last layer is fitted in float64 by least squares.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.networks.models import Classifier
from neuron_consistency.runtime import Runtime
from neuron_consistency.show import distinct_titles
from neuron_consistency.taxonomy import correlation, distance_matrix
from neuron_consistency.training.recipes import Recipe
from toys import CPU, toy_images, toy_recipe

PRECISION = "float32"
ON = Runtime(CPU, PRECISION, 20)
CLASSES = ("dog", "cat", "car", "airplane")
SYNSETS = ("n02084071", "n02121808", "n02958343", "n02691156")
DISTANCES = distance_matrix(SYNSETS)
A = correlation(DISTANCES, sigma=2.0)
EPSILON = 4 / 255


def images(count: int, *, seed: int, noise: float = 0.25) -> ImageSet:
    """Four classes, each a colour under noise, named so that some are nearer to each other than others."""
    return replace(toy_images(count, noise=noise, seed=seed), classes=CLASSES, synsets=SYNSETS)


def network(*, seed: int, num_classes: int = 4) -> Classifier:
    """Two convolutions with batch norm, layers "first" and "last"; no bias before a norm, which learns only noise."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(12, num_classes),
        )
    return Classifier(layers, "toy", {"first": ("2", 8), "last": ("5", 12)})


@torch.no_grad()
def read_out(model: Classifier, examples: ImageSet, *, sureness: float = 8.0) -> Classifier:
    """`model` with the statistics of these images in its norms and the linear map that tells their classes best."""
    batch, labels = examples.batch(torch.arange(len(examples)), CPU)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    model.train()(batch)
    model.eval()
    assert isinstance(model.network, nn.Sequential)
    *body, head = model.network
    features = nn.Sequential(*body)((batch - model.mean) / model.std).double()
    assert isinstance(head, nn.Linear)
    wanted = nn.functional.one_hot(labels, examples.num_classes).double() - 1 / examples.num_classes
    centred = features - features.mean(0)
    ridge = 1e-2 * centred.square().mean() * torch.eye(features.shape[1], dtype=torch.float64)
    weight = sureness * torch.linalg.solve(centred.T @ centred / len(labels) + ridge, centred.T @ wanted / len(labels))
    head.weight.copy_(weight.T)
    head.bias.copy_(-(features.mean(0) @ weight))
    return model


class GoldenRecipe(Recipe):
    """One whose key says what it is."""

    @property
    def key(self) -> str:
        return f"{self.architecture}-{self.objective}{self.seed}"


def recipe(objective: str, seed: int = 0, architecture: str = "resnet18") -> Recipe:
    """What the tables take a network for."""
    return GoldenRecipe(**vars(toy_recipe(objective, seed, architecture=architecture)))


def networks(recipes: list[Recipe], examples: ImageSet | None = None) -> tuple[dict[str, Classifier], dict[str, str]]:
    """A network for each recipe, and the titles, both by key."""
    known = images(80, seed=1) if examples is None else examples
    built = {one.key: read_out(network(seed=place), known) for place, one in enumerate(recipes)}
    return built, distinct_titles(recipes)


def summary(tensor: Tensor) -> list[float]:
    """Mean, mean size and root mean square in float64: what stands for a tensor."""
    values = tensor.detach().double()
    return [float(values.mean()), float(values.abs().mean()), float(values.square().mean().sqrt())]
