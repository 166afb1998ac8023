"""Write the bundled table of WordNet: `python tools/make_wordnet.py DICT_FOLDER`.

DICT_FOLDER is the database folder of WordNet 3.0 (`data.noun`, `index.noun`). Debian's package has it:
`apt-get download wordnet-base && dpkg -x wordnet-base_*.deb . ` leaves it in `usr/share/wordnet`.

The table holds the synsets named in `data/classes.tsv` and everything above them. A lemma that has other noun
senses in WordNet ends in `*`, so that a name is never taken for the one sense that happens to be in the table.
"""

import argparse
from pathlib import Path

from neuron_consistency.taxonomy import CLASSES_FILE, TABLE_FILE, normalise


def make_table(folder: Path, wnids: list[str]) -> str:
    """The text of the table: WordNet's licence as a comment, then the hypernym closure of `wnids`.

    Raises:
        FileNotFoundError: `folder` lacks WordNet's `data.noun` or `index.noun`.
        KeyError: a wnid is not a noun of this WordNet.
    """
    licence, nouns = [], {}
    for line in (folder / "data.noun").read_text(encoding="utf8").splitlines():
        if line.startswith("  "):
            licence.append(f"# {line.split(maxsplit=1)[1] if len(line.split()) > 1 else ''}".rstrip())
        else:
            nouns["n" + line[:8]] = line.split(" | ")[0].split()
    offsets: dict[str, list[str]] = {}
    senses: dict[str, set[str]] = {}
    for line in (folder / "index.noun").read_text(encoding="utf8").splitlines():
        if not line.startswith("  "):
            fields = line.split()
            offsets[fields[0]] = fields[-int(fields[2]) :]
            senses.setdefault(normalise(fields[0]), set()).update(offsets[fields[0]])

    def row(wnid: str) -> tuple[list[str], str]:
        fields = nouns[wnid]
        end = 4 + 2 * int(fields[3], 16)
        lemmas, pointers = fields[4:end:2], fields[end + 1 :]
        above = ["n" + pointers[i + 1] for i in range(0, len(pointers), 4) if pointers[i] in ("@", "@i")]
        first = lemmas[0].lower()
        name = f"{first}.n.{offsets[first].index(wnid[1:]) + 1:02d}"
        marked = "|".join(word + "*" * (len(senses[normalise(word)]) > 1) for word in lemmas)
        return above, f"{wnid}\t{name}\t{marked}\t{'|'.join(above)}"

    rows: dict[str, str] = {}
    waiting = list(wnids)
    while waiting:
        wnid = waiting.pop()
        if wnid not in rows:
            above, rows[wnid] = row(wnid)
            waiting += above
    head = ["# A part of WordNet 3.0 (nouns), as make_wordnet.py of this package extracts it.", *licence]
    return "\n".join([*head, "wnid\tname\tlemmas\thypernyms", *(rows[wnid] for wnid in sorted(rows))]) + "\n"


def main() -> None:
    """Command line: write the table into the package."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="WordNet 3.0's database folder (holds data.noun)")
    lines = CLASSES_FILE.read_text(encoding="utf8").splitlines()
    wnids = [line.split("\t")[2] for line in lines if not line.startswith(("#", "set\t"))]
    text = make_table(parser.parse_args().folder, wnids)
    TABLE_FILE.write_text(text, encoding="utf8")
    print(f"{TABLE_FILE}: {len(text.splitlines())} lines")


if __name__ == "__main__":
    main()
