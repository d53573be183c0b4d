"""Where in a network it comes from that a converter stumbled, or that a file holds what it should not."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from nbedge.verification import Check, Verdict
from nbedge.verification.lint import LACKED, PADS

#: operators of torch that all converters here take (each is in a test of an exported network, or in a sample)
COMMON = frozenset({
    "_softmax", "adaptive_avg_pool2d", "add", "addmm", "alias", "avg_pool2d", "batch_norm", "cat", "clamp", "clone",
    "contiguous", "conv1d", "conv2d", "convolution", "dropout", "flatten", "getitem", "hardsigmoid", "hardswish",
    "hardtanh", "hardtanh_", "hardswish_", "linear", "matmul", "max_pool2d", "mean", "mul", "pad", "permute", "relu",
    "relu_", "relu6", "relu6_", "reshape", "sigmoid", "softmax", "squeeze", "sub", "sum", "t", "transpose",
    "unsqueeze", "upsample_nearest2d", "view", "_native_batch_norm_legit_no_training", "_adaptive_avg_pool2d",
})  # fmt: skip
#: operator -> what computes alike, and is known everywhere
REPLACEMENTS: Mapping[str, str] = {
    **dict.fromkeys(("gelu", "mish", "silu", "elu", "celu", "selu", "softplus", "erf"), "use Hardswish, ReLU or ReLU6"),
    **dict.fromkeys(("upsample_bicubic2d", "grid_sampler_2d"), "resize by nearest neighbours"),
    **dict.fromkeys(("sort", "topk", "argsort", "linalg_svd", "linalg_svdvals"), "do it outside of the network"),
    **dict.fromkeys(("native_group_norm", "group_norm", "native_layer_norm", "layer_norm", "instance_norm"),
                    "use BatchNorm"),
}  # fmt: skip
#: suspects that are named
SHOWN = 3
#: of ATen's conv2d: places of stride, padding and dilation among the arguments
STRIDE, PADDING, DILATION = 3, 4, 5


def traced_back(check: Check, program: Path) -> Check:
    """Return a check of a file that says of what it has found where in the network that comes from, and the cure."""
    if check.name == PADS and check.value:
        return replace(check, detail=f"{check.detail}{_unpadded(padded(program))}")
    if check.name.startswith(LACKED) and check.verdict is Verdict.FAIL:
        return replace(check, detail=f"{check.detail}{suspects(program)}; replace it, or export for another target")
    return check


def padded(program: Path) -> list[str]:
    """Return the modules of convolutions that TFLite could pad by itself, were their padding not the same on all sides.

    TFLite's padding SAME puts the larger half at the bottom and at the right.
    """
    found: dict[str, None] = {}
    for node in torch.export.load(program).graph.nodes:
        if node.target is torch.ops.aten.conv2d.default:  # its other form has a padding of words, SAME among them
            name = _module_path(node)
            if name and not _is_same(node):
                found[name] = None
    return list(found)


def _is_same(node: Any) -> bool:
    """Return whether a convolution pads as SAME does, or in no way that SAME could stand for."""
    after = dict(enumerate(node.args))
    value, weight = (node.args[place].meta["val"].shape for place in (0, 1))
    strides, paddings, dilations = (
        _pair(after.get(place, usual)) for place, usual in ((STRIDE, 1), (PADDING, 0), (DILATION, 1))
    )
    for axis in (0, 1):
        size, kernel = value[2 + axis], dilations[axis] * (weight[2 + axis] - 1) + 1
        stride, padding = strides[axis], paddings[axis]
        outside = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        alike = (size + 2 * padding - kernel) // stride + 1 == math.ceil(size / stride)
        if alike and outside != 2 * padding:
            return False
    return True


def _pair(numbers: Any) -> tuple[int, int]:
    return (numbers, numbers) if isinstance(numbers, int) else (numbers[0], numbers[-1])


def _unpadded(modules: list[str]) -> str:
    if not modules:
        return ""
    shown = ", ".join(modules[:SHOWN]) + (f" and {len(modules) - SHOWN} more" if len(modules) > SHOWN else "")
    return (
        f"; {shown} would need none with their padding at the bottom and at the right alone, "
        "nn.ZeroPad2d((0, 1, 0, 1)) in front for a kernel of 3: another network, to be trained like that"
    )


def suspects(program: Path) -> str:
    """Return, as the end of a sentence, the operators of a program that few converters know; "" if there are none."""
    graph = torch.export.load(program).graph
    found: dict[str, str] = {}
    for node in (node for node in graph.nodes if node.op == "call_function"):
        name = str(getattr(node.target, "__name__", node.target)).partition(".")[0]
        if name not in COMMON:
            found.setdefault(name, _module(node))
    if not found:
        return ""
    shown = [f"{name} in {place}{_cure(name)}" for name, place in list(found.items())[:SHOWN]]
    return f"; few converters know {', '.join(shown)}"


def _module(node: Any) -> str:
    """Return, in words, the module that an operator comes from."""
    path = _module_path(node)
    return f"the module {path!r}" if path else "the network's own forward"


def _module_path(node: Any) -> str:
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]).removeprefix("L['self'].") if stack else ""


def _cure(name: str) -> str:
    return f" ({REPLACEMENTS[name]})" if name in REPLACEMENTS else ""
