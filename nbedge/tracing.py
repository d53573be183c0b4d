"""What a model really does in one forward pass: which module or function consumes which tensor, and at what cost."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

#: layers that multiply and accumulate
WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a leaf module, or of a torch function outside of leaf modules.

    Attributes:
        name: module path, or the function's name.
        module: the module called; None for a function.
        inputs: numbers of the tensors consumed.
        outputs: numbers of the tensors produced.
        shape: of the first output.
        input_shape: of the first tensor consumed; empty if there is none.
    """

    name: str
    module: nn.Module | None
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    shape: tuple[int, ...]
    input_shape: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Trace:
    """Every call of one forward pass, in order.

    Attributes:
        calls: of leaf modules and functions.
        returned: numbers of the model's outputs.
        readers: id of a parameter -> name of a function, or of an attribute, that read it outside of leaf modules.
    """

    calls: tuple[Call, ...]
    returned: frozenset[int]
    readers: Mapping[int, str] = field(default_factory=dict)

    def of(self, module: nn.Module) -> list[Call]:
        """Return the calls of `module`."""
        return [call for call in self.calls if call.module is module]

    def consumers(self, value: int) -> list[Call]:
        """Return the calls that read the tensor numbered `value`."""
        return [call for call in self.calls if value in call.inputs]


class _Recorder(TorchFunctionMode):
    """Number tensors as they appear. A tensor changed in place gets a new number, so that order is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.readers: dict[int, str] = {}
        self._alive: dict[int, Tensor] = {}  # held, so that no id is used twice
        self._numbers: dict[int, int] = {}
        self._next = 0
        self._inside_leaf = 0

    def number(self, tensor: Tensor) -> int:
        return self._numbers[id(tensor)] if id(tensor) in self._numbers else self._new(tensor)

    def _new(self, tensor: Tensor) -> int:
        self._alive[id(tensor)] = tensor
        self._numbers[id(tensor)] = self._next
        self._next += 1
        return self._numbers[id(tensor)]

    def record(self, name: str, module: nn.Module | None, inputs: Any, outputs: Any) -> None:
        consumed, produced = tensors(inputs), tensors(outputs)
        self.readers |= {id(t): name for t in consumed if isinstance(t, nn.Parameter)}
        if not produced:
            return
        read = tuple(self.number(t) for t in consumed)
        shapes = tuple(produced[0].shape), tuple(consumed[0].shape) if consumed else ()
        self.calls.append(Call(name, module, read, tuple(self._new(t) for t in produced), *shapes))

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not self._inside_leaf:
            self.record(_name_of(func), None, (args, kwargs), result)
        return result

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        handles: list[torch.utils.hooks.RemovableHandle] = []
        for name, module in leaves(model):

            def enter(_module: nn.Module, _args: Any, _kwargs: Any) -> None:
                self._inside_leaf += 1

            def leave(module: nn.Module, args: Any, kwargs: Any, output: Any, name: str = name) -> None:
                self._inside_leaf -= 1
                if not self._inside_leaf:  # a leaf may hold others, as a BatchNorm its activation
                    self.record(name, module, (args, kwargs), output)

            handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
            handles.append(module.register_forward_hook(leave, with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _name_of(func: Callable[..., Any]) -> str:
    """Return the name of a torch function; of the read of an attribute, such as `device`, that of the attribute."""
    name = getattr(func, "__name__", str(func))
    return str(getattr(func.__self__, "__name__", name)) if name == "__get__" else name  # type: ignore[attr-defined]


def tensors(values: Any) -> list[Tensor]:
    """Return the tensors inside nested tuples, lists and dicts."""
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def leaves(model: nn.Module) -> Iterable[tuple[str, nn.Module]]:
    """Return (path, module) of every layer and normalisation, and of every other module that holds no modules."""
    whole = (*WEIGHTED, _NormBase)
    return [(name, m) for name, m in model.named_modules() if isinstance(m, whole) or not any(m.children())]


def paths(model: nn.Module, module: nn.Module) -> list[str]:
    """Return each path under which `module` stands in `model`: several where a part is registered twice."""
    return [name for name, found in model.named_modules(remove_duplicate=False) if found is module]


def registrations(model: nn.Module, module: nn.Module) -> int:
    """Return of how many modules inside `model`, and under how many names, `module` is a direct part."""
    return sum(child is module for parent in model.modules() for child in parent._modules.values())


def trace(model: nn.Module, example_input: Tensor) -> Trace:
    """Run `model` once in eval mode on `example_input` and return what it did. Weights and mode stay as they were."""
    recorder = _Recorder()
    with evaluating(model), torch.no_grad(), recorder.watching(model), recorder:
        returned = model(example_input)
    returned_numbers = frozenset(recorder.number(t) for t in tensors(returned))
    return Trace(tuple(recorder.calls), returned_numbers, recorder.readers)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Hold `model` in eval mode inside the block; each module gets its own mode back, a frozen BatchNorm too."""
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@dataclass(frozen=True, slots=True)
class Cost:
    """Size of a model: `parameters` counts trainable numbers, `macs` multiply-accumulates for one input."""

    parameters: int
    macs: int


def cost(model: nn.Module, example_input: Tensor) -> Cost:
    """Count parameters, and the multiply-accumulates of convolution and linear layers for one input.

    Args:
        model: any module.
        example_input: (n, c, h, w); the count is for one of the n.
    """
    calls = trace(model, example_input).calls
    macs = sum(_macs(call.module, call.shape) for call in calls if isinstance(call.module, WEIGHTED))
    return Cost(sum(p.numel() for p in model.parameters()), macs // len(example_input))


def _macs(layer: nn.Module, shape: tuple[int, ...]) -> int:
    outputs = torch.Size(shape).numel()
    weight = layer.weight  # a parameter, or computed by a parametrization
    assert isinstance(weight, Tensor)
    return outputs * weight[0].numel()
