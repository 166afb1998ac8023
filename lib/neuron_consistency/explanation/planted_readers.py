"""Networks that we know to look at the object alone, or at the background alone, and what E says of each."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor, nn

from neuron_consistency.explanation.localisation import score_row
from neuron_consistency.explanation.measure import explanation_consistency
from neuron_consistency.networks.models import Classifier
from neuron_consistency.statistics import Estimate

SIDE, OBJECT = 16, 7  # pixels, of the picture and of the object in it
REST = 0.001  # how much a reader sees of what it does not look at


class Evidence(nn.Module):
    """Red and green, on the object (which blue marks) or off it."""

    def __init__(self, looks_at: str) -> None:
        super().__init__()
        self.looks_at = looks_at

    def forward(self, images: Tensor) -> Tensor:
        on_object = images[:, 2:] > 0.5
        window = on_object if self.looks_at == "object" else ~on_object
        return images[:, :2] * torch.where(window, 1.0, REST)


class Reader(nn.Module):
    def __init__(self, looks_at: str) -> None:
        super().__init__()
        self.evidence = Evidence(looks_at)

    def forward(self, images: Tensor) -> Tensor:
        seen: Tensor = self.evidence(images)
        return 10 * seen.mean((2, 3))


def reader(looks_at: str) -> Classifier:
    """A network that says red (0) or green (1) from the "object" alone, or from the "background" alone."""
    model = Classifier(Reader(looks_at), "reader", {"evidence": ("evidence", 2)})
    model.mean.zero_()
    model.std.fill_(1)
    return model.eval()


def planted_pictures(count: int, *, margin: float = 0.04, agree: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """A blue-marked square anywhere; it and the background are red or green, by `margin` over the other colour.

    Args:
        count: how many.
        margin: how much stronger the colour of the class is.
        agree: the background has the object's colour, else the other one.

    Shape:
        result: images (count, 3, 16, 16) in [0, 1], labels (count,) int64 by the object, masks (count, 1, 16, 16) bool.
    """
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 2
    images = 0.4 + 0.3 * torch.rand(count, 1, SIDE, SIDE, generator=generator).repeat(1, 3, 1, 1)
    masks = torch.zeros(count, 1, SIDE, SIDE, dtype=torch.bool)
    for index, (y, x) in enumerate(torch.randint(0, SIDE - OBJECT, (count, 2), generator=generator).tolist()):
        masks[index, 0, y : y + OBJECT, x : x + OBJECT] = True
    places = torch.arange(count)
    images[places, labels] += margin * masks[:, 0]
    images[places, labels if agree else 1 - labels] += margin * ~masks[:, 0]
    images[:, 2:] = masks.float()
    return images, labels, masks


def reader_table(*, count: int = 64, epsilon: float = 8 / 255, threshold: float = 0.2) -> pd.DataFrame:
    """E of both readers, the attack sparing the object, or what the reader's own explanation marks.

    Returns:
        One row a reader and mask: looks at, spared, E with low and high (95 % over pictures), flipped (share), weight
        (the mean of v = 1 - E), accuracy and accuracy on other backgrounds (the object's label, agreeing backgrounds
        or contradicting ones).
    """
    images, labels, masks = planted_pictures(count)
    others, other_labels, _ = planted_pictures(count, agree=False)
    rows = []
    for looks_at in ("object", "background"):
        model = reader(looks_at)
        with torch.no_grad():
            right = [
                (model(x).argmax(1) == y).double().mean().item() for x, y in ((images, labels), (others, other_labels))
            ]
        for spared, mask in (("the object", masks), ("its own explanation", None)):
            found = explanation_consistency(model, images, labels, epsilon=epsilon, threshold=threshold, mask=mask)
            row = score_row(found.consistency)
            rows.append(
                {
                    "looks at": looks_at,
                    "spared": spared,
                    **Estimate.read(row, "mean", bare=True).row("E"),
                    "flipped": found.flipped.double().mean().item(),
                    "weight": 1 - row["mean"],
                    "accuracy": right[0],
                    "accuracy on other backgrounds": right[1],
                }
            )
    return pd.DataFrame(rows)
