"""Multiply-accumulates of an operator, counted from shapes."""

import math

from nbedge.graph.records import Graph, Operator

#: operators that multiply and accumulate; the elements of their kernel that meet in one output are those of one output
#: channel (TFLite: first dimension; ONNX: first dimension of the weight)
_TFLITE = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "CONV_3D", "BATCH_MATMUL"}
_ONNX = {"Conv", "ConvTranspose", "Gemm", "MatMul", "ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul",
         "QGemm", "FusedConv", "FusedGemm", "FusedMatMul", "NhwcQLinearConv", "NhwcFusedConv"}  # fmt: skip
KINDS = _TFLITE | _ONNX


def macs(graph: Graph, operator: Operator) -> int:
    """Return the multiply-accumulates of one run of an operator; 0 for those that do not accumulate products.

    The count is output elements times the products that meet in each; an open batch counts as 1.
    """
    if operator.kind not in KINDS:
        return 0
    weight = graph.tensors.get(operator.inputs[weight_index(operator)])
    output = graph.tensors.get(operator.outputs[0])
    if weight is None or output is None or not weight.shape:
        return 0
    return output.size * _products(operator, weight.shape)


def weight_index(operator: Operator) -> int:
    """Return which input of an operator that accumulates products is its weight."""
    return 3 if operator.kind in ("QLinearConv", "QLinearMatMul", "QGemm", "NhwcQLinearConv") else 1


def _products(operator: Operator, weight: tuple[int, ...]) -> int:
    if operator.kind == "DEPTHWISE_CONV_2D":  # 1, height, width, channels
        return math.prod(weight[:3])
    if "MatMul" in operator.kind or operator.kind == "BATCH_MATMUL":  # ..., k, n
        return weight[-2] if len(weight) > 1 else weight[0]
    if operator.kind in ("Gemm", "FusedGemm", "QGemm") and not operator.options.get("transB"):
        return weight[0]
    return math.prod(weight[1:])
