"""Accuracy under AutoAttack, as the Adversarial Robustness Toolbox has it: a judge that is not of our making."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from neuron_consistency.compute import autocast
from neuron_consistency.data.images import ImageSet
from neuron_consistency.distributed import add_up, part
from neuron_consistency.models import Classifier, evaluating


class _InPrecision(nn.Module):
    """A network whose forward passes run in a precision of the caller's choice; logits are float32."""

    def __init__(self, model: Classifier, device: torch.device, precision: str) -> None:
        super().__init__()
        self.model, self.device, self.precision = model, device, precision

    def forward(self, images: Tensor) -> Tensor:
        with autocast(self.device, self.precision):
            logits: Tensor = self.model(images)
        return logits.float()


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """No parameter asks for a gradient within the context: an attack needs that of the image alone."""
    asked = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in asked:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asked:
            parameter.requires_grad_(True)


@contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    """NumPy's global generator, which the toolbox draws from, starts at `seed`; afterwards it is as it was."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


def auto_attack_predictions(
    model: Classifier,
    images: ImageSet,
    *,
    epsilon: float,
    device: torch.device,
    steps: int = 100,
    queries: int = 5000,
    batch_size: int = 256,
    precision: str = "auto",
) -> Tensor:
    """What the model says under AutoAttack; several processes share the images.

    Its attacks take turns, each on the images that withstood the ones before: APGD on the cross-entropy, APGD on the
    difference-of-logits ratio, and Square, which sees logits alone and so is not misled by masked gradients. One start
    each. Images that are wrong when clean are not attacked.

    Args:
        model: the network.
        images: the set.
        epsilon: radius of the L-infinity ball, in units of the pixel range.
        device: where.
        steps: of both APGD.
        queries: of Square at most.
        batch_size: images a forward pass.
        precision: of the forward passes.

    Shape:
        result: (N,) int64, on the CPU.

    Source: Croce and Hein 2020, in the implementation of the Adversarial Robustness Toolbox. It departs from the
        published composition: its APGD on the logits' ratio has no targets, and there is no FAB; nor DeepFool, which
        the toolbox has in its place and which keeps to no radius. Not in the papers.
    """
    with warnings.catch_warnings():  # here, as it takes seconds and nothing else needs it
        warnings.filterwarnings("ignore", "IProgress not found")  # no bar is shown
        from art.attacks.evasion import AutoAttack, AutoProjectedGradientDescent, SquareAttack
        from art.estimators.classification import PyTorchClassifier

    predictions = torch.zeros(len(images), dtype=torch.int64)
    model.to(device)
    with evaluating(model), _frozen(model), _numpy_seed(0):
        network = _InPrecision(model, device, precision).eval()
        classifier = PyTorchClassifier(
            network,
            loss=nn.CrossEntropyLoss(),
            input_shape=images.batch(torch.tensor([0]), torch.device("cpu"))[0].shape[1:],
            nb_classes=images.num_classes,
            clip_values=(0.0, 1.0),
            device_type="cpu" if device.type == "cpu" else "gpu",
        )
        ball = {"norm": np.inf, "eps": epsilon}
        ascent = {"eps_step": 2 * epsilon, "max_iter": steps, "nb_random_init": 1, "verbose": False} | ball
        several = {"batch_size": batch_size}
        attack = AutoAttack(
            classifier,
            **ball,
            **several,
            attacks=[
                AutoProjectedGradientDescent(classifier, loss_type="cross_entropy", **ascent, **several),
                AutoProjectedGradientDescent(classifier, loss_type="difference_logits_ratio", **ascent, **several),
                SquareAttack(classifier, max_iter=queries, nb_restarts=1, verbose=False, **ball, **several),
            ],
        )
        for places, batch, labels in images.batches(batch_size, device=device, part=part()):
            attacked = attack.generate(batch.cpu().numpy(), labels.cpu().numpy())
            said = classifier.predict(attacked, batch_size=batch_size).argmax(1)
            predictions[places.cpu()] = torch.from_numpy(said)
    predictions = predictions.to(device)
    add_up(predictions)
    return predictions.cpu()
