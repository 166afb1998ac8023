"""From a layer to the decision: the rest of a network, and how much each neuron of the layer sways what it says."""

import itertools
import math
import operator
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from neuron_consistency.errors import ParameterError
from neuron_consistency.networks.models import Classifier
from neuron_consistency.networks.reading import evaluating, read_layers

FORMS = ("probability", "log_odds")
METHODS = ("auto", "rerun", "closed")
CHANNELS_AT_ONCE = 128  # of one image or several, in a forward pass of the rest
_BY_CHANNEL = (  # in eval mode each keeps the channels apart, and takes zeros to zeros
    nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d | nn.AvgPool2d | nn.MaxPool2d | nn.Dropout | nn.Identity
)


class _Tracer(fx.Tracer):
    """Records a network's operations, with the module whose output is the layer left whole."""

    def __init__(self, whole: nn.Module) -> None:
        super().__init__()
        self.whole = whole

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m is self.whole or super().is_leaf_module(m, module_qualified_name)


@dataclass(frozen=True)
class Rest:
    """What a network does after one of its layers. It shares modules, weights and mode with the network.

    Attributes:
        network: from the layer's output to the logits.
        head: the same as pooling by channel and one linear map, where it is no more than that; else None.
    """

    network: fx.GraphModule
    head: tuple[fx.GraphModule, nn.Linear] | None

    def __call__(self, features: Tensor) -> Tensor:
        """The logits (B, K) for the layer's output (B, C, h, w), in float32 whatever the autocast."""
        with torch.autocast(features.device.type, enabled=False):
            logits: Tensor = self.network(features.float())
        return logits

    def influence(self, features: Tensor, classes: Tensor, *, form: str, method: str = "auto") -> Tensor:
        """See `prediction_difference`. The closed form is differentiable.

        Shape:
            features: (B, C, h, w); classes: (B,) int64; result: (B, C) float32.

        Raises:
            ParameterError: unknown form or method, or no closed form exists.
        """
        if form not in FORMS or method not in METHODS:
            raise ParameterError(
                f"form={form!r}: use one of {', '.join(FORMS)}; method={method!r}: use one of {', '.join(METHODS)}"
            )
        if method == "closed" and self.head is None:
            raise ParameterError("after this layer comes more than pooling and one linear map: use method='rerun'")
        features = features.float()
        if method == "rerun" or self.head is None:
            return self._rerun(features, classes, form)
        pooling, linear = self.head
        channels = features.shape[1]
        with torch.autocast(features.device.type, enabled=False):
            pooled = pooling(features)
            logits = linear(pooled)
            pooled = pooled.view(len(pooled), channels, -1)  # a channel may have several places left
            weights = linear.weight.view(len(linear.weight), channels, -1)
            whole = log_odds(logits, classes)[:, None]
            parts = []
            for some in torch.arange(channels, device=features.device).split(CHANNELS_AT_ONCE):  # type: ignore[no-untyped-call]
                removed = torch.einsum("bcp,kcp->bck", pooled[:, some], weights[:, some])
                parts.append(_difference(whole, log_odds(logits[:, None] - removed, classes[:, None]), form))
        return torch.where(_active(features), torch.cat(parts, 1), 0)

    @torch.no_grad()
    def _rerun(self, features: Tensor, classes: Tensor, form: str) -> Tensor:
        whole = log_odds(self(features), classes)
        result = features.new_zeros(features.shape[:2])
        for pairs in _active(features).nonzero().split(CHANNELS_AT_ONCE):  # type: ignore[no-untyped-call]
            rows, channels = pairs.unbind(1)
            without = features[rows]
            without[torch.arange(len(rows)), channels] = 0
            result[rows, channels] = _difference(whole[rows], log_odds(self(without), classes[rows]), form)
        return result


def _active(features: Tensor) -> Tensor:
    """Which channels (B, C) are not zero everywhere; to set one of the others to zero changes nothing."""
    return features.detach().abs().amax((2, 3)) > 0


def rest_of_network(model: Classifier, layer: str | None = None) -> Rest:
    """The part of a network from the output of a layer (None: the last one) to the logits.

    `torch.fx` records the network's operations symbolically, and they are cut at the module whose output the layer
    is. So the network must be one that it can record, and its input must reach the logits through the layer alone. Call
    this outside `read_layers`, whose hooks would keep the symbols.

    Raises:
        ParameterError: no such layer, a network that cannot be recorded, or a way around the layer.
    """
    name = layer or model.last_layer
    module = model.layer_module(name)
    try:
        graph = _Tracer(module).trace(model.network)
    except (fx.proxy.TraceError, TypeError) as error:  # control flow that hangs on values
        raise ParameterError(f"{model.architecture} cannot be recorded by torch.fx ({error})") from error
    calls = [node for node in graph.nodes if _called(model.network, node) is module]
    (images,) = (node for node in graph.nodes if node.op == "placeholder")
    with graph.inserting_before(images):
        features = graph.placeholder("features")
    if calls:
        calls[-1].replace_all_uses_with(features)
    for node in reversed(graph.nodes):
        if not node.users and node.op not in ("placeholder", "output"):
            graph.erase_node(node)
    if images.users or not features.users:
        raise ParameterError(
            f"{model.architecture} does not reach its logits through {name} alone: choose another layer"
        )
    graph.erase_node(images)
    network = fx.GraphModule(model.network, graph)
    return Rest(network, _pooling_and_linear(network))


def _called(network: nn.Module, node: fx.Node) -> nn.Module | None:
    """The module that a node calls, if it calls one."""
    return network.get_submodule(str(node.target)) if node.op == "call_module" else None


def _is_flatten(network: nn.Module, node: fx.Node) -> bool:
    """Whether the node joins all dimensions but the first, so that each channel's places lie side by side."""
    module = _called(network, node)
    if isinstance(module, nn.Flatten):
        return (module.start_dim, module.end_dim) == (1, -1)
    return node.target is torch.flatten and node.args[1:] == (1,) and not node.kwargs


def _pooling_and_linear(network: fx.GraphModule) -> tuple[fx.GraphModule, nn.Linear] | None:
    """The two parts of a rest that is a chain of operations by channel and one linear map at its end."""
    nodes = list(network.graph.nodes)
    chained = all(after.all_input_nodes == [before] for before, after in itertools.pairwise(nodes))
    between, linear = nodes[1:-2], _called(network, nodes[-2])
    flat = [_is_flatten(network, node) for node in between]
    by_channel = [isinstance(_called(network, node), _BY_CHANNEL) for node in between]
    if not (chained and isinstance(linear, nn.Linear) and any(flat) and all(map(operator.or_, flat, by_channel))):
        return None
    graph = fx.Graph()
    copied = graph.graph_copy(network.graph, {})
    assert isinstance(copied, fx.Node)
    graph.output(copied.all_input_nodes[0])
    graph.erase_node(copied)
    return fx.GraphModule(network, graph), linear


def log_odds(logits: Tensor, classes: Tensor) -> Tensor:
    """The natural logarithm of the odds p / (1 - p) of a class, finite where the probability itself rounds to 1.

    Shape:
        logits: (..., K); classes: int64, broadcastable to (...); result: (...).
    """
    index = classes.expand(logits.shape[:-1])[..., None]
    others = logits.scatter(-1, index, -torch.inf).logsumexp(-1)
    return logits.gather(-1, index).squeeze(-1) - others


def _difference(odds: Tensor, without: Tensor, form: str) -> Tensor:
    """What a class loses, from its log odds before and after; of a sure class 1 - p tells it without rounding."""
    if form == "log_odds":
        return (odds - without) / math.log(2)
    sure = odds > 0
    return torch.where(sure, (-without).sigmoid() - (-odds).sigmoid(), odds.sigmoid() - without.sigmoid())


@torch.no_grad()
def prediction_difference(
    model: Classifier, images: Tensor, layer: str | None = None, *,
    classes: Tensor | None = None, form: str = "probability", method: str = "auto",
) -> Tensor:  # fmt: skip
    """How much each neuron of a layer sways a prediction: PD(n) = p(y | x) - p(y | x with channel n set to zero).

    Positive where the neuron speaks for the class, negative where it speaks against it, exactly 0 where its map
    is zero everywhere. The layer is computed in the precision the caller has set, what follows it in float32. The model
    is in eval mode meanwhile.

    Args:
        model: on the device of the images.
        images: what it predicts.
        layer: whose channels are set to zero; None is the last one.
        classes: y of each image; None is the class predicted.
        form: "probability", or "log_odds": the difference of the base-2 logarithms of the odds.
        method: "rerun" runs the rest of the network once more for every channel; "closed" subtracts the channel's
            share from the logits, where the rest is pooling and one linear map; "auto" does so where it can.

    Shape:
        images: (B, 3, H, W) in [0, 1]; classes: (B,) int64; result: (B, C) float32.

    Raises:
        ParameterError: see `rest_of_network` and `Rest.influence`.

    Source: P2, prediction difference; the log-odds form is that of Robnik-Sikonja and Kononenko 2008, and of
    Zintgraf et al. 2017.
    """
    name, rest = layer or model.last_layer, rest_of_network(model, layer)
    with evaluating(model):
        with read_layers(model, [name]) as outputs:
            model(images)
        features = outputs[name]
        chosen = rest(features).argmax(1) if classes is None else classes
        return rest.influence(features, chosen, form=form, method=method)
