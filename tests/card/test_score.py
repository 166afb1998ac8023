"""The card on disk: its files, its folder, its page; and the command that writes it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from PIL import Image

from neuron_consistency.__main__ import main
from neuron_consistency.card.measure import Setting
from neuron_consistency.card.score import claim, markdown, score
from neuron_consistency.errors import ParameterError, StoreError
from neuron_consistency.networks.wrap import wrap
from toys import ON, toy_images, toy_model

SETTING = Setting(epsilon=8 / 255, pgd_steps=1, top_k=5)
FILES = ["accuracy.csv", "card.json", "index.html", "layers.csv", "neurons.csv", "passes", "summary.md"]
CODE = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))

def silent():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3))

def pair():
    class Two(nn.Module):
        def forward(self, images):
            return images.mean((2, 3)), images
    return Two()
"""


def stranger() -> Any:
    return wrap(toy_model().network, mean=(0.5,) * 3, std=(0.5,) * 3, image_size=16)


def test_the_card_has_every_neuron_and_is_read_when_it_is_finished(tmp_path: Path) -> None:
    """Else neurons are missing, or a finished card is measured again."""
    model, images, out = stranger(), toy_images(40), tmp_path / "card"
    pieces = score(model, images, out, ON, setting=SETTING, labels="flat", source="a <b>toy</b>")
    assert sorted(path.name for path in out.iterdir()) == FILES
    neurons = pd.read_csv(out / "neurons.csv")
    assert len(neurons) == sum(model.layers.values())
    assert {"U", "U low", "U high", "U chance", "U FGSM predicted", "U PGD", "U noise", "classes"} <= set(neurons)
    assert (neurons["m"] >= 5).any()
    layers = pd.read_csv(out / "layers.csv", dtype={"layer": str})
    assert set(layers["layer"]) == set(model.layers)
    assert "<b>toy" not in (out / "index.html").read_text("utf-8")
    record = json.loads((out / "card.json").read_text("utf-8"))
    assert record["finished"]
    assert record["setting"]["epsilon"] == 8 / 255
    table = (out / "neurons.csv").read_bytes()
    (out / "neurons.csv").unlink()  # what was lost is written again
    score(model, images, out, ON, setting=SETTING, labels="flat", source="a <b>toy</b>")
    assert (out / "neurons.csv").read_bytes() == table
    model.register_forward_pre_hook(lambda *_: pytest.fail("the network was called"))
    assert score(model, images, out, ON, setting=SETTING, labels="flat").keys() == pieces.keys()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    """Else a card is written over a user's files, or over the card of another network."""
    (tmp_path / "photo.jpg").write_text("mine")
    with pytest.raises(StoreError, match="is not an empty folder: name a new one"):
        score(stranger(), toy_images(40), tmp_path, ON, setting=SETTING, labels="flat")
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]
    card = tmp_path / "card"
    claim(card, "one")
    assert not claim(card, "one")
    with pytest.raises(StoreError, match="another network, other images or another setting"):
        claim(card, "two")
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(StoreError, match="is not an empty folder"):
        claim(file, "one")


def test_images_of_other_classes_are_refused(tmp_path: Path) -> None:
    """Else labels beyond the outputs end in an index error, or in a wrong number."""
    with pytest.raises(ParameterError, match="has 3 outputs, the images 4 classes"):
        score(wrap(toy_model(num_classes=3).network, mean=(0,) * 3, std=(1,) * 3), toy_images(40), tmp_path, ON)


def test_a_network_no_better_than_chance_is_told(tmp_path: Path) -> None:
    """Else a wrong order of classes passes for a network of inconsistent neurons."""
    model = stranger()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    with pytest.warns(UserWarning, match=r"right on 25\.0 % of the images, which chance could be"):
        score(model, toy_images(40), tmp_path / "card", ON, setting=SETTING, labels="flat")


def test_a_bar_in_a_name_does_not_end_a_cell() -> None:
    """Else one class name breaks the table of the summary."""
    assert markdown(pd.DataFrame({"a|b": ["c|d"]})).splitlines()[2] == r"| c\|d |"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three colours, eight pictures each, of several sizes and modes; and networks."""
    for number, name in enumerate(("red", "green", "<img src=x onerror=alert(1)>")):
        for place in range(8):
            folder = tmp_path / "photos" / name
            folder.mkdir(parents=True, exist_ok=True)
            colour = [40 + 3 * place] * 3
            colour[number] = 200
            picture = Image.new("RGB", (16 + place, 20), tuple(colour))
            picture.convert("RGBA" if place == 1 else "RGB").save(folder / f"{place}.png")
    (tmp_path / "model.py").write_text(CODE)
    return tmp_path


def command(photos: Path, *more: str, network: str = "model.py:make", name: str = "score") -> list[str]:
    words = [name, "--network", str(photos / network), "--images", str(photos / "photos"), "--labels", "flat"]
    words += ["--mean", ".5", ".5", ".5", "--std", ".5", ".5", ".5", "--image-size", "16", "--pgd-steps", "1"]
    return [*words, "--top-k", "5", "--out", str(photos / "card"), "--device", "cpu", *more]


def test_the_command_scores_and_goes_on(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else what the README promises in one command takes more, or a second call destroys the first one's card."""
    assert main(command(photos)) == 0
    assert "The card:" in capsys.readouterr().out
    assert sorted(path.name for path in (photos / "card").iterdir()) == FILES
    before = {path: path.read_bytes() for path in (photos / "card").rglob("*") if path.is_file()}
    assert main(command(photos)) == 0
    assert before == {path: path.read_bytes() for path in (photos / "card").rglob("*") if path.is_file()}
    assert main(command(photos, "--epsilon", "8/255")) == 1
    assert "another setting: name a new folder" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in (photos / "card").rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("more", "network", "said"),
    [
        ((), "model.py:silent", "has no layer whose output is a map"),
        ((), "model.py:pair", "gives a tuple, not logits"),
        ((), "model.py:absent", "has no function 'absent'"),
        (("--layers", "7"), "model.py:make", "no layer '7'"),
        (("--classes", "imagenet"), "model.py:make", "lists 1000 classes, and the network has 3 outputs"),
        (("--weights", "none.pth"), "model.py:make", "none.pth"),
        (("--epsilon", "4"), "model.py:make", "as a share of the pixel range"),
        (("--quantile", "0"), "model.py:make", "quantile"),
        (("--auto-attack", "4"), "model.py:make", "AutoAttack needs four classes or more"),
        (("--images", "nowhere"), "model.py:make", "nowhere"),
        (("--device", "cuda:7"), "model.py:make", "cuda:7"),
        (("--labels", "none.csv"), "model.py:make", "none.csv"),
        (("--margin", "0"), "model.py:make", "a margin of at least 1"),
        (("--image-size", "0"), "model.py:make", "image_size=0"),
        (("--image-size", "-5"), "model.py:make", "image_size=-5"),
    ],
)
def test_bad_input_is_one_clear_error(
    photos: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], network: str, said: str
) -> None:
    """Else a user meets a traceback, or a card of something else."""
    assert main(command(photos, *more, network=network)) in (1, 2)
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert said in errors[0]


def test_a_card_among_the_images_is_refused(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else the card is a class without images when it is called again, so that nothing stopped can go on."""
    assert main(command(photos, "--out", str(photos / "photos" / "card"))) == 2
    assert "lies among the images" in capsys.readouterr().err
    assert not (photos / "photos" / "card").exists()


def test_a_class_of_one_is_refused(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else every neuron is perfectly consistent."""
    for name in ("red", "green"):
        shutil.rmtree(photos / "photos" / name)
    assert main(command(photos)) == 1
    assert "at least two are needed" in capsys.readouterr().err


def test_a_fraction_is_read_as_one() -> None:
    """Else 4/255 cannot be written, or a misspelt one is taken for a number."""
    from neuron_consistency.__main__ import number

    assert number("4/255") == pytest.approx(4 / 255)
    assert number("0.5") == 0.5
    with pytest.raises(Exception, match="is no number: write"):
        number("4/0")
