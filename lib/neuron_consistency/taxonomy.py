"""Class names, their places in WordNet's noun tree, and the correlation matrix A made from tree distances (P1's Eq. 2).

Synsets go by their WordNet 3.0 noun ids ("n02123045"), as in ImageNet. A bundled table holds every class this project
knows by name and all that is above it; nltk's WordNet, where its data is installed, serves what the table lacks.
"""

import difflib
import functools
import importlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuron_consistency.errors import DatasetError, require

TABLE_FILE = Path(__file__).parent / "wordnet.tsv"
COMPARED = 60  # letters of a name that others are held against, and that an error shows
CLASSES_FILE = Path(__file__).parent / "classes.tsv"


def _rows(path: Path) -> Iterator[list[str]]:
    """The rows of a table of the package, without comments and head."""
    lines = (line for line in path.read_text(encoding="utf8").splitlines() if not line.startswith("#"))
    next(lines)
    return (line.split("\t") for line in lines)


@dataclass(frozen=True, slots=True)
class Synset:
    """One noun synset: its names, which of its lemmas have this sense alone, and what is directly above it."""

    wnid: str
    name: str
    lemmas: tuple[str, ...]
    unambiguous: frozenset[str]
    hypernyms: tuple[str, ...]


def normalise(name: str) -> str:
    """Spelling by which names are compared: lower case, with spaces and hyphens as underscores."""
    return re.sub(r"[\s_-]+", "_", name.strip().lower())


def resolve(name: str) -> str:
    """The wnid that a class name stands for: a wnid, a synset name ("tabby.n.01") or a lemma of one sense alone.

    Args:
        name: a lemma may be written with spaces, hyphens or underscores, in any case.

    Raises:
        DatasetError: there is no such synset, or several; the message names the closest candidates.
    """
    cure = "Name the synset by its wnid (n02123045) or its name (tabby.n.01)."
    if re.fullmatch(r"n\d{8}", name):
        return _synset(name).wnid
    for backend in _backends():
        found = backend.find(name)
        if len(found) == 1 and (name in (found[0].wnid, found[0].name) or normalise(name) in found[0].unambiguous):
            return found[0].wnid
        if found:
            senses = ", ".join(f"{s.name} ({s.wnid}: {', '.join(s.lemmas)})" for s in found)
            raise DatasetError(f"The class {name!r} has several senses in WordNet, among them {senses}. {cure}")
    spellings = _bundled().spellings
    asked = normalise(name[:COMPARED])
    close = [spellings[key] for key in difflib.get_close_matches(asked, spellings, n=4, cutoff=0.55)]
    near = ", ".join(f"{s.name} ({s.wnid})" for s in dict.fromkeys(s for group in close for s in group))
    raise DatasetError(f"The class {name[:COMPARED]!r} has no synset in WordNet 3.0. Closest: {near or 'none'}. {cure}")


def synset_name(wnid: str) -> str:
    """WordNet's name of a synset, as nltk writes it: "tabby.n.01". Raises: DatasetError for an unknown wnid."""
    return _synset(wnid).name


def lemma(wnid: str) -> str:
    """The first lemma of a synset, with spaces: "Persian cat". Raises: DatasetError for an unknown wnid."""
    return _synset(wnid).lemmas[0].replace("_", " ")


def hypernyms(wnid: str) -> tuple[str, ...]:
    """The wnids directly above a synset; WordNet's tree is a graph, so some have two. Raises: DatasetError."""
    return _synset(wnid).hypernyms


@functools.cache
def class_synsets(dataset: str) -> dict[str, str]:
    """Class name to wnid for a set whose classes are known: imagenet, tiny-imagenet, imagenette, cifar10, stl10,
    voc, cub200, scenes. Where WordNet lacks a bird of cub200, `classes.tsv` says so and names its ancestor.

    Raises:
        DatasetError: no such set.
    """
    rows = list(_rows(CLASSES_FILE))
    chosen = {name: wnid for owner, name, wnid, _ in rows if owner == dataset}
    if not chosen:
        known = ", ".join(dict.fromkeys(row[0] for row in rows))
        raise DatasetError(f"No classes are listed for the set {dataset!r}. Known: {known}.")
    return chosen


def distance(a: str, b: str) -> int:
    """Edges on the shortest way from `a` up to a common hypernym and down to `b` (both wnids).

    Equals nltk's `shortest_path_distance` on WordNet 3.0. Source: the tree distance d of P1's Eq. 2.

    Raises:
        DatasetError: an unknown wnid.
    """
    return len(path(a, b)) - 1


def path(a: str, b: str) -> list[str]:
    """The wnids on one shortest way from `a` to `b`, both ends included; ties go to the smallest wnid at the top.

    Raises:
        DatasetError: an unknown wnid, or no common hypernym.
    """
    up, down = _ancestors(a), _ancestors(b)
    common = up.keys() & down.keys()
    if not common:
        raise DatasetError(f"{a} and {b} have no common hypernym in WordNet.")
    top = min(common, key=lambda wnid: (up[wnid] + down[wnid], wnid))
    return [*_climb(a, top, up), *reversed(_climb(b, top, down)[:-1])]


def distance_matrix(wnids: Sequence[str]) -> Tensor:
    """All distances among classes at once, a thousand of them in some hundredths of a second.

    In the order of the tree the classes below an ancestor stand side by side, but for the few synsets with two
    hypernyms. So each ancestor lowers one slice of the matrix to the outer sum of the steps up to it.

    Shape:
        returns (K, K) int16, symmetric, zero on the diagonal; entry (i, j) is `distance(wnids[i], wnids[j])`.

    Raises:
        DatasetError: an unknown wnid, or two classes without a common hypernym.
    """
    above = [_ancestors(wnid) for wnid in wnids]
    order = sorted(range(len(wnids)), key=[list(steps)[::-1] for steps in above].__getitem__)
    below: dict[str, dict[int, int]] = {}
    for place, index in enumerate(order):
        for ancestor, steps in above[index].items():
            below.setdefault(ancestor, {})[place] = steps
    unreached = 10_000  # twice this is still an int16's
    matrix = np.full((len(wnids), len(wnids)), unreached, dtype=np.int16)
    np.fill_diagonal(matrix, 0)
    for of_ancestor in below.values():
        if len(of_ancestor) > 1:
            places = np.fromiter(of_ancestor, np.intp)
            first, last = places[0], places[-1] + 1
            up = np.full(last - first, unreached, dtype=np.int16)
            up[places - first] = np.fromiter(of_ancestor.values(), np.int16)
            block = matrix[first:last, first:last]
            np.minimum(block, up[:, None] + up[None, :], out=block)
    places = np.argsort(order)
    matrix = matrix[np.ix_(places, places)]
    if (matrix >= unreached).any():
        i, j = np.argwhere(matrix >= unreached)[0]
        raise DatasetError(f"{wnids[i]} and {wnids[j]} have no common hypernym in WordNet.")
    return torch.from_numpy(matrix)


def correlation(distances: Tensor, *, sigma: float = 2.0) -> Tensor:
    """P1's Eq. 2: a_ij = exp(-d_ij^2 / (2 sigma^2)).

    Shape:
        distances: (K, K), in edges of the tree; infinite ones give 0. Returns (K, K) float64 in [0, 1], ones on the
        diagonal.

    Raises:
        ParameterError: sigma is not a positive number.
    """
    require(0, above=True, sigma=sigma)
    return torch.exp(-distances.to(torch.float64).square() / (2 * sigma**2))


class _Bundled:
    """The table in the package."""

    def __init__(self) -> None:
        self.synsets: dict[str, Synset] = {}
        self.spellings: dict[str, list[Synset]] = {}
        for wnid, name, words, above in _rows(TABLE_FILE):
            marked = words.split("|")
            lemmas = tuple(word.removesuffix("*") for word in marked)
            alone = frozenset(normalise(word) for word in marked if not word.endswith("*"))
            self.synsets[wnid] = synset = Synset(wnid, name, lemmas, alone, tuple(filter(None, above.split("|"))))
            for key in {name, *map(normalise, lemmas)}:
                self.spellings.setdefault(key, []).append(synset)

    def get(self, wnid: str) -> Synset | None:
        return self.synsets.get(wnid)

    def find(self, name: str) -> list[Synset]:
        return self.spellings.get(name) or self.spellings.get(normalise(name), [])


class _Nltk:
    """nltk's WordNet 3.0, asked synset by synset."""

    def __init__(self) -> None:
        self.wordnet: Any = importlib.import_module("nltk.corpus").wordnet
        self.spellings: dict[str, list[str]] = {}
        for word in self.wordnet.all_lemma_names("n"):
            self.spellings.setdefault(normalise(word), []).append(word)

    def _senses(self, key: str) -> list[Any]:
        """nltk also finds what a word is an inflection of; only the word itself counts here."""
        nodes = (node for word in self.spellings.get(key, []) for node in self.wordnet.synsets(word, "n"))
        return [node for node in dict.fromkeys(nodes) if key in map(normalise, node.lemma_names())]

    def _convert(self, node: Any) -> Synset:
        words = tuple(node.lemma_names())
        alone = frozenset(key for key in map(normalise, words) if len(self._senses(key)) == 1)
        above = (*node.hypernyms(), *node.instance_hypernyms())
        return Synset(_wnid(node), node.name(), words, alone, tuple(_wnid(parent) for parent in above))

    def get(self, wnid: str) -> Synset | None:
        try:
            return self._convert(self.wordnet.synset_from_pos_and_offset("n", int(wnid[1:])))
        except Exception:  # nltk raises several kinds, also bare ones, for an offset where no synset starts
            return None

    def find(self, name: str) -> list[Synset]:
        if re.fullmatch(r".+\.n\.\d+", name):
            try:
                return [self._convert(self.wordnet.synset(name))]
            except Exception:  # as above: WordNetError, ValueError or KeyError by version
                return []
        return [self._convert(node) for node in self._senses(normalise(name))]


def _wnid(node: Any) -> str:
    return f"n{node.offset():08d}"


@functools.cache
def _bundled() -> _Bundled:
    return _Bundled()


@functools.cache
def _nltk() -> _Nltk | None:
    """None where nltk or its WordNet is not installed."""
    try:
        return _Nltk()
    except (ImportError, LookupError):
        return None


def _backends() -> Iterator[_Bundled | _Nltk]:
    """Where to look, in order; nltk, slow to import, only once it is asked for."""
    yield _bundled()
    if (other := _nltk()) is not None:
        yield other


@functools.cache
def _synset(wnid: str) -> Synset:
    known = next((synset for backend in _backends() if (synset := backend.get(wnid))), None)
    if known is None:
        raise DatasetError(
            f"{wnid!r} is not a noun synset of WordNet 3.0 that can be looked up here. Is it a wnid (n02123045)? "
            "The bundled table holds the classes of the known sets; install nltk's WordNet for all others "
            "(python -m nltk.downloader wordnet)."
        )
    return known


@functools.cache
def _ancestors(wnid: str) -> dict[str, int]:
    """Everything above a synset, itself included, with the fewest edges to it (breadth first)."""
    steps = {wnid: 0}
    level = [wnid]
    while level:
        above = dict.fromkeys(parent for child in level for parent in _synset(child).hypernyms)
        depth = steps[level[0]] + 1
        level = [parent for parent in above if parent not in steps]
        steps.update(dict.fromkeys(level, depth))
    return steps


def _climb(start: str, top: str, up: dict[str, int]) -> list[str]:
    """A shortest chain of hypernyms from `start` to `top`, found downwards by distance from `start`."""
    chain = [top]
    while chain[-1] != start:
        nearer = (wnid for wnid, steps in up.items() if steps == up[chain[-1]] - 1)
        chain.append(min(wnid for wnid in nearer if chain[-1] in _synset(wnid).hypernyms))
    return chain[::-1]
