"""A network as quantizers see it: convolutions and fully connected layers with a bias, BatchNorm folded into them."""

import copy
import operator
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from nbedge.errors import ExportError, first_line
from nbedge.tracing import evaluating

ATEN = torch.ops.aten
#: operators that multiply with weights: (x, weight, bias, ...)
WEIGHTED = (ATEN.conv1d.default, ATEN.conv2d.default, ATEN.conv3d.default, ATEN.linear.default)
NORM = ATEN._native_batch_norm_legit_no_training.default
#: activations that integer kernels fuse into the layer before
FUSED = (ATEN.relu.default, ATEN.relu6.default, ATEN.hardtanh.default, ATEN.clamp.default)


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One layer of a folded network.

    Attributes:
        node: that computes it.
        name: path of the module that it was.
        weight: (outputs, inputs / groups, *kernel), or (outputs, inputs).
        bias: (outputs,).
    """

    node: fx.Node
    name: str
    weight: nn.Parameter
    bias: nn.Parameter

    @property
    def groups(self) -> int:
        """Groups of a convolution; 1 for a fully connected layer."""
        place = 6
        return int(self.node.args[place]) if len(self.node.args) > place else 1  # type: ignore[arg-type]

    @property
    def depthwise(self) -> bool:
        """Whether each output reads one input only."""
        return self.groups > 1 and self.weight.shape[1] == 1

    @property
    def channel(self) -> int:
        """The axis of its outputs that counts channels."""
        return -1 if self.node.target is ATEN.linear.default else 1

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Compute the layer with other numbers."""
        answer: Tensor = self.node.target(x, weight, bias, *self.node.args[3:])  # type: ignore[operator]
        return answer

    def activated(self, y: Tensor) -> Tensor:
        """Return its output y behind the activation that kernels fuse into it, if there is one."""
        after = fused(self.node)
        return y if after is None else after.target(y, *after.args[1:], **after.kwargs)  # type: ignore[operator]


def fused(node: fx.Node) -> fx.Node | None:
    """Return the activation that kernels fuse into a layer: its only reader, if that is one."""
    (reader,) = node.users if len(node.users) == 1 else (None,)
    return reader if reader is not None and reader.target in FUSED else None


def folded(model: nn.Module, shape: tuple[int, ...]) -> fx.GraphModule:
    """Return a network that computes the same in eval mode, every BatchNorm behind a layer folded into it.

    Args:
        model: any module of one input (n, *shape); it is left as it is.
        shape: of one input.

    Raises:
        ExportError: torch cannot trace it for any number of inputs at once.
    """
    example = torch.zeros(2, *shape)
    try:
        with warnings.catch_warnings(), evaluating(model):
            warnings.simplefilter("ignore", FutureWarning)  # torch's own, of a function that it calls itself
            program = torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
            # operators in place become ordinary ones
            module = program.run_decompositions({}).module(check_guards=False)
    except Exception as error:  # whatever the model's own code raises under it
        reason = first_line(error)
        raise ExportError(f"torch.export cannot trace the model for any number of inputs ({reason})") from error
    assert isinstance(module, fx.GraphModule)
    _own_numbers_(module)
    for node in list(module.graph.nodes):
        if node.target is NORM and node.args[0].target in WEIGHTED and len(node.args[0].users) == 1:
            _fold_(module, node)
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()
    return module


def copied(module: fx.GraphModule) -> fx.GraphModule:
    """Return a copy of a folded network, with numbers of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # as above
        return copy.deepcopy(module)


def layers_of(module: fx.GraphModule) -> list[Layer]:
    """Return the layers of a folded network, in the order in which they are computed."""
    found = []
    for node in (node for node in module.graph.nodes if node.target in WEIGHTED):
        weight, bias = (module.get_parameter(str(argument.target)) for argument in node.args[1:3])
        found.append(Layer(node, str(node.args[1].target).removesuffix(".weight"), weight, bias))
    return found


def _own_numbers_(module: fx.GraphModule) -> None:
    """Give each layer a weight and a bias that no other node reads."""
    taken: set[str] = set()
    for node in [node for node in module.graph.nodes if node.target in WEIGHTED]:
        weight = node.args[1]
        name = str(weight.target)
        if weight.op != "get_attr":
            raise ExportError(f"the weights of {node.name} are computed; give a model with plain weights")
        own = name not in taken and name in dict(module.named_parameters())
        place = name if own else f"{name}_of_{node.name}"
        taken.add(place)
        held = _tensor(module, name).detach().clone()
        given = node.args[2] if len(node.args) > 2 else None
        bias = held.new_zeros(len(held)) if given is None else _tensor(module, str(given.target)).detach().clone()
        _use_(module, node, place, held, bias)


def _use_(module: fx.GraphModule, node: fx.Node, place: str, weight: Tensor, bias: Tensor) -> None:
    """Let a layer compute with these numbers, kept as parameters at `place` and beside it."""
    owner, _, leaf = place.rpartition(".")
    beside = f"{owner}.bias" if owner and leaf == "weight" else f"{place}_bias"
    with module.graph.inserting_before(node):
        for path, value in ((place, weight), (beside, bias)):
            owner, _, leaf = path.rpartition(".")
            _owner(module, owner).register_parameter(leaf, nn.Parameter(value, requires_grad=False))
        read = [module.graph.get_attr(path) for path in (place, beside)]
    node.args = (node.args[0], *read, *node.args[3:])


def _owner(module: nn.Module, path: str) -> nn.Module:
    for word in filter(None, path.split(".")):
        if word not in module._modules:
            module.add_module(word, nn.Module())
        module = module._modules[word]  # type: ignore[assignment]
    return module


def _tensor(module: nn.Module, path: str) -> Tensor:
    owner, _, leaf = path.rpartition(".")
    found = getattr(module.get_submodule(owner), leaf)
    assert isinstance(found, Tensor)
    return found


def _fold_(module: fx.GraphModule, norm: fx.Node) -> None:
    """Multiply a BatchNorm into the layer before, in float64; its readers read the layer."""
    layer: Any = norm.args[0]
    given = [None if a is None else _tensor(module, str(a.target)).double() for a in norm.args[1:5]]  # type: ignore[union-attr]
    gamma, beta, mean, variance = given
    epsilon: Any = norm.args[6]
    assert mean is not None
    assert variance is not None
    factor = (variance + epsilon).rsqrt()
    factor = factor if gamma is None else factor * gamma
    place = str(layer.args[1].target)
    weight, bias = (module.get_parameter(str(argument.target)).double() for argument in layer.args[1:3])
    bias = (bias - mean) * factor + (0 if beta is None else beta)
    weight = weight * factor.reshape(-1, *(1,) * (weight.ndim - 1))
    _use_(module, layer, place, weight.float(), bias.float())
    for reader in list(norm.users):
        if reader.target is operator.getitem:
            reader.replace_all_uses_with(layer)
            module.graph.erase_node(reader)
    module.graph.erase_node(norm)
