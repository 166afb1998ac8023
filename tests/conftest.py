"""Shared fixtures: one toy network, trained once for the whole run, and the browser."""

import copy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.networks.models import Classifier
from neuron_consistency.training import obtain, recipes
from toys import fitted, toy_images, toy_model

settings.register_profile("untimed", deadline=None)  # on a loaded machine a slow example is no failure
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def few_threads() -> Iterator[None]:
    """Tiny networks run faster on one thread, and sums come out the same on every machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The system's Chromium, without a network; tests that need it are skipped where there is none."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright drives the browser: install the extra test"
    )
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium on this machine")
    flags = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    ]
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=flags)
        yield started
        started.close()


@pytest.fixture(autouse=True)
def same_random_state() -> None:
    """Each test draws the same numbers wherever and after whatever it runs, so that a failure comes back."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def _trained_toy() -> Classifier:
    return fitted(toy_model(), toy_images(128))


@pytest.fixture
def trained_toy(_trained_toy: Classifier) -> Classifier:
    """A toy network that classifies `toys.toy_images` almost without error, in eval mode; a copy a test."""
    return copy.deepcopy(_trained_toy)


@pytest.fixture
def fresh_images() -> ImageSet:
    """Sixty-four images the toy network has not seen."""
    return toy_images(64, seed=7)


@pytest.fixture
def toy_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Artifacts in a folder of the test's own, and 24 toy images for any dataset that a recipe names."""
    monkeypatch.setenv("NEURON_CONSISTENCY_ARTIFACTS", str(tmp_path))
    monkeypatch.setattr(recipes, "dataset_fingerprint", lambda **_arguments: "toy-fingerprint")
    monkeypatch.setattr(
        obtain, "load_images", lambda split, **_arguments: toy_images(24, size=32, seed=int(split == "val"))
    )
