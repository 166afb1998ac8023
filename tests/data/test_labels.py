"""What classes mean to each other by tables of one's own, against tables worked by hand and WordNet's tree."""

from pathlib import Path

import pytest
import torch

from neuron_consistency import taxonomy
from neuron_consistency.consistency.measure import unbiased_consistency
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.data.labels import class_distances, for_outputs
from neuron_consistency.errors import DatasetError, ParameterError

# A tree by hand: animal over (cat, dog over (pug, corgi)); fish stands beside animal under thing.
TREE = "class,parent\ncat,animal\ndog,animal\npug,dog\ncorgi,dog\nanimal,thing\nfish,thing\n"


def images_of(*classes: str, synsets: tuple[str, ...] | None = None, each: int = 2) -> ImageSet:
    labels = torch.arange(len(classes)).repeat_interleave(each)
    pixels = torch.zeros(len(labels), 3, 8, 8, dtype=torch.uint8)
    return ImageSet("own", "all", classes, synsets or ("",) * len(classes), labels, pixels, "print")


def table(folder: Path, text: str, name: str = "labels.csv") -> Path:
    (folder / name).write_bytes(text.encode())
    return folder / name


def test_wordnet_takes_synsets_then_names_and_names_the_class_that_has_neither() -> None:
    """Else a set without synsets.csv is refused though its folders are called by WordNet's words, or without a cure."""
    images = images_of("whatever", "goldfish", "Egyptian-cat", synsets=("n02123045", "", ""))
    expected = taxonomy.distance_matrix(["n02123045", "n01443537", "n02124075"])
    assert torch.equal(class_distances(images), expected.double())
    with pytest.raises(DatasetError, match=r"for 'my thing'\. .*class,synset.*class,parent.*'flat'"):
        class_distances(images_of("my thing", "goldfish", "blurb"))


def test_flat_classes_are_alike_only_to_themselves() -> None:
    """A is the identity: U is the share of pairs of a neuron's images that have the same class."""
    a = taxonomy.correlation(class_distances(images_of("a", "b", "c"), "flat"))
    assert torch.equal(a, torch.eye(3, dtype=torch.float64))
    assert unbiased_consistency(torch.tensor([3, 2, 0]), a).item() == pytest.approx(4 / 10)  # 3 + 1 of 10 pairs
    with pytest.raises(DatasetError, match="no class of own has two images"):
        class_distances(images_of("a", "b", each=1), "flat")


@pytest.mark.parametrize(
    "text",
    [
        "class,synset\ncat,tabby.n.01\nfish,n01443537\n",
        "\ufeffClass , Synset\r\n cat ,tabby.n.01\r\n\r\nfish, goldfish.n.01\r\n",
        "cat,tabby.n.01\nfish,goldfish\nunicorn,no synset at all\n",
        "cat\ttabby.n.01\nfish\tgoldfish\n",
        "class;synset;remark\ncat;tabby.n.01;stripes\nfish;goldfish;\n",
        "class,synset\ncat,tabby.n.01\nn01443537,\n",
    ],
    ids=["head", "BOM and CRLF", "no head", "tabs", "semicolons", "one lacks"],
)
def test_a_table_of_synsets(tmp_path: Path, text: str) -> None:
    """Else what a spreadsheet writes is read as another class, or a class keeps a synset that the table changes."""
    images = images_of("cat", "fish", synsets=("", "n01443537"))
    found = class_distances(images, table(tmp_path, text))
    assert torch.equal(found, taxonomy.distance_matrix(["n02123045", "n01443537"]).double())


def test_a_tree_by_hand(tmp_path: Path) -> None:
    """Edges over the nearest common ancestor; a class may be above another one, or the root."""
    images = images_of("cat", "pug", "corgi", "fish", "dog", "thing")
    expected = [
        [0, 3, 3, 3, 2, 2],
        [3, 0, 2, 4, 1, 3],
        [3, 2, 0, 4, 1, 3],
        [3, 4, 4, 0, 3, 1],
        [2, 1, 1, 3, 0, 2],
        [2, 3, 3, 1, 2, 0],
    ]
    for text in (TREE, TREE + "thing,\n", TREE.replace(",", "\t").replace("\n", " \r\n")):
        assert class_distances(images, table(tmp_path, text)).tolist() == expected


def test_a_tree_written_from_wordnet_has_wordnets_distances(tmp_path: Path) -> None:
    """The oracle: where each synset has one hypernym the two ways must agree."""
    wnids = [wnid for wnid in taxonomy.class_synsets("imagenet").values() if _alone(wnid)][::12]
    rows: dict[str, str] = {}
    for node in wnids:
        above = node
        while parents := taxonomy.hypernyms(above):
            rows[above], above = parents[0], parents[0]
    text = "class,parent\n" + "".join(f"{node},{parent}\n" for node, parent in rows.items())
    images = images_of(*wnids, synsets=tuple(wnids))
    assert len(wnids) > 20
    assert torch.equal(class_distances(images, table(tmp_path, text)), taxonomy.distance_matrix(wnids).double())


def _alone(wnid: str) -> bool:
    above = taxonomy.hypernyms(wnid)
    return not above or (len(above) == 1 and _alone(above[0]))


def test_a_square_table_in_any_order_with_more_classes(tmp_path: Path) -> None:
    """Else rows are taken in the file's order; WordNet's matrix written out comes back."""
    images = images_of("sea lion", "b", "c", synsets=("n02077923", "", ""))
    text = "x,c,other,sea_lion,b\nb,2.5,9,1,0\nn02077923,0,0,0,0\nc,0,9,4,2.5\nsea_lion,4,9,0,1\n"
    assert class_distances(images, table(tmp_path, text)).tolist() == [[0, 1, 4], [1, 0, 2.5], [4, 2.5, 0]]
    wnids = list(taxonomy.class_synsets("imagenet").values())
    whole = taxonomy.distance_matrix(wnids).tolist()
    lines = [
        ",".join(map(str, row)) for row in [["", *wnids], *([w, *row] for w, row in zip(wnids, whole, strict=True))]
    ]
    images = images_of(*reversed(wnids))
    found = class_distances(images, table(tmp_path, "\n".join(lines)))
    assert torch.equal(found, taxonomy.distance_matrix(wnids[::-1]).double())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class,synset\na,tabby.n.01\na,goldfish\nb,banana\n", r"labels\.csv has these classes more than once: a\."),
        ("class,synset\na,zzzzz\nb,goldfish\n", r"No synset is known for 'a'\. The class 'zzzzz' has no synset"),
        ("a,pet\nb,pet\n", r"gives several classes one synset\. Or are these parents\? Give labels"),
        ("class,parent\na,x\na,y\nb,x\n", r"more than once: a\."),
        ("class,parent\na,x\n", r"labels\.csv lacks 1 of the classes: b\."),
        ("class,parent\na,x\nb,y\n", r"has 2 roots: x, y\. Give all but one a parent"),
        ("class,parent\na,x\nx,y\ny,x\nb,y\n", r"no tree: 'x' is above itself \(a > x > y > x\)"),
        ("class,parent\na,b\nb,b\n", r"'b' is above itself"),
        (",a,b\na,0,1\nb,2,0\n", r"the distance 'a' to 'b', 1, is not the same in both directions"),
        (",a,b\na,0,1\nb,1,3\n", r"'b' to 'b', 3, is not 0"),
        (",a,b\na,0,-1\nb,-1,0\n", r"'a' to 'b', -1, is not a finite number of at least 0"),
        (",a,b\na,0,nan\nb,nan,0\n", r"'a' to 'b', nan, is not a finite"),
        (",a,b\na,0,1e999\nb,inf,0\n", r"'a' to 'b', 1e999, is not a finite"),
        (",a,b\na,0,far\nb,far,0\n", r"'a' to 'b', far, is not a finite"),
        (",a,b,b\na,0,1,1\nb,1,0,1\n", r"more than once: b\."),
        (",a,b\na,0,1\na,0,1\n", r"more than once: a\."),
        (",a,b\na,0\nb,1,0\n", r"the row of 'a' is not as long as the first one"),
        (",a,c\na,0,1\nb,1,0\n", r"lacks 1 of the classes: b\."),
        ("a\nb\n", r"lacks 2 of the classes: a, b\."),
        (" \n\n", r"labels\.csv is empty"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    """Else U comes from a table that means nothing, or pandas ends with a traceback."""
    with pytest.raises(DatasetError, match=message):
        class_distances(images_of("a", "b"), table(tmp_path, text))


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    (tmp_path / "photo.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match=r"photo\.csv is no text in UTF-8"):
        class_distances(images_of("a", "b"), tmp_path / "photo.csv")
    with pytest.raises(DatasetError, match=r"nowhere\.csv cannot be read \(No such file or directory\)\. Give labels"):
        class_distances(images_of("a", "b"), tmp_path / "nowhere.csv")


def test_imagenets_outputs_are_known_for_its_images() -> None:
    """A folder of some of ImageNet's classes, called by wnid or by name, is put in the order of the 1000 logits."""
    images = images_of("tabby", "Egyptian_cat", "goldfish", synsets=("n02123045", "", "n01443537"))
    mapped = for_outputs(images, 1000)
    assert mapped.labels.tolist() == [281, 281, 285, 285, 1, 1]  # as torchvision lists them
    assert (mapped.num_classes, mapped.classes[1], mapped.synsets[285]) == (1000, "goldfish", "n02124075")
    assert mapped.pixels is images.pixels
    assert mapped.fingerprint != images.fingerprint
    assert class_distances(mapped).shape == (1000, 1000)
    assert class_distances(mapped)[281, 285] == taxonomy.distance("n02123045", "n02124075")


def test_outputs_by_a_file(tmp_path: Path) -> None:
    """Else labels stand for other outputs, and every image reads as misclassified."""
    images = images_of("cat", "fish", synsets=("n02123045", ""))
    files = [
        table(tmp_path, "dog\nfish\ncat\n", "classes.txt"),
        table(tmp_path, "class\r\ndog\r\nfish\r\ncat\r\n"),
        table(tmp_path, "class,synset\ndog,corgi\nfish,\nmy tabby,n02123045\n", "table.csv"),
    ]
    found = [for_outputs(images, 3, file) for file in files]
    assert [mapped.labels.tolist() for mapped in found] == [[2, 2, 1, 1]] * 3
    assert [mapped.classes for mapped in found] == [("dog", "fish", "cat")] * 2 + [("dog", "fish", "my tabby")]
    assert [mapped.synsets[2] for mapped in found] == ["n02123045"] * 3
    assert found[2].synsets == ("n02112826", "", "n02123045")
    commas = images_of("tench, Tinca tinca", "b")
    mapped = for_outputs(commas, 2, table(tmp_path, "b\ntench, Tinca tinca\n", "classes.txt"))
    assert mapped.labels.tolist() == [1, 1, 0, 0]
    ten = for_outputs(images_of("frog", "airplane"), 10, "cifar10")
    assert ten.labels.tolist() == [6, 6, 0, 0]
    assert for_outputs(images, 2) is images


@pytest.mark.parametrize(
    ("outputs", "text", "kind", "message"),
    [
        (7, None, ParameterError, r"has 7 outputs, and own has 2 classes\. Say .*--classes"),
        (1000, None, ParameterError, r"has 1000 outputs, and own has 2 classes"),
        (3, "a\nb\n", DatasetError, r"lists 2 classes, and the network has 3 outputs"),
        (3, "a\nc\nd\n", DatasetError, r"lacks 1 of the classes: b\."),
        (3, "a\nb\na\n", DatasetError, r"more than once: a\."),
        (3, "class,synset\na,tabby.n.01\nb,zzzzz\nc,\n", DatasetError, r"'zzzzz' has no synset"),
    ],
)
def test_outputs_that_are_not_told(
    tmp_path: Path, outputs: int, text: str | None, kind: type[Exception], message: str
) -> None:
    classes = None if text is None else table(tmp_path, text)
    with pytest.raises(kind, match=message):
        for_outputs(images_of("a", "b"), outputs, classes)


def test_outputs_by_a_set_that_is_none() -> None:
    with pytest.raises(DatasetError, match=r"No classes are listed for the set 'imagenot'. Known: imagenet, "):
        for_outputs(images_of("a", "b"), 3, "imagenot")
    twins = images_of("tabby", "b", synsets=("n02123045", "n02123045"))
    with pytest.raises(DatasetError, match=r"lacks 1 of the classes: b"):
        for_outputs(twins, 1000, "imagenet")
    with pytest.raises(DatasetError, match=r"By the names of imagenet, own has these classes more than once: goldfish"):
        for_outputs(images_of("goldfish", "gold", synsets=("", "n01443537")), 1000, "imagenet")
