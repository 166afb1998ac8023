"""What adversarial images have in common with the real ones that fire the same neurons, on planted cases."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from neuron_consistency.consistency.gallery import top_image_rows
from neuron_consistency.consistency.measure import chance, consistency, unbiased_consistency
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.plotting import picture_grid
from neuron_consistency.representation.measure import cosine, measure_neurons, top_responses
from neuron_consistency.representation.neurons import MEASURES
from neuron_consistency.responses import JACKKNIFE_GROUPS, Responses, deal
from neuron_consistency.runtime import Runtime
from neuron_consistency.taxonomy import correlation
from planted_passes import AIMS, FAMILY, FAR, REAL_LABELS, TRUE, measured, responses
from toys import COLOURS, CPU, ON, assert_same_state, image_set, state_of, toy_images, toy_model

TEN: dict[str, Any] = {"share": 0.01, "min_images": 10, "max_images": 5000}  # images of each neuron, of fewer than 1000

# planted histograms


def test_the_two_extremes_of_cs1_and_cs2_are_exact() -> None:
    """A neuron that keeps to what it shows has CS1 = 1 and CS2 = 0, one that follows the targets the reverse: were
    labels and targets mixed up, or images miscounted, neither would come out exactly."""
    faithful, dummy, dead = [0, 1, 2], [4, 5, 6], list[int]()
    found = measured(
        responses(REAL_LABELS, [[0, 1, 2]] * 3),
        responses(TRUE, [faithful, dummy, dead]),
        AIMS,
        torch.arange(8),
    ).table
    assert found["CS1"].tolist()[:2] == [1.0, 0.0]
    assert found["CS2"].tolist()[:2] == [0.0, 1.0]
    assert found[["CS1", "CS2", "shows", "merely targets"]].iloc[2].isna().all()
    assert found["concept"].tolist() == [0, 0, 0]
    assert found["purity"].tolist() == pytest.approx([2 / 3] * 3)
    assert found["shows"].tolist()[:2] == pytest.approx([2 / 3, 0])
    assert found["merely targets"].tolist()[:2] == pytest.approx([0, 2 / 3])
    assert found["images"].tolist() == [3, 3, 0]


@given(st.lists(st.integers(0, 5000), min_size=2, max_size=8).filter(any), st.integers(1, 9))
def test_cosine_is_one_for_counts_in_proportion(counts: list[int], times: int) -> None:
    """Rounding must not make a perfect neuron imperfect."""
    histogram = torch.tensor(counts)
    assert float(cosine(histogram, times * histogram)) == 1
    assert math.isnan(cosine(histogram, 0 * histogram))
    assert 0 <= float(cosine(histogram, torch.ones(len(counts)))) <= 1 + 1e-12


def test_lc_is_eq_3_over_the_top_images() -> None:
    similar = correlation(FAMILY)
    real = responses(REAL_LABELS, [[0, 2, 4], [0, 1, 2]])
    found = measured(real, responses(TRUE, [[0, 1, 2]] * 2), AIMS, torch.arange(8), distances=FAMILY).table
    counts = torch.tensor([[1, 1, 1, 0], [2, 1, 0, 0]])
    assert found["LC"].tolist() == consistency(counts, similar).tolist()
    assert found["U"].tolist() == unbiased_consistency(counts, similar).tolist()
    level = chance(REAL_LABELS, similar)
    assert found["LC chance"].tolist() == level.biased(torch.tensor([3, 3])).tolist()
    assert found["U chance"].tolist() == pytest.approx([level.unbiased] * 2)


def test_a_relative_counts_as_the_concept_and_showing_it_is_not_merely_targeting_it() -> None:
    """A sibling of the concept shows it; an image that shows one sibling and targets the other is no dummy's."""
    true, aims = torch.tensor([1, 1, 2, 2]), torch.tensor([0, 3, 1, 3])
    real = responses(REAL_LABELS, [[0, 1]])
    found = measured(real, responses(true, [[0, 1, 2, 3]]), aims, torch.arange(4), distances=FAMILY).table.iloc[0]
    assert (found["concept"], found["purity"]) == (0, 1)
    assert (found["shows"], found["merely targets"]) == (0.5, 0.25)
    assert (found["shows chance"], found["merely targets chance"]) == (0.5, 0.25)  # all four images are its top ones


def test_without_a_clear_concept_nothing_is_counted() -> None:
    real = responses(REAL_LABELS, [[0, 1, 2, 4, 6], [0, 1, 2, 3, 4]])  # shares .4 and .4; ties go to class 0
    adversarial = responses(TRUE, [[0, 1, 2, 3, 4]] * 2)
    strict = measure_neurons(real, adversarial, AIMS, torch.arange(8), correlation(FAR), FAR, purity=0.5)
    loose = measure_neurons(real, adversarial, AIMS, torch.arange(8), correlation(FAR), FAR, purity=0.4)
    assert strict.table["shows"].isna().all()
    assert loose.table["shows"].notna().all()
    assert strict.table["CS1"].notna().all()
    assert strict.estimate("shows").excluded == 1


# chance and intervals


def many(seed: int = 0, *, images: int = 400, neurons: int = 40, top: int = 30) -> tuple[Responses, Responses, Tensor]:
    """Neurons of one class each on real images, of random ones on adversarial images."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % 4
    tops = [[4 * i + neuron % 4 for i in range(top)] for neuron in range(neurons)]
    random = [torch.randperm(images, generator=generator)[:top].tolist() for _ in range(neurons)]
    aims = (labels + 1 + torch.randint(3, (images,), generator=generator)) % 4
    return responses(labels, tops), responses(labels, random), aims


def test_the_shuffled_null_is_what_drawing_at_random_gives() -> None:
    """For a pure neuron CS is g_c / |g| with g a draw of `top` images from four equal classes."""
    top = 30
    real, adversarial, aims = many(top=top)
    origins, similar = torch.arange(400), correlation(FAR)
    found = measure_neurons(real, adversarial, aims, origins, similar, FAR, draws=200).table
    expected = (top / 4) / math.sqrt(top + top * (top - 1) * 99 / 399)
    for measure in ("CS1", "CS2"):
        assert found[f"{measure} chance"].mean() == pytest.approx(expected, rel=0.02)
        assert found[measure].mean() == pytest.approx(expected, rel=0.05)
    assert found["shows chance"].tolist() == [0.25] * 40
    assert found["merely targets chance"].mean() == pytest.approx(0.25, rel=0.1)


def test_an_image_leaves_the_jackknife_with_all_that_was_made_of_it() -> None:
    """Were adversarial images of one clean image left in, the intervals would be too narrow."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(4, (60,), generator=generator)
    origins = torch.arange(60).repeat_interleave(3)
    true = labels[origins]
    aims = (true + 1 + torch.randint(3, (180,), generator=generator)) % 4
    tops = [[torch.randperm(n, generator=generator)[:12].tolist() for _ in range(5)] for n in (60, 180)]
    real, adversarial = responses(labels, tops[0]), responses(true, tops[1])
    found = measure_neurons(real, adversarial, aims, origins, correlation(FAMILY), FAMILY, purity=0.01)
    groups = deal(labels)
    for group in range(JACKKNIFE_GROUPS):
        for neuron in range(5):
            kept = [image for image in tops[0][neuron] if groups[image] != group]
            shown = [image for image in tops[1][neuron] if groups[origins[image]] != group]
            h, t, y = (torch.bincount(names, minlength=4) for names in (labels[kept], true[shown], aims[shown]))
            concept = int(found.table["concept"][neuron])
            near_true, near_target = FAMILY[concept][true[shown]] <= 2, FAMILY[concept][aims[shown]] <= 2
            by_hand = {
                "LC": consistency(h, correlation(FAMILY)),
                "U": unbiased_consistency(h, correlation(FAMILY)),
                "CS1": cosine(h, t),
                "CS2": cosine(h, y),
                "shows": near_true.double().mean(),
                "merely targets": (near_target & ~near_true).double().mean(),
            }
            for measure in MEASURES:
                assert float(found.replicates[measure][group, neuron]) == pytest.approx(float(by_hand[measure]))


# through a network


class Colours(nn.Module):
    """One channel a class, the nearness of each pixel to the class's colour."""

    def forward(self, images: Tensor) -> Tensor:
        away = (images[:, None] - COLOURS.to(images)[None, :, :, None, None]).abs().sum(2)
        return (1 - 2 * away).relu()


def colour_network() -> Classifier:
    """Layers "rgb" (three channels) and "colours" (four detectors); the logits are the detectors' maxima."""
    network = nn.Sequential(nn.Identity(), Colours(), nn.AdaptiveMaxPool2d(1), nn.Flatten())
    model = Classifier(network, "colours", {"rgb": ("0", 3), "colours": ("1", 4)})
    model.mean.zero_()
    model.std.fill_(1)
    return model


def patched(images: ImageSet, aims: Tensor) -> ImageSet:
    """Every image, grey all over, with a corner in the colour of its target: its label stays."""
    pixels = torch.full_like(images.pixels, 128)  # type: ignore[arg-type]
    pixels[:, :, :4, :4] = (COLOURS[aims] * 255).round().to(torch.uint8)[:, :, None, None]
    return image_set(pixels, images.labels, num_classes=4)


def test_a_planted_detector_is_a_dummy_where_targets_fire_it_and_none_where_its_class_does() -> None:
    """End to end: neuron c of "colours" detects class c; what fires it in the attacked images is planted."""
    images = toy_images(80, noise=0.02)
    aims = (images.labels + 1) % 4
    model = colour_network()
    before = state_of(model)
    real = top_responses(model, images, ON, **TEN)
    for attacked, shows, merely in ((patched(images, aims), 0, 1), (images, 1, 0)):
        shown = top_responses(model, attacked, ON, **TEN)
        found = measured(real, shown, aims, torch.arange(80))
        assert found.table["layer"].tolist() == ["rgb"] * 3 + ["colours"] * 4
        detectors = found.table[found.table["layer"] == "colours"]
        assert detectors["concept"].tolist() == [0, 1, 2, 3]
        assert detectors["purity"].tolist() == [1] * 4
        assert detectors["shows"].tolist() == [shows] * 4
        assert detectors["merely targets"].tolist() == [merely] * 4
        assert detectors["CS1"].tolist() == [shows] * 4
        assert detectors["CS2"].tolist() == [merely] * 4
    assert_same_state(before, model)


def test_the_top_share_has_a_floor_and_a_cap_and_is_exact() -> None:
    images, model = toy_images(64), toy_model().eval()
    on = Runtime(CPU, "float32", 10)
    for share, least, most, expected in [(0.25, 4, 99, 16), (0.01, 4, 99, 4), (0.5, 4, 7, 7), (1.0, 1, 99, 64)]:
        found = top_responses(model, images, on, share=share, min_images=least, max_images=most)
        assert list(found.layers) == ["first", "last"]
        assert [len(layer.top_indices) for layer in found.layers.values()] == [expected] * 2
    whole = top_responses(model, images, on, share=1.0, min_images=1, max_images=99)
    part = top_responses(model, images, on, share=0.25, min_images=1, max_images=99)
    for name, layer in part.layers.items():
        assert torch.equal(whole.layers[name].top_indices[:16], layer.top_indices)


# pictures


def test_the_images_that_target_a_neuron_s_concept_are_framed() -> None:
    """Figure 2 of P2 rests on its frames: they have to sit on the images, and in the rows, that are marked."""
    images = toy_images(80, noise=0.02)
    aims = (images.labels + 1) % 4
    model, attacked = colour_network(), patched(images, aims)
    passes = [top_responses(model, one, ON, **TEN) for one in (images, attacked)]
    sets = [("real", images, passes[0], None), ("adversarial", attacked, passes[1], None)]
    chosen = [2, 0]
    grid = top_image_rows(
        model,
        sets,
        Runtime(CPU),
        layer="colours",
        neurons=chosen,
        correlation=correlation(FAR),
        count=3,
        marked={"adversarial": torch.stack([aims == concept for concept in chosen])},
    )
    assert [[picture.framed for picture in row] for _, row in grid.rows] == [[False] * 3, [True] * 3] * 2
    frames = [axis.spines["left"].get_linewidth() for axis in picture_grid(grid).axes]
    assert [width == 3 for width in frames] == [False] * 3 + [True] * 3 + [False] * 3 + [True] * 3


@pytest.mark.parametrize(
    "options", [{"share": 0.0}, {"share": 1.1}, {"min_images": 0}, {"min_images": 30, "max_images": 20}]
)
def test_impossible_top_shares_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ParameterError, match=r"(share|min_images)=.* is needed"):
        top_responses(toy_model(), toy_images(8), ON, **TEN | options)  # type: ignore[arg-type]


def test_impossible_measures_are_refused() -> None:
    real, adversarial = responses(REAL_LABELS, [[0, 1]]), responses(TRUE, [[0, 1]])
    similar = correlation(FAR)
    for options in ({"purity": 0.0}, {"purity": 1.1}, {"draws": 0}):
        with pytest.raises(ParameterError, match=r"(purity|draws)=.* is needed"):
            measure_neurons(real, adversarial, AIMS, torch.arange(8), similar, FAR, **options)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="5 targets and 8 origins for 8"):
        measure_neurons(real, adversarial, AIMS[:5], torch.arange(8), similar, FAR)


def test_a_layer_that_may_be_negative_has_top_images_below_zero_too() -> None:
    """Read before its activation a neuron has no silence at 0; its top images would be lost in one set and not the
    other."""

    def below_zero(passed: Responses) -> Responses:
        layer = passed.layers["last"]
        lowered = replace(layer, top_values=layer.top_values - 5, floor=-math.inf)
        return replace(passed, layers={"last": lowered})

    real, adversarial = responses(REAL_LABELS, [[0, 1, 2]]), responses(TRUE, [[4, 5, 6]])
    found = measured(below_zero(real), below_zero(adversarial), AIMS, torch.arange(8)).table
    assert found["images"].tolist() == [3]
    assert found["CS2"].tolist() == [1.0]
