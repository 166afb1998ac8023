"""Rows of the benchmark table about the measures: distances, streaming, dissection, maps, tracing, the attack."""

from __future__ import annotations

import itertools
import tempfile
from functools import partial
from pathlib import Path

import nltk
import torch
import torchvision
from captum.attr import Occlusion
from nltk.corpus import wordnet
from torch import Tensor, nn

from neuron_consistency.attacks.predictions import predictions
from neuron_consistency.attacks.targeted import optimise_targeted
from neuron_consistency.card.measure import Measuring, Setting
from neuron_consistency.consistency.ambiguity import WRONG, attacks_of
from neuron_consistency.consistency.occlusion import discrepancy_maps, occluder_geometry
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.networks.models import IMAGENET_MEAN, IMAGENET_STD, Classifier, build_model
from neuron_consistency.networks.reading import read_layers
from neuron_consistency.networks.wrap import wrap
from neuron_consistency.responses import respond
from neuron_consistency.runtime import Runtime
from neuron_consistency.taxonomy import class_synsets, distance_matrix
from neuron_consistency.tracing.influence import prediction_difference
from pairs import Pair, Row, Size

CLASSES, SIDE = 40, 64


def _images(count: int, side: int = SIDE) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def _noise(count: int) -> ImageSet:
    names = tuple(str(number) for number in range(CLASSES))
    pixels = (_images(count) * 255).byte()
    return ImageSet("noise", "val", names, names, torch.arange(count) % CLASSES, pixels, "noise")


def _network(size: Size, architecture: str = "resnet18") -> Classifier:
    return build_model(architecture, num_classes=CLASSES, image_size=SIDE).to(size.device).eval()


def distances(size: Size) -> Pair:
    """All pairs of ImageNet's classes against nltk, a sample of pairs one by one."""
    wnids = sorted(class_synsets("imagenet").values())
    synsets = {wnid: wordnet.synset_from_pos_and_offset("n", int(wnid[1:])) for wnid in wnids}
    pairs = list(itertools.combinations(range(len(wnids)), 2))
    chosen = pairs[:: max(1, len(pairs) // size.of(5000))]

    def theirs() -> list[int]:
        return [synsets[wnids[i]].shortest_path_distance(synsets[wnids[j]]) for i, j in chosen]

    def difference() -> float:
        found = distance_matrix(wnids)
        return float(max(abs(int(found[i, j]) - value) for (i, j), value in zip(chosen, theirs(), strict=True)))

    return Pair(
        partial(distance_matrix, wnids), theirs, f"{len(wnids)} classes, nltk on {len(chosen)} pairs",
        scale=len(pairs) / len(chosen), difference=difference,
    )  # fmt: skip


def streaming(size: Size) -> Pair:
    """Scoring all convolutional layers against the bare forward pass over the same batches."""
    model, images = _network(size), _noise(size.of(512, least=32))

    @torch.no_grad()
    def theirs() -> None:
        for _, batch, _ in images.batches(128, device=size.device):
            model(batch)

    ours = partial(respond, model, images, Runtime(size.device, "float32", 128), layers=list(model.layers))
    return Pair(ours, theirs, f"ResNet-18, {len(model.layers)} layers, {len(images)} images of {SIDE} px")


def card(transformer: bool, size: Size) -> Pair:
    """All passes of a card, their tables made and kept, against the bare forward and backward passes that it needs."""
    network = _network(size).network
    if transformer:
        network = torchvision.models.VisionTransformer(SIDE, 8, 6, 3, 192, 768, num_classes=CLASSES)
    model = wrap(network, mean=IMAGENET_MEAN, std=IMAGENET_STD, image_size=SIDE).to(size.device).eval()
    images, on = _noise(size.of(1024, least=32)), Runtime(size.device, "float32", 64)
    flat = torch.eye(CLASSES, dtype=torch.float64)
    measuring = Measuring(model, images, flat, on, Setting(pgd_steps=2))
    wrong = images.subset((predictions(model, images, on) != images.labels).nonzero().squeeze(1))

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            measuring.run(Path(folder))

    def theirs() -> None:
        attacks = attacks_of(on, epsilon=4 / 255, pgd_steps=2)
        for name in measuring.sets():
            attack, _ = attacks.get(name, (None, None))
            for _, batch, labels in (wrong if name == WRONG else images).batches(64, device=size.device):
                shown = batch if attack is None else attack(model, batch, labels)
                with torch.no_grad():
                    model(shown)

    kind = "a transformer of 6 blocks" if transformer else "ResNet-18"
    return Pair(ours, theirs, f"{kind}, {len(model.layers)} layers, {len(images)} images of {SIDE} px")


def maps(size: Size) -> Pair:
    """Discrepancy maps of several neurons an image against captum's Occlusion, its perturbations_per_eval tuned."""
    model, images = _network(size), _images(size.of(5)).to(size.device)
    layer, neurons = model.last_layer, list(range(size.of(8, least=2)))
    side, step = occluder_geometry(SIDE)

    def responses(batch: Tensor) -> Tensor:
        with read_layers(model, [layer]) as outputs:
            model(batch)
        return outputs[layer].amax((2, 3))

    @torch.no_grad()
    def theirs(at_once: int) -> Tensor:
        occlusion = Occlusion(responses)
        found = []
        for image in images:
            of_neurons = [
                occlusion.attribute(
                    image[None], (3, side, side), (3, step, step), baselines=0.5, target=neuron,
                    perturbations_per_eval=at_once,
                ).mean(1)
                for neuron in neurons
            ]  # fmt: skip
            found.append(torch.cat(of_neurons))
        return torch.stack(found)

    on = Runtime(images.device, "float32")

    def ours() -> Tensor:
        return discrepancy_maps(model, images, on, layer=layer, neurons=[neurons] * len(images))

    def difference() -> float:
        one, other = ours(), theirs(64)
        return float((one - other).abs().max() / other.abs().max())

    words = f"ResNet-18, {len(images)} images x {len(neurons)} neurons, {SIDE} px, captum 64 at once"
    return Pair(ours, partial(theirs, 64), words, difference=difference, tolerance=1e-3)


@torch.no_grad()
def _rerun(model: Classifier, images: Tensor, pairs: Tensor) -> Tensor:
    """The prediction difference of some (image, channel) pairs, the network run once more for each of them."""
    whole = model(images).softmax(1)
    classes = whole.argmax(1)
    emptied = 0

    def empty(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        output[:, emptied] = 0

    found = []
    handle = model.layer_module(model.last_layer).register_forward_hook(empty)
    for image, emptied in pairs.tolist():  # noqa: B007, the hook reads it
        without = model(images[image : image + 1]).softmax(1)[0]
        found.append((whole[image] - without)[classes[image]])
    handle.remove()
    return torch.stack(found)


def tracing(method: str, size: Size) -> Pair:
    """Prediction difference of every channel against a rerun of the network for each, on a sample of pairs."""
    model, images = _network(size), _images(size.of(100, least=4)).to(size.device)
    channels = model.layers[model.last_layer]
    generator = torch.Generator().manual_seed(0)
    sample = size.of(256, least=8)
    pairs = torch.stack([torch.randint(n, (sample,), generator=generator) for n in (len(images), channels)], 1)

    def difference() -> float:
        found = prediction_difference(model, images, method=method)[pairs[:, 0], pairs[:, 1]]
        return float((found - _rerun(model, images, pairs)).abs().max())

    return Pair(
        partial(prediction_difference, model, images, method=method), partial(_rerun, model, images, pairs),
        f"{channels} channels x {len(images)} images, rerun for {sample} pairs",
        scale=len(images) * channels / sample, difference=difference, tolerance=1e-5,
    )  # fmt: skip


def ensemble(size: Size) -> Pair:
    """Eq. 4 on three networks at once against three attacks on one network each, of as many steps."""
    models = [_network(size, name) for name in ("resnet18", "alexnet", "vgg16")]
    images = _images(size.of(32, least=2)).to(size.device)
    targets = (torch.arange(len(images)) % CLASSES).to(size.device)

    def attack(attacked: list[Classifier]) -> object:
        return optimise_targeted(attacked, images, targets, steps=size.of(5), stop_early=False)

    def theirs() -> None:
        for model in models:
            attack([model])

    return Pair(lambda: attack(models), theirs, f"3 networks, {len(images)} images of {SIDE} px, {size.of(5)} steps")


def dissection(size: Size) -> Pair:
    """The tally of six categories against the plain way: each unit's map resized, thresholded and counted."""
    from dissection_sets import counted, counted_plainly, planted_maps

    maps, labels, concepts, thresholds = planted_maps(images=size.of(16, least=2), units=size.of(512, least=8))
    maps, thresholds = maps.to(size.device), thresholds.to(size.device)

    def difference() -> float:
        one, other = (count(maps, labels, concepts, thresholds) for count in (counted, counted_plainly))
        return float((one - other).abs().max())

    words = f"{maps.shape[1]} units, {len(maps)} images, six categories, label maps of 112 px"
    ours, theirs = (partial(count, maps, labels, concepts, thresholds) for count in (counted, counted_plainly))
    return Pair(ours, theirs, words, difference=difference, tolerance=1e-3)


def _has_wordnet() -> bool:
    try:
        nltk.data.find("corpora/wordnet")
    except LookupError:
        return False
    return True


def rows(size: Size) -> list[Row]:
    """The rows; nltk's is measured where its WordNet is installed."""
    cpu = size.device.type == "cpu"
    return [
        Row(
            "distances of all ImageNet classes",
            "nltk, pair by pair",
            1000,
            distances,
            ("cpu",),
            "" if _has_wordnet() else "nltk's WordNet",
        ),
        Row("scoring all convolutional layers", "the bare forward pass", 0.9, streaming),
        Row("a card of a convolutional network", "its bare passes", 0.9, partial(card, False)),
        Row("a card of a vision transformer", "its bare passes", 0.9, partial(card, True)),
        Row("dissection tally", "resize, threshold and count by unit", 5 if cpu else 50, dissection),
        Row("discrepancy maps", "captum's Occlusion", 3, maps),
        Row("prediction difference, closed form", "a rerun for each channel", 20, partial(tracing, "closed")),
        Row("prediction difference, batched rerun", "a rerun for each channel", 20, partial(tracing, "rerun")),
        Row("the ensemble attack, 3 networks", "three attacks on one network", 1 / 1.05, ensemble),
    ]
