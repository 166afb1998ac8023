"""The atlas: its numbers are the measures' to the last digit shown, and its regions and trees are what they say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from neuron_consistency.card.atlas import write_atlas
from neuron_consistency.card.measure import piece_of
from neuron_consistency.card.pictures import region, strongest, ways
from neuron_consistency.card.tables import class_counts
from neuron_consistency.consistency.ambiguity import FGSM, REAL, Passes, measure_networks
from neuron_consistency.consistency.measure import Neurons, chance, neuron_table
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.networks.models import Classifier
from neuron_consistency.responses import respond
from neuron_consistency.taxonomy import correlation, distance_matrix, resolve
from toys import ON, toy_images, toy_model

CLASSES = ("tabby", "Persian cat", "dalmatian", "teapot")
SYNSETS = ("tabby.n.01", "persian_cat.n.01", "dalmatian.n.02", "teapot.n.01")
TITLES = ("Toy, normal", "Toy, consistent")
EPSILON, TOP_K, SHOWN = 16 / 255, 5, 3


def named_images() -> ImageSet:
    return replace(toy_images(40), classes=CLASSES, synsets=tuple(map(resolve, SYNSETS)))


@pytest.fixture(scope="module")
def measured() -> tuple[dict[str, Classifier], ImageSet, torch.Tensor, dict[str, Passes]]:
    models, images = {title: toy_model(seed=seed) for seed, title in enumerate(TITLES)}, named_images()
    passes = measure_networks(models, images, ON, epsilon=EPSILON, top_k=TOP_K, controls=False)
    return models, images, correlation(distance_matrix(images.synsets)), passes


def written(path: Path, measured: Any) -> pd.DataFrame:
    models, images, a, passes = measured
    units: dict[str, Any] = {"unit": range(12), "label": ["grass"] * 11 + [None], "category": ["object"] * 11 + [None]}
    units |= {"iou": np.linspace(0.12, 0.01, 12), "aligned": [True] * 8 + [False] * 4}
    return write_atlas(
        path, models, passes, images, ON, a, epsilon=EPSILON, top_k=TOP_K, shown=SHOWN, opened=TITLES,
        concepts={title: pd.DataFrame(units) for title in TITLES},
    )  # fmt: skip


def digits(value: float) -> str:
    """As the page shows U."""
    return "not measured" if np.isnan(value) else f"{value:.4f}".replace("-", "\N{MINUS SIGN}")


def test_every_card_shows_the_numbers_of_chapter_4(measured: Any, visit: Callable[..., Any], tmp_path: Path) -> None:
    """Else the atlas tells of a neuron what the chapter that measures it does not."""
    written(tmp_path / "index.html", measured)
    _, images, a, passes = measured
    level = chance(images.labels, a).unbiased
    page = visit(tmp_path / "index.html")
    cards = {text.split("\n")[0]: text for text in page.locator(".cards li").all_inner_texts()}
    assert len(cards) == 24  # 12 of either network
    for title in TITLES:
        tables = {
            (name, kind): neuron_table(passes[title].sets[name], "last", a, kind=kind)
            for name in (REAL, FGSM)
            for kind in ("true", "predicted")
        }
        neurons = Neurons(passes[title].sets[REAL].layers["last"].counts["true"], a)
        margins = neurons.margins()
        for i in range(12):
            u = float(neurons.values["U"][i])
            card = cards[f"{title}: neuron {i}"]
            interval = "" if np.isnan(margins[i]) else f" ({digits(u - margins[i])} to {digits(u + margins[i])})"
            assert f"U {digits(u)}{interval}, chance {digits(level)}" in card
            for name in (REAL, FGSM):
                true, predicted = (tables[name, kind].iloc[i].to_dict() for kind in ("true", "predicted"))
                row = [name, digits(true["U"]), digits(predicted["U"]), f"{true['m']:.0f}"]
                assert "\t".join(row) in card
            assert f"concept: {'grass (object)' if i < 8 else 'none'}" in card


def test_search_link_and_sort_find_a_neuron_of_one_network(
    measured: Any, visit: Callable[..., Any], tmp_path: Path
) -> None:
    written(tmp_path / "index.html", measured)
    page = visit(tmp_path / "index.html", link="#Toy%2C%20consistent/7")
    dialog = page.locator("dialog")
    assert dialog.locator("h2").inner_text() == "Toy, consistent: neuron 7"
    assert dialog.locator("figure").count() <= 2 * SHOWN
    page.keyboard.press("Escape")
    page.locator('[data-part="search"]').fill("grass")
    assert page.locator('[data-part="status"]').inner_text() == "1 to 8 of 8 and 8 neurons"
    page.locator('[data-part="sort"]').select_option("IoU")
    titles = page.locator(".cards h3").all_text_contents()
    assert titles[:4] == [f"{title}: neuron {i}" for i in (0, 1) for title in TITLES]


def test_the_strongest_images_and_their_regions_are_those_of_the_network(measured: Any) -> None:
    """Else a card shows another image, or lights another part of it, than the neuron responds to."""
    models, images, a, passes = measured
    model, one = models[TITLES[0]], passes[TITLES[0]]
    pieces = {name: piece_of(one.sets[name], images, a, TOP_K, SHOWN) for name in (REAL, FGSM)}
    found = strongest(model, images, ON, pieces, epsilon=EPSILON)
    assert list(found) == [REAL, FGSM]
    for name in found:
        assert found[name].tops.tolist() == one.sets[name].layers["last"].top_indices[:SHOWN].T.tolist()
        assert set(found[name].thumbnails) == set(found[name].tops.flatten().tolist())
    place = int(found[REAL].tops[4, 1])
    with torch.no_grad():
        pixels = images.take(torch.tensor([place])).batch(torch.tensor([0]), ON.device)[0]
        model.eval()
        maps = model.network[:6]((pixels - model.mean) / model.std)
    assert found[REAL].regions[4][16:32] == region(maps[:, 4])[0]
    shown = found[REAL].thumbnails[place].float() / 255
    assert (torch.nn.functional.interpolate(pixels, (64, 64), mode="bilinear") - shown).abs().max() < 0.01
    difference = found[FGSM].thumbnails[int(found[FGSM].tops[0, 0])].float()
    original = strongest(model, images, ON, {REAL: pieces[FGSM]}, epsilon=EPSILON)[REAL].thumbnails
    assert (difference - original[int(found[FGSM].tops[0, 0])].float()).abs().mean() > 5


def test_few_thumbnails_go_to_the_strongest_image_of_each_neuron_first(measured: Any) -> None:
    models, images, a, passes = measured
    pieces = {REAL: piece_of(passes[TITLES[0]].sets[REAL], images, a, TOP_K, SHOWN)}
    first = {*torch.tensor(pieces[REAL]["top"]["last"])[:, 0].tolist()}
    found = strongest(models[TITLES[0]], images, ON, pieces, epsilon=EPSILON, most=len(first))[REAL]
    assert set(found.thumbnails) == first
    assert {text[:16] for text in found.regions}.isdisjoint({"." * 16})
    assert any("." * 16 in text for text in found.regions)


@pytest.mark.parametrize(
    ("maps", "signed", "told"),
    [
        # weights of the first column at 8 fields: 1, 1, .875, .625, .375, .125, 0, 0; a field is their product
        ([[1, 0], [0, 0]], False, "f0f0f0e000000000"),
        ([[0, 2], [0, 2]], False, "0f" * 8),
        ([[3]], False, "ff" * 8),  # one field is the whole image
        ([[1, 0.9], [0.9, 0.9]], False, "ff" * 8),  # it responds everywhere
        ([[-1, -2], [-2, -2]], True, "f0f0f0e000000000"),
        ([[1, 0.9], [0.9, 0.9]], True, "f0f0f0e000000000"),
        (
            (torch.arange(256).view(16, 16) == 17).tolist(),
            False,
            "80" + "00" * 7,
        ),  # no peak is lost in making it smaller
    ],
)
def test_a_region_is_where_the_enlarged_map_is_over_half_of_its_peak(maps: Any, signed: bool, told: str) -> None:
    assert region(torch.tensor([maps], dtype=torch.float32), signed=signed) == [told]


def test_a_class_hangs_below_what_is_above_it() -> None:
    """Else the tree of a card joins classes that WordNet does not."""
    found = ways(named_images())
    assert [way[-1] for way in found] == list(CLASSES)
    assert {way[0] for way in found} == {"entity"}
    common = [len([1 for one, other in zip(found[0], way, strict=False) if one == other]) for way in found]
    distances = distance_matrix(named_images().synsets)[0].tolist()
    for way, shared, distance in zip(found, common, distances, strict=True):
        assert len(found[0]) + len(way) - 2 * shared == distance


def test_the_classes_of_a_neuron_are_counted_by_set_and_label(measured: Any) -> None:
    models, images, a, passes = measured
    one = passes[TITLES[1]]
    pieces = {name: piece_of(one.sets[name], images, a, TOP_K) for name in (REAL, FGSM)}
    found = class_counts(pieces)
    assert list(found) == ["real", "FGSM", "FGSM predicted"]
    for key, (name, kind) in zip(found, [(REAL, "true"), (FGSM, "true"), (FGSM, "predicted")], strict=True):
        table = one.sets[name].layers["last"].counts[kind].sum(0)
        for neuron, pairs in enumerate(found[key]):
            rebuilt = torch.zeros(4, dtype=table.dtype)
            rebuilt[pairs[::2]] = torch.tensor(pairs[1::2], dtype=table.dtype)
            assert torch.equal(rebuilt, table[neuron])
            assert pairs[1::2] == sorted(pairs[1::2], reverse=True)
    both = respond(models[TITLES[1]], images, ON, layers=["first", "last"], top_k=TOP_K)
    assert len(class_counts({REAL: piece_of(both, images, a, TOP_K)})["real"]) == 20  # one layer after the other
