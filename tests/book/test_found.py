"""What we found: each sentence says what today's ledger says, and the README says the same."""

import html
import re
import string

import pandas as pd
import pytest
from PIL import Image

from neuron_consistency.book.found import BEGIN, END, PICTURE, README, VERDICT, Found, Headline, Number, fall_gone
from neuron_consistency.book.found_figure import ERRORS, MARKS, SAID, TRUE, alt_text, found_figure, what_is_left
from neuron_consistency.book.kept import Kept
from neuron_consistency.workflow.claims import read_claims
from neuron_consistency.workflow.parameters import read_list
from neuron_consistency.workflow.results import Result
from smoke import ROOT

HEADLINES = read_list("found.yaml", Headline)
ROW = {"claim": "one", "verdict": "holds", "cases": 8, "holds": 7, "fails": 1, "unit": "U"}
AGAIN = "call `python -m neuron_consistency.book.found`"


@pytest.fixture(scope="module")
def found() -> Found:
    return Found(Kept.read())


def words(text: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>|\*", "", text)).split())


# the sentences of this book


@pytest.mark.parametrize("name", [name for name, one in HEADLINES.items() if one.place != "unknown"])
def test_words_are_written_for_the_verdicts_of_today(name: str, found: Found) -> None:
    """A study that turns a verdict must not leave a sentence that says otherwise: write it anew in found.yaml."""
    headline = HEADLINES[name]
    today = {claim: found.numbers[claim].row["verdict"] for claim in headline.claims}
    assert found.words(headline) is not None, today


@pytest.mark.parametrize("name", HEADLINES)
def test_a_sentence_names_known_claims_and_gives_numbers_of_its_own_claims_alone(name: str) -> None:
    """A verdict that a sentence rests on is one that it is chosen by."""
    headline = HEADLINES[name]
    assert headline.place in ("answer", "found", "unknown")
    assert set(headline.claims) <= read_claims().keys()
    for said in headline.said:
        states = {state for fit in said["where"] for state in fit.split("|")}
        assert states <= {"yes", "no", "open", "null"}, states
        assert len(said["where"]) == len(headline.claims)
        fields = {field.partition(".")[0] for _, field, _, _ in string.Formatter().parse(said["text"]) if field}
        assert fields <= {*headline.claims, "flips", "gone"}


def test_what_the_titles_say_of_most_networks_and_of_most_weight_is_so(found: Found) -> None:
    """These two are not the ledger's: "most of that is the network changing its mind", "the weights mostly say"."""
    gone, flips = found.numbers["gone"], found.numbers["flips"]
    assert gone["most"] > gone["networks"] / 2
    assert int(flips["low"]) > 50
    fall, stays = (abs(found.numbers[name].row["value"]) for name in HEADLINES["answer"].claims[:2])
    assert stays < fall / 2


def test_the_readme_says_what_the_page_says(found: Found) -> None:
    text = (ROOT / README).read_text("utf-8")
    told = text[text.index(BEGIN) : text.index(END) + len(END)]
    assert told == found.readme(), AGAIN
    assert found.counts() in told
    for place in ("answer", "found"):
        assert words(found.html(place).text) == words(re.sub(r"^\d+\. ", "", found.markdown(place), flags=re.M))


def test_the_picture_in_the_readme_is_of_todays_numbers(found: Found) -> None:
    with Image.open(ROOT / PICTURE) as picture:
        assert picture.info["Description"] == alt_text(found.left), AGAIN
    assert (ROOT / PICTURE).stat().st_size < 150_000


def test_each_verdict_leads_to_its_claim_and_each_sentence_to_its_chapter(found: Found) -> None:
    page = found.html("found").html
    claims = set(re.findall(r'href="14_claims\.html#claim-([\w-]+)"', page))
    assert claims >= {claim for one in HEADLINES.values() if one.place == "found" for claim in one.claims[:1]}
    assert len(re.findall(r'<a href="\d\d_\w+\.html">Chapter \d+</a>', page)) == page.count("<li ")


# the parts, on numbers known beforehand


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, "-0.128 (-0.200 to -0.057, holds, 7 of 8 cases)"),
        ({"unit": "share"}, "-12.8 points (-20.0 to -5.7, holds, 7 of 8 cases)"),
        ({"verdict": "mostly fails"}, "-0.128 (-0.200 to -0.057, mostly fails, 1 of 8 cases)"),
        ({"verdict": "cannot be told", "cases": 1}, "-0.128 (-0.200 to -0.057, cannot be told, one case)"),
        ({"verdict": "holds for the null too"}, "-0.128 (-0.200 to -0.057, holds for the null too)"),
        ({"value": -0.0004, "low": -0.03, "high": 0.0292}, "0.000 (-0.030 to 0.029, holds, 7 of 8 cases)"),
        ({"value": 5.0, "low": 5.0, "high": 5.0}, "5.000 (5.000 to 5.000, holds, 7 of 8 cases)"),
    ],
)
def test_a_number_has_the_digits_its_interval_tells_and_its_verdict(more: dict[str, object], expected: str) -> None:
    number = Number({**ROW, "value": -0.1284, "low": -0.1998, "high": -0.0571, **more})
    assert VERDICT.sub(r"\2", str(number)) == expected


def test_two_cases_stand_as_they_are() -> None:
    """The mean of two networks that differ has an interval of thirty times its size, beside a verdict that holds."""
    each = ({"value": -0.052, "low": -0.073, "high": -0.03}, {"value": -0.3049, "low": -0.36, "high": -0.25})
    row = ROW | {"cases": 2, "holds": 2, "fails": 0, "value": -0.18, "low": -1.8, "high": 1.4, "least": 0.0402}
    number = Number(row, each)
    assert VERDICT.sub(r"\2", str(number)) == "-0.052 and -0.305 (holds, 2 of 2 cases)"
    assert number.down.bare == "0.052 and 0.305"
    assert number.digits("least") == "0.040"


def test_what_was_not_measured_has_no_number() -> None:
    gap = float("nan")
    number = Number(ROW | {"cases": 0, "unit": "share", "value": gap, "low": gap, "high": gap, "least": gap})
    assert (number.bare, number.digits("least") + number.unit) == ("not measured", "not measured")


def test_a_fall_has_its_interval_turned_round() -> None:
    number = Number({**ROW, "value": -0.1284, "low": -0.1998, "high": -0.0571})
    assert number.down.bare == "0.128 (0.057 to 0.200)"


def test_a_verdict_without_words_is_told_plainly_and_the_unknown_only_while_it_is(found: Found) -> None:
    """Else a page built before the sentence is rewritten would say the opposite of the ledger."""
    turned = Found.__new__(Found)
    rows = {name: found.numbers[name].row for name in found.ledger.index}
    numbers = {name: Number({**row, "verdict": "fails"}) for name, row in rows.items()}
    turned.__dict__ |= vars(found) | {"numbers": found.numbers | numbers}
    title, text = {one.name: (title, text) for one, title, text in turned.place("found")}["related"]
    assert title == ""
    assert text.startswith(read_claims()["related-by-training"].says)
    assert found.place("unknown")
    assert turned.place("unknown") == []


def kept_of(u: dict[tuple[str, str], float], seeds: int = 1) -> tuple[Kept, pd.DataFrame]:
    """A study with one network: U by set and kind of label, chance .1, interval .02 to each side."""
    rows = [
        {"model": f"{kind}, seed {seed}", "set": images, "labels": labels, "U": value, "U chance": 0.1}
        | {"U low": value - 0.02, "U high": value + 0.02}
        for (images, labels), value in u.items()
        for kind, shift in (("AlexNet, normal", 0), ("AlexNet, consistent (beta 1)", 9))
        for seed in range(seeds)
        for value in (value + shift,)
    ]
    accuracy = pd.DataFrame(
        {"model": ["AlexNet, normal, seed 0"] * 2, "images": ["clean", "FGSM"], "accuracy": [77, 3.0]}
    )
    tables = {"consistency": pd.DataFrame(rows), "accuracy": accuracy}
    record = {"parameters": {"profile": "tiny-imagenet-40"}, "versions": {}}
    case = f"AlexNet, normal, {seeds} seeds" if seeds > 1 else "AlexNet, normal, seed 0"
    findings = pd.DataFrame({"claim": ["less-consistent-under-attack"], "case": [case], "study": ["some"]})
    return Kept({}, {"some": Result(tables, record)}), findings


U = {
    ("real", "true"): 0.5,
    ("FGSM", "true"): 0.2,
    ("real", "predicted"): 0.6,
    ("FGSM", "predicted"): 0.55,
    ("real, misclassified", "predicted"): 0.35,
}


@pytest.mark.parametrize("seeds", [1, 3])
def test_what_is_left_is_above_chance_and_of_real_images_under_the_same_labels(seeds: int) -> None:
    """By hand: .1 of .4 is a quarter, .45 of .5 nine tenths, .25 of .5 half; the interval is .02 of these."""
    left = what_is_left(*kept_of(U, seeds))
    assert left["what"].to_list() == [TRUE, SAID, ERRORS]
    assert left["left"].to_list() == pytest.approx([25, 90, 50])
    assert set(left["network"]) == {"AlexNet, 40 classes"}
    assert set(left["accuracy"]) == {77}
    if seeds == 1:
        assert (left["high"] - left["left"]).to_list() == pytest.approx([5, 4, 4])
    assert fall_gone(left).to_dict() == {"networks": 1, "most": 1, "exception": ""}  # 10 is less than half of 75
    gone = fall_gone(left.assign(left=[40, 69, 50]))
    assert (gone["networks"], gone["most"]) == (1, 0)
    assert "Not so in AlexNet, 40 classes" in gone["exception"]  # or a reader takes the sentence to be of all
    assert "25 (" in alt_text(left)


def test_the_figure_shows_each_number_of_its_table_with_its_interval() -> None:
    left = what_is_left(*kept_of(U))
    axis = found_figure(left).axes[0]
    shown = {bars.get_label(): bars for bars in axis.containers}
    assert list(shown) == list(MARKS)
    for row in left.to_dict("records"):
        mark, _, (bar,) = shown[row["what"]].lines  # type: ignore[attr-defined]
        assert mark.get_xdata() == pytest.approx([row["left"]])
        assert bar.get_segments()[0][:, 0] == pytest.approx([row["low"], row["high"]])
