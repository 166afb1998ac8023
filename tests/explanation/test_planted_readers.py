"""The planted readers: each reads what it should, and the table says of E what the page says of it."""

from __future__ import annotations

import pytest
import torch

from neuron_consistency.explanation.planted_readers import planted_pictures, reader, reader_table


def test_each_reader_follows_what_it_looks_at() -> None:
    """Where object and background disagree, the one is always right and the other always wrong."""
    images, labels, masks = planted_pictures(32, agree=False)
    assert images.min() >= 0
    assert images.max() <= 1
    assert masks.sum((1, 2, 3)).tolist() == [49] * 32
    with torch.no_grad():
        assert torch.equal(reader("object")(images).argmax(1), labels)
        assert torch.equal(reader("background")(images).argmax(1), 1 - labels)


def test_the_true_mask_tells_the_readers_apart_and_their_own_explanations_do_not() -> None:
    """E is near 1 and exactly 0 with the object spared; with its own explanation spared a background reader has an E
    near 1 too, and so the weight of an image it gets right for the wrong reason is next to nothing."""
    table = reader_table()
    rows = {(row["looks at"], row["spared"]): row for row in table.to_dict("records")}
    assert rows["object", "the object"]["E"] > 0.99
    background = rows["background", "the object"]
    assert (background["E"], background["weight"], background["flipped"]) == (0, 1, 1)
    for looks_at in ("object", "background"):
        assert rows[looks_at, "its own explanation"]["E"] > 0.99
        assert rows[looks_at, "its own explanation"]["weight"] < 0.01
    assert table["accuracy"].tolist() == [1.0] * 4
    assert table["accuracy on other backgrounds"].tolist() == pytest.approx([1, 1, 0, 0])
