"""Networks that we know to look at the object alone, or at the background alone, and what E says of each."""

import pandas as pd
import torch
from torch import Tensor, nn

from neuron_consistency.explanation.measure import DEFAULT, Probe, explanation_consistency
from neuron_consistency.explanation.scores import score
from neuron_consistency.networks.models import Classifier

SIDE, OBJECT = 16, 7  # pixels, of the picture and of the object in it
REST = 0.001  # how much a reader sees of what it does not look at


class Reader(nn.Module):
    """Weighs red against green, on the object (which blue marks) or off it."""

    def __init__(self, looks_at: str) -> None:
        super().__init__()
        self.looks_at, self.evidence = looks_at, nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        on_object = images[:, 2:] > 0.5
        window = on_object if self.looks_at == "object" else ~on_object
        seen: Tensor = self.evidence(images[:, :2] * torch.where(window, 1.0, REST))
        return 10 * seen.mean((2, 3))


def reader(looks_at: str) -> Classifier:
    """A network that says red (0) or green (1) from the "object" alone, or from the "background" alone."""
    model = Classifier(Reader(looks_at), "reader", {"evidence": ("evidence", 2)})
    model.mean.zero_()
    model.std.fill_(1)
    return model.eval()


def planted_pictures(count: int, *, margin: float = 0.04, agree: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """A blue-marked square anywhere; it and the background are red or green, by `margin` over the other colour.

    The shade varies from place to place, so that maps have a shape. Unless they `agree`, the background has the other
    colour than the object.

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


def reader_table(probe: Probe = DEFAULT) -> pd.DataFrame:
    """E of both readers, the attack sparing the object, or what the reader's own explanation marks.

    Returns:
        One row a reader and mask: looks at, spared, E with low and high (95 % over pictures), flipped (share), weight
        (the mean of v = 1 - E), accuracy and accuracy on other backgrounds (the object's label, agreeing backgrounds
        or contradicting ones).
    """
    agreeing, contradicting = planted_pictures(64), planted_pictures(64, agree=False)
    images, labels, masks = agreeing
    rows = []
    for looks_at in ("object", "background"):
        model = reader(looks_at)
        with torch.no_grad():
            right = [float((model(x).argmax(1) == y).double().mean()) for x, y, _ in (agreeing, contradicting)]
        for spared, mask in (("the object", masks), ("its own explanation", None)):
            found = explanation_consistency(model, images, labels, probe, mask=mask)
            e = score(found.consistency)
            row = {"looks at": looks_at, "spared": spared} | e.row("E")
            row |= {"flipped": float(found.flipped.double().mean()), "weight": 1 - e.value}
            rows.append(row | dict(zip(("accuracy", "accuracy on other backgrounds"), right, strict=True)))
    return pd.DataFrame(rows)
