"""One streaming pass against brute force over stored responses: thresholds, counts, top images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import neuron_consistency.responses as module
from neuron_consistency.attacks.linf import fgsm, sign_noise
from neuron_consistency.consistency.measure import consistency_row
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError, StoreError
from neuron_consistency.networks.models import Classifier, build_model
from neuron_consistency.networks.reading import read_layers
from neuron_consistency.responses import JACKKNIFE_GROUPS, LayerResponses, Responses, TopResponses, deal, respond
from neuron_consistency.runtime import Runtime
from neuron_consistency.unfinished import Unfinished
from toys import CPU, ON, assert_same_state, image_set, state_of, toy_images, toy_model

TINY = torch.finfo(torch.float32).tiny


def brute_force(
    stored: Tensor, labels: Tensor, *, num_classes: int, k: int, keep: int, thresholds: Tensor | None
) -> LayerResponses:
    """What the pass must find, from all responses (N, C) at once, channel by channel in plain Python."""
    images, channels = stored.shape
    counts = torch.zeros(JACKKNIFE_GROUPS, channels, num_classes, dtype=torch.int64)
    own, groups = torch.empty(channels), deal(labels)
    top_values, top_indices = torch.empty(keep, channels), torch.empty(keep, channels, dtype=torch.int64)
    for channel in range(channels):
        column = stored[:, channel].tolist()
        order = sorted(range(images), key=lambda image: (-column[image], image))
        own[channel] = max(column[order[k - 1]], TINY) if thresholds is None else thresholds[channel]
        for image in range(images):
            if column[image] >= max(float(own[channel]), TINY):
                counts[groups[image], channel, labels[image]] += 1
        for row, image in enumerate(order[:keep]):
            top_values[row, channel], top_indices[row, channel] = column[image], image
    return LayerResponses(own, top_values, top_indices, {"true": counts})


def tallied(
    stored: Tensor,
    labels: Tensor,
    batches: Sequence[Tensor],
    *,
    num_classes: int,
    k: int,
    keep: int,
    thresholds: Tensor | None = None,
) -> LayerResponses:
    tally = TopResponses(
        stored.shape[1],
        deal(labels),
        {"true": labels},
        num_classes=num_classes,
        k=k,
        keep=keep,
        thresholds=thresholds,
        device=CPU,
    )
    for indices in batches:
        tally.add(stored[indices], indices)
    return tally.result()


def assert_equal(found: LayerResponses, expected: LayerResponses) -> None:
    assert torch.equal(found.thresholds, expected.thresholds)
    assert torch.equal(found.top_values, expected.top_values)
    assert torch.equal(found.top_indices, expected.top_indices)
    for kind, counts in expected.counts.items():
        assert torch.equal(found.counts[kind], counts)


@pytest.fixture
def small_merges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Merges every few images, so that a small set sees many of them."""
    monkeypatch.setattr(module, "MERGE_ROWS", 4)


# the tally


@given(
    images=st.integers(2, 60),
    channels=st.integers(1, 4),
    levels=st.integers(1, 6),  # few different values: ties everywhere, all equal at 1
    lowest=st.integers(-3, 1),  # some negative, some dead
    share=st.floats(0.01, 1),
    keep_share=st.floats(0.01, 1),
    batch=st.integers(1, 60),
    merge_rows=st.integers(1, 30),
    given_thresholds=st.booleans(),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=120)
def test_tally_equals_brute_force_in_any_batches_and_order(
    images: int,
    channels: int,
    levels: int,
    lowest: int,
    share: float,
    keep_share: float,
    batch: int,
    merge_rows: int,
    given_thresholds: bool,
    seed: int,
) -> None:
    """Tied, equal, negative and dead responses; batches of any size, images in any order; merges at any time."""
    generator = torch.Generator().manual_seed(seed)
    stored = (torch.randint(0, levels, (images, channels), generator=generator) + lowest).float() / 4
    labels = torch.randint(0, 3, (images,), generator=generator)
    k, keep = math.ceil(share * images), math.ceil(keep_share * images)
    thresholds = stored[torch.randint(0, images, (channels,), generator=generator), torch.arange(channels)]
    options = {"num_classes": 3, "k": k, "keep": keep, "thresholds": thresholds if given_thresholds else None}
    order = torch.randperm(images, generator=generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MERGE_ROWS", merge_rows)
        found = tallied(stored, labels, torch.split(order, batch), **options)  # type: ignore[arg-type]
    assert_equal(found, brute_force(stored, labels, **options))  # type: ignore[arg-type]


@pytest.mark.usefixtures("small_merges")
def test_threshold_is_the_kth_largest_response_and_ties_fire_too() -> None:
    """Responses 9 8 7 7 7 1 and k = 3: the threshold is 7, and all five images from 7 on are active."""
    stored = torch.tensor([[7.0], [9], [1], [7], [8], [7]])
    found = tallied(
        stored, torch.zeros(6, dtype=torch.int64), torch.split(torch.arange(6), 1), num_classes=1, k=3, keep=4
    )
    assert found.thresholds.item() == 7
    assert found.counts["true"].sum() == 5
    assert found.top_indices.squeeze(1).tolist() == [1, 4, 0, 3]  # ties by index


@pytest.mark.usefixtures("small_merges")
def test_ties_counted_for_a_threshold_that_rises_are_forgotten() -> None:
    """Forty images at 1, then three at 2 with k = 3: only the three are active in the end."""
    stored = torch.cat([torch.ones(40, 1), torch.full((3, 1), 2.0)])
    labels = torch.cat([torch.zeros(40, dtype=torch.int64), torch.ones(3, dtype=torch.int64)])
    found = tallied(stored, labels, torch.split(torch.arange(43), 5), num_classes=2, k=3, keep=3)
    assert found.counts["true"].sum((0, 1)).tolist() == [0, 3]


def test_a_dead_neuron_has_no_active_image() -> None:
    """All responses 0, or all negative: never active, with own thresholds and with given ones of 0 or less."""
    stored = torch.tensor([[0.0, -1.0]]).repeat(10, 1)
    labels = torch.zeros(10, dtype=torch.int64)
    own = tallied(stored, labels, [torch.arange(10)], num_classes=1, k=3, keep=3)
    of_others = tallied(
        stored, labels, [torch.arange(10)], num_classes=1, k=3, keep=3, thresholds=torch.tensor([0.0, -2.0])
    )
    assert own.counts["true"].sum() == of_others.counts["true"].sum() == 0


def bytes_held(tally: TopResponses) -> int:
    """All memory that the tally keeps alive between batches, each storage once."""
    kept = [tally.values, tally.indices, *tally.counts.values(), *(part for pair in tally.pending for part in pair)]
    return sum({part.untyped_storage().data_ptr(): part.untyped_storage().nbytes() for part in kept}.values())


def test_memory_does_not_grow_with_the_images() -> None:
    """The peak held at 20,000 images is that at 2,000, but for the larger k (benchmarks/growth.py: the process's)."""
    peaks = []
    for images, k in ((2_000, 20), (20_000, 100)):
        labels = torch.arange(images) % 10
        tally = TopResponses(
            32, deal(labels), {"true": labels}, num_classes=10, k=k, keep=20, thresholds=None, device=CPU
        )
        held = []
        for indices in torch.split(torch.arange(images), 100):
            tally.add(torch.rand(100, 32), indices.clone())
            held.append(bytes_held(tally))
        peaks.append(max(held) - k * 32 * (4 + 8))
    assert peaks[1] == pytest.approx(peaks[0], rel=0.1)


@pytest.mark.parametrize("classes", [4, JACKKNIFE_GROUPS, 24])
def test_groups_are_dealt_within_classes(classes: int) -> None:
    """Classes in turn or one after the other: the same share of every class in every group."""
    in_turn = torch.arange(classes * JACKKNIFE_GROUPS * 2) % classes
    for labels in (in_turn, in_turn.sort().values):
        table = torch.zeros(JACKKNIFE_GROUPS, classes).index_put_(
            (deal(labels), labels), torch.ones(len(labels)), accumulate=True
        )
        assert torch.equal(table, torch.full_like(table, 2))


# the pass over images


class Wired(torch.nn.Module):
    """Channel c answers with the top left pixel's channel c, made negative where the pixel is dark."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        response: Tensor = self.layer(images)
        return response[:, :, 0, 0]


def wired_model() -> Classifier:
    """A classifier whose stored responses are the pixels, normalisation undone."""
    model = Classifier(Wired(), "wired", {"last": ("layer", 3)})
    model.mean, model.std = torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)
    return model


def spotted_images(values: Tensor, labels: Tensor) -> ImageSet:
    """8 x 8 images, black but for the top left pixel."""
    pixels = torch.zeros(len(values), 3, 8, 8, dtype=torch.uint8)
    pixels[:, :, 0, 0] = values.to(torch.uint8)
    return image_set(pixels, labels, num_classes=3)


@pytest.fixture
def spotted() -> ImageSet:
    """Ninety images; channel 0 has ties, channel 1 one value for all, channel 2 is dead."""
    generator = torch.Generator().manual_seed(0)
    values = torch.zeros(90, 3, dtype=torch.int64)
    values[:, 0] = torch.randint(0, 12, (90,), generator=generator) * 20
    values[:, 1] = 51
    return spotted_images(values, torch.randint(0, 3, (90,), generator=generator))


def test_pass_finds_what_stored_responses_say(spotted: ImageSet) -> None:
    """Thresholds, counts by true and by predicted label, top images, predictions."""
    found = respond(wired_model(), spotted, Runtime(CPU, "float32", 7), quantile=0.1, top_k=5)
    stored = spotted.batch(torch.arange(90), CPU)[0][:, :, 0, 0]
    predictions = stored.argmax(1)
    assert torch.equal(found.predictions, predictions)
    assert torch.equal(found.labels, spotted.labels)
    layer = found.layers["last"]
    expected = brute_force(stored, spotted.labels, num_classes=3, k=9, keep=5, thresholds=None)
    assert_equal(LayerResponses(layer.thresholds, layer.top_values, layer.top_indices, layer.counts), expected)
    groups = deal(spotted.labels)
    for channel in range(3):
        active = stored[:, channel] >= layer.thresholds[channel]
        by_hand = torch.zeros(JACKKNIFE_GROUPS, 3, dtype=torch.int64).index_put_(
            (groups[active], predictions[active]), torch.tensor(1), accumulate=True
        )
        assert torch.equal(layer.counts["predicted"][:, channel], by_hand)
    assert layer.counts["true"][:, 2].sum() == 0  # dead


@pytest.mark.parametrize("merge_rows", [3, 1024])
def test_batch_size_changes_no_table(spotted: ImageSet, merge_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MERGE_ROWS", merge_rows)
    rows = [
        consistency_row(
            respond(wired_model(), spotted, Runtime(CPU, "float32", size), quantile=0.05, top_k=6),
            "last",
            torch.eye(3),
            equal_m=6,
        )
        for size in (1, 4, 32, 90, 500)
    ]
    assert all(str(row) == str(rows[0]) for row in rows)


def test_order_of_the_images_changes_no_count(spotted: ImageSet) -> None:
    """Shuffled, the same images give the same thresholds, numbers by class and strongest responses."""
    order = torch.randperm(90, generator=torch.Generator().manual_seed(1))
    one, two = (
        respond(wired_model(), images, Runtime(CPU, "float32", 8), quantile=0.1, top_k=5).layers["last"]
        for images in (spotted, spotted.subset(order))
    )
    assert torch.equal(one.thresholds, two.thresholds)
    assert torch.equal(one.top_values, two.top_values)
    assert torch.equal(one.counts["true"].sum(0), two.counts["true"].sum(0))


def test_threshold_is_the_larger_of_quantile_and_top_k(spotted: ImageSet) -> None:
    stored = spotted.batch(torch.arange(90), CPU)[0][:, 0, 0, 0].sort(descending=True).values
    for quantile, top_k, k in ((0.001, 7, 7), (0.3, 7, 27), (1.0, 7, 90), (0.5, 500, 90)):
        found = respond(wired_model(), spotted, ON, quantile=quantile, top_k=top_k).layers["last"]
        assert found.thresholds[0] == max(float(stored[k - 1]), TINY)
        assert len(found.top_values) == min(top_k, 90)


def test_thresholds_of_another_set_are_used_unchanged(spotted: ImageSet) -> None:
    """On darker copies, only responses from the real images' thresholds on count; the top images are kept all the
    same."""
    real = respond(wired_model(), spotted, ON, quantile=0.2, top_k=5).layers["last"]
    darker = respond(
        wired_model(),
        spotted,
        ON,
        quantile=0.2,
        top_k=5,
        thresholds={"last": real.thresholds},
        attack=lambda _model, batch, _labels: batch - 20 / 255,
    ).layers["last"]
    assert torch.equal(darker.thresholds, real.thresholds)
    stored = spotted.batch(torch.arange(90), CPU)[0][:, :, 0, 0] - 20 / 255
    assert torch.equal(darker.counts["true"].sum((0, 2)), (stored >= real.thresholds).sum(0))
    assert torch.equal(darker.top_values[0], stored.max(0).values)


def test_counts_at_equal_m_are_of_the_strongest_images(spotted: ImageSet) -> None:
    """Four strongest of each live neuron, ties by index; the dead neuron has none."""
    found = respond(wired_model(), spotted, ON, quantile=0.1, top_k=6)
    counts = found.top_counts("last", "true", 4)
    assert counts.sum((0, 2)).tolist() == [4, 4, 0]
    assert counts.sum(0)[1].tolist() == torch.bincount(spotted.labels[:4], minlength=3).tolist()


def test_more_images_at_equal_m_than_were_kept_are_refused(spotted: ImageSet) -> None:
    """Or a column of the tables would silently be at another m than its title says."""
    found = respond(wired_model(), spotted, ON, top_k=4)
    with pytest.raises(ParameterError, match="kept top_k=4"):
        found.top_counts("last", "true", 5)


def test_attack_sees_the_batch_and_its_labels(trained_toy: Classifier, fresh_images: ImageSet) -> None:
    """Predictions of the pass are those of the attacked images, made batch by batch."""

    def attack(model: torch.nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return fgsm(model, images, labels, epsilon=0.1)

    found = respond(trained_toy, fresh_images, Runtime(CPU, "float32", 10), attack=attack)
    images, labels = fresh_images.batch(torch.arange(64), CPU)
    assert torch.equal(found.predictions, trained_toy(attack(trained_toy, images, labels)).argmax(1))


def test_every_layer_in_one_pass(trained_toy: Classifier, fresh_images: ImageSet) -> None:
    """Two layers read together equal each read alone, and the maxima of the layers' outputs."""
    both = respond(trained_toy, fresh_images, ON, layers=["first", "last"], top_k=3)
    with read_layers(trained_toy, ["first", "last"]) as outputs, torch.no_grad():
        trained_toy(fresh_images.batch(torch.arange(64), CPU)[0])
    for name in ("first", "last"):
        alone = respond(trained_toy, fresh_images, ON, layers=[name], top_k=3)
        assert_equal(alone.layers[name], both.layers[name])
        assert torch.equal(both.layers[name].top_values[0], outputs[name].amax((0, 2, 3)))


# the model is left as it was


def test_hooks_and_gradients_are_left_as_they_were(trained_toy: Classifier, fresh_images: ImageSet) -> None:
    before = state_of(trained_toy)
    respond(trained_toy, fresh_images, ON)
    assert_same_state(before, trained_toy)


def test_hooks_are_gone_after_an_exception(trained_toy: Classifier, fresh_images: ImageSet) -> None:
    before = state_of(trained_toy)

    def broken(*_: object) -> Tensor:
        raise RuntimeError("planted")

    with pytest.raises(RuntimeError, match="planted"):
        respond(trained_toy, fresh_images, ON, attack=broken)
    assert_same_state(before, trained_toy)


def test_a_model_in_train_mode_is_read_in_eval_mode_and_given_back_in_train_mode(fresh_images: ImageSet) -> None:
    """Batch statistics must not enter a measure, nor running statistics change by measuring."""
    model = toy_model(dropout=0.5).train()
    before = state_of(model)
    found = respond(model, fresh_images, ON)
    assert_same_state(before, model)
    with torch.no_grad():
        logits = model.eval()(fresh_images.batch(torch.arange(64), CPU)[0])
    assert torch.equal(found.predictions, logits.argmax(1))


# errors and precision


@pytest.mark.parametrize(("quantile", "top_k"), [(0.0, 5), (1.5, 5), (math.nan, 5), (0.1, 0), (0.1, True), (0.1, 2.0)])
def test_values_out_of_range_are_refused(
    trained_toy: Classifier, fresh_images: ImageSet, quantile: float, top_k: int
) -> None:
    with pytest.raises(ParameterError, match=r"(quantile|top_k)=.* is needed"):
        respond(trained_toy, fresh_images, ON, quantile=quantile, top_k=top_k)


def test_unknown_layer_is_named_with_those_there_are(trained_toy: Classifier, fresh_images: ImageSet) -> None:
    with pytest.raises(ParameterError, match=r"'nowhere'.*first, last"):
        respond(trained_toy, fresh_images, ON, layers=["nowhere"])


def test_bfloat16_moves_the_measure_little() -> None:
    """Decision 13: on a ResNet-18, U of bfloat16 lies within .01 of float32's, and nine top images in ten agree."""
    model = build_model("resnet18", num_classes=4, image_size=32, seed=1)
    images = toy_images(160, size=32, noise=0.3, seed=3)
    found = {
        precision: respond(model, images, Runtime(CPU, precision, 80), quantile=0.1)
        for precision in ("float32", "bfloat16")
    }
    values = {p: consistency_row(r, "layer4", torch.eye(4), equal_m=20) for p, r in found.items()}
    for measure in ("U", "V", "U top"):
        assert abs(values["bfloat16"][measure] - values["float32"][measure]) < 0.01
    exact, rounded = (found[p].layers["layer4"] for p in ("float32", "bfloat16"))
    assert (exact.thresholds - rounded.thresholds).abs().max() < 0.02 * exact.thresholds.max()
    agreed = [
        len(set(a.tolist()) & set(b.tolist())) for a, b in zip(exact.top_indices.T, rounded.top_indices.T, strict=True)
    ]
    assert sum(agreed) / exact.top_indices.numel() > 0.9


def test_a_stopped_pass_goes_on_to_the_same_result(tmp_path: Path) -> None:
    """Else a long scoring that is stopped begins again, or goes on with other noise, other counts, other top images."""
    images, model = toy_images(40), toy_model()
    on = Runtime(CPU, "float32", 4)
    real = respond(model, images, on, layers=["first", "last"], top_k=5)
    fixed = {name: layer.thresholds for name, layer in real.layers.items()}

    def run(stop: int | None, thresholds: dict[str, Tensor] | None, folder: Path) -> tuple[Responses, list[int]]:
        generator, reported = torch.Generator().manual_seed(3), list[int]()

        def attack(_model: nn.Module, batch: Tensor, _labels: Tensor) -> Tensor:
            if stop is not None and sum(reported) >= stop:
                raise KeyboardInterrupt
            return sign_noise(batch, epsilon=0.1, generator=generator)

        kept = Unfinished(folder / "pass.safetensors", generator, seconds=0)
        found = respond(
            model, images, on, layers=["first", "last"], top_k=5, thresholds=thresholds, attack=attack,
            unfinished=kept, report=reported.append,
        )  # fmt: skip
        return found, reported

    for thresholds in (None, fixed):
        folder = tmp_path / str(thresholds is None)
        folder.mkdir()
        whole, _ = run(None, thresholds, folder)
        (folder / "pass.safetensors").unlink()
        with pytest.raises(KeyboardInterrupt):
            run(20, thresholds, folder)
        assert (folder / "pass.safetensors").exists()
        resumed, reported = run(None, thresholds, folder)
        assert 0 < reported[0] <= 20
        assert sum(reported) == 40
        assert torch.equal(resumed.predictions, whole.predictions)
        for name in whole.layers:
            assert_equal(resumed.layers[name], whole.layers[name])


def test_a_damaged_state_of_a_pass_is_named(tmp_path: Path) -> None:
    """Else a cut file ends in another library's traceback, or in a pass over half of the images."""
    path = tmp_path / "pass.safetensors"
    path.write_bytes(b"cut")
    with pytest.raises(StoreError, match=r"pass\.safetensors cannot be read .*remove it"):
        respond(toy_model(), toy_images(8), ON, unfinished=Unfinished(path))
