"""How long and how fast a network is trained, and by which optimiser."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from neuron_consistency.errors import ParameterError, require


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast to train.

    Attributes:
        epochs: passes over the training set.
        batch_size: images a step, over all processes; an incomplete last batch is left out.
        learning_rate: the peak, reached linearly over the first fifth of the steps; then a cosine to 0.
        weight_decay: decoupled (AdamW), on weights of convolutions and linear maps only.
        seed: of the order of images, augmentation and dropout; each epoch draws from (seed, epoch) alone.
        precision: "auto", "float32" or "bfloat16".
        watched_images: how many training images the PGD check of each epoch uses.
        watch_steps: its PGD steps.
    """

    epochs: int
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    seed: int = 0
    precision: str = "auto"
    watched_images: int = 32
    watch_steps: int = 4

    def __post_init__(self) -> None:
        require(1, whole=True, epochs=self.epochs, batch_size=self.batch_size)
        require(0, above=True, learning_rate=self.learning_rate)
        require(0, weight_decay=self.weight_decay)

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step: linear warm-up over a fifth, then a cosine to zero."""
        warm = max(1, steps // 5)
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def optimiser_of(model: nn.Module, schedule: Schedule) -> torch.optim.AdamW:
    """AdamW on what is not frozen; biases and norms do not decay.

    Raises:
        ParameterError: all is frozen.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ParameterError("all weights of the network are frozen: let requires_grad be True for those to be trained")
    decayed = {"params": [p for p in parameters if p.ndim > 1], "weight_decay": schedule.weight_decay}
    plain = {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}
    return torch.optim.AdamW([decayed, plain], lr=schedule.learning_rate)
