"""Accuracy and mean average precision: by hand, against a plain reference, with ties and absent classes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from neuron_consistency.attacks.predictions import accuracy, average_precision, average_precision_parts, class_scores
from neuron_consistency.networks.models import Classifier
from neuron_consistency.training.loop import validation_row
from toys import CPU, image_set, toy_images


def test_accuracy_by_hand_in_any_batches_and_mode_restored(trained_toy: Classifier) -> None:
    """Three quarters of the labels are wrong on purpose; the incomplete last batch counts."""
    images = toy_images(50, noise=0.02)
    wrong = image_set(
        images.pixels,  # type: ignore[arg-type]
        torch.where(torch.arange(50) < 10, images.labels, (images.labels + 1) % 4),
        num_classes=4,
    )
    trained_toy.train()
    for size in (7, 50, 64):
        assert accuracy(trained_toy, wrong, device=CPU, batch_size=size, precision="float32") == pytest.approx(0.2)
    assert trained_toy.training


def test_average_precision_by_hand() -> None:
    """Ranks 1 and 3 of 4: (1/1 + 2/3) / 2. All right: 1. No image: NaN, not 0."""
    scores = torch.tensor([[0.9, 0.9, 0.9], [0.8, 0.8, 0.8], [0.7, 0.1, 0.7], [0.1, 0.2, 0.1]])
    labels = torch.tensor([[1, 1, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]]).float()
    found = average_precision(scores, labels)
    assert found[:2].tolist() == pytest.approx([(1 + 2 / 3) / 2, 1.0])
    assert found[2].isnan()


def test_ties_share_the_last_of_their_ranks() -> None:
    """A network that says the same of every image has the class's share as its precision, in any order of images."""
    labels = torch.tensor([[1], [0], [0], [0]]).float()
    for order in ([0, 1, 2, 3], [3, 2, 1, 0]):
        assert average_precision(torch.zeros(4, 1), labels[order]).item() == pytest.approx(0.25)


def plain(scores: Tensor, labels: Tensor) -> float:
    """The step-wise area under precision over recall, threshold by threshold."""
    area, before = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        claimed = scores >= threshold
        hits = float(labels[claimed].sum())
        recall = hits / float(labels.sum())
        area, before = area + (recall - before) * hits / int(claimed.sum()), recall
    return area


@given(data=st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=20))
@settings(max_examples=100)
def test_average_precision_is_the_area_under_the_curve(data: list[tuple[int, bool]]) -> None:
    """Few distinct scores, so that ties are common."""
    scores = torch.tensor([float(score) for score, _ in data])
    labels = torch.tensor([float(label) for _, label in data])
    found = average_precision(scores[:, None], labels[:, None]).item()
    if labels.sum() == 0:
        assert found != found
    else:
        assert found == pytest.approx(plain(scores, labels))


def test_parts_of_the_map_add_up_to_it_and_tell_its_error() -> None:
    """Their mean is the mAP itself; their standard error is near the spread over fresh draws of the images."""
    generator = torch.Generator().manual_seed(0)
    errors, values = [], []
    for _ in range(60):
        labels = (torch.rand(80, 3, generator=generator) < 0.4).float()
        scores = labels + torch.randn(80, 3, generator=generator)
        parts = average_precision_parts(scores, labels)
        values.append(average_precision(scores, labels).mean())
        assert parts.mean().item() == pytest.approx(values[-1].item())
        errors.append(parts.std() / 80**0.5)
    assert torch.stack(errors).mean().item() == pytest.approx(torch.stack(values).std().item(), rel=0.3)


def test_the_row_is_accuracy_or_map_as_the_labels_are(trained_toy: Classifier) -> None:
    images = toy_images(32, noise=0.02)
    assert validation_row(trained_toy, images, device=CPU) == {"validation_accuracy": 1.0}
    several = replace(images, labels=torch.nn.functional.one_hot(images.labels, 4).float())
    assert validation_row(trained_toy, several, device=CPU) == {"validation_map": pytest.approx(1.0)}
    absent = replace(several, labels=several.labels * torch.tensor([1.0, 1.0, 1.0, 0.0]))
    assert validation_row(trained_toy, absent, device=CPU)["validation_map"] == pytest.approx(1.0)  # never NaN


def test_scores_are_those_of_the_model_in_eval_mode(trained_toy: Classifier) -> None:
    images = toy_images(10)
    trained_toy.train()
    logits, labels = class_scores(trained_toy, images, device=CPU, batch_size=3, precision="float32")
    assert trained_toy.training
    assert torch.equal(labels, images.labels)
    with torch.no_grad():
        expected = trained_toy.eval()(images.batch(torch.arange(10), CPU)[0])
    assert torch.allclose(logits, expected, atol=1e-5)
    attacked, _ = class_scores(
        trained_toy, images, device=CPU, attack=lambda _model, batch, _labels: 0 * batch, precision="float32"
    )
    assert torch.allclose(attacked, attacked[:1].expand(10, -1), atol=1e-5)
