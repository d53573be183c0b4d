"""int8 means what it says: what ONNX Runtime makes of a file."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from nbedge.artifact import SCHEMES
from nbedge.graph import Graph
from nbedge.runtime import import_onnxruntime
from nbedge.verification.equivalence import Check, at_most, reported
from nbedge.verification.lint.types import ends_check

#: operators of ONNX that multiply and accumulate in floating point
FLOAT_MACS = {"Conv", "Gemm", "MatMul", "ConvTranspose", "FusedConv", "FusedGemm", "FusedMatMul"}
INTEGER_MACS = {"QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger", "NhwcQLinearConv"}


def kernel_checks(graph: Graph, scheme: str, exempt: int = 0) -> list[Check]:
    """Judge whether an ONNX file computes with the types of `scheme`, but for so many exempt layers.

    Looked at is the graph that ONNX Runtime really runs on this processor, after its optimizer; of signed activations
    that which it runs on ARM, for which they are made.
    """
    onnxruntime = import_onnxruntime()
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        options.log_severity_level = 3
        if _signed(graph):
            options.add_session_config_entry("session.qdqisint8allowed", "1")
        session = onnxruntime.InferenceSession(graph.path, options, providers=["CPUExecutionProvider"])
        operators = _operators(Path(folder) / "optimized.onnx")
    macs = sum(operators[name] for name in FLOAT_MACS)
    if SCHEMES[scheme][1] != "int8":
        return [reported("float multiply-accumulates", macs, "operators", f"of {operators.total()}")]
    integers = sum(operators[name] for name in INTEGER_MACS)
    left = {name: n for name, n in operators.items() if not name.startswith(("QLinear", "Nhwc", "QGemm"))}
    detail = f"{integers} integer ones; other operators: {', '.join(f'{n} {name}' for name, n in sorted(left.items()))}"
    ends = {_type(value.type) for value in (*session.get_inputs(), *session.get_outputs())}
    some = at_most("integer kernels missing", float(integers == 0), 0, "", f"{integers} integer multiply-accumulates")
    return [at_most("float multiply-accumulates", macs, exempt, "operators", detail), some, ends_check(ends, scheme)]


def _signed(graph: Graph) -> bool:
    """Return whether activations are int8."""
    made = {name for operator in graph.operators if operator.kind == "QuantizeLinear" for name in operator.outputs}
    return any(graph.tensors[name].dtype == "int8" for name in made & graph.tensors.keys())


def _operators(path: Path) -> Counter[str]:
    import onnx

    graph: Any = onnx.load(path, load_external_data=False).graph
    return Counter(node.op_type for node in graph.node)


def _type(name: str) -> str:
    kind = name.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32"}.get(kind, kind)
