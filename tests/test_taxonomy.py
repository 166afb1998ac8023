"""The tree distances and names of classes: by hand, against nltk's WordNet, and against nltk's recorded distances."""

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from neuron_consistency import taxonomy
from neuron_consistency.data.scenes.render import object_classes
from neuron_consistency.errors import DatasetError, ParameterError
from neuron_consistency.taxonomy import (
    class_synsets,
    correlation,
    distance,
    distance_matrix,
    lemma,
    path,
    resolve,
    synset_name,
)

# sha256 of the int16 matrix of nltk 3.10's shortest_path_distance over all pairs of the sorted 1000 wnids
NLTK_DISTANCES = "b06e217abb6073c3cfd567a000cc19bc243e458d72776d5ebae17a483f62062a"
TABBY, PERSIAN, WOLFHOUND, KITTY = "n02123045", "n02123394", "n02090475", "n02122298"


@pytest.fixture
def nltk_wordnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """nltk's WordNet, from its own data or from a WordNet 3.0 installed on the system; else the test is skipped."""
    nltk = pytest.importorskip("nltk")
    taxonomy._nltk.cache_clear()
    try:
        nltk.data.find("corpora/wordnet")
    except LookupError:
        folder = Path(os.environ.get("WNSEARCHDIR", "/usr/share/wordnet"))
        if not (folder / "data.noun").is_file():
            pytest.skip("WordNet's data is not installed (nltk.download('wordnet'), or Debian's wordnet-base)")
        layout = tmp_path / "corpora" / "wordnet"
        shutil.copytree(folder, layout)
        (layout / "lexnames").write_text("".join(f"{i:02d}\tname{i}\t1\n" for i in range(45)))
        reader = pytest.importorskip("nltk.corpus.reader.wordnet").WordNetCorpusReader
        monkeypatch.setattr(reader, "map_wn", lambda *_, **__: None, raising=False)
        monkeypatch.setattr(nltk.data, "path", [str(tmp_path), *nltk.data.path])
    yield nltk.corpus.wordnet
    for cached in (taxonomy._nltk, taxonomy._synset, taxonomy._ancestors):
        cached.cache_clear()


def test_four_animals_by_hand() -> None:
    """Siblings are 2 apart; a Persian cat and a wolfhound meet at the domestic animal, 2 and 4 edges up."""
    by_hand = [[0, 2, 6, 2], [2, 0, 6, 2], [6, 6, 0, 6], [2, 2, 6, 0]]
    wnids = [TABBY, PERSIAN, WOLFHOUND, KITTY]
    assert distance_matrix(wnids).tolist() == by_hand
    assert [[distance(a, b) for b in wnids] for a in wnids] == by_hand


def test_path_is_a_chain_of_hypernyms_of_the_right_length() -> None:
    steps = [synset_name(wnid) for wnid in path(PERSIAN, WOLFHOUND)]
    assert steps == [
        "persian_cat.n.01",
        "domestic_cat.n.01",
        "domestic_animal.n.01",
        "dog.n.01",
        "hunting_dog.n.01",
        "hound.n.01",
        "wolfhound.n.01",
    ]
    assert path(TABBY, TABBY) == [TABBY]
    assert path(TABBY, "n02121808") == [TABBY, "n02121808"]


def test_a_thousand_classes_equal_nltk_and_take_under_a_second() -> None:
    """Every one of the 499,500 pairs, by the digest of the matrix that nltk gave."""
    wnids = sorted(class_synsets("imagenet"))
    taxonomy._ancestors.cache_clear()
    started = time.process_time()
    matrix = distance_matrix(wnids)
    assert time.process_time() - started < 1
    assert hashlib.sha256(matrix.numpy().astype("<i2").tobytes()).hexdigest() == NLTK_DISTANCES


def test_nltk_agrees_on_distances_and_names(nltk_wordnet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It serves what the table lacks: a class of each must be as far apart as two of one."""
    wnids = sorted(set(class_synsets("imagenet").values()) | set(class_synsets("cub200").values()))[::12]
    names = ("Persian cat", "kitty-cat", "tabby.n.01", TABBY)
    matrix, found = distance_matrix(wnids), [resolve(name) for name in names]
    titles = [synset_name(wnid) for wnid in wnids]
    assert resolve("aardvark") == "n02082791"  # not in the table
    nodes = [nltk_wordnet.synset_from_pos_and_offset("n", int(wnid[1:])) for wnid in wnids[:8]]
    assert matrix[0, :8].tolist() == [nodes[0].shortest_path_distance(node) for node in nodes]
    monkeypatch.setattr(taxonomy, "_backends", lambda: [taxonomy._nltk()])
    for cached in (taxonomy._synset, taxonomy._ancestors):
        cached.cache_clear()
    assert torch.equal(distance_matrix(wnids), matrix)
    assert [resolve(name) for name in names] == found
    assert [synset_name(wnid) for wnid in wnids] == titles


def test_repeated_classes_are_at_distance_zero() -> None:
    """Two birds without a synset of their own share their ancestor's."""
    birds = class_synsets("cub200")
    pair = [birds["002.Laysan_Albatross"], birds["003.Sooty_Albatross"]]
    assert distance_matrix(pair).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("dataset", "classes"),
    [
        ("imagenet", 1000),
        ("tiny-imagenet", 200),
        ("cub200", 200),
        ("cifar10", 10),
        ("stl10", 10),
        ("voc", 20),
        ("imagenet9", 9),
    ],
)
def test_known_sets_are_whole_and_in_the_table(dataset: str, classes: int) -> None:
    synsets = class_synsets(dataset)
    assert len(synsets) == classes
    assert set(synsets.values()) <= taxonomy._bundled().synsets.keys()


def test_rendered_classes_are_in_the_table() -> None:
    """A class added to the scenes needs its row in classes.tsv, and the table made anew."""
    table = object_classes()
    assert class_synsets("scenes") == dict(zip(table["name"], table["wnid"], strict=True))


def test_names_resolve() -> None:
    assert resolve(TABBY) == resolve("tabby.n.01") == resolve("tabby cat") == resolve("Tabby-Cat") == TABBY
    assert (synset_name(TABBY), lemma(PERSIAN)) == ("tabby.n.01", "Persian cat")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("labrador retreiver", "labrador_retriever.n.01"),  # misspelt: the closest candidate is named
        ("crane", "crane.n.05"),  # a bird and a machine: never picked silently
        ("mouse", "several senses"),  # one sense is in the table, but WordNet has more
        ("n99999999", "not a noun synset"),
        ("cat.n.77", "no synset"),
    ],
)
def test_unresolvable_class_is_named_with_candidates(name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taxonomy, "_nltk", lambda: None)
    with pytest.raises(DatasetError, match=name) as error:
        resolve(name)
    assert message in str(error.value)


def test_unknown_set_lists_the_known_ones() -> None:
    with pytest.raises(DatasetError, match="imagenet"):
        class_synsets("mnist")


def test_correlation_is_equation_2() -> None:
    distances = torch.tensor([[0, 2], [2, 0]], dtype=torch.int16)
    expected = torch.tensor([[1.0, 0.6065306597126334], [0.6065306597126334, 1.0]], dtype=torch.float64)
    assert torch.allclose(correlation(distances, sigma=2.0), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), float("inf")])
def test_sigma_must_be_positive(sigma: float) -> None:
    with pytest.raises(ParameterError, match="sigma"):
        correlation(torch.zeros(2, 2), sigma=sigma)


def test_licence_travels_with_the_table() -> None:
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in taxonomy.TABLE_FILE.read_text()
