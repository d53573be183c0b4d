"""The scales and zero points of a file's activations and biases: are they what the kernels rely on?"""

import math

import numpy as np

from nbedge.graph import Graph, Operator, Tensor, macs
from nbedge.verification.equivalence import Check, at_most

#: operator -> (scale, zero point as int8) that its kernels take for granted; the quantization specification of TFLite
FIXED = {
    "SOFTMAX": (1 / 256, -128),
    "LOGISTIC": (1 / 256, -128),
    "TANH": (1 / 128, 0),
    "L2_NORMALIZATION": (1 / 128, 0),
}
#: bias scale over input scale x weight scale; the kernels of TFLite accept 2 % of the output's scale, converters write
#: the product rounded to float32
BIAS = 1e-4
QUANTIZED = ("int8", "uint8", "int16")
#: operators that pass on what they get, with its scale; others of one input may change it
PASSING = ("RESHAPE", "MAX_POOL_2D", "PAD", "TRANSPOSE", "SQUEEZE", "STRIDED_SLICE", "AVERAGE_POOL_2D", "EXPAND_DIMS",
           "RESIZE_NEAREST_NEIGHBOR", "SLICE")  # fmt: skip


def scale_checks(graph: Graph) -> list[Check]:
    """Judge every scale and zero point of the activations, those with a fixed scale, and the biases."""
    made = {name for operator in graph.operators for name in operator.outputs} | set(graph.inputs)
    pixels = {operator.inputs[0] for operator in graph.operators if operator.kind == "CAST"} & set(graph.inputs)
    activations = [t for name, t in graph.tensors.items() if name in made - pixels and t.dtype in QUANTIZED]
    if not activations:
        return []
    strange = [t.name for t in activations if not _sane(t)]
    fixed = [(o, graph.tensors[o.outputs[0]]) for o in graph.operators if o.kind in FIXED]
    wrong = [t.name for o, t in fixed if t.dtype in QUANTIZED and not _as_fixed(o, t)]
    moved = [o.label for o in graph.operators if o.kind in PASSING and not _passed_on(graph, o)]
    return [
        _none("scales and zero points out of range", strange, len(activations)),
        _none("softmax and its kin with other scales than their kernels'", wrong, len(fixed)),
        _none("operators that change a scale which they must pass on", moved, len(graph.operators)),
        _biases(graph),
    ]


def onnx_scale_checks(graph: Graph) -> list[Check]:
    """Judge every scale and zero point of an ONNX file's activations, and the scales of its biases.

    ONNX fixes no scale to an operator: what computes on integers without one of its own passes on its input's.
    """
    made = {name for operator in graph.operators for name in operator.outputs} | set(graph.inputs)
    activations = [t for name, t in graph.tensors.items() if name in made and t.dtype in QUANTIZED and len(t.scales)]
    if not activations:
        return []
    strange = [t.name for t in activations if not _sane(t)]
    return [_none("scales and zero points out of range", strange, len(activations)), _biases(graph)]


def _biases(graph: Graph) -> Check:
    biases = [(o, error) for o in graph.operators if (error := _bias_error(graph, o)) is not None]
    worst = max(biases, key=lambda pair: pair[1], default=None)
    return at_most("bias scale against input x weight", worst[1] if worst else 0.0, BIAS, "relative",
                   worst[0].label if worst else "no bias")  # fmt: skip


def _none(name: str, wrong: list[str], total: int) -> Check:
    return at_most(name, len(wrong), 0, "", f"of {total}" + (f"; first {wrong[0]}" if wrong else ""))


def _sane(tensor: Tensor) -> bool:
    if len(tensor.scales) != 1:
        return False
    scale, limits = float(tensor.scales[0]), np.iinfo(tensor.dtype)
    point = int(tensor.zero_points[0]) if len(tensor.zero_points) else 0
    return math.isfinite(scale) and scale > 0 and limits.min <= point <= limits.max


def _as_fixed(operator: Operator, tensor: Tensor) -> bool:
    if not _sane(tensor) or tensor.dtype == "int16":
        return _sane(tensor)
    scale, point = FIXED[operator.kind]
    if tensor.dtype == "uint8":
        point += 128
    return math.isclose(float(tensor.scales[0]), scale, rel_tol=1e-6) and int(tensor.zero_points[0]) == point


def _passed_on(graph: Graph, operator: Operator) -> bool:
    before, after = graph.tensors[operator.inputs[0]], graph.tensors[operator.outputs[0]]
    if not (len(before.scales) == len(after.scales) == 1):
        return True
    same = math.isclose(float(before.scales[0]), float(after.scales[0]), rel_tol=1e-6)
    return same and np.array_equal(before.zero_points, after.zero_points)


def _bias_error(graph: Graph, operator: Operator) -> float | None:
    """Return how far the scales of an integer bias are from input scale x weight scales; None where there is none."""
    if not macs(graph, operator) or len(operator.inputs) < 3 or not operator.inputs[2]:
        return None
    entry, weight, bias = (graph.stored(name) for name in operator.inputs[:3])
    if entry is None or weight is None or bias is None:
        return None
    if not (len(entry.scales) and len(weight.scales) and bias.dtype in ("int32", "int64")):
        return None
    if not len(bias.scales):
        return math.inf
    wanted = entry.scales[0].astype(np.float64) * weight.scales.astype(np.float64)
    return float(np.max(np.abs(bias.scales / wanted - 1)))
