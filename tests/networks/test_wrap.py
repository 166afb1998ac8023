"""Any network as a classifier: what is read of it, before and after activations, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from neuron_consistency import wrap
from neuron_consistency.consistency.measure import unbiased_consistency
from neuron_consistency.errors import DatasetError, ParameterError
from neuron_consistency.networks.models import Classifier, Site, build_model
from neuron_consistency.networks.reading import read_layers
from neuron_consistency.responses import respond
from toys import EQ6, ON, assert_same_state, state_of, toy_images

PLAIN: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "image_size": 16}
HALVES: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


class Block(nn.Module):
    """A residual block whose one activation is called twice, in place if asked."""

    def __init__(self, channels: int, inplace: bool) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.act = nn.ReLU6(inplace)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(self.act(self.conv1(x)))
        out += x
        activated: Tensor = self.act(out)
        return activated


class Tokens(nn.Module):
    """Four patches of 8 px behind a class token of 100; a token is the mean of a patch's colours."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Mixing(), Mixing()])
        self.head = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = nn.functional.avg_pool2d(x, 8).flatten(2).transpose(1, 2)
        tokens = torch.cat([torch.full_like(tokens[:, :1], 100), tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        logits: Tensor = self.head(tokens[:, 1:].mean(1) - tokens[:, 0])
        return logits


class Mixing(nn.Module):
    """A block that changes nothing, until it is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Linear(3, 3)
        nn.init.eye_(self.mlp.weight)
        nn.init.zeros_(self.mlp.bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.mlp(x)
        return out


def blocks(*, inplace: bool = True) -> nn.Sequential:
    """A stem with batch norm, two blocks, a head."""
    torch.manual_seed(0)
    stem = [nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)]
    return nn.Sequential(*stem, nn.Sequential(Block(6, inplace), Block(6, inplace)), *head)


def maps_of(model: Classifier, images: Tensor) -> dict[str, Tensor]:
    with read_layers(model, list(model.layers)) as maps, torch.no_grad():
        model.eval()(images)
    return maps


def test_the_books_resnet_is_the_same_as_a_stranger() -> None:
    """A plain torchvision module with the book's weights: the same maps, so the same U, to the last bit."""
    known = build_model("resnet18", num_classes=4, image_size=64)
    stranger = torchvision.models.resnet18(num_classes=4)
    stranger.load_state_dict(known.network.state_dict())
    model = wrap(stranger, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), image_size=64)
    images = toy_images(24, size=64)
    own, found = respond(known, images, ON, top_k=4), respond(model, images, ON, top_k=4)
    assert model.last_layer == "layer4.1"
    assert model.num_classes == known.num_classes == 4
    mine, theirs = own.layers["layer4"], found.layers["layer4.1"]
    assert torch.equal(mine.thresholds, theirs.thresholds)
    assert torch.equal(mine.top_values, theirs.top_values)
    u, same = (
        unbiased_consistency(layer.counts["true"].sum(0), torch.eye(4)).nan_to_num(-1) for layer in (mine, theirs)
    )
    assert torch.equal(u, same)
    assert bool((u > 0).any())


def test_tokens_are_a_square_without_the_class_token() -> None:
    """Patches stand where they stood in the image; the class token's 100 would be every neuron's response otherwise."""
    model = wrap(Tokens(), **PLAIN)
    images = torch.rand(2, 3, 16, 16)
    maps = maps_of(model, images)
    assert list(model.layers.items()) == [("blocks.0", 3), ("blocks.1", 3)]
    assert torch.allclose(maps["blocks.1"], nn.functional.avg_pool2d(images, 8))


def test_tokens_that_are_no_square_are_a_column_and_channels_last_are_turned() -> None:
    tokens = torch.rand(2, 8, 5)
    assert torch.equal(Site("", 5, "tokens", 2).as_map(tokens), tokens[:, 2:].transpose(1, 2)[..., None])
    last = torch.rand(2, 4, 4, 5)
    assert torch.equal(Site("", 5, "channels last").as_map(last), last.permute(0, 3, 1, 2))


@pytest.mark.parametrize("inplace", [True, False])
def test_before_is_what_the_last_activation_is_given(inplace: bool) -> None:
    """ReLU6 of it is the layer itself; in place, the activation would overwrite what was kept."""
    network, images = blocks(inplace=inplace), torch.rand(2, 3, 16, 16) * 9
    after = maps_of(wrap(network, **PLAIN), images)
    before = maps_of(wrap(network, **PLAIN, before=True), images)
    assert list(after) == list(before) == ["2", "3.0", "3.1"]
    assert torch.equal(before["2"].relu(), after["2"])
    for name in ("3.0", "3.1"):
        assert before[name].min() < 0
        assert torch.equal(nn.functional.relu6(before[name]), after[name])


@pytest.mark.parametrize(("activation", "signed"), [(nn.ReLU(), False), (nn.Tanh(), True), (nn.Sigmoid(), True)])
def test_below_0_is_silence_before_a_relu_alone(activation: nn.Module, signed: bool) -> None:
    """Else a neuron before a sigmoid, which lets pass what is below 0, loses active images."""
    network = nn.Sequential(nn.Conv2d(3, 6, 3), activation, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
    assert wrap(network, **PLAIN, before=True).sites["1"].signed == signed


def test_a_layer_that_ends_in_no_activation_reads_the_same_before() -> None:
    images = torch.rand(2, 3, 16, 16)
    one, two = (maps_of(wrap(Tokens(), **PLAIN, before=before), images)["blocks.0"] for before in (False, True))
    assert torch.equal(one, two)


def test_a_module_is_read_as_it_was_before_what_follows_overwrote_it() -> None:
    """An in-place ReLU after a batch norm, an in-place sum after a convolution: the map kept is the module's own."""
    network, images = blocks(), torch.rand(2, 3, 16, 16)
    model = wrap(network, **PLAIN, layers=["1", "3.0.conv2"])
    copies: dict[str, Tensor] = {}
    for name in model.layers:
        model.layer_module(name).register_forward_hook(lambda *args, name=name: copies.update({name: args[2].clone()}))
    maps = maps_of(model, images)
    assert maps["1"].min() < 0
    assert all(torch.equal(maps[name], copies[name]) for name in maps)


def test_a_module_called_twice_is_read_at_its_last_call() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.act = nn.Conv2d(3, 5, 1), nn.Conv2d(5, 7, 1), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.two(self.act(self.one(x)))).mean((2, 3))  # type: ignore[no-any-return]

    network, images = Shared(), torch.rand(2, 3, 16, 16)
    network.act.register_forward_hook(lambda *_: None)  # a hook of the user's own stays
    after, before = wrap(network, **PLAIN, layers=["act"]), wrap(network, **PLAIN, layers=["act"], before=True)
    assert after.layers == before.layers == {"act": 7}
    assert torch.equal(maps_of(before, images)["act"].relu(), maps_of(after, images)["act"])
    assert len(network.act._forward_hooks) == 1


def test_a_block_of_two_branches_is_read_at_its_first() -> None:
    """Their one activation is called again for the second branch, whose input is not what the first was made of."""

    class Branches(Block):
        def forward(self, x: Tensor) -> Any:
            return [self.act(self.conv1(x)), self.act(self.conv2(x)[:, :2])]

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.one, self.two = nn.Conv2d(3, 6, 1), Branches(6, False), Branches(6, False)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat(self.two(self.one(self.stem(x))[0]), dim=1).mean((2, 3))

    for before in (False, True):
        model = wrap(Two(), **PLAIN, before=before)
        assert model.layers == {"stem": 6, "one": 6, "two": 6}
        assert maps_of(model, torch.rand(2, 3, 16, 16))["two"].shape == (2, 6, 16, 16)


@pytest.mark.parametrize("before", [True, False])
def test_finding_layers_leaves_the_network_as_it_was(before: bool) -> None:
    network = blocks().train()
    network[1].eval()  # a frozen batch norm
    network(torch.rand(2, 3, 16, 16)).sum().backward()
    state = state_of(network)
    wrap(network, **PLAIN, before=before)
    assert_same_state(state, network)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("make", [blocks, Tokens])
def test_eq_6_trains_what_is_read(make: Any, before: bool) -> None:
    """The distance of maps reaches the weights; through detached or copied maps it would train nothing."""
    model = wrap(make(), **PLAIN, before=before).train()
    images, labels = toy_images(8).batch(torch.arange(8), torch.device("cpu"))
    step = EQ6(model, images, labels)
    step.loss.backward()  # type: ignore[no-untyped-call]
    assert step.parts["distance"] > 0
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def test_auxiliary_heads_in_train_mode_are_left_aside() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = blocks()

        def forward(self, x: Tensor) -> Any:
            logits = self.body(x)
            return (logits, 2 * logits) if self.training else logits

    model, images = wrap(Two(), **PLAIN).train(), torch.rand(2, 3, 16, 16)
    assert model(images).shape == (2, 4)
    assert list(model.layers) == ["body.2", "body.3.0", "body.3.1"]


def test_layers_by_name_and_pattern() -> None:
    """`*` stands for one part of a name, so that a pattern does not reach into blocks; calls make the order."""
    network = blocks()
    assert list(wrap(network, **PLAIN, layers=["3.*", "0"]).layers) == ["0", "3.0", "3.1"]
    assert list(wrap(network, **PLAIN, layers=["3.1.conv?"]).layers) == ["3.1.conv1", "3.1.conv2"]


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        (["3.0.conv3"], r"no layer '3.0.conv3' in the network: use one of 3.0.conv"),
        (["6"], r"the module 6 gives shape \(2, 4\)"),
        (["3.0.unused"], "the module 3.0.unused is not called"),
    ],
)
def test_unreadable_layers_are_refused(layers: list[str], says: str) -> None:
    network = blocks()
    network.get_submodule("3.0").unused = nn.Conv2d(6, 6, 1)
    with pytest.raises(ParameterError, match=says):
        wrap(network, **PLAIN, layers=layers)


class Gives(nn.Module):
    """Gives what `make` makes of the maps of a convolution."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.conv, self.make = nn.Conv2d(3, 4, 1), make

    def forward(self, x: Tensor) -> Any:
        return self.make(self.conv(x))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda maps: {"logits": maps.mean((2, 3))}, "gives a dict, not logits"),
        (lambda maps: maps, r"float32 of shape \(2, 4, 16, 16\) for 2 images"),
        (lambda maps: maps.mean((1, 2, 3)), r"shape \(2,\)"),
        (lambda maps: maps.mean(), r"shape \(\)"),
        (lambda maps: maps.mean((2, 3)).softmax(1), "gives probabilities, not logits: each row sums to 1"),
        (lambda maps: functional.dropout(maps, 0.5).mean((2, 3)), "other logits each time, in eval mode too"),
        (lambda maps: [maps.mean((2, 3))], "gives a list, not logits"),
        (lambda maps: None, "gives a NoneType, not logits"),
        (lambda maps: maps.mean((2, 3)).argmax(1), r"int64 of shape \(2,\)"),
        (lambda maps: maps[:, :1].mean((2, 3)), r"float32 of shape \(2, 1\)"),
        (lambda maps: maps.repeat(2, 1, 1, 1)[:2].mean((2, 3)), r"no logits \(1, 4\) for one image alone"),
        (lambda maps: maps.view(2, 4, 16, 16).mean((2, 3)), "refuses images .*one image must do as well"),
        (lambda maps: maps.mean((2, 3)) * math.nan, "NaN or infinite"),
        (lambda maps: maps.mean((2, 3)), "no layer whose output is a map"),  # the maps' means are the logits
        (lambda maps: maps.mean((2, 3)) @ torch.rand(5, 5), r"refuses images of 16 x 16 pixels .*mat1 and mat2"),
    ],
)
def test_networks_that_are_no_classifiers_are_refused(make: Any, says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        wrap(Gives(make), **PLAIN)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda network: nn.Sequential(network, nn.LazyLinear(4)), r"has no weights yet \(1.weight\)"),
        (lambda network: network.to("meta"), r"quantised or has no weights yet \(0.weight\)"),
        (lambda network: nn.Sequential(network, Squeezed()), r"no logits \(1, 4\) for one image alone: .*flatten\(1\)"),
    ],
)
def test_networks_that_cannot_be_run_are_refused(change: Any, says: str) -> None:
    """Else they end in a traceback, the second at the last batch if that has one image."""
    with pytest.raises(ParameterError, match=says):
        wrap(change(blocks()), **PLAIN)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_named(value: float) -> None:
    """Else all neurons of a layer fire alike, or none does."""
    network = blocks()
    dict(network.named_parameters())["3.0.conv1.bias"].data[2] = value
    with pytest.raises(DatasetError, match=r"Sequential holds values in 3\.0\.conv1\.bias that are NaN or infinite"):
        wrap(network, **PLAIN)


def test_a_mask_of_infinities_is_no_weight() -> None:
    network = blocks()
    network.register_buffer("mask", torch.full((2, 2), -math.inf))
    assert wrap(network, **PLAIN).num_classes == 4


def test_maps_that_are_not_square_keep_their_channels_first() -> None:
    """16 channels of 16 x 8 places would be read as 8 channels of 16 x 16."""
    network = nn.Sequential(nn.Conv2d(3, 16, 3, stride=(1, 2), padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    model = wrap(nn.Sequential(network, nn.Flatten(), nn.Linear(16, 4)), **PLAIN)
    assert model.layers == {"0.1": 16}
    assert maps_of(model, torch.rand(2, 3, 16, 16))["0.1"].shape == (2, 16, 16, 8)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (torch.zeros(2, 3, 16, 16, dtype=torch.uint8), "images torch.uint8 of shape"),
        (torch.zeros(2, 3, 16, 16, dtype=torch.float64), "images torch.float64 of shape .*torch.float32"),
        (torch.zeros(3, 16, 16), r"of shape \(3, 16, 16\)"),
        (torch.zeros(2, 1, 16, 16), r"of shape \(2, 1, 16, 16\)"),
        (torch.zeros(2, 3, 16, 16, device="meta"), "on meta: .* on cpu is needed"),
    ],
)
def test_images_that_are_not_where_the_network_is_are_told(images: Tensor, says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        wrap(blocks(), **PLAIN)(images)


def test_a_batch_of_one_that_batch_norm_cannot_learn_from_is_told() -> None:
    head = [nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(6, 4)]
    model = wrap(nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), *head), **PLAIN).train()
    assert model(torch.rand(2, 3, 16, 16)).shape == (2, 4)
    with pytest.raises(ParameterError, match=r"batch norm has one value of .*: take batch_size=2"):
        model(torch.rand(1, 3, 16, 16))


class Squeezed(nn.Module):
    """Loses the batch of one image."""

    def forward(self, x: Tensor) -> Tensor:
        return x.squeeze()


class Viewed(nn.Module):
    """LeNet's way to its head, which tensors with channels last refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 6, 5, stride=4), nn.Linear(54, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.conv(x).relu().view(-1, 54))
        return logits


def test_a_network_that_takes_views_is_read_and_trained() -> None:
    """Else what works in the user's own loop ends in a traceback, since the images of a set have channels last."""
    torch.manual_seed(0)
    model, images = wrap(Viewed(), **PLAIN), toy_images(8)
    batch = next(iter(images.batches(8, device=torch.device("cpu"))))[1]
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(model(batch), model.network(batch.contiguous()))
    assert torch.isfinite(EQ6(model, batch, images.labels).loss)


@pytest.mark.parametrize("change", [torch.nn.DataParallel, lambda network: torch.compile(network, backend="eager")])
def test_wrappings_are_taken_off(change: Any) -> None:
    """Else hooks see the part of a batch that one GPU has, or are not called at all by a compiled graph."""
    network = blocks()
    model = wrap(change(network), **PLAIN)
    assert model.network is network
    assert model.layers == wrap(network, **PLAIN).layers


def test_weights_of_half_precision_become_float32() -> None:
    """Else the network refuses its images."""
    assert next(wrap(blocks().half(), **PLAIN).parameters()).dtype == torch.float32


@pytest.mark.parametrize("colours", [
        {"mean": (0.5,)}, {"std": (0.5, 0.5)}, {"std": (0.5, 0.0, 0.5)}, {"mean": 0.5}, {"mean": ("a", "b", "c")},
        {"mean": (math.nan, 0, 0)}, {"mean": (123.7, 116.3, 103.5), "std": (58.4, 57.1, 57.4)},
    ],
)  # fmt: skip
def test_mean_and_std_are_three_numbers_of_pixels_up_to_1(colours: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match="three numbers each"):
        wrap(blocks(), **(PLAIN | colours))


def test_images_are_normalised() -> None:
    network, images = blocks().eval(), torch.rand(2, 3, 16, 16)
    assert torch.equal(wrap(network, **HALVES, image_size=16).eval()(images), network((images - 0.5) / 0.5))


@pytest.mark.parametrize("size", ["16", 16.5, True, 0])
def test_an_image_size_is_a_whole_number(size: Any) -> None:
    with pytest.raises(ParameterError, match=r"image_size=.* is needed"):
        wrap(blocks(), **PLAIN | {"image_size": size})


def test_what_is_no_network_is_told() -> None:
    with pytest.raises(ParameterError, match=r"a OrderedDict is no torch\.nn\.Module"):
        wrap(blocks().state_dict(), **PLAIN)  # type: ignore[arg-type]
