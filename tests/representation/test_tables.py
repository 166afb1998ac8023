"""Which classes adversarial images are to be taken for, and the tables that say whether they are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from neuron_consistency.attacks.stored_set import AdversarialSet
from neuron_consistency.attacks.targeted import least_likely_targets, random_targets
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.representation.tables import success_table, transfer_table
from neuron_consistency.statistics import share
from neuron_consistency.workflow.costs import full_size_table
from toys import CPU, assert_same_state, image_set, state_of, toy_images, toy_model

OPTIONS: dict[str, Any] = {"device": CPU, "precision": "float32"}


class Planted(nn.Module):
    """Says of an image what is written, as logarithms of probabilities, for the grey level of its first pixel."""

    def __init__(self, probabilities: list[list[float]]) -> None:
        super().__init__()
        self.register_buffer("table", torch.tensor(probabilities).log())

    def forward(self, images: Tensor) -> Tensor:
        table = self.get_buffer("table")
        return table[(images[:, 0, 0, 0] * 255).round().long()]


def planted(probabilities: list[list[float]]) -> Classifier:
    """The network, without normalisation, so that grey levels arrive as they are."""
    model = Classifier(Planted(probabilities), "planted", {"none": ("", 1)})
    model.mean.zero_()
    model.std.fill_(1)
    return model.eval()


def saying(classes: list[int]) -> Classifier:
    """A network that says classes[v] (of 4) of an image of grey level v."""
    return planted([[0.7 if column == said else 0.1 for column in range(4)] for said in classes])


def levels(values: list[int], labels: list[int]) -> ImageSet:
    """Images of one grey level each."""
    pixels = torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 8, 8)
    return image_set(pixels, torch.tensor(labels), num_classes=4)


def stored(values: list[int], success: list[list[bool]], rmsd: list[float]) -> AdversarialSet:
    """Two adversarial images of each of two clean images of the classes 0 and 1, towards 2 and 3."""
    images = levels(values, [0, 0, 1, 1])
    return AdversarialSet(
        images.name, "val", images.classes, images.synsets, images.labels, images.pixels, "adversarial",
        networks=("one", "two"), source="toy-fingerprint", targets=torch.tensor([2, 3, 2, 3]),
        indices=torch.tensor([0, 0, 1, 1]), success=torch.tensor(success), rmsd=torch.tensor(rmsd),
    )  # fmt: skip


# the targets


@given(classes=st.integers(2, 20), seed=st.integers(0, 100))
@settings(max_examples=30)
def test_random_targets_are_other_classes_and_repeat(classes: int, seed: int) -> None:
    labels = torch.arange(200) % classes
    targets = random_targets(labels, num_classes=classes, seed=seed)
    assert not bool((targets == labels).any())
    assert 0 <= int(targets.min()) <= int(targets.max()) < classes
    assert torch.equal(targets, random_targets(labels, num_classes=classes, seed=seed))


def test_random_targets_are_even_among_the_others() -> None:
    counts = random_targets(torch.full((9000,), 2), num_classes=4).bincount(minlength=4)
    assert counts[2] == 0
    assert stats.chisquare(counts[[0, 1, 3]]).pvalue > 1e-3


def test_least_likely_targets_follow_the_mean_probability() -> None:
    """By hand, for the classes 0 to 3: the means are .55, .10, .20, .15 and .05, .45, .15, .35. The mean of the
    logarithms would put class 2 of the first image (.0002 and .3998) before class 1. The true class, though the least
    likely of the second image, is never a target."""
    one = planted([[0.5998, 0.1, 0.0002, 0.3 - 1e-4], [0.05, 0.6, 0.1, 0.25]])
    two = planted([[0.5002, 0.1, 0.3998, 1e-4], [0.05, 0.3, 0.2, 0.45]])
    images = levels([0, 1], [0, 0])
    assert least_likely_targets([one, two], images, count=3, **OPTIONS).tolist() == [[1, 3, 2], [2, 3, 1]]
    assert least_likely_targets([one, two], images, count=1, **OPTIONS).tolist() == [[1], [2]]
    assert least_likely_targets([one], images, count=1, **OPTIONS).tolist() == [[2], [2]]


def test_least_likely_targets_tell_classes_of_vanishing_probability_apart() -> None:
    """exp(-300) and exp(-200) are both 0 in float32: the order is of their logarithms."""
    model = planted([[1.0, 1.0, 1.0, 1.0]])
    model.network.register_buffer("table", torch.tensor([[0.0, -200.0, -300.0, -250.0]]))
    targets = least_likely_targets([model, model], levels([0], [0]), count=3, **OPTIONS)
    assert targets.tolist() == [[2, 3, 1]]


def test_least_likely_targets_leave_the_networks_and_do_not_depend_on_batches(trained_toy: Classifier) -> None:
    images, other = toy_images(20), toy_model(seed=1)
    before = [state_of(model) for model in (trained_toy, other)]
    found = least_likely_targets([trained_toy, other], images, count=2, **OPTIONS)
    for state, model in zip(before, (trained_toy, other), strict=True):
        assert_same_state(state, model)
    assert torch.equal(found, least_likely_targets([trained_toy, other], images, count=2, batch_size=3, **OPTIONS))


@pytest.mark.parametrize("count", [0, 4])
def test_more_targets_than_other_classes_are_refused(count: int) -> None:
    with pytest.raises(ParameterError, match=f"{count} targets by 1 networks: 4 classes leave 1 to 3"):
        least_likely_targets([saying([0])], levels([0], [0]), count=count, **OPTIONS)
    with pytest.raises(ParameterError, match="one network is needed"):
        least_likely_targets([], levels([0], [0]), count=1, **OPTIONS)


# the tables


def test_the_success_table_is_what_the_set_stores_beside_the_clean_images() -> None:
    """By hand. The first network says 2 of the second clean image already: its target for one of its two."""
    adversarial = stored([5, 6, 7, 8], [[True, True], [True, False], [True, True], [False, False]], [0.1, 0.2, 0.3, 9])
    clean = levels([0, 1], [0, 1])
    models = {"two": saying([3, 1]), "one": saying([0, 2]), "three": saying([0, 0])}
    table = success_table(adversarial, models, clean, **OPTIONS).set_index("network")
    assert list(table.index) == ["one", "two", "all"]
    assert table["images"].tolist() == [4, 4, 4]
    assert table["reached"].tolist() == [75, 50, 50]
    assert table["reached clean"].tolist() == [25, 25, 0]
    assert table["RMSD"].tolist() == pytest.approx([0.2, 0.2, 0.2])
    assert table["RMSD of 255"].tolist() == pytest.approx([51, 51, 51])
    expected = share(adversarial.success[:, 0], adversarial.indices, whole=100).row("reached")
    assert {name: table.at["one", name] for name in expected} == expected


def test_the_transfer_table_tells_the_target_from_merely_wrong() -> None:
    """By hand: of 2, 1, 0, 3 said, two are the targets (2, 3, 2, 3) and all are wrong, the true classes being 0, 0,
    1, 1. The clean images it calls 2 and 1: one target of four, and the first image wrong."""
    adversarial = stored([2, 3, 4, 5], [[True, True]] * 4, [0.1] * 4)
    left_out = saying([2, 1, 2, 1, 0, 3])
    table = transfer_table(adversarial, {"left out": left_out}, levels([0, 1], [0, 1]), **OPTIONS)
    row = table.iloc[0]
    assert (row["network"], row["images"]) == ("left out", 4)
    assert (row["reached"], row["reached clean"]) == (50, 25)
    assert (row["wrong"], row["wrong clean"]) == (100, 50)
    assert row["reached low"] < 50 < row["reached high"]
    assert row["wrong low"] < 100


def test_tables_of_other_images_or_networks_are_refused() -> None:
    adversarial = stored([0, 0, 0, 0], [[True, True]] * 4, [0.1] * 4)
    clean, network = levels([0, 1], [0, 1]), saying([0, 1])
    for table in (success_table, transfer_table):
        with pytest.raises(ParameterError, match="is not the set that the adversarial images were made from"):
            table(adversarial, {"one": network}, clean.subset(torch.tensor([0])), **OPTIONS)
    with pytest.raises(ParameterError, match="made on two too"):
        success_table(adversarial, {"one": network}, clean, **OPTIONS)
    with pytest.raises(ParameterError, match="made on one: transfer is to other networks"):
        transfer_table(adversarial, {"one": network}, clean, **OPTIONS)


def test_full_size_by_hand() -> None:
    """Ten images a second of 112 px are 2.5 of 224 px: half a million take 55.6 hours, on eight devices an eighth."""

    class Written:
        rate, image_size, networks = 10.0, 112, ("a", "b")

        def __len__(self) -> int:
            return 40

    table = full_size_table(Written(), devices=[1, 8], price=2.0)  # type: ignore[arg-type]
    assert table["images a second"].tolist() == [2.5, 20.0]
    assert table["hours"].tolist() == pytest.approx([55.5556, 6.9444], abs=1e-4)
    assert table["cost"].tolist() == pytest.approx([111.111, 111.111], abs=1e-3)
    assert table["GB"].tolist() == pytest.approx([500_000 * (3 * 224**2 + 30) / 1e9] * 2)
