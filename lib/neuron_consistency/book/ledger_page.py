"""The ledger as a page shows it: a card a claim that can be filtered, and the cases behind each; see ledger.js."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
from IPython.display import HTML

from neuron_consistency.book.ledger import BUILT, HARDLY, MOSTLY, NULL_TOO, SPLIT, UNMEASURED, WORDS, counted, why_open
from neuron_consistency.book.stamps import CLASS, repository_file
from neuron_consistency.show import number_text
from neuron_consistency.statistics import FAILS, HOLDS, OPEN
from neuron_consistency.workflow.results import Study

Row = Mapping[Any, Any]
PAPERS = {"P1": "P1", "P2": "P2", "P3": "P3", "ours": "our own questions"}
SIGNS = {
    HOLDS: "✓",
    MOSTLY: "✓",
    FAILS: "✗",
    HARDLY: "✗",
    SPLIT: "±",
    OPEN: "?",
    NULL_TOO: "○",
    BUILT: "=",
    UNMEASURED: "·",
}
SORTS = {
    "": "as the papers make them",
    "verdict": "by verdict",
    "p": "by p, the surest first",
    "cases": "by number of cases",
}
ONE = {BUILT: "is true by construction", UNMEASURED: "is not measured"}  # where a verdict is no sentence of one claim
MANY = {  # of several claims
    HOLDS: "hold",
    MOSTLY: "mostly hold",
    SPLIT: "differ by case",
    HARDLY: "mostly fail",
    FAILS: "fail",
    NULL_TOO: "hold for the null too",
    BUILT: "are true by construction",
    UNMEASURED: "are not measured",
}
NULLS = {
    "random weights": "The same, asked of networks with random weights",
    "labels shuffled": "The same, with the labels of other images",
    "ordinary errors": "The same, asked of ordinary errors in place of attacks",
    "permuted weights": "The same, with the weights dealt to other images at random",
}
CASES = [  # what chapters call a part of a case, and how a reader calls it
    (r"normal", "trained normally"),
    (r"consistent(?: \(beta ([\d.]+)\))?", r"trained with the consistent loss (β = \1)"),
    (r"adversarial", "trained adversarially"),
    (r"made on the normal networks", "images made against the normally trained networks"),
    (r"made on the consistently trained", "images made against the consistently trained networks"),
    (r"made on the adversarial", "images made against the adversarially trained networks"),
    (r"own set", "images made against this network itself"),
    (r"FGSM|PGD", r"attacked by \g<0>"),
    (r"ensemble", "attacked by way of several other networks"),
    (r"adaptive", "attacked by one who knows the detector"),
    (r"w = (\d+)", r"weight of the detector \1"),
    (r"1 - max softmax", "against the network's own sureness"),
    (r"Mahalanobis", "against the distance to its classes"),
    (r"mean 1", "weights of mean one"),
    (r"last layer", "its last layer"),
]


WHY = re.compile(r", (?:not comparable|cannot be told): ")


def readable(case: str) -> str:
    """A case in words: "ResNet-18, own set" is "ResNet-18, images made against this network itself"."""
    parts, *why = WHY.split(case, maxsplit=1)
    words = []
    for part in parts.split(", "):
        found = ((re.fullmatch(name, part), said) for name, said in CASES)
        words.append(next((match.expand(said) for match, said in found if match), part))
    words.sort(key=lambda word: word.startswith("images made"))  # the network first
    return ", ".join(words) + "".join(f" (no interval: {reason})" for reason in why)


def shown_number(value: float, unit: str = "") -> str:
    """A number of a claim as text: a share in points, of which one digit stands behind the point, else three."""
    few = unit in ("share", "points", "per cent")
    return number_text(round((100 if unit == "share" else 1) * value, 9) + 0.0, 1 if few else 3)


def unit_word(unit: str) -> str:
    """What stands behind a number that counts in this unit."""
    return "points" if unit == "share" else unit


def with_interval(row: Row, before: str = "") -> str:
    """Such as "-0.128 U (95 %: -0.200 to -0.057)", or that there is no interval, or that nothing was measured.

    Args:
        row: with unit, and value, low, high and perhaps cases, whose names begin with `before`.
    """
    value, low, high = (float(row[before + name]) for name in ("value", "low", "high"))
    if math.isnan(value):
        return "no case has an interval" if row.get(f"{before}cases") else UNMEASURED
    number = f"{shown_number(value, row['unit'])} {unit_word(row['unit'])}"
    if math.isnan(low + high):
        return f"{number} (without an interval)"
    return f"{number} (95 %: {shown_number(low, row['unit'])} to {shown_number(high, row['unit'])})"


def counts_in_words(row: Row) -> str:
    """How the cases of a claim stand: "5 of 6 cases hold, 1 cannot be told"."""
    total, holds, fails = (int(row[name]) for name in ("cases", "holds", "fails"))
    if total == 0:
        return "no study measures it"
    if total == 1:
        return "its one case " + ("holds" if holds else "fails" if fails else "cannot be told")
    parts = [f"{holds or 'none'} of {total} cases hold{'s' * (holds < 2)}"]
    parts += [f"{fails} fail{'s' * (fails == 1)}"] * bool(fails)
    parts += [f"{total - holds - fails} cannot be told"] * (holds + fails < total)
    return ", ".join(parts)


def verdicts_in_words(table: pd.DataFrame) -> str:
    """How many claims of `judged` have each verdict: "10 hold, 1 mostly holds, 3 fail"."""
    counts = [(number, word) for word, number in counted(table).items() if number]
    return ", ".join(f"{number} {(ONE if number == 1 else MANY).get(word, word)}" for number, word in counts)


def ledger_list(table: pd.DataFrame, example: pd.DataFrame | None = None) -> HTML:
    """The claims as a list with filters, which are for those who run scripts; without, all are shown.

    Args:
        table: from `judged`.
        example: the same of a run that is not counted: a claim that only this run measures says so.
    """
    beside = {} if example is None else dict(zip(example["claim"], example["cases"], strict=True))
    items = "".join(_claim(row, bool(beside.get(row["claim"]))) for row in table.to_dict("records"))
    source = f'<a href="{html.escape(repository_file("book/results"))}">the studies that are kept with the book</a>'
    return _html(
        f'<div class="ledger">{_filters(table)}<ul class="ledger-claims">{items}</ul>'
        f'<p class="{CLASS}">From {source}; the cases of a claim name its own.</p></div>'
    )


def case_tables(table: pd.DataFrame, cases: pd.DataFrame, studies: Mapping[str, Study]) -> HTML:
    """A table for each claim that studies measure: its cases, with links to the claim and to what they are taken from.

    Args:
        table: from `judged`.
        cases: from `case_by_case`, with study and table.
    """
    parts = []
    for row in table[table["cases"] > 0].to_dict("records"):
        found = cases[cases["claim"] == row["claim"]].to_dict("records")
        name, says = html.escape(row["claim"]), html.escape(row["says"])
        body = "".join(_case(row, one, studies) for one in found)
        parts.append(
            f'<details class="ledger-cases" id="cases-{name}" data-claim="{name}" open>'
            f"<summary>{says} <span>{html.escape(counts_in_words(row))}</span></summary>"
            f'<figure class="exhibit"><figcaption><a href="#claim-{name}">Back to the claim</a>. What decides: '
            f"{html.escape(row['number'])}; {_line(row)}.</figcaption>"
            f'<div class="scroll" tabindex="0" role="region" aria-label="Cases: {says}"><table><thead><tr>'
            '<th scope="col">network</th><th scope="col" class="num">number</th><th scope="col">verdict</th>'
            f'<th scope="col">study</th></tr></thead><tbody>{body}'
            '</tbody></table></div><div class="below"></div></figure></details>'
        )
    return _html(f'<div class="ledger">{"".join(parts)}</div>')


def example_table(example: pd.DataFrame) -> HTML:
    """What one run of the book found of the claims, folded: an example, not counted."""
    rows = "".join(
        f'<tr><td><a href="#claim-{html.escape(row["claim"])}">{html.escape(row["says"])}</a></td>'
        f"<td>{html.escape(with_interval(row))}</td><td>{html.escape(counts_in_words(row))}</td></tr>"
        for row in example[example["cases"] > 0].to_dict("records")
    )
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("claim", "number", "cases"))
    body = (
        f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>" if rows else "<p>It measured none.</p>"
    )
    return _html(
        '<div class="ledger"><details class="ledger-example"><summary>This build\'s own run</summary>'
        '<figure class="exhibit"><figcaption>What the chapters of this build found. It is not counted.</figcaption>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="This build\'s own run">{body}'
        '</div><div class="below"></div></figure></details></div>'
    )


def badge(verdict: str) -> str:
    """A verdict in HTML, its word and its colour."""
    sign = f'<span aria-hidden="true">{SIGNS[verdict]}</span>'
    return f'<span class="verdict verdict-{_slug(verdict)}">{sign} {verdict}</span>'


def _slug(verdict: str) -> str:
    return verdict.replace(" ", "-")


def _line(row: Row) -> str:
    """Where the number has to lie."""
    scale = 100 if row["unit"] == "share" else 1
    low, high = (f"{scale * row[end]:g}" for end in ("above", "below"))
    if math.isinf(row["above"]):
        return f"the claim holds below {high}"
    return f"the claim holds above {low}" if math.isinf(row["below"]) else f"the claim holds between {low} and {high}"


def _claim(row: Row, example: bool) -> str:
    name, chapter = html.escape(row["claim"]), html.escape(row["chapter"])
    where = f"{'Our own question' if row['paper'] == 'ours' else row['paper']}, {row['place']}"
    data = {"paper": row["paper"], "verdict": _slug(row["verdict"]), "cases": row["cases"]}
    data["p"] = "" if math.isnan(row["p Holm"]) else row["p Holm"]
    told_to_scripts = "".join(f' data-{key}="{html.escape(str(value))}"' for key, value in data.items())
    links = f'<a href="#cases-{name}">cases</a>, ' if row["cases"] else ""
    told = "".join(f"<dt>{head}</dt><dd>{text}</dd>" for head, text in _told(row, example))
    return (
        f'<li id="claim-{name}"{told_to_scripts}><div><h3>{html.escape(row["says"])}</h3>'
        f"<p>{html.escape(where)}</p></div>"
        f"<div>{badge(row['verdict'])}<p>{html.escape(counts_in_words(row))}</p><p>{links}"
        f'<a href="{chapter}.html">chapter {int(row["chapter"][:2])}</a>, '
        f'<a href="#claim-{name}" aria-label="link to this claim">link</a></p></div><dl>{told}</dl></li>'
    )


def _told(row: Row, example: bool) -> Iterator[tuple[str, str]]:
    """What a card says of its claim, each with its head, in HTML."""
    yield "What decides", f"{html.escape(row['number'])}; {_line(row)}."
    yield "Our studies", " ".join(map(html.escape, _studies_say(row, example)))
    if row["theirs"]:
        yield "The paper", html.escape(row["theirs"])
    if row["null"]:
        said = with_interval(row, "null ")
        if row["null cases"]:
            said += "; it passes, too" if row["null passes"] else "; it does not pass"
        yield "The null", html.escape(f"{NULLS.get(row['null'], row['null'])}: {said}.")


def _studies_say(row: Row, example: bool) -> Iterator[str]:
    if not row["cases"]:
        yield "Not measured" + (": only this build's own run does, and it is not counted." if example else ".")
        return
    said = with_interval(row) + ", the mean over the cases" * (row["cases"] > 1)
    yield f"{said[0].upper()}{said[1:]}."
    if row["construction"]:
        yield f"It would hold whatever the networks had learned: {row['construction']}."
    elif not math.isnan(p := row["p Holm"]):
        asked = "That most cases lie so: p" if row["cases"] > 1 else "p"
        yield f"{asked} {f'= {p:.3f}' if p >= 0.001 else 'is below 0.001'}, adjusted for all claims."
    if row["verdict"] == OPEN:
        yield why_open(row)
    if not math.isnan(row["least"]):
        least = f"{shown_number(row['least'], row['unit'])} {unit_word(row['unit'])}"
        yield f"The smallest difference that a typical case could have shown is {least}."


def _case(claim: Row, row: Row, studies: Mapping[str, Study]) -> str:
    null = f" <i>null: {html.escape(row['null'])}</i>" if row["null"] else ""
    folder = f"book/results/{row['study']}"
    links = {
        "record": repository_file(f"{folder}/record.json"),
        "table": repository_file(f"{folder}/{row['table']}.csv"),
        "claim": f"#claim-{claim['claim']}",
    }
    shown = ", ".join(f'<a href="{html.escape(to)}">{name}</a>' for name, to in links.items())
    number = html.escape(with_interval({**row, "unit": claim["unit"]}))
    number = re.sub(r"(\(.*\))", r"<span>\1</span>", number)
    return (
        f'<tr><th scope="row">{html.escape(readable(row["case"]))}{null}</th>'
        f'<td class="num" data-value="{row["value"]}">{number}</td>'
        f"<td>{badge(row['verdict'])}</td><td>{html.escape(studies[row['study']].about)} <span>{shown}</span></td></tr>"
    )


def _filters(table: pd.DataFrame) -> str:
    """Buttons for paper and verdict with how many claims each leaves, an order, and how many are shown."""
    verdicts = {_slug(word): word for word in WORDS if (table["verdict"] == word).any()}
    groups = ""
    for name, values in (("paper", PAPERS), ("verdict", verdicts)):
        buttons = "".join(
            f'<button type="button" data-filter="{name}" data-value="{value}">{word} <b></b></button>'
            for value, word in {"": "all", **values}.items()
        )
        groups += f'<div role="group" aria-label="{name}"><span>{name.capitalize()}</span>{buttons}</div>'
    options = "".join(f'<option value="{value}">{word}</option>' for value, word in SORTS.items())
    return (
        f'<div class="ledger-filters" hidden>{groups}<div><label>Order <select>{options}</select></label>'
        '<output aria-live="polite"></output></div></div>'
    )


def _html(text: str) -> HTML:
    return HTML(text)  # type: ignore[no-untyped-call]
