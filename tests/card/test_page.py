"""The page of a card: its data, its safety, and what a reader does with it in a browser that has no network."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

from neuron_consistency.card.page import write_page
from neuron_consistency.card.pictures import Strongest
from neuron_consistency.data.load import load_images
from neuron_consistency.errors import ParameterError

EVIL = "<img src=x onerror=alert(1)>.png"
BREAKOUT = "</title></script></style><script>alert(2)</script> &lt; \u2028 \udcff"
SIZES = {"conv <1>": 7, "layer4.1": 60}  # neurons of each layer
MINUS = "\N{MINUS SIGN}"
WIDER = """[...document.querySelectorAll("main *")].filter(
    (node) => node.getBoundingClientRect().right > innerWidth + 1 && !node.closest(".scroll")
).map((node) => node.outerHTML.slice(0, 80))"""
CLASSES = ["tabby", "Persian cat", "teapot"]
WAYS = [
    ["entity", "animal", "cat", "tabby"],
    ["entity", "animal", "cat", "Persian cat"],
    ["entity", "vessel", "teapot"],
]
COUNTED = {
    "real": [0, 12, 1, 6, 2, 2],
    "FGSM": [2, 7, 0, 3],
    "FGSM predicted": [0, 10],
}  # of every neuron of a small card
LEFT = "f0" * 8  # the region that is the left half of an image


def made_up(seed: int = 0, images: int = 12, name: str = "scene_{}.jpg") -> dict[str, Any]:
    """The arguments of `write_page` for a small card; the first neuron of the last layer never fires."""
    rng, total = np.random.default_rng(seed), sum(SIZES.values())
    u = rng.random(total)
    neurons = pd.DataFrame({"layer": np.repeat(list(SIZES), list(SIZES.values()))})
    neurons["neuron"] = np.concatenate([np.arange(count) for count in SIZES.values()])
    numbers: dict[str, Any] = {
        "m": 20,
        "V": u,
        "V chance": 0.2,
        "U": u,
        "U low": u - 0.05,
        "U high": u + 0.05,
        "U chance": 0.1,
    }
    numbers |= {"U predicted": u - 0.01, "m FGSM": rng.integers(0, 40, total), "U FGSM": rng.random(total)}
    numbers |= {"U FGSM predicted": rng.random(total), "m noise": 18, "U noise": u / 2, "U noise predicted": u / 3}
    neurons = neurons.assign(**numbers)
    dead = SIZES["conv <1>"]
    neurons.loc[dead, [name for name in numbers if name.startswith(("U", "V"))]] = np.nan
    neurons["classes"] = [f"{CLASSES[i % 3]} {i}; teapot 1" for i in range(total)]
    tops = {name: torch.from_numpy(rng.integers(0, images, (total, 6))) for name in ("real", "FGSM")}
    tops["real"][dead] = -1
    names = [name.format(i) for i in range(images)]
    neurons["top images"] = ["; ".join(names[i] for i in row if i >= 0) for row in tops["real"].tolist()]
    values = dict.fromkeys(("U", "V", "V top", "U top"), 0.5) | {"images": images, "m": 20.25, "excluded": 0.125}
    values |= {"U low": 0.45, "U high": 0.55, "U chance": 0.1, "V low": 0.45, "V high": 0.55, "V chance": 0.1}
    layers = [
        {"layer": layer, "set": kind, "labels": labels} | values
        for layer in SIZES
        for kind in ("real", "FGSM", "sign noise, same size")
        for labels in ("true", "predicted")
    ]
    accuracy = {"set": ["real", "FGSM"], "images": images, "accuracy": [91.25, 8.5], "low": [88.0, 6.0]}
    shades = torch.arange(images)[:, None, None, None] * 20 * torch.ones(1, 3, 16, 16)
    captions = {i: (names[i], CLASSES[i % 3], CLASSES[i % 2]) for i in range(images)}
    return {
        "title": "A toy network", "facts": [("network", "toy"), ("images", str(images))], "neurons": neurons,
        "accuracy": pd.DataFrame(accuracy | {"high": [94.0, 11.0]}), "layers": pd.DataFrame(layers),
        "pictures": [
            {
                name: Strongest(top, dict(enumerate(shades.to(torch.uint8))), captions, [LEFT * 6] * total)
                for name, top in tops.items()
            }
        ],
        "counts": {name: [pairs] * total for name, pairs in COUNTED.items()}, "classes": WAYS,
        "reading": "U is above chance.",
    }  # fmt: skip


def changed(card: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A card with other fields of its strongest images, of both sets."""
    return card | {"pictures": [{name: replace(own, **fields) for name, own in card["pictures"][0].items()}]}


def hostile() -> dict[str, Any]:
    """The same with markup in every text that comes from outside."""
    card = made_up(name=EVIL)
    card |= {"title": BREAKOUT, "facts": [(EVIL, BREAKOUT)], "reading": EVIL + BREAKOUT}
    card["neurons"] = card["neurons"].assign(classes=EVIL)
    for table in (card["neurons"], card["layers"]):
        table["layer"] = table["layer"].replace("layer4.1", f"{EVIL}/'\"")
    card |= {"classes": [[EVIL, f"{EVIL} {i}"] for i in range(3)], "group": EVIL, "back": (f'"{EVIL}', EVIL)}
    return changed(
        card, captions={i: (EVIL, EVIL, BREAKOUT) for i in range(12)}, regions=[EVIL * 6] * sum(SIZES.values())
    )


class Tags(HTMLParser):
    """The elements of a page, and the text inside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self.policy = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs)
        if dict(attrs).get("http-equiv") == "Content-Security-Policy":
            self.policy = str(dict(attrs)["content"])

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] in self.inside and data.strip():
            self.inside[self.tags[-1]].append(data)


def data_of(page: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="neuron-card-data">(.*?)</script>', page.read_text("utf-8"))
    assert found
    parsed: dict[str, Any] = json.loads(found[1])
    return parsed


def test_the_page_holds_the_tables_to_all_digits(tmp_path: Path) -> None:
    """Else a reader who copies a number from the page has another than neurons.csv."""
    card = made_up()
    write_page(tmp_path / "index.html", **card)
    data = data_of(tmp_path / "index.html")
    for name in ("neurons", "layers", "accuracy"):
        pd.testing.assert_frame_equal(pd.DataFrame(data[name]), card[name], check_exact=True, check_dtype=False)
    assert data["neurons"]["U"][SIZES["conv <1>"]] is None
    tops = card["pictures"][0]["FGSM"].tops.tolist()
    files = [[data["pictures"][place][1] for place in row] for row in data["tops"]["FGSM"]]
    assert files == [[f"scene_{i}.jpg" for i in row] for row in tops]
    assert data["counts"]["real"] == card["counts"]["real"]


def test_markup_in_names_stays_text(tmp_path: Path) -> None:
    """Else an image's name runs as a script in the browser of whoever opens the card."""
    write_page(tmp_path / "good.html", **made_up(), back=("index.html", "Back"))
    write_page(tmp_path / "bad.html", **hostile())
    good, bad = (Tags((tmp_path / name).read_text("utf-8")) for name in ("good.html", "bad.html"))
    assert bad.tags == good.tags
    assert "img" not in bad.tags
    assert data_of(tmp_path / "bad.html")["title"] == BREAKOUT


def test_the_policy_lets_in_its_own_script_and_style_alone(tmp_path: Path) -> None:
    """A script that came in all the same would be refused by the browser; a wrong hash would refuse the page's own."""
    write_page(tmp_path / "index.html", **made_up())
    page = Tags((tmp_path / "index.html").read_text("utf-8"))
    assert page.policy.startswith("default-src 'none'")
    for kind in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(page.inside[kind][-1].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in page.policy
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", (tmp_path / "index.html").read_text("utf-8"))


def test_every_thumbnail_in_use_is_drawn_once_at_its_place(tmp_path: Path) -> None:
    """A place that is off by one would show another image than the caption names."""
    card = made_up(images=70)
    shades = {i: torch.full((3, 16, 16), 3 * i, dtype=torch.uint8) for i in range(1, 70)}
    card["pictures"][0]["real"] = replace(card["pictures"][0]["real"], thumbnails=shades)
    card["pictures"][0]["FGSM"] = replace(card["pictures"][0]["FGSM"], thumbnails={})
    write_page(tmp_path / "index.html", **card)
    text, data = (tmp_path / "index.html").read_text("utf-8"), data_of(tmp_path / "index.html")
    (sheet,) = re.findall(r"base64,([^\"]+)", text)
    drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet))))
    pictures = {
        name: {data["pictures"][i][1]: data["pictures"][i][0] for row in rows for i in row if i >= 0}
        for name, rows in data["tops"].items()
    }
    places = {name: place for name, place in pictures["real"].items() if place is not None}
    assert sorted(places.values()) == list(range(len(places)))
    assert set(pictures["real"]) == {
        f"scene_{i}.jpg" for i in card["pictures"][0]["real"].tops.unique().tolist() if i >= 0
    }
    for name, place in places.items():
        line, column = divmod(place, 32)
        tile = drawn[16 * line : 16 * line + 16, 16 * column : 16 * column + 16]
        assert abs(tile.mean() - 3 * int(name[6:-4])) < 3
    assert set(pictures["FGSM"].values()) == {None}


def test_the_same_thumbnail_is_carried_once(tmp_path: Path) -> None:
    """Else an atlas of six networks carries every real image six times."""
    card = made_up()
    alone = [
        len(set(part[name].tops.unique().tolist()) - {-1}) for part in card["pictures"] for name in ("real", "FGSM")
    ]
    write_page(tmp_path / "index.html", **card)
    pictures = data_of(tmp_path / "index.html")["pictures"]
    assert len(pictures) == sum(alone)
    assert {told[0] for told in pictures} == set(range(12))  # both sets have the same twelve


def test_a_card_of_512_neurons_and_1000_images_is_small(tmp_path: Path) -> None:
    """A page of many megabytes cannot be mailed, and opens slowly on a phone."""
    pixels = load_images("scenes", "val", image_size=64, per_class=36).pixels
    assert isinstance(pixels, Tensor)
    card, images = made_up(images=1000), dict(enumerate(pixels[:1000]))
    card["neurons"] = pd.concat([card["neurons"]] * 8).iloc[:512]
    card["counts"] = {name: [pairs] * 512 for name, pairs in COUNTED.items()}
    attacked = {i: (tile * 0.9).to(torch.uint8) for i, tile in images.items()}
    for name, shown in (("real", images), ("FGSM", attacked)):
        own = replace(card["pictures"][0][name], thumbnails=shown, regions=[LEFT * 6] * 512)
        card["pictures"][0][name] = replace(own, tops=torch.randint(0, 1000, (512, 6)))
    write_page(tmp_path / "index.html", **card)
    assert (tmp_path / "index.html").stat().st_size < 5_000_000


@pytest.mark.parametrize(("field", "says"), [("tops", "one row"), ("thumbnails", "one size"), ("counts", "one row")])
def test_pictures_that_do_not_fit_are_refused(tmp_path: Path, field: str, says: str) -> None:
    card = made_up()
    if field == "counts":
        card["counts"]["real"] = card["counts"]["real"][1:]
    elif field == "tops":
        card = changed(card, tops=card["pictures"][0]["real"].tops[:-1])
    else:
        card = changed(card, thumbnails={0: torch.zeros(3, 8, 8), 1: torch.zeros(3, 9, 9)})
    with pytest.raises(ParameterError, match=says):
        write_page(tmp_path / "index.html", **card)
    assert not (tmp_path / "index.html").exists()


# in a browser


Open = Callable[..., Any]


@pytest.fixture
def opened(visit: Callable[..., Any], tmp_path: Path) -> Open:
    """Writes a card and opens it, see `visit`."""

    def open_card(card: dict[str, Any], **how: Any) -> Any:
        write_page(tmp_path / "index.html", **card)
        return visit(tmp_path / "index.html", **how)

    return open_card


def part(page: Any, name: str) -> Any:
    return page.locator(f'[data-part="{name}"]')


def listed(page: Any) -> list[str]:
    """The neurons in view, in order."""
    titles: list[str] = page.locator(".cards h3").all_text_contents()
    return titles


def ranked(neurons: pd.DataFrame, keys: pd.Series[Any], ascending: bool = False) -> list[str]:
    """What the first page of a list must show."""
    rows = neurons.loc[keys.sort_values(ascending=ascending, na_position="last", kind="stable").index[:24]]
    return [f"{layer}/{neuron}" for layer, neuron in zip(rows["layer"], rows["neuron"], strict=True)]


def test_neurons_are_sorted_by_any_number(opened: Open) -> None:
    card = made_up()
    page, last = opened(card), card["neurons"][card["neurons"]["layer"] == "layer4.1"]
    assert listed(page) == ranked(last, last["U"])
    part(page, "direction").click()
    assert listed(page) == ranked(last, last["U"], ascending=True)
    part(page, "sort").select_option(f"U {MINUS} U FGSM")
    assert listed(page) == ranked(last, last["U"] - last["U FGSM"], ascending=True)
    part(page, "layer").select_option("")
    part(page, "sort").select_option("m FGSM")
    assert listed(page) == ranked(card["neurons"], card["neurons"]["m FGSM"], ascending=True)


def test_what_has_no_value_comes_last_and_says_so(opened: Open) -> None:
    page = opened(made_up())
    for _ in range(2):
        part(page, "next").click()
        part(page, "next").click()
        assert listed(page)[-1] == "layer4.1/0"
        assert "not measured" in page.locator(".cards li").last.inner_text()
        assert "none: it does not fire" in page.locator(".cards li").last.inner_text()
        part(page, "direction").click()
    assert "nan" not in page.locator("main").inner_text().lower()


def test_neurons_are_found_by_layer_class_image_and_number(opened: Open) -> None:
    card = made_up()
    page, neurons = opened(card), card["neurons"]
    page.locator("button.layer", has_text="conv <1>").click()
    assert len(listed(page)) == 7
    assert part(page, "layer").input_value() == "conv <1>"
    assert "conv <1>" in part(page, "spread-of").inner_text()
    page.locator("button.layer", has_text="conv <1>").click()
    assert part(page, "status").inner_text() == "1 to 24 of 67 neurons"
    part(page, "search").fill("PERSIAN cat")
    assert f"of {neurons['classes'].str.contains('Persian').sum()} neurons" in part(page, "status").inner_text()
    part(page, "search").fill("scene_7.jpg")
    assert f"of {neurons['top images'].str.contains('scene_7.jpg').sum()} neurons" in part(page, "status").inner_text()
    part(page, "search").fill("5")
    assert sorted(listed(page)) == ["conv <1>/5", "layer4.1/5"]
    part(page, "search").fill("no such thing")
    assert part(page, "status").inner_text() == "No neuron fits."


def test_a_neuron_opens_by_keyboard_with_all_its_numbers(opened: Open) -> None:
    card = made_up()
    page, neurons = opened(card), card["neurons"]
    page.locator(".cards a").first.focus()
    page.keyboard.press("Enter")
    dialog = part(page, "dialog")
    dialog.wait_for(state="visible")
    name = ranked(neurons[neurons["layer"] == "layer4.1"], neurons["U"][neurons["layer"] == "layer4.1"])[0]
    row = neurons[neurons["neuron"] == int(name.split("/")[1])].iloc[-1]
    text = dialog.inner_text()
    assert name in text
    numbers = [column for column in neurons if column.startswith(("U", "V"))]
    assert [column for column in numbers if f"{row[column]:.4f}".replace("-", MINUS) not in text] == []
    assert dialog.locator("figure").count() == 12
    assert "predicted: " in text
    part(page, "after").click()
    assert name not in dialog.locator("h2").inner_text()
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    assert "#" not in page.url


@pytest.mark.parametrize("name", ["layer4.1/37", "conv <1>/3"])
def test_a_link_opens_its_neuron(opened: Open, name: str) -> None:
    page = opened(made_up(), link="#" + name.replace(" ", "%20").replace("<", "%3C").replace(">", "%3E"))
    assert part(page, "dialog").locator("h2").inner_text() == name
    assert name.split("/")[0] == part(page, "layer").input_value()


def test_a_link_to_no_neuron_says_so(opened: Open) -> None:
    page = opened(made_up(), link="#layer9/%E0%A4%A")
    assert not part(page, "dialog").is_visible()
    assert "There is no neuron" in part(page, "status").inner_text()


def test_another_set_and_kind_of_label_is_compared(opened: Open) -> None:
    """The set's columns may have a short name; one that is not found would read as not measured."""
    page = opened(made_up())
    part(page, "compare").select_option("sign noise, same size")
    part(page, "labels").select_option("predicted")
    spread, first = part(page, "spread").inner_text(), page.locator(".cards li").first.inner_text()
    assert "sign noise, same size: 59 of 60 neurons measured" in spread
    assert "not measured" not in spread + first
    assert page.locator(".layers title").first.text_content().count("chance 0.1000") == 4


def test_a_card_without_an_attack_shows_the_real_images_alone(opened: Open) -> None:
    card = made_up()
    card["layers"] = card["layers"][card["layers"]["set"] == "real"]
    card["neurons"] = card["neurons"].drop(
        columns=[name for name in card["neurons"] if "FGSM" in name or "noise" in name]
    )
    card["pictures"] = [{"real": card["pictures"][0]["real"]}]
    card["counts"] = {"real": card["counts"]["real"]}
    page = opened(card)
    assert not part(page, "compare-label").is_visible()
    assert len(listed(page)) == 24


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone(opened: Open, scheme: str) -> None:
    card = made_up()
    for table in (card["neurons"], card["layers"]):
        table["layer"] = table["layer"].replace("layer4.1", "features.denseblock4.denselayer16.norm2.activation")
    page = opened(card, width=390, scheme=scheme)
    page.locator("summary").nth(1).click()
    assert page.evaluate(WIDER) == []
    page.locator(".cards a").first.click()
    part(page, "dialog").wait_for(state="visible")
    assert page.evaluate(WIDER) == []
    light = page.evaluate("parseInt(getComputedStyle(document.body).backgroundColor.match(/\\d+/)?.[0] ?? 255)") > 128
    assert light == (scheme == "light")


def test_markup_does_nothing_in_the_browser(opened: Open) -> None:
    """What `opened` asserts at its end holds here too: no alert, no request, no error."""
    page = opened(hostile())
    assert page.locator("main img").count() == 0
    assert page.locator(".region").count() == 0  # of regions that are none
    assert page.locator(".cards figure").count() > 0
    page.locator(".cards a").nth(3).click()
    part(page, "dialog").wait_for(state="visible")
    assert EVIL in part(page, "dialog").inner_text()
    assert page.evaluate("document.title").startswith("</title></script>")


def test_a_region_is_bright_and_the_rest_is_dimmed(opened: Open) -> None:
    """Else what is shown as the neuron's is the other half of the image."""
    page = opened(made_up())
    path = page.locator(".region path").first
    box, thumb = path.bounding_box(), page.locator(".thumb").first.bounding_box()
    assert box["x"] - thumb["x"] == pytest.approx(thumb["width"] / 2, abs=0.5)
    assert box["width"] == pytest.approx(thumb["width"] / 2, abs=0.5)
    assert box["height"] == pytest.approx(thumb["height"], abs=0.5)
    part(page, "regions").uncheck()
    assert not path.is_visible()


def test_the_classes_stand_on_the_tree_with_the_sums_of_what_is_below(opened: Open) -> None:
    page = opened(made_up(), link="#layer4.1/5")
    rows = [row.inner_text().split("\t") for row in page.locator(".tree tbody tr").all()]
    assert rows == [
        ["entity", "20", "10", "10"],
        ["cat", "18", "3", "10"],  # nothing branches at animal
        ["tabby", "12", "3", "10"],
        ["Persian cat", "6", "", ""],
        ["teapot", "2", "7", ""],
    ]
    depths = page.locator(".tree tbody th").evaluate_all("ths => ths.map((th) => th.style.getPropertyValue('--depth'))")
    assert depths == ["0", "1", "2", "2", "1"]


def test_neurons_are_filtered_by_what_they_are_above_and_by_class(opened: Open) -> None:
    card = made_up()
    last = card["neurons"][card["neurons"]["layer"] == "layer4.1"].reset_index(drop=True)
    card["neurons"]["concept"] = ["none"] * 57 + ["grass (object)"] * 10
    card["counts"]["real"] = [[i % 3, 5, (i + 1) % 3, 2] for i in range(67)]
    page = opened(card)
    above = (last["U low"] > last["U chance"]).sum()
    for name, count in {
        "interval of U above chance": above,
        "interval of U not above chance": 59 - above,
        "U not measured": 1,
        "with a concept": 10,
        "all neurons": 60,
    }.items():
        part(page, "filter").select_option(name)
        assert part(page, "status").inner_text().endswith(f" of {count} neurons")
    part(page, "class").select_option("Persian cat")
    assert part(page, "status").inner_text().endswith(f" of {sum(i % 3 == 1 for i in range(7, 67))} neurons")
    page.goto(page.url.split("#")[0] + "#layer4.1/2")  # which the filter hides
    assert part(page, "dialog").locator("h2").inner_text() == "layer4.1/2"


def test_two_layers_side_by_side_are_paired_by_rank(opened: Open) -> None:
    """Else a reader takes neurons for the same because they stand beside each other."""
    card = made_up() | {"group": "network", "opened": ["layer4.1", "conv <1>"]}
    page, neurons = opened(card), card["neurons"]
    ranks = {layer: ranked(rows, rows["U"]) for layer, rows in neurons.groupby("layer")}
    left, right = ([name.replace("/", ": neuron ") for name in ranks[layer]] for layer in ("layer4.1", "conv <1>"))
    assert listed(page) == [name for pair in zip(left[:7], right, strict=True) for name in pair] + left[7:12]
    assert part(page, "status").inner_text() == "1 to 12 of 60 and 7 neurons"
    assert "not the same neuron" in part(page, "beside-note").inner_text()
    one, other = (page.locator(".cards li").nth(i).bounding_box() for i in (0, 1))
    assert one["y"] == other["y"]
    assert one["x"] < other["x"]
    page.locator(".cards a").nth(1).focus()
    page.keyboard.press("Enter")
    part(page, "after").click()  # goes on in its own list
    assert part(page, "dialog").locator("h2").inner_text() == right[1]
    page.keyboard.press("Escape")
    part(page, "beside").focus()
    page.keyboard.press("Home")  # nothing
    assert part(page, "status").inner_text() == "1 to 24 of 60 neurons"
    assert not part(page, "beside-note").is_visible()


def test_side_by_side_fits_on_a_phone(opened: Open) -> None:
    page = opened(made_up() | {"opened": ["layer4.1", "conv <1>"]}, width=390, scheme="dark")
    assert page.evaluate(WIDER) == []
    page.locator(".cards a").nth(1).click()
    assert page.evaluate(WIDER) == []


def test_the_books_choice_of_dark_is_followed(opened: Open) -> None:
    """Else a reader who has set the book to dark comes to a white page."""
    page = opened(made_up())
    page.evaluate("localStorage.setItem('theme', 'dark')")
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 28)"
    page.evaluate("localStorage.clear()")


def test_the_way_back_leads_back(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "book index.html").write_text("the book")
    page = opened(made_up() | {"back": ("book index.html", "Back to the book")})
    page.get_by_text("Back to the book").click()
    assert page.inner_text("body") == "the book"
