"""The live knobs: the page's numbers are Python's to the last digit shown; a reader turns them by mouse and keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from neuron_consistency.book.knobs import (
    MEASURES,
    SIGMAS,
    Knob,
    counted,
    epsilon_tables,
    neuron_weights,
    sigma_knob,
    steps_knob,
    top_k_tables,
)
from neuron_consistency.consistency.ambiguity import FGSM, REAL, measure_with_controls
from neuron_consistency.consistency.measure import chance, consistency, consistency_row, unbiased_consistency
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.runtime import Runtime
from neuron_consistency.taxonomy import correlation, distance_matrix, resolve

ON = Runtime(torch.device("cpu"))
STATIC = Path(__file__).parents[2] / "book" / "_static"
NAMES = ["Persian cat", "Siamese cat", "wolfhound", "beagle"]
DISTANCES = distance_matrix([resolve(name) for name in NAMES])
IMAGES = torch.tensor([60, 60, 60, 60])
OWN = [6, 3, 1, 0]
EVIL = "<img src=x onerror=alert(1)></script><script>alert(2)</script>\"'&"
OTHERS = torch.tensor([[5, 0, 0, 0], [3, 3, 2, 2], [1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 9, 30]])  # two fire too rarely


def pythons(counts: Tensor, sigma: float, images: Tensor = IMAGES) -> list[float]:
    """V, its chance, U, its chance, as the library gives them: means over neurons."""
    matrix = correlation(DISTANCES, sigma=sigma)
    level = chance(torch.arange(4).repeat_interleave(images), matrix)
    found = (consistency(counts, matrix), level.biased(counts.sum(-1)), unbiased_consistency(counts, matrix))
    return [*(float(values.nanmean()) for values in found), level.unbiased]


def knob(own: list[int] = OWN, title: str = "a layer", names: list[str] = NAMES) -> Knob:
    rows = {title: (OTHERS, IMAGES)}
    return sigma_knob(
        rows, DISTANCES, sigma=2.0, caption=title, of="neuron", digits=4, classes=names if own else [], own=own
    )


def stepped() -> Knob:
    tables = {
        f"{n}/255": pd.DataFrame({"U": [0.0625 * n, float("nan")], "accuracy": [10.25, 90.0]}, index=["true", EVIL])
        for n in (1, 2, 3)
    }
    return steps_knob(
        "epsilon", tables, start="2/255", columns={"U": 3, "accuracy": 1}, bar="U", mark="U", caption="c", of="labels"
    )


def test_two_images_of_two_classes_by_hand() -> None:
    """One image each of two classes at distance 3: V is half the pairs at 0 and half at 3, and U is the one pair."""
    found = neuron_weights(torch.tensor([[1, 1]]), torch.tensor([2, 2]), torch.tensor([[0, 3], [3, 0]]))
    assert found["V"] == [0.5, 0.5]
    assert found["U"] == [0, 1]
    assert found["U by chance"] == pytest.approx([1 / 3, 2 / 3])  # of 12 ordered pairs, 4 are of one class
    assert found["V by chance"] == pytest.approx([1 / 2 + 1 / 6, 1 / 3])


@pytest.mark.parametrize("sigma", [0.5, 1.3, 2.0, 4.0])
def test_the_weights_give_what_the_library_gives(sigma: float) -> None:
    """Neurons that fire too rarely are left out of the means of both, or the page would show another mean."""
    made = knob()
    got = [made.value("a layer", name, f"{sigma:g}") for name in MEASURES]
    assert got == pytest.approx(pythons(OTHERS, sigma), rel=1e-13)


def test_neurons_that_never_fire_are_not_measured() -> None:
    made = sigma_knob({"dead": (OTHERS[2:4], IMAGES)}, DISTANCES, sigma=2.0, caption="c", of="n")
    assert made._repr_html_().count("<td>not measured</td>") == 3  # chance alone is known
    assert "NaN" not in made._repr_html_()


def test_a_sigma_between_the_slider_s_steps_is_where_it_starts() -> None:
    made = sigma_knob({"a": (OTHERS, IMAGES)}, DISTANCES, sigma=1.234, caption="c", of="n")
    assert made.start == "1.234"
    assert sorted(made.positions.values()) == sorted([*SIGMAS, 1.234])


def test_steps_of_k_are_those_of_the_library(trained_toy: Classifier, fresh_images: ImageSet) -> None:
    """The last step takes as many images as the pass kept, and V of two images is never below a half."""
    one = measure_with_controls(trained_toy, fresh_images, ON, epsilon=0.05, top_k=4, controls=False)
    matrix = correlation(DISTANCES, sigma=2.0)
    tables = top_k_tables(one, [(REAL, "true"), (FGSM, "predicted")], matrix, 4)
    assert list(tables) == ["2", "3", "4"]
    for k, table in tables.items():
        counts = one.sets[REAL].top_counts(one.layer, "true", int(k)).sum(0)
        assert table.loc["real, true labels", "V"] == float(consistency(counts, matrix).nanmean())
    assert (tables["2"]["V"] >= 0.5).all()
    assert (tables["2"]["V by chance"] > tables["4"]["V by chance"]).all()


def test_steps_of_epsilon_begin_at_the_real_images(trained_toy: Classifier, fresh_images: ImageSet) -> None:
    """At 0 the attack changes nothing; at a size that fools the toy network accuracy falls."""
    matrix = correlation(DISTANCES, sigma=2.0)
    tables = epsilon_tables(trained_toy, fresh_images, ON, [0.0, 4 / 255, 100 / 255], matrix, top_k=4, quantile=0.005)
    assert list(tables) == ["0/255", "4/255", "100/255"]
    real = measure_with_controls(trained_toy, fresh_images, ON, epsilon=0.05, top_k=4, controls=False)
    counts, _ = counted(real.sets[REAL], real.layer, "true")
    assert tables["0/255"].loc["true labels", "U"] == float(unbiased_consistency(counts, matrix).nanmean())
    assert tables["0/255"]["accuracy, %"].iloc[0] == float(real.right(REAL).mean())
    assert tables["100/255"]["accuracy, %"].iloc[0] < tables["0/255"]["accuracy, %"].iloc[0] - 10


def test_the_counts_of_a_pass_give_its_row_of_the_table(trained_toy: Classifier, fresh_images: ImageSet) -> None:
    """Filed under predicted labels, chance is that of the predictions, or bar and line would not belong together."""
    one = measure_with_controls(trained_toy, fresh_images, ON, epsilon=0.4, top_k=4, controls=False)
    for kind in ("true", "predicted"):
        row = consistency_row(one.sets[FGSM], one.layer, correlation(DISTANCES, sigma=1.5), kind=kind, equal_m=4)
        rows = {"a": counted(one.sets[FGSM], one.layer, kind)}
        made = sigma_knob(rows, DISTANCES, sigma=1.5, caption="c", of="n")
        got = [made.value("a", name, "1.5") for name in MEASURES]
        assert got == pytest.approx([row["V"], row["V chance"], row["U"], row["U chance"]], rel=1e-12)


def test_names_stay_text() -> None:
    """Else the name of a class or a network runs as a script in the reader's browser."""
    told = knob(title=EVIL, names=[EVIL, *NAMES[1:]])._repr_html_() + stepped()._repr_html_()
    assert re.findall(r"<(?:img|script)[^>]*>", told) == ['<script type="application/json">'] * 2
    assert told.count("</script>") == 2


def test_tables_and_counts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ParameterError, match="4 classes"):
        knob(own=[1, 2])
    one = pd.DataFrame({"U": [1.0]}, index=["a"])
    with pytest.raises(ParameterError, match="same rows"):
        steps_knob("k", {"1": one, "2": one.rename({"a": "b"})}, start="1", columns={"U": 1}, bar="U", mark="U",
                   caption="c", of="n")  # fmt: skip


# in a browser


Open = Callable[..., Any]


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Opens a page of knobs; when the test ends, nothing was said on its console and no dialog was seen."""
    said: list[str] = []
    contexts = []

    def open_page(*knobs: Knob, width: int = 1280, **how: Any) -> Any:
        head = f'<meta charset="utf-8"><link rel="stylesheet" href="{(STATIC / "knobs.css").as_uri()}">'
        head += f'<script src="{(STATIC / "knobs.js").as_uri()}"></script><title>knobs</title>'
        body = "".join(one._repr_html_() for one in knobs)
        (tmp_path / "index.html").write_text(f"<!doctype html><html lang=en><head>{head}</head><body>{body}", "utf-8")
        context = browser.new_context(viewport={"width": width, "height": 800}, offline=True, **how)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.goto((tmp_path / "index.html").as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


def numbers(page: Any, row: int, box: int = 0) -> list[str]:
    line = page.locator(".knob").nth(box).locator("tbody tr:not(.knob-bar)").nth(row)
    found: list[str] = line.locator("td").all_inner_texts()
    return found


def turn(page: Any, position: int, box: int = 0) -> None:
    """Sets a slider as a drag of the mouse would."""
    page.locator(".knob").nth(box).locator("input[type=range]").fill(str(position))


def test_the_page_shows_python_s_numbers_for_every_sigma(opened: Open) -> None:
    """A knob that is off by one digit teaches something that the library does not say."""
    page = opened(knob())
    for position, sigma in enumerate(SIGMAS):
        turn(page, position)
        for row, counts in enumerate((torch.tensor([OWN]), OTHERS)):
            assert numbers(page, row) == [f"{value:.4f}" for value in pythons(counts, sigma)], sigma


def test_the_reader_s_neuron_is_measured_as_python_measures_it(opened: Open) -> None:
    page = opened(knob())
    for counts in ([10, 0, 0, 0], [1, 1, 0, 0], [0, 0, 60, 7], [2, 2, 2, 2]):
        for at, count in enumerate(counts):
            page.locator("input[type=number]").nth(at).fill(str(count))
        assert numbers(page, 0) == [f"{value:.4f}" for value in pythons(torch.tensor([counts]), 2.0)]
    for at in range(4):
        page.locator("input[type=number]").nth(at).fill("0")
    assert numbers(page, 0)[:3] == ["not measured"] * 3
    assert numbers(page, 1) == [f"{value:.4f}" for value in pythons(OTHERS, 2.0)]  # the others stay
    page.locator("input[type=number]").first.fill("9999")  # more than the set has
    page.locator("input[type=number]").first.blur()
    assert page.locator("input[type=number]").first.input_value() == "60"
    assert numbers(page, 0) == [f"{value:.4f}" for value in pythons(torch.tensor([[60, 0, 0, 0]]), 2.0)]


def test_the_buttons_count_up_and_down(opened: Open) -> None:
    page = opened(knob())
    page.get_by_role("button", name="one more beagle").click()
    page.get_by_role("button", name="one fewer Persian cat").click()
    assert numbers(page, 0) == [f"{value:.4f}" for value in pythons(torch.tensor([[5, 3, 1, 1]]), 2.0)]
    page.get_by_role("button", name="one fewer beagle").click(click_count=3)
    assert page.get_by_label("images of beagle").input_value() == "0"


def test_the_keyboard_reaches_and_turns_everything(opened: Open) -> None:
    page = opened(knob())
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert numbers(page, 0) == [f"{value:.4f}" for value in pythons(torch.tensor([OWN]), 2.1)]
    assert page.locator("input[type=range]").get_attribute("aria-valuetext") == "sigma = 2.1"
    assert page.locator("output").inner_text().startswith("sigma = 2.1; your neuron: U ")
    for key in ("Tab", "Tab", "Tab", "Enter"):  # fewer, how many, more
        page.keyboard.press(key)
    assert numbers(page, 0) == [f"{value:.4f}" for value in pythons(torch.tensor([[7, 3, 1, 0]]), 2.1)]


def test_steps_are_switched_with_ties_rounded_as_python_rounds(opened: Open) -> None:
    """0.0625 is 0.062 to Python and 0.063 to the browser's toFixed; 10.25 is 10.2 and 10.3."""
    page = opened(knob(own=[]), stepped())
    assert numbers(page, 0, box=1) == ["0.125", "10.2"]
    for position, value in enumerate((0.0625, 0.125, 0.1875)):
        turn(page, position, box=1)
        assert numbers(page, 0, box=1) == [f"{value:.3f}", "10.2"]
        assert numbers(page, 1, box=1) == ["not measured", "90.0"]
    assert "epsilon = 3/255" in page.locator("output").nth(1).inner_text()
    assert numbers(page, 0) == [f"{value:.4f}" for value in pythons(OTHERS, 2.0)]  # the other knob stays


def test_the_bar_and_the_line_of_chance_follow(opened: Open) -> None:
    page = opened(knob(), reduced_motion="reduce")
    for sigma in (1.0, 3.0):
        turn(page, SIGMAS.index(sigma))
        _, _, value, level = pythons(torch.tensor([OWN]), sigma)
        whole, bar, mark = (page.locator(f".knob-{name}").first.bounding_box() for name in ("all", "value", "mark"))
        assert bar["width"] == pytest.approx(value * whole["width"], abs=1)
        assert mark["x"] - whole["x"] == pytest.approx(level * whole["width"], abs=1)


def test_a_page_without_scripts_shows_the_first_state(opened: Open) -> None:
    """In print, and where scripts are off, the numbers are there and no control that does nothing."""
    page = opened(knob(), java_script_enabled=False)
    assert numbers(page, 0) == [f"{value:.4f}" for value in pythons(torch.tensor([OWN]), 2.0)]
    assert page.locator("output").inner_text() == "sigma = 2"
    assert page.locator("input, button").count() == 0


def test_nothing_is_wider_than_a_phone(opened: Open) -> None:
    page = opened(knob(), stepped(), width=390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_markup_in_names_does_nothing_in_the_browser(opened: Open) -> None:
    """What `opened` asserts at its end holds here too: no dialog, no error."""
    page = opened(knob(title=EVIL, names=[EVIL, *NAMES[1:]]), stepped())
    assert page.locator("img").count() == 0
    assert page.locator(".knob-class span").first.inner_text() == EVIL
