"""icCNN's loss against its definition written out, and groups planted in maps found again."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from neuron_consistency.errors import ParameterError
from neuron_consistency.explanation.filter_groups import (
    FilterGroups,
    Grouping,
    filter_similarity,
    group_loss,
    spectral_groups,
)
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import read_layers
from neuron_consistency.runtime import Runtime
from toys import CPU, ON, assert_same_state, image_set, state_of, toy_images, toy_model


def written_out(maps: Tensor, mean: Tensor, groups: Tensor) -> Tensor:
    """L_group as one would write it down: s of every pair of filters in every image, then the sums."""
    batch, count = maps.shape[:2]
    deviation = (maps - mean).flatten(2)
    s = torch.zeros(count, count)
    for image in deviation:
        for i in range(count):
            for j in range(count):
                norm = image[i].norm() * image[j].norm()
                s[i, j] += (1 + (image[i] @ image[j] / norm if norm > 0 else 0)) / batch
    loss = torch.zeros(())
    for group in groups.unique().tolist():  # type: ignore[no-untyped-call]
        inside = groups == group
        loss -= s[inside][:, inside].sum() / s[inside].sum()
    return loss


@given(
    batch=st.integers(1, 4),
    groups=st.lists(st.integers(0, 3), min_size=2, max_size=7),
    side=st.integers(1, 4),
    seed=st.integers(0, 999),
)
@settings(max_examples=50)
def test_loss_equals_its_definition(batch: int, groups: list[int], side: int, seed: int) -> None:
    """No matrix of pairs is made, yet the sums are those of all pairs; empty groups add nothing."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(batch, len(groups), side, side, generator=generator)
    mean = torch.rand(len(groups), side, side, generator=generator)
    maps[:, 0] = mean[0]  # a filter without deviation
    members = functional.one_hot(torch.tensor(groups), 4).float()
    found = group_loss(maps, mean, members)
    assert found.item() == pytest.approx(written_out(maps, mean, torch.tensor(groups)).item(), abs=1e-4)


def planted_maps(count: int = 60, *, noise: float = 0.3) -> tuple[Tensor, Tensor]:
    """Maps of 12 filters in three groups, interleaved: those of one group rise and fall at the same places."""
    generator = torch.Generator().manual_seed(0)
    groups = torch.arange(12) % 3
    shared = torch.randn(count, 3, 5, 5, generator=generator)
    maps = shared[:, groups] + noise * torch.randn(count, 12, 5, 5, generator=generator)
    return maps, groups


def test_planted_groups_have_the_least_loss() -> None:
    """Below every assignment that moves one filter; the bounds are one and none of the similarity inside."""
    maps, groups = planted_maps()
    mean = maps.mean(0)
    best = group_loss(maps, mean, functional.one_hot(groups).float())
    for moved in range(12):
        other = groups.clone()
        other[moved] = (other[moved] + 1) % 3
        assert group_loss(maps, mean, functional.one_hot(other).float()) > best
    assert -3 < best < -1


class Given(nn.Module):
    """Hands the image's channels on as maps, several filters a channel."""

    def __init__(self, channels: Tensor) -> None:
        super().__init__()
        self.register_buffer("channels", channels)

    def forward(self, images: Tensor) -> Tensor:
        return images[:, self.get_buffer("channels")]


def planted_network(channels: Tensor) -> Classifier:
    network = nn.Sequential(Given(channels), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(len(channels), 2))
    return Classifier(network, "planted", {"maps": ("0", len(channels))})


def test_planted_groups_are_found_in_a_network() -> None:
    """Filters that copy the red, green or blue of noise: their correlation is 1 inside a group and about 0 outside."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=generator)
    images = image_set(pixels, torch.arange(40) % 2, num_classes=2)
    planted = torch.tensor([0, 2, 1, 1, 0, 2, 2, 0, 1])
    model = planted_network(planted)
    similarity = filter_similarity(model, images, "maps", Runtime(CPU, "float32", 7))
    same = planted[:, None] == planted
    assert torch.allclose(similarity[same], torch.tensor(2.0, dtype=torch.float64))
    assert (similarity[~same] - 1).abs().max() < 0.1
    groups = spectral_groups(similarity, groups=3)
    assert groups.tolist() == [0, 1, 2, 2, 0, 1, 1, 0, 2]  # numbered by their first filter


def test_similarity_is_the_correlation_about_the_mean_map_over_the_set(trained_toy: Classifier) -> None:
    """Against all maps held at once; streaming in any batches; 1 beside a dead filter; nothing is left behind."""
    images = toy_images(50)
    with torch.no_grad():
        trained_toy.network[4].weight[3] = trained_toy.network[4].bias[3] = 0.0  # type: ignore[index]
    trained_toy.train()
    before = state_of(trained_toy)
    found = [filter_similarity(trained_toy, images, "last", Runtime(CPU, "float32", size)) for size in (7, 50)]
    assert_same_state(before, trained_toy)
    assert torch.allclose(found[0], found[1], atol=1e-6)
    trained_toy.eval()
    with read_layers(trained_toy, ["last"]) as outputs, torch.no_grad():
        trained_toy(images.batch(torch.arange(50), CPU)[0])
    deviation = (outputs["last"] - outputs["last"].mean(0)).double().flatten(2).transpose(0, 1).flatten(1)
    expected = torch.corrcoef(deviation)
    alive = ~expected.isnan().all(1)
    assert not alive[3]
    assert torch.allclose(found[0][alive][:, alive], expected[alive][:, alive] + 1, atol=0.05)
    cosine = functional.cosine_similarity(deviation[:, None], deviation, dim=2)
    assert torch.allclose(found[0], cosine + 1, atol=1e-6)
    assert bool((found[0][3] == 1).all())


def test_clustering_finds_noisy_groups_and_repeats_itself() -> None:
    maps, planted = planted_maps(noise=1.0)
    deviation = (maps - maps.mean(0)).transpose(0, 1).flatten(1)
    similarity = torch.corrcoef(deviation).double() + 1
    found = spectral_groups(similarity, groups=3)
    assert torch.equal(found, planted)
    assert torch.equal(spectral_groups(similarity, groups=3), found)


@pytest.mark.parametrize("groups", [2, 5, 12])
def test_any_number_of_groups_and_equal_filters_work(groups: int) -> None:
    """A layer that has died: fewer distinct filters than groups. No warning, no group out of range."""
    for similarity in (torch.ones(12, 12), torch.eye(12) + 1):
        found = spectral_groups(similarity.double(), groups=groups)
        assert found.shape == (12,)
        assert found.min() == 0
        assert found.max() < groups


def test_more_groups_than_filters_is_an_error() -> None:
    with pytest.raises(ParameterError, match="groups=20, but the layer has 12 filters"):
        spectral_groups(torch.ones(12, 12).double(), groups=20)


def test_training_with_the_loss_pulls_the_filters_of_a_group_together() -> None:
    """Descending L_group alone: inside the groups s grows, between them it falls, as the paper wants."""
    model, images = toy_model().train(), toy_images(48)
    batch, _ = images.batch(torch.arange(48), CPU)
    grouping = Grouping(model, FilterGroups(groups=3))
    grouping.form(model, images, ON)
    assert grouping.groups is not None
    same = grouping.groups[:, None] == grouping.groups

    def contrast() -> float:
        similarity = filter_similarity(model, images, "last", ON)
        return float(similarity[same].mean() - similarity[~same].mean())

    before = contrast()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(20):
        with read_layers(model, ["last"]) as outputs:
            model(batch)
        optimiser.zero_grad()
        grouping.loss(outputs["last"]).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert contrast() > before + 0.1


def test_the_running_mean_starts_at_the_first_batch_and_moves_slowly() -> None:
    grouping = Grouping(toy_model(), FilterGroups(groups=2))
    grouping.groups = torch.arange(12) % 2
    first, second = torch.rand(4, 12, 3, 3), torch.rand(4, 12, 3, 3)
    grouping.loss(first)
    assert torch.allclose(grouping.mean, first.mean(0))  # type: ignore[arg-type]
    grouping.loss(second)
    assert torch.allclose(grouping.mean, 0.95 * first.mean(0) + 0.05 * second.mean(0))  # type: ignore[arg-type]


def test_state_survives_a_checkpoint() -> None:
    one, two = (Grouping(toy_model(), FilterGroups(groups=2)) for _ in range(2))
    one.groups = torch.arange(12) % 2
    one.loss(torch.rand(4, 12, 3, 3))
    two.restore(one.state())
    maps = torch.rand(4, 12, 3, 3)
    assert torch.equal(one.loss(maps), two.loss(maps))


@pytest.mark.parametrize("bad", [{"strength": 0.0}, {"groups": 1}, {"period": 0}])
def test_values_out_of_range_are_named(bad: dict[str, Any]) -> None:
    name, value = next(iter(bad.items()))
    with pytest.raises(ParameterError, match=f"{name}={value}"):
        FilterGroups(**bad)


def test_an_unknown_layer_is_named() -> None:
    grouping = Grouping(toy_model(), FilterGroups(groups=2, layer="nowhere"))
    with pytest.raises(ParameterError, match="no layer 'nowhere'"):
        grouping.form(toy_model(), toy_images(8), ON)
