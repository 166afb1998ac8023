"""What we found, in sentences with the numbers of today's ledger, for a page and for the README.

`python -m neuron_consistency.book.found` writes the README's part and the figure in it anew.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from neuron_consistency.artifacts import atomic_path, repository_root
from neuron_consistency.book.exhibits import Exhibit
from neuron_consistency.book.found_figure import SAID, TRUE, alt_text, found_figure, what_is_left
from neuron_consistency.book.kept import Kept
from neuron_consistency.book.ledger import HARDLY, MOSTLY, NULL, NULL_TOO, SPLIT, counted, judged
from neuron_consistency.statistics import FAILS, HOLDS, OPEN
from neuron_consistency.workflow.claims import read_claims
from neuron_consistency.workflow.parameters import read_list

STATES = {HOLDS: "yes", MOSTLY: "yes", FAILS: "no", HARDLY: "no", OPEN: "open", SPLIT: "open", NULL_TOO: "null"}
README, PICTURE = Path("README.md"), Path("book/_static/found.png")
BEGIN = "<!-- what we found, written by python -m neuron_consistency.book.found -->"
END = "<!-- end of what we found -->"
VERDICT = re.compile("\x02(.*?)\x03(.*?)\x03")  # a claim and its verdict, in a text that is no markup yet


@dataclass(frozen=True)
class Headline:
    """What some claims say together, an entry of `notebooks/found.yaml`, which explains the fields."""

    name: str
    place: str
    claims: list[str]
    said: list[dict[str, Any]]


@dataclass(frozen=True)
class Number:
    """A claim's number as a sentence has it, "0.031 (0.024 to 0.037, holds, 8 of 8 cases)"; made of its ledger row.

    Two cases have no mean worth an interval: they stand as they are, "0.05 and 0.30 (holds, 2 of 2 cases)".
    """

    row: Mapping[str, Any]
    each: tuple[Mapping[Any, Any], ...] = ()

    def __str__(self) -> str:
        return f"{self.bare} ({self.mark})" if len(self.each) == 2 else self.bare[:-1] + f", {self.mark})"

    @property
    def bare(self) -> str:
        """Without the verdict."""
        if math.isnan(self.row["value"]):
            return "not measured"
        if len(self.each) == 2:
            return " and ".join(Number({**self.row, **case}).digits("value") for case in self.each) + self.unit
        return f"{self.digits('value')}{self.unit} ({self.digits('low')} to {self.digits('high')})"

    @property
    def unit(self) -> str:
        """What stands after the number, if there is one and it counts in something."""
        counted_in = self.row["unit"] in ("share", "points") and not math.isnan(self.row["value"])
        return " points" if counted_in else ""

    @property
    def down(self) -> Number:
        """With the other sign, for "falls by"."""
        row, *each = ({**row, **_turned(row)} for row in (self.row, *self.each))
        return Number(row, tuple(each))

    @property
    def mark(self) -> str:
        """The verdict, and of how many cases it is."""
        row = self.row
        word = f"\x02{row['claim']}\x03{row['verdict']}\x03"
        if STATES.get(row["verdict"]) not in ("yes", "no", "open"):
            return word
        alike = row["fails" if STATES[row["verdict"]] == "no" else "holds"]
        return f"{word}, {alike} of {row['cases']} cases" if row["cases"] > 1 else f"{word}, one case"

    def digits(self, name: str) -> str:
        """A number of the row, with two digits of half its interval. A share is given in points of a hundred."""
        if math.isnan(self.row[name]):
            return "not measured"
        scale = 100 if self.row["unit"] == "share" else 1
        half = scale * (self.row["least"] if len(self.each) == 2 else (self.row["high"] - self.row["low"]) / 2)
        decimals = max(0, 1 - math.floor(math.log10(half))) if half > 0 else 3
        return f"{round(scale * self.row[name], decimals) + 0.0:.{decimals}f}"


def _turned(row: Mapping[Any, Any]) -> dict[str, float]:
    return {"value": -row["value"], "low": -row["high"], "high": -row["low"]}


class Found:
    """Today's ledger in words.

    Attributes:
        findings: of the kept studies, which the ledger judges.
        ledger: from `judged`, by claim.
        left: from `what_is_left`, the table of the figure.
    """

    def __init__(self, kept: Kept) -> None:
        self.findings = findings = kept.findings()
        self.ledger = judged(read_claims(), findings).set_index("claim", drop=False)
        self.left = what_is_left(kept, findings)
        self.headlines = read_list("found.yaml", Headline)
        rows: list[dict[Any, Any]] = self.ledger.to_dict("records")
        cases = findings[findings["case"].str.extract(NULL, expand=False).isna()][["claim", "value", "low", "high"]]
        each = {claim: tuple(of.to_dict("records")) for claim, of in cases.groupby("claim")}
        self.numbers: dict[str, Any] = {row["claim"]: Number(row, each.get(row["claim"], ())) for row in rows}
        self.numbers |= {"flips": weight_of_flips(kept), "gone": fall_gone(self.left)}

    def words(self, headline: Headline) -> tuple[str, str] | None:
        """Title and text of a headline for the verdicts of today; None where no words are written for them."""
        states = [STATES.get(self.numbers[name].row["verdict"], "") for name in headline.claims]
        for said in headline.said:
            if all(state in fit.split("|") for state, fit in zip(states, said["where"], strict=True)):
                return said["title"], said["text"].format_map(self.numbers)
        return None

    def place(self, place: str) -> list[tuple[Headline, str, str]]:
        """The headlines of a place with title and text.

        Where verdicts have no words, the claims and their numbers are given plainly; of what is `unknown`, nothing.
        """
        told = []
        for headline in self.headlines.values():
            words = self.words(headline)
            if headline.place == place and (words or place != "unknown"):
                told.append((headline, *(words or self._plainly(headline))))
        return told

    def _plainly(self, headline: Headline) -> tuple[str, str]:
        numbers = [self.numbers[name] for name in headline.claims]
        return "", " ".join(f"{number.row['says']} {number}." for number in numbers)

    def html(self, place: str) -> Exhibit:
        """A place as the page shows it; each verdict leads to its claim in the ledger, each end to the chapter.

        Below stands where the numbers are from.
        """
        told, items = self.place(place), []
        tag, around = ("p", "div") if place == "answer" else ("li", "ol")
        for headline, title, text in told:
            line = f"<strong>{html.escape(title)}</strong> {VERDICT.sub(_to_ledger, html.escape(text))}"
            chapter = str(self.numbers[headline.claims[0]].row["chapter"])
            more = f'<a href="{chapter}.html">Chapter {int(chapter[:2])}</a>.'
            items.append(f'<{tag} id="found-{headline.name}">{line} {more}</{tag}>')
        texts = (f"{title} " + VERDICT.sub(r"\2", text) for _, title, text in told)
        claims = {name for headline, _, _ in told for name in headline.claims}
        studies = self.findings.loc[self.findings["claim"].isin(claims), "study"].nunique()
        source = f'The numbers of the <a href="14_claims.html">ledger</a>, from {studies} kept studies.'
        shown = f'<{around} class="found">\n{"".join(items)}\n</{around}>\n<p class="provenance">{source}</p>'
        return Exhibit(shown, "\n".join(texts))

    def markdown(self, place: str) -> str:
        """A place as the README shows it."""
        lines = [f"**{title}** " + VERDICT.sub(r"*\2*", text) for _, title, text in self.place(place)]
        return lines[0] if place == "answer" else "\n".join(f"{n}. {line}" for n, line in enumerate(lines, 1))

    def counts(self) -> str:
        """How many claims of the ledger have each verdict, in words."""
        told = []
        for word, number in counted(self.ledger).items():
            verb = {"by construction": "are true ", "not measured": "are "}.get(word, "")
            said = verb + (word if number == 1 else re.sub(r"\b(hold|fail|differ)s\b", r"\1", word))
            told += [f"{number} {said}"] * (number > 0)
        return f"Of {len(self.ledger)} claims and questions, {', '.join(told[:-1])} and {told[-1]}."

    def evidence(self, claims: Sequence[str]) -> pd.DataFrame:
        """How sure some claims are: verdict, cases, number and the least difference that could have been seen."""
        rows, numbers = self.ledger.loc[list(claims)], [self.numbers[name] for name in claims]
        return pd.DataFrame(
            {
                "question": rows["says"],
                "verdict": rows["verdict"],
                "cases": rows["cases"],
                "hold": rows["holds"],
                "fail": rows["fails"],
                "number": [number.bare for number in numbers],
                "could be seen": [number.digits("least") + number.unit for number in numbers],
            }
        ).set_index("question")

    def readme(self) -> str:
        """The README's part between BEGIN and END, with both."""
        parts = [
            BEGIN,
            self.markdown("answer"),
            f'<img align="right" width="400" src="{PICTURE}" alt="{html.escape(alt_text(self.left))}">',
            self.markdown("found"),
            self.counts(),
            END,
        ]
        return "\n\n".join(parts)


def weight_of_flips(kept: Kept) -> pd.Series[Any]:
    """The share of all weight that P3 gives to images whose prediction changes, as sentences have it.

    The weight of such an image is one. Networks whose weights are divided by their mean do not tell what it was.
    """
    names = [name for name in kept.named("explanation-") if kept.studies[name].evidence]
    rows = kept.table(names, "consistency")
    rows = rows[(rows["mean weight"] < 0.999) & (rows["quantile"] == rows["quantile"].iloc[0])]
    shares = (100 * rows["flipped"] / rows["mean weight"]).groupby(rows["study"]).mean()
    when = " of an earlier version of the library" if {*shares.index} & {*kept.outdated()} else ""
    ends = {"low": f"{shares.min():.0f}", "high": f"{shares.max():.0f}"}
    return pd.Series({"studies": f"{len(shares)}", "when": when} | ends)


def fall_gone(left: pd.DataFrame) -> pd.Series[Any]:
    """In how many networks more than half of the fall is gone where images are sorted by what the network says."""
    lost = 100 - left.pivot(index="network", columns="what", values="left")
    most = lost[SAID] < lost[TRUE] / 2
    others = "; ".join(map(str, most.index[~most]))
    exception = f" Not so in {others}: there more than half stays." if others else ""
    return pd.Series({"networks": len(lost), "most": int(most.sum()), "exception": exception})


def _to_ledger(found: re.Match[str]) -> str:
    return f'<a href="14_claims.html#claim-{found[1]}"><b>{found[2]}</b></a>'


def write_readme() -> None:
    """Writes the README's part and its figure for today's results."""
    found, root = Found(Kept.read()), repository_root()
    text = (root / README).read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    with atomic_path(root / README) as part:
        part.write_text(before + found.readme() + rest.partition(END)[2], "utf-8")
    with atomic_path(root / PICTURE) as part:
        told = {"Description": alt_text(found.left), "Software": None}
        found_figure(found.left).savefig(part, format="png", dpi=110, bbox_inches="tight", metadata=told)


if __name__ == "__main__":
    write_readme()
