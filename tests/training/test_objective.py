"""Eq. 6 against a plain reference, its reductions, its distance and its variants."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from neuron_consistency.attacks.linf import fgsm_step
from neuron_consistency.errors import ParameterError
from neuron_consistency.explanation.filter_groups import FilterGroups, Grouping, group_loss
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import read_layers
from neuron_consistency.runtime import Runtime
from neuron_consistency.training.objective import CHOICES, Objective, feature_distance, frozen_norm_statistics
from toys import CPU, toy_images, toy_model

EPSILON = 8 / 255


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    return toy_images(24, seed=2).batch(torch.arange(24), CPU)


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    parameters = dict(model.named_parameters())
    return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))


def features_of(model: Classifier, images: Tensor) -> tuple[Tensor, Tensor]:
    with read_layers(model, [model.last_layer]) as outputs:
        logits = model(images)
    return logits, outputs[model.last_layer]


def reference(model: Classifier, images: Tensor, labels: Tensor, *, alpha: float, beta: float) -> Tensor:
    """Eq. 6 as one would write it down: a forward for the attack, one for x, one for x*, nothing shared."""
    point = images.clone().requires_grad_()
    logits, _ = features_of(copy.deepcopy(model), point)
    (slope,) = torch.autograd.grad(functional.cross_entropy(logits, labels), point)
    adversarial = (images + EPSILON * slope.sign()).clamp(0, 1)
    logits, phi = features_of(model, images)
    adversarial_logits, adversarial_phi = features_of(model, adversarial)
    distance = (adversarial_phi - phi).square().mean() / phi.square().mean()
    return (
        alpha * functional.cross_entropy(logits, labels)
        + (1 - alpha) * functional.cross_entropy(adversarial_logits, labels)
        + beta * distance
    )


# Eq. 6


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.0), (0.5, 1.0), (0.0, 3.0), (1.0, 1.0)])
def test_gradient_equals_a_plain_reference(
    training: bool, alpha: float, beta: float, batch: tuple[Tensor, Tensor]
) -> None:
    """Sharing the clean forward changes neither the loss, nor a gradient, nor batch norm's statistics."""
    ours, plain = toy_model().train(training), toy_model().train(training)
    step = Objective(alpha=alpha, beta=beta, epsilon=EPSILON)(ours, *batch)
    expected = reference(plain, *batch, alpha=alpha, beta=beta)
    assert torch.allclose(step.loss, expected, rtol=1e-5)
    other = gradients(plain, expected)
    for name, gradient in gradients(ours, step.loss).items():
        assert torch.allclose(gradient, other[name], rtol=1e-3, atol=1e-6), name
    for name, value in ours.state_dict().items():
        assert torch.allclose(value.float(), plain.state_dict()[name].float(), atol=1e-6), name


def train_steps(objective: Any, batch: tuple[Tensor, Tensor], *, steps: int = 5) -> dict[str, Tensor]:
    """The weights after a few steps of SGD with dropout on."""
    torch.manual_seed(0)
    model = toy_model(dropout=0.3).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(steps):
        optimiser.zero_grad()
        loss = objective(model, *batch)
        (loss if isinstance(loss, Tensor) else loss.loss).backward()
        optimiser.step()
    return model.state_dict()


def assert_equal_states(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    for name, value in one.items():
        assert torch.equal(value, two[name]), name


def test_alpha_1_beta_0_is_the_standard_objective_exactly(batch: tuple[Tensor, Tensor]) -> None:
    """Bit for bit the weights and statistics of plain cross-entropy training."""
    plain = train_steps(lambda model, images, labels: functional.cross_entropy(model(images), labels), batch)
    assert_equal_states(train_steps(Objective(alpha=1.0, beta=0.0, epsilon=EPSILON), batch), plain)


def test_beta_0_is_adversarial_training_exactly(batch: tuple[Tensor, Tensor]) -> None:
    """alpha l(x) + (1 - alpha) l(x*) written down, with no feature term in sight, gives the same bits."""

    def adversarial_training(model: Classifier, images: Tensor, labels: Tensor) -> Tensor:
        clean = images.clone().requires_grad_()
        loss = functional.cross_entropy(model(clean), labels)
        (slope,) = torch.autograd.grad(loss, clean, retain_graph=True)
        attacked = fgsm_step(images, slope, epsilon=EPSILON)
        return 0.5 * loss + 0.5 * functional.cross_entropy(model(attacked), labels)

    ours = train_steps(Objective(alpha=0.5, beta=0.0, epsilon=EPSILON), batch)
    assert_equal_states(ours, train_steps(adversarial_training, batch))


def test_the_image_is_attacked_once_and_stays_as_it_was(batch: tuple[Tensor, Tensor]) -> None:
    """Two forwards a step in all: one shared clean one and one of x*; nothing is left on the images."""
    model, calls = toy_model().train(), []
    handle = model.network.register_forward_hook(lambda *_: calls.append(1))
    images, given = batch[0], batch[0].clone()
    Objective(alpha=0.5, beta=1.0, epsilon=EPSILON)(model, *batch).loss.backward()  # type: ignore[no-untyped-call]
    handle.remove()
    assert len(calls) == 2
    assert torch.equal(images, given)
    assert not images.requires_grad
    assert images.grad is None


def test_parts_say_what_the_loss_consists_of(batch: tuple[Tensor, Tensor]) -> None:
    """alpha, beta and the parts give the loss back; phi's norm and the right answers are counted."""
    model = toy_model().eval()
    step = Objective(alpha=0.3, beta=2.0, epsilon=EPSILON)(model, *batch)
    parts = step.parts
    total = 0.3 * parts["clean_loss"] + 0.7 * parts["adversarial_loss"] + 2.0 * parts["distance"]
    assert torch.allclose(step.loss, total)
    logits, phi = features_of(model, batch[0])
    assert parts["clean_correct"] == (logits.argmax(1) == batch[1]).sum()
    assert torch.allclose(parts["feature_norm"], phi.square().mean().sqrt())
    assert all(not value.requires_grad for value in parts.values())


def test_feature_layer_is_the_one_named(batch: tuple[Tensor, Tensor]) -> None:
    """phi of an earlier layer: the weights after it get no gradient from the distance."""
    model = toy_model().eval()
    last, first = (Objective(alpha=0.5, beta=1.0, epsilon=EPSILON, feature_layer=name) for name in (None, "first"))
    assert last(model, *batch).parts["distance"] != first(model, *batch).parts["distance"]
    with pytest.raises(ParameterError, match="no layer 'nowhere'"):
        Objective(alpha=0.5, feature_layer="nowhere")(model, *batch)


# the distance


@pytest.mark.parametrize("distance", CHOICES["distance"])
def test_only_the_raw_distance_falls_with_the_scale_of_phi(distance: str) -> None:
    """Weights of the layer shrunk twentyfold: raw d falls 400-fold, the others do not move."""
    generator = torch.Generator().manual_seed(0)
    phi, attacked = (torch.rand(4, 6, 5, 5, generator=generator) for _ in range(2))
    whole = feature_distance(phi, attacked, distance=distance)
    shrunk = feature_distance(0.05 * phi, 0.05 * attacked, distance=distance)
    assert torch.allclose(shrunk, whole / 400 if distance == "raw" else whole, rtol=1e-4)


def test_distances_by_hand() -> None:
    phi, attacked = torch.tensor([[[[3.0]], [[4.0]]]]), torch.tensor([[[[4.0]], [[3.0]]]])
    assert feature_distance(phi, attacked, distance="raw") == 1.0
    assert feature_distance(phi, attacked, distance="normalised") == pytest.approx(1 / 12.5)
    assert feature_distance(phi, attacked, distance="cosine") == pytest.approx(1 - 24 / 25)


@pytest.mark.parametrize("distance", CHOICES["distance"])
def test_distance_of_equal_and_of_dead_features_is_finite(distance: str) -> None:
    """A layer that has died must not make the loss NaN."""
    for phi in (torch.rand(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)):
        phi.requires_grad_()
        d = feature_distance(phi, phi.detach().clone(), distance=distance)
        (gradient,) = torch.autograd.grad(d, phi)
        assert d.isfinite()
        assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("distance", CHOICES["distance"])
def test_only_the_raw_distance_gains_by_shrinking_both_features(distance: str) -> None:
    """The slope of d along a common scale of phi(x) and phi(x*): a slope there kills networks without batch norm."""
    phi, attacked = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    scale = torch.ones((), requires_grad=True)
    d = feature_distance(scale * phi, scale * attacked, distance=distance)
    (slope,) = torch.autograd.grad(d, scale)
    assert slope == pytest.approx(2 * float(d.detach()) if distance == "raw" else 0.0, abs=1e-5)


# weights


@pytest.mark.parametrize("distance", CHOICES["distance"])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (0.5, 0.0), (0.4, 2.0)])
def test_weights_of_one_change_no_gradient(
    alpha: float, beta: float, distance: str, batch: tuple[Tensor, Tensor]
) -> None:
    """v = 1 is the unweighted objective, whatever it consists of."""
    objective = Objective(alpha=alpha, beta=beta, epsilon=EPSILON, distance=distance)
    plain, ours = toy_model().train(), toy_model().train()
    expected = gradients(plain, objective(plain, *batch).loss)
    for name, gradient in gradients(ours, objective(ours, *batch, weights=torch.ones(24)).loss).items():
        assert torch.allclose(gradient, expected[name], rtol=1e-4, atol=1e-6), name


def test_each_images_whole_eq6_loss_is_multiplied_by_its_weight(batch: tuple[Tensor, Tensor]) -> None:
    """The loss is linear in the weights, and the weight of one image brings in that image's loss: with the raw
    distance in eval mode, which no other image enters, the loss it has alone."""
    model, images, labels = toy_model().eval(), *batch
    objective = Objective(alpha=0.3, beta=2.0, epsilon=EPSILON, distance="raw")
    alone = torch.stack([objective(model, images[i : i + 1], labels[i : i + 1]).loss for i in range(24)])
    weights = torch.rand(24, generator=torch.Generator().manual_seed(0))
    weights[:5] = 0.0
    found = objective(model, images, labels, weights=weights)
    assert torch.allclose(found.loss, (weights * alone).mean(), rtol=1e-5)
    unweighted = objective(model, images, labels)
    assert all(torch.allclose(found.parts[name], value) for name, value in unweighted.parts.items())


def test_an_image_of_weight_zero_is_attacked_all_the_same_and_trains_nothing(batch: tuple[Tensor, Tensor]) -> None:
    """The attack follows the unweighted slope; and all weights zero give no gradient, not NaN."""
    model, (images, labels) = toy_model().eval(), batch
    objective = Objective(alpha=0.5, beta=1.0, epsilon=EPSILON)
    found = objective(model, images, labels, weights=torch.zeros(24))
    assert torch.allclose(found.parts["distance"], objective(model, images, labels).parts["distance"])
    assert all(float(gradient.abs().max()) == 0 for gradient in gradients(model, found.loss).values())


# several labels an image


def test_several_labels_are_binary_cross_entropy(batch: tuple[Tensor, Tensor]) -> None:
    """Of each class, averaged over classes and images; the count is of labels that are right."""
    model, images = toy_model().eval(), batch[0]
    labels = (torch.rand(24, 4, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    step = Objective()(model, images, labels)
    logits = model(images)
    assert torch.allclose(step.loss, functional.binary_cross_entropy_with_logits(logits, labels))
    assert torch.allclose(step.parts["clean_correct"], ((logits > 0) == labels.bool()).float().mean() * 24)
    with pytest.raises(ParameterError, match=r"Eq\. 6 is for images with one label each"):
        Objective(alpha=0.5)(model, images, labels)


# groups of filters


@pytest.mark.parametrize("layer", [None, "first"])
@pytest.mark.parametrize("objective", [Objective(), Objective(alpha=0.5, beta=1.0)], ids=["standard", "eq6"])
def test_the_grouping_loss_is_added_on_the_clean_images(
    layer: str | None, objective: Objective, batch: tuple[Tensor, Tensor]
) -> None:
    """lambda times L_group of the clean maps, whatever forward passes follow; the rest of the loss is as without."""
    model = toy_model().eval()
    grouping = Grouping(model, FilterGroups(strength=0.7, groups=3, layer=layer))
    name = layer or "last"
    grouping.groups = torch.arange(model.layers[name]) % 3
    with read_layers(model, [name]) as outputs:
        model(batch[0])
    expected = group_loss(outputs[name], outputs[name].mean(0), functional.one_hot(grouping.groups).float())
    step, plain = objective(model, *batch, grouping=grouping), objective(model, *batch)
    assert torch.allclose(step.parts["group_loss"], expected, rtol=1e-5)
    assert torch.allclose(step.loss, plain.loss + 0.7 * expected, rtol=1e-5)


# variants


@pytest.mark.parametrize("recorded", ["both", "clean"])
@pytest.mark.parametrize("second", [False, True])
def test_batch_norm_records_the_passes_it_is_told_to(recorded: str, second: bool, batch: tuple[Tensor, Tensor]) -> None:
    """ "clean": running statistics as after the clean pass alone. "both": as after clean and x*, with or without
    Eq. 5's second example."""
    torch.manual_seed(0)
    model, plain = toy_model().train(), toy_model().train()
    objective = Objective(alpha=0.5, beta=1.0, epsilon=EPSILON, norm_statistics=recorded, second_example=second)
    objective(model, *batch)
    if recorded == "clean":
        plain(batch[0])
    else:
        reference(plain, *batch, alpha=0.5, beta=1.0)
    for name, value in plain.named_buffers():
        if "running" in name:
            assert torch.allclose(model.get_buffer(name), value, atol=1e-6), name


def test_frozen_statistics_come_back_after_an_exception() -> None:
    model = toy_model()

    def broken() -> None:
        with frozen_norm_statistics(model, True):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert all(m.momentum == 0.1 for m in model.modules() if isinstance(m, nn.BatchNorm2d))


def attacked_image(objective: Objective, model: Classifier, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The x* that the objective makes: the second image that the network sees."""
    seen: list[Tensor] = []
    handle = model.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach().clone()))
    objective(model, *batch)
    handle.remove()
    return seen[1]


@pytest.mark.parametrize("attack_label", ["true", "predicted", "least-likely"])
def test_the_label_attacked_is_the_one_named(attack_label: str, batch: tuple[Tensor, Tensor]) -> None:
    """Ascends the true or the predicted label's loss, or descends the least likely one's."""
    model, (images, labels) = toy_model().eval(), batch
    labels = labels.roll(1)  # so that prediction and truth differ
    logits = model(images)
    chosen = {"true": labels, "predicted": logits.argmax(1), "least-likely": logits.argmin(1)}[attack_label]
    point = images.clone().requires_grad_()
    (slope,) = torch.autograd.grad(functional.cross_entropy(model(point), chosen), point)
    sign = -1 if attack_label == "least-likely" else 1
    expected = (images + sign * EPSILON * slope.sign()).clamp(0, 1)
    objective = Objective(alpha=0.5, beta=1.0, epsilon=EPSILON, attack_label=attack_label)
    assert torch.equal(attacked_image(objective, model, (images, labels)), expected)


def test_second_example_lies_in_the_ball_and_moves_phi_more_than_fgsm_does(
    trained_toy: Classifier, batch: tuple[Tensor, Tensor]
) -> None:
    """Eq. 5 maximises d itself: on a trained network its d exceeds that of FGSM's image; the losses are untouched."""
    torch.manual_seed(0)
    seen: list[Tensor] = []
    handle = trained_toy.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach()))
    relaxed, full = (
        Objective(alpha=0.5, beta=1.0, epsilon=EPSILON, second_example=second)(trained_toy, *batch).parts
        for second in (False, True)
    )
    handle.remove()
    assert full["distance"] > relaxed["distance"]
    assert torch.equal(full["adversarial_loss"], relaxed["adversarial_loss"])
    assert (seen[-1] - batch[0]).abs().max() <= EPSILON + 1e-6
    assert seen[-1].min() >= 0
    assert seen[-1].max() <= 1


def test_bfloat16_changes_the_loss_little(batch: tuple[Tensor, Tensor]) -> None:
    """Decision 13: float32 is the reference; the loss is summed in float32 and lies within 3 %."""
    objective = Objective(alpha=0.5, beta=1.0, epsilon=EPSILON)
    exact = objective(toy_model().train(), *batch).loss
    with Runtime(CPU, "bfloat16").autocast():
        rounded = objective(toy_model().train(), *batch).loss
    assert rounded.dtype == torch.float32
    assert abs(float(rounded.detach() / exact.detach()) - 1) < 0.03


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"alpha": 1.5}, r"alpha=1\.5"),
        ({"alpha": -0.1}, r"alpha=-0\.1"),
        ({"beta": -1.0}, r"beta=-1\.0"),
        ({"epsilon": -1.0}, r"epsilon=-1\.0"),
        ({"distance": "euclid"}, "distance='euclid': use one of normalised, raw, cosine"),
        ({"attack_label": "any"}, "attack_label='any'"),
        ({"norm_statistics": "none"}, "norm_statistics='none'"),
    ],
)
def test_values_out_of_range_are_named(bad: dict[str, Any], named: str) -> None:
    with pytest.raises(ParameterError, match=named):
        Objective(**bad)


def test_unknown_distance_is_named() -> None:
    with pytest.raises(ParameterError, match="'euclid'"):
        feature_distance(torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1), distance="euclid")
