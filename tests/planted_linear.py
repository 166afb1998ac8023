"""A network whose influential channels are known: the colours of an image, and one linear map."""

import torch
from torch import Tensor, nn

from neuron_consistency.networks.models import Classifier


def linear_model(weight: Tensor, *, pool: int = 1) -> Classifier:
    """Channels that are the means of an image's colours, and one linear map with these weights."""
    convolution = nn.Conv2d(3, 3, 1, bias=False)
    convolution.weight.data = torch.eye(3)[:, :, None, None]
    linear = nn.Linear(weight.shape[1], len(weight), bias=False)
    linear.weight.data = weight
    network = nn.Sequential(convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(pool), nn.Flatten(), linear)
    model = Classifier(network, "linear", {"colours": ("1", 3)})
    model.mean.zero_()
    model.std.fill_(1)
    return model
