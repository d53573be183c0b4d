"""What a network starts with, beyond the fresh weights of its layers."""

from torch import Tensor, nn

from nbedge.errors import InputError
from nbedge.layers import is_norm
from nbedge.survey import ACTIVATION_OF, word_of
from nbedge.tracing import Call, Trace, trace


def raise_norms_(model: nn.Module, example_input: Tensor, bias: float = 1.0) -> tuple[str, ...]:
    """Set the bias of every BatchNorm that an activation reads, and return their paths.

    A BatchNorm centres its output on 0, so that a ReLU behind it discards half of what arrives, layer after layer; at a
    bias of 1 it passes 84 % (of a normal distribution) at first. Where no shortcut carries the rest around the layers,
    as in MobileNetV1 and DS-CNN, that decides how well a deep and narrow network is trained in a short time; with
    shortcuts, and in plain layers of 3x3, it does harm. Measured: docs/results.md.

    Args:
        model: fresh, or a fresh giant; other weights stay as they are.
        example_input: (n, c, h, w), as the model takes it.
        bias: in standard deviations of what the BatchNorm passes on.

    Raises:
        InputError: no activation reads a BatchNorm with a bias.
    """
    found = activated_norms(model, example_input)
    if not found:
        raise InputError("no activation of the model reads a BatchNorm with a bias; leave the norm bias at 0")
    for call in found:
        nn.init.constant_(call.module.bias, bias)  # type: ignore[union-attr,arg-type]
    return tuple(call.name for call in found)


def has_shortcuts(model: nn.Module, example_input: Tensor) -> bool:
    """Return whether the model adds or concatenates tensors that come from different layers, as shortcuts do.

    Args:
        model: any; it is left as it is.
        example_input: (n, c, h, w), as the model takes it.
    """
    joins = {"add", "add_", "__add__", "__radd__", "__iadd__", "cat", "concat"}
    return any(call.module is None and call.name in joins and len(set(call.inputs)) > 1
               for call in trace(model, example_input).calls)  # fmt: skip


def usual_bias(model: nn.Module, example_input: Tensor) -> float:
    """Return the bias with which BatchNorms of `model` should start: 1 in separable blocks without shortcuts, else 0.

    On 16 plain layers of 3x3 a bias of 1 lost 1.4 to 2.6 points. Measured: docs/results.md.

    Args:
        model: any; it is left as it is.
        example_input: (n, c, h, w), as the model takes it.
    """
    if has_shortcuts(model, example_input) or not any(map(_is_depthwise, model.modules())):
        return 0.0
    return 1.0 if activated_norms(model, example_input) else 0.0


def _is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and module.groups == module.in_channels > 1


def activated_norms(model: nn.Module, example_input: Tensor) -> list[Call]:
    """Return the calls of BatchNorms with a bias whose output an activation of `model` reads.

    Args:
        model: any; it is left as it is.
        example_input: (n, c, h, w), as the model takes it.
    """
    record = trace(model, example_input)
    return [call for call in record.calls if _has_bias(call.module) and _is_activated(record, call)]


def _has_bias(module: nn.Module | None) -> bool:
    return module is not None and is_norm(module) and isinstance(module.bias, nn.Parameter)


def _is_activated(record: Trace, norm: Call) -> bool:
    """Return whether an activation reads the output; one with a slope reads it twice, as f(x) and as x."""
    inside = dict(norm.module.named_children()).get("act") if norm.module is not None else None
    readers = record.consumers(norm.outputs[0])
    return type(inside).__name__.lower() in ACTIVATION_OF or any(word_of(call) in ACTIVATION_OF for call in readers)
