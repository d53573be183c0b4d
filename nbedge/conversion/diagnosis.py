"""What of a network a converter may have stumbled over: operators that few of them know, and where they come from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

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
    """Return the path of the module that an operator comes from."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = str(stack[-1][0]).removeprefix("L['self'].") if stack else ""
    return f"the module {path!r}" if path else "the network's own forward"


def _cure(name: str) -> str:
    return f" ({REPLACEMENTS[name]})" if name in REPLACEMENTS else ""
