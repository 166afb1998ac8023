"""The training loop: stopped by NaN, watched for collapse, its images weighed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neuron_consistency.attacks.predictions import accuracy
from neuron_consistency.errors import ParameterError, TrainingError
from neuron_consistency.explanation.filter_groups import FilterGroups, Grouping
from neuron_consistency.explanation.measure import explanation_consistency
from neuron_consistency.explanation.weighting import Weighed, Weighting
from neuron_consistency.networks.models import Classifier
from neuron_consistency.training import loop as training
from neuron_consistency.training.loop import train, training_step, validation_row
from neuron_consistency.training.objective import Objective, StepLoss
from neuron_consistency.training.schedule import Schedule, optimiser_of
from toys import CPU, EQ6, ON, assert_equal_weights, toy_images, toy_model, train_toy


def test_training_leaves_the_global_random_state(tmp_path: Path) -> None:
    """And the weights do not depend on it: a notebook that draws numbers before training gets the same network."""
    one, two = toy_model(dropout=0.2), toy_model(dropout=0.2)
    torch.manual_seed(1)
    train_toy(one, Objective(), epochs=1)
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after)
    torch.manual_seed(2)
    train_toy(two, Objective(), epochs=1)
    assert_equal_weights(one, two)


def test_a_nan_loss_names_epoch_and_cure_and_keeps_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted in the second epoch: the first one's state stays and can be gone on from."""
    checkpoint, call = tmp_path / "run.checkpoint", Objective.__call__
    steps: list[int] = []

    def planted(self: Objective, model: Classifier, images: Tensor, labels: Tensor, **options: Any) -> StepLoss:
        steps.append(1)
        step = call(self, model, images, labels, **options)
        return StepLoss(step.loss * torch.nan, step.parts) if len(steps) == 5 else step

    with monkeypatch.context() as patch:
        patch.setattr(Objective, "__call__", planted)
        with pytest.raises(TrainingError, match=r"nan in epoch 2: lower learning_rate.*beta \(now 1\.0\).*run\.check"):
            train_toy(toy_model(), checkpoint=checkpoint)
    resumed, unbroken = toy_model(), toy_model()
    train_toy(resumed, checkpoint=checkpoint)
    train_toy(unbroken)
    assert_equal_weights(resumed, unbroken)


def test_collapse_is_told_when_pgd_breaks_what_fgsm_does_not(
    trained_toy: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: FGSM does nothing, PGD hands over images of another colour."""
    monkeypatch.setattr(training, "fgsm", lambda _model, images, _labels, **_options: images)
    monkeypatch.setattr(training, "pgd", lambda _model, images, _labels, **_options: images.roll(1, dims=1))
    with pytest.warns(UserWarning, match=r"collapsed in epoch 1.*under FGSM but.*under PGD.*Lower epsilon"):
        history = train_toy(trained_toy, epochs=1)
    assert history[0]["collapsed"] is True


@pytest.mark.filterwarnings("error")
def test_no_collapse_is_told_where_there_is_none(trained_toy: Classifier) -> None:
    history = train_toy(trained_toy, epochs=1)
    assert history[0]["collapsed"] is False
    assert 0 <= history[0]["pgd_accuracy"] <= history[0]["fgsm_accuracy"] <= 1


def test_the_watch_draws_from_all_classes(trained_toy: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a set sorted by class the first images are of one class, and say nothing of the others."""
    watched: list[Tensor] = []

    def spy(_model: nn.Module, images: Tensor, labels: Tensor, **_options: object) -> Tensor:
        watched.append(labels)
        return images

    monkeypatch.setattr(training, "fgsm", spy)
    images = toy_images(64)
    schedule = Schedule(epochs=1, batch_size=16, watched_images=16, precision="float32")
    train(trained_toy, images.subset(images.labels.argsort(stable=True)), EQ6, schedule, device=CPU)
    assert len(watched[0]) == 16
    assert len(watched[0].unique()) == 4  # type: ignore[no-untyped-call]


def test_history_tells_loss_accuracy_and_validation_and_the_network_learns() -> None:
    model = toy_model()
    reported: list[tuple[dict[str, Any], int]] = []
    validation = toy_images(32, seed=9)
    history = train_toy(
        model,
        Objective(),
        epochs=6,
        validation=validation,
        report=lambda row, epochs: reported.append((row, epochs)),
    )
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5, 6]
    assert reported == [(row, 6) for row in history]
    assert history[-1]["loss"] < history[0]["loss"]
    assert history[-1]["loss"] == pytest.approx(history[-1]["clean_loss"])
    assert history[-1]["validation_accuracy"] == accuracy(model, validation, ON) > 0.9
    assert "pgd_accuracy" not in history[0]  # nothing to watch in standard training


def test_the_row_is_accuracy_or_map_as_the_labels_are(trained_toy: Classifier) -> None:
    images = toy_images(32, noise=0.02)
    assert validation_row(trained_toy, images, ON) == {"validation_accuracy": 1.0}
    several = replace(images, labels=torch.nn.functional.one_hot(images.labels, 4).float())
    assert validation_row(trained_toy, several, ON) == {"validation_map": pytest.approx(1.0)}
    absent = replace(several, labels=several.labels * torch.tensor([1.0, 1.0, 1.0, 0.0]))
    assert validation_row(trained_toy, absent, ON)["validation_map"] == pytest.approx(1.0)  # never NaN


def test_beta_changes_the_weights_and_alpha_1_beta_0_is_the_standard_run() -> None:
    """The loop adds nothing of its own to the objectives' exact reduction."""
    standard, reduced, consistent = toy_model(), toy_model(), toy_model()
    train_toy(standard, Objective(), epochs=1)
    train_toy(reduced, Objective(alpha=1.0, beta=0.0, epsilon=0.1, distance="raw"), epochs=1)
    train_toy(consistent, EQ6, epochs=1)
    assert_equal_weights(standard, reduced)
    assert not torch.equal(standard.state_dict()["network.0.weight"], consistent.state_dict()["network.0.weight"])


def test_a_step_computes_no_gradient_of_the_images_it_does_not_need() -> None:
    """The last backward pass reaches the weights alone: `.grad` of the images stays None."""
    model = toy_model().train()
    batch, labels = toy_images(8).batch(torch.arange(8), CPU)
    loss = training.loss_of(model, EQ6)
    training_step(loss, optimiser_of(model, Schedule(epochs=1)), batch, labels, ON)
    assert batch.grad is None
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_more_images_a_batch_than_there_are_is_an_error() -> None:
    with pytest.raises(ParameterError, match=r"batch_size=16.*12 training images"):
        train(toy_model(), toy_images(12), Objective(), Schedule(epochs=1, batch_size=16), device=CPU)


# weighted training


def weights_seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor | None]]:
    """Every step's labels and weights, as training hands them to the step."""
    seen: list[tuple[Tensor, Tensor | None]] = []
    step = training.training_step

    def spy(*arguments: Any, weights: Tensor | None, **options: Any) -> StepLoss:
        seen.append((arguments[3], weights))
        return step(*arguments, weights=weights, **options)

    monkeypatch.setattr(training, "training_step", spy)
    return seen


def test_every_image_is_trained_with_its_own_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: an image's weight is its class. Shuffled batches must bring image and weight together."""

    def planted(_model: object, images: Any, *_arguments: object, **_options: object) -> Weighed:
        one = torch.ones(len(images))
        return Weighed(images.labels.float(), one, one.bool(), one)

    monkeypatch.setattr(training, "weigh", planted)
    seen = weights_seen(monkeypatch)
    train_toy(toy_model(), Objective(), weighting=Weighting(warm_up=1))
    assert [weights is None for _, weights in seen] == [True] * 3 + [False] * 6
    for labels, weights in seen[3:]:
        assert weights is not None
        assert torch.equal(weights, labels.float())


def test_permuted_weights_are_the_same_numbers_on_other_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """The null of reweighting: with other numbers, or on the same images, it would not tell what the choice does."""

    def planted(_model: object, images: Any, *_arguments: object, **_options: object) -> Weighed:
        one = torch.ones(len(images))
        return Weighed(images.labels.float(), one, one.bool(), one)

    monkeypatch.setattr(training, "weigh", planted)
    seen = weights_seen(monkeypatch)
    train_toy(toy_model(), Objective(), epochs=2, weighting=Weighting(warm_up=0, period=1, permuted=True))
    labels = torch.cat([labels for labels, _ in seen]).float()
    weights = torch.cat([weights for _, weights in seen if weights is not None])
    assert torch.equal(labels.sort().values, weights.sort().values)
    assert (labels != weights).float().mean() > 0.5  # of four classes three in four, by chance


@pytest.mark.parametrize(
    ("warm_up", "period", "due"),
    [(0, 1, [1, 2, 3, 4, 5]), (1, 2, [2, 4]), (2, 5, [3]), (0, 5, [1]), (1, 3, [2, 5])],
)
def test_weights_are_taken_anew_when_they_are_due_and_kept_between(warm_up: int, period: int, due: list[int]) -> None:
    """The history tells of E in the epochs before which it was measured, and only there."""
    history = train_toy(toy_model(), Objective(), epochs=5, weighting=Weighting(warm_up=warm_up, period=period))
    assert [row["epoch"] for row in history if "consistency" in row] == due
    for row in history:
        if "consistency" in row:
            assert row["mean_weight"] == pytest.approx(1 - row["consistency"], abs=1e-6)
            assert row["consistency_quantiles"] == sorted(row["consistency_quantiles"])
            assert 0 <= row["flipped"] <= 1
            assert 0 <= row["weighing_seconds"] <= row["seconds"]


def test_warm_up_is_plain_training_exactly() -> None:
    """Up to the first weights not a bit differs; after them the networks part."""
    plain, weighted = toy_model(), toy_model()
    states: dict[str, list[dict[str, Tensor]]] = {"plain": [], "weighted": []}
    for name, model, options in (("plain", plain, {}), ("weighted", weighted, {"weighting": Weighting(warm_up=2)})):

        def keep(_row: object, _epochs: int, name: str = name, model: Classifier = model) -> None:
            states[name].append({key: value.clone() for key, value in model.state_dict().items()})

        train_toy(model, Objective(), report=keep, **options)  # type: ignore[arg-type]
    for epoch in range(3):
        same = all(torch.equal(states["plain"][epoch][key], value) for key, value in states["weighted"][epoch].items())
        assert same == (epoch < 2)


def test_weights_are_those_of_the_network_as_it_stood(monkeypatch: pytest.MonkeyPatch) -> None:
    """v = 1 - E of the network after warm-up, in eval mode and without augmentation; Eq. 6 is weighted as well."""
    model, images = toy_model(), toy_images(48, seed=1)
    expected: list[Tensor] = []

    def after_warm_up(row: dict[str, Any], _epochs: int) -> None:
        if row["epoch"] == 1:
            batch, labels = images.batch(torch.arange(48), CPU)
            model.eval()
            expected.append(1 - explanation_consistency(model, batch, labels).consistency)

    seen = weights_seen(monkeypatch)
    train_toy(model, EQ6, epochs=2, weighting=Weighting(warm_up=1), report=after_warm_up)
    given = torch.cat([weights for _, weights in seen if weights is not None])
    assert torch.allclose(given.sort().values, expected[0].sort().values, atol=1e-6)


def test_warm_up_that_never_ends_is_an_error() -> None:
    with pytest.raises(ParameterError, match="warm_up=3 leaves none of the 3 epochs"):
        train_toy(toy_model(), Objective(), weighting=Weighting(warm_up=3))


def test_several_labels_an_image_train_and_weigh() -> None:
    """Binary cross-entropy, mAP on the images held out, E over an image's classes; the network learns."""
    images = toy_images(48, seed=1)
    several = replace(images, labels=nn.functional.one_hot(images.labels, 4).float())
    schedule = Schedule(epochs=6, batch_size=16, learning_rate=0.03, precision="float32")
    model = toy_model()
    weighting = Weighting(warm_up=4, period=1, normalise=True)
    history = train(model, several, Objective(), schedule, device=CPU, validation=several, weighting=weighting)
    assert history[-1]["clean_loss"] < history[0]["clean_loss"]
    assert history[-1]["validation_map"] > 0.9
    assert history[-1]["mean_weight"] == pytest.approx(1.0)
    assert "validation_accuracy" not in history[-1]
    with pytest.raises(ParameterError, match=r"Eq\. 6 is for images with one label"):
        train(model, several, EQ6, schedule, device=CPU)


def test_filters_are_grouped_anew_every_period(monkeypatch: pytest.MonkeyPatch) -> None:
    formed: list[int] = []
    form = Grouping.form

    def spy(self: Grouping, *arguments: Any, **options: Any) -> None:
        formed.append(1)
        form(self, *arguments, **options)

    monkeypatch.setattr(Grouping, "form", spy)
    history = train_toy(toy_model(), Objective(), epochs=5, filter_groups=FilterGroups(groups=3, period=2))
    assert len(formed) == 3
    assert all(-3 <= row["group_loss"] <= 0 for row in history)
