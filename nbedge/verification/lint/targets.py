"""What the runtimes of the targets can run."""

from collections import Counter

import numpy as np

from nbedge.errors import InputError, MissingDependencyError
from nbedge.graph import Graph
from nbedge.runtime import import_onnxruntime, open_file
from nbedge.verification.equivalence import Check, Verdict, at_most, not_checked, reported

#: operators that the interpreter of tflite-micro 0.dev20261023182759 finds: each was put alone into a file; to others
#: it said "Didn't find op" (measured). RELU_0_TO_1, what onnx2tf makes of a hard sigmoid, and GELU are among those
TFLM = frozenset({
    "ABS", "ADD", "ADD_N", "ARG_MAX", "ARG_MIN", "ASSIGN_VARIABLE", "AVERAGE_POOL_2D", "BATCH_MATMUL",
    "BATCH_TO_SPACE_ND", "BROADCAST_ARGS", "BROADCAST_TO", "CALL_ONCE", "CAST", "CEIL", "CONCATENATION", "CONV_2D",
    "COS", "CUMSUM", "DEPTHWISE_CONV_2D", "DEPTH_TO_SPACE", "DEQUANTIZE", "DIV", "DYNAMIC_UPDATE_SLICE", "ELU",
    "EMBEDDING_LOOKUP", "EQUAL", "EXP", "EXPAND_DIMS", "FILL", "FLOOR", "FLOOR_DIV", "FLOOR_MOD", "FULLY_CONNECTED",
    "GATHER", "GATHER_ND", "GREATER", "GREATER_EQUAL", "HARD_SWISH", "IF", "L2_NORMALIZATION", "L2_POOL_2D",
    "LEAKY_RELU", "LESS", "LESS_EQUAL", "LOG", "LOGICAL_AND", "LOGICAL_NOT", "LOGICAL_OR", "LOGISTIC", "LOG_SOFTMAX",
    "MAXIMUM", "MAX_POOL_2D", "MEAN", "MINIMUM", "MIRROR_PAD", "MUL", "NEG", "NOT_EQUAL", "PACK", "PAD", "PADV2",
    "PRELU", "QUANTIZE", "READ_VARIABLE", "REDUCE_ALL", "REDUCE_MAX", "REDUCE_MIN", "RELU", "RELU6", "RESHAPE",
    "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "REVERSE_V2", "ROUND", "RSQRT", "SELECT_V2", "SHAPE", "SIN",
    "SLICE", "SOFTMAX", "SPACE_TO_BATCH_ND", "SPACE_TO_DEPTH", "SPLIT", "SPLIT_V", "SQRT", "SQUARE",
    "SQUARED_DIFFERENCE", "SQUEEZE", "STRIDED_SLICE", "SUB", "SUM", "SVDF", "TANH", "TRANSPOSE", "TRANSPOSE_CONV",
    "UNIDIRECTIONAL_SEQUENCE_LSTM", "UNPACK", "VAR_HANDLE", "WHILE", "ZEROS_LIKE",
})  # fmt: skip
#: operators that Vela 5.2 places on an Ethos-U (its --supported-ops-report), where their constraints hold
ETHOS_U = frozenset({
    "ABS", "ADD", "ARG_MAX", "ASSIGN_VARIABLE", "AVERAGE_POOL_2D", "BATCH_MATMUL", "CONCATENATION", "CONV_2D",
    "DEPTHWISE_CONV_2D", "DIV", "ELU", "EXP", "EXPAND_DIMS", "FULLY_CONNECTED", "GELU", "HARD_SWISH", "LEAKY_RELU",
    "LOG", "LOGISTIC", "MAXIMUM", "MAX_POOL_2D", "MEAN", "MINIMUM", "MIRROR_PAD", "MUL", "NEG", "PACK", "PAD",
    "PADV2", "PRELU", "QUANTIZE", "READ_VARIABLE", "REDUCE_MAX", "REDUCE_MIN", "RELU", "RELU6", "RELU_0_TO_1",
    "RELU_N1_TO_1", "RESHAPE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "RSQRT", "SLICE", "SOFTMAX", "SPLIT",
    "SPLIT_V", "SQUARED_DIFFERENCE", "SQUEEZE", "STRIDED_SLICE", "SUB", "SUM", "TANH", "TRANSPOSE", "TRANSPOSE_CONV",
    "UNIDIRECTIONAL_SEQUENCE_LSTM", "UNPACK",
})  # fmt: skip
#: target -> format of its files, and the kernels here that stand for it ("" where nothing here does)
TARGETS = {"tflm": ("tflite", "tflm"), "litert": ("tflite", "xnnpack"), "ort": ("onnx", ""), "ethos-u": ("tflite", "")}
#: names of checks: operators that only pad; the start of: those that a target lacks
PADS, LACKED = "PAD", "operators that"
#: operators that only move data about; on a microcontroller each copies an activation
MOVING = ("TRANSPOSE", "Transpose")


def target_checks(graph: Graph, target: str | None) -> list[Check]:
    """Judge whether a target can run a file: its operators, their versions, and what its runtime says.

    Raises:
        InputError: the target is unknown.
    """
    moving = sum(operator.kind in MOVING for operator in graph.operators)
    if target is None:
        return [reported("TRANSPOSE", moving, "operators", "each copies an activation"), *_pads(graph)]
    if target not in TARGETS:
        raise InputError(f"unknown target {target!r}; choose from {', '.join(TARGETS)}")
    format, kernels = TARGETS[target]
    if graph.format != format:
        return [at_most("format", 1, 0, "", f"{target} runs {format} files, this is {graph.format}")]
    on_micro = target in ("tflm", "ethos-u")
    copies = at_most("TRANSPOSE", moving, 0, "operators", "each copies an activation")
    checks = [
        copies if on_micro else reported(copies.name, moving, copies.unit, copies.detail),
        *_pads(graph),
        *lacking(graph, target),
    ]
    return [*checks, _opset(graph)] if format == "onnx" else [*checks, *([_loads(graph, kernels)] if kernels else [])]


def _pads(graph: Graph) -> list[Check]:
    """Report the operators that only pad: convolutions of TFLite pad by themselves, but not on all four sides alike.

    On a MobileNetV2 of 96x96 they took a third of TFLite Micro's arena (measured).
    """
    if graph.format != "tflite":
        return []
    made = [graph.tensors[o.outputs[0]] for o in graph.operators if o.kind in ("PAD", "PADV2")]
    size = sum(tensor.size * np.dtype(tensor.dtype).itemsize for tensor in made)
    return [reported(PADS, len(made), "operators", f"copies of {size} bytes" if made else "")]


def lacking(graph: Graph, target: str) -> list[Check]:
    """Judge whether a target knows the operators of a file."""
    known = {"tflm": TFLM, "ethos-u": ETHOS_U}.get(target)
    if known is None:
        return []
    strange = Counter(operator.kind for operator in graph.operators if operator.kind not in known)
    hybrid = [o.kind for o in graph.operators if _hybrid(graph, o.inputs)]
    listed = ", ".join(f"{number} {kind}" for kind, number in sorted(strange.items()))
    return [
        at_most(f"{LACKED} {target} lacks", strange.total(), 0, "operators", listed),
        at_most("operators with float inputs and integer weights", len(hybrid), 0, "operators", ", ".join(hybrid[:1])),
    ]


def _hybrid(graph: Graph, inputs: tuple[str, ...]) -> bool:
    tensors = [graph.tensors[name] for name in inputs[:2] if name in graph.tensors]
    return len(tensors) == 2 and tensors[0].is_float and tensors[1].dtype == "int8"


def _loads(graph: Graph, kernels: str) -> Check:
    """Let the runtime itself look: it knows the versions of its operators."""
    name = f"loads in {kernels}"
    try:
        open_file(graph.path, kernels)
    except MissingDependencyError as error:
        return not_checked(name, str(error))
    except InputError as error:
        return Check(name, Verdict.FAIL, 1, 0, "", str(error))
    return at_most(name, 0, 0, "", "operators and their versions are known to it")


def _opset(graph: Graph) -> Check:
    import_onnxruntime()
    import onnx

    newest = max((operator.version for operator in graph.operators), default=0)
    return at_most("operator set", newest, onnx.defs.onnx_opset_version(), "", "the newest that is known here")
