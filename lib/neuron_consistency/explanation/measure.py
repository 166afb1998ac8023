"""Explanations and whether they hold: Grad-CAM, the attack on the background alone, and E(x, x^) between two maps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from neuron_consistency.attacks.linf import background_attack
from neuron_consistency.consistency.occlusion import highlighted_region
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import evaluating, read_layers

MASKS = ("explanation", "truth")
SSIM_WINDOW, SSIM_C1, SSIM_C2 = 7, 0.01**2, 0.03**2  # of Wang et al. 2004, for values in [0, 1]


def grad_cam(model: Classifier, images: Tensor, classes: Tensor, *, layer: str | None = None) -> Tensor:
    """Where a layer speaks for a class: ReLU of the sum over channels of mean gradient times map, not normalised.

    It is computed in eval mode and in the precision that the caller has set. Repeat an image to explain several of its
    classes.

    Args:
        layer: a name among `model.layers`; None is the last one.

    Shape:
        images: (B, 3, H, W) in [0, 1]; classes: (B,) int64; result: (B, h, w) float32, the layer's size, >= 0.

    Raises:
        ParameterError: the model has no layer of that name.

    Source: Selvaraju et al. 2017; P3 explains with it.
    """
    return _explain(model, images, lambda _logits: classes[:, None], layer)[2].squeeze(1)


def _explain(
    model: Classifier, images: Tensor, choose: Callable[[Tensor], Tensor], layer: str | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The logits (B, K), the classes (B, R) that `choose` names for them, -1 for none, and their maps (B, R, h, w)."""
    name = layer or model.last_layer
    with evaluating(model), torch.enable_grad(), read_layers(model, [name]) as outputs:
        logits = model(images.detach().requires_grad_()).float()  # a frozen network has gradients of its maps too
        features, classes, maps = outputs[name], choose(logits.detach()), []
        for chosen in logits.gather(1, classes.clamp_min(0)).unbind(1):
            (gradient,) = torch.autograd.grad(chosen.sum(), features, retain_graph=True)
            weights = gradient.float().mean((2, 3), keepdim=True)
            maps.append((weights * features.detach().float()).sum(1).relu())
    return logits.detach(), classes, torch.stack(maps, 1)


def normalised(maps: Tensor) -> Tensor:
    """Each map moved and scaled to [0, 1]; a constant one becomes zeros.

    Shape:
        maps, result: (..., h, w).
    """
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    span = high - low
    return torch.where(span > 0, (maps - low) / span, 0)


def upsampled(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps at the size of the image, bilinear.

    Shape:
        maps: (B, h, w); size: H, W; result: (B, 1, H, W) float32.
    """
    return functional.interpolate(maps[:, None].float(), list(size), mode="bilinear", align_corners=False)


def explanation_mask(maps: Tensor, *, size: Sequence[int], threshold: float = 0.2) -> Tensor:
    """The pixels that an explanation rests on: those where its map reaches `threshold` of its maximum.

    A map that is zero everywhere has none: the whole image is background.

    Shape:
        maps: (B, h, w) >= 0; size: H, W; result: (B, 1, H, W) bool.

    Raises:
        ParameterError: threshold outside [0, 1].

    Source: P3, M; bilinear upsampling is ours.
    """
    if not 0 <= threshold <= 1:
        raise ParameterError(f"threshold={threshold}: it is a share of a map's maximum, in [0, 1]")
    return highlighted_region(upsampled(maps, size), fraction=threshold)


def _absolute(first: Tensor, second: Tensor) -> Tensor:
    """The mean absolute difference: D of P3 as we read it."""
    return (first - second).abs().mean((1, 2))


def _ssim(first: Tensor, second: Tensor) -> Tensor:
    """1 - SSIM over windows of 7 x 7, or the whole of a smaller map; a negative SSIM counts as 0 (Wang et al. 2004)."""
    window = [min(SSIM_WINDOW, side) for side in first.shape[1:]]

    def mean(maps: Tensor) -> Tensor:
        return functional.avg_pool2d(maps[:, None], window, stride=1)

    a, b = mean(first), mean(second)
    spread = mean(first * first) - a * a + (mean(second * second) - b * b)
    shared = mean(first * second) - a * b
    ssim = (2 * a * b + SSIM_C1) * (2 * shared + SSIM_C2) / ((a * a + b * b + SSIM_C1) * (spread + SSIM_C2))
    return (1 - ssim.mean((1, 2, 3))).clamp(0, 1)


def _rank(first: Tensor, second: Tensor) -> Tensor:
    """(1 - Spearman's correlation) / 2, ties at their mean rank; a constant map correlates with an equal one alone."""

    def ranks(maps: Tensor) -> Tensor:
        values = maps.flatten(1).contiguous()
        ordered = values.sort(1).values
        twice = torch.searchsorted(ordered, values) + torch.searchsorted(ordered, values, right=True)
        return twice.float() - values.shape[1]  # the mean of all is 0, ties or not

    correlation = functional.cosine_similarity(ranks(first), ranks(second), dim=1)
    equal = (first == second).flatten(1).all(1)
    return torch.where(equal, 0, (1 - correlation) / 2).clamp(0, 1)


def _iou(first: Tensor, second: Tensor) -> Tensor:
    """1 - soft IoU, the sum of the smaller values over that of the larger; 0 for two maps of zeros."""
    smaller, larger = torch.minimum(first, second).sum((1, 2)), torch.maximum(first, second).sum((1, 2))
    return torch.where(larger > 0, 1 - smaller / larger, 0)


DISTANCES = {"absolute": _absolute, "ssim": _ssim, "rank": _rank, "iou": _iou}  # (B, h, w) twice -> (B,) in [0, 1]


@dataclass(frozen=True, kw_only=True)
class Probe:
    """How an explanation is put to the test.

    Attributes:
        epsilon: radius of the attack on the background, in units of the pixel range.
        threshold: what share of its maximum the explanation must reach to count as foreground.
        steps: of the attack.
        distance: D between the two explanations, a name among `DISTANCES`.
        mask: where the foreground is: by the network's own "explanation", as in the paper, or the "truth" of a
            dataset that has masks.
        layer: whose maps explain; None is the last convolutional layer.

    Raises:
        ParameterError: a value outside its range.
    """

    epsilon: float = 8 / 255
    threshold: float = 0.2
    steps: int = 1
    distance: str = "absolute"
    mask: str = "explanation"
    layer: str | None = None

    def __post_init__(self) -> None:
        if self.epsilon < 0 or not 0 <= self.threshold <= 1:
            raise ParameterError(
                f"epsilon={self.epsilon} must not be negative; threshold={self.threshold} must lie in [0, 1]"
            )
        for name, known in (("distance", tuple(DISTANCES)), ("mask", MASKS)):
            if getattr(self, name) not in known:
                raise ParameterError(f"{name}={getattr(self, name)!r}: use one of {', '.join(known)}")


@dataclass(frozen=True)
class Explained:
    """Two explanations of each image, before and after the attack on its background, and how far they agree.

    Shape:
        consistency: (B,) float32, E in [0, 1]; flipped: (B,) bool, no class explained is still predicted: E is 0.
        mask: (B, 1, H, W) bool, what the attack spared; attacked: (B, 3, H, W), x^.
        classes: (B, R) int64, the classes explained, -1 where an image has fewer than R; R is 1 for one label an image.
        maps, attacked_maps: (B, R, h, w), their Grad-CAM, not normalised.
    """

    consistency: Tensor
    flipped: Tensor
    mask: Tensor
    attacked: Tensor
    classes: Tensor
    maps: Tensor
    attacked_maps: Tensor


DEFAULT = Probe()


def explanation_consistency(
    model: Classifier,
    images: Tensor,
    labels: Tensor,
    probe: Probe = DEFAULT,
    *,
    mask: Tensor | None = None,
    noise: torch.Generator | None = None,
) -> Explained:
    """E(x, x^) = 1 - D(map of x, map of x^), and exactly 0 where the attack on the background flips the prediction.

    The maps are those of the class predicted on x, each normalised to [0, 1] before D. A multi-label image has those of
    its positive classes, or else of its highest-scoring class; E is their mean, in which a class counts 0 where the
    sign of its logit changes, and the mask is the union of theirs.

    The mask of the explanation itself spares whatever the network looks at, object or background. A network that
    reads the background alone then has an E as high as one that reads the object alone: only a true mask of the
    object tells them apart. A mask that covers the whole image leaves nothing to attack, so E is 1; a map of zeros
    masks nothing, and two of them agree: E is 1 unless the prediction flips.

    Args:
        labels: what the attack leaves.
        mask: the pixels to spare, such as the object's true ones; None spares those of the explanation.
        noise: takes random signs instead of the gradient's, which is the null of E: what any change of this size to
            these pixels does.

    Shape:
        images: (B, 3, H, W) in [0, 1]; labels: (B,) int64, or (B, K) in {0, 1}; mask: (B, 1, H, W) bool.

    Raises:
        ParameterError: the model has no such layer, or the mask is of another size.

    Source: P3, E(x, x^). P3 leaves D and multi-label images open: D, the union and the gate by class are ours, and so
        is the null.
    """
    logits, classes, maps = _explain(model, images, partial(_explained_classes, labels), probe.layer)
    explained = classes >= 0
    if mask is None:
        own = explanation_mask(maps.flatten(0, 1), size=images.shape[2:], threshold=probe.threshold)
        mask = (own.view(*explained.shape, *own.shape[1:]) & explained[:, :, None, None, None]).any(1)
    if noise is None:
        with evaluating(model):
            attacked = background_attack(model, images, labels, mask, epsilon=probe.epsilon, steps=probe.steps)
    else:
        signs = torch.randint(0, 2, images.shape, device=images.device, generator=noise) * 2 - 1
        attacked = (images + probe.epsilon * mask.logical_not() * signs).clamp(0, 1)
    attacked_logits, _, attacked_maps = _explain(model, attacked, lambda _logits: classes, probe.layer)
    if labels.ndim == 1:
        kept = attacked_logits.argmax(1, keepdim=True) == classes
    else:
        kept = explained & ((attacked_logits > 0) == (logits > 0)).gather(1, classes.clamp_min(0))
    pairs = (normalised(each.flatten(0, 1)) for each in (maps, attacked_maps))
    per_class = torch.where(kept, 1 - DISTANCES[probe.distance](*pairs).view(kept.shape), 0)
    consistency = per_class.sum(1) / explained.sum(1)
    return Explained(consistency, ~kept.any(1), mask, attacked, classes, maps, attacked_maps)


def _explained_classes(labels: Tensor, logits: Tensor) -> Tensor:
    """The class (B, 1) predicted, or of several labels (B, R) all in order, then -1; with none the highest-scoring."""
    if labels.ndim == 1:
        return logits.argmax(1, keepdim=True)
    positive = labels > 0
    none = ~positive.any(1, keepdim=True)
    positive = positive | (none & functional.one_hot(logits.argmax(1), logits.shape[1]).bool())
    found, classes = positive.int().sort(dim=1, descending=True, stable=True)
    return torch.where(found > 0, classes, -1)[:, : int(positive.sum(1).max())]
