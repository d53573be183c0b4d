"""int8 means what it says: which types a file computes with, read off the file or off what the runtime makes of it."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from nbedge.artifact import SCHEMES
from nbedge.errors import needs
from nbedge.runtime import import_onnxruntime
from nbedge.verification.equivalence import Check, Verdict, at_most, not_checked, reported

#: operators of ONNX that multiply and accumulate in floating point
FLOAT_MACS = {"Conv", "Gemm", "MatMul", "ConvTranspose", "FusedConv", "FusedGemm", "FusedMatMul"}
INTEGER_MACS = {"QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger", "NhwcQLinearConv"}
#: operators that change nothing but the type
CASTS = {"QuantizeLinear", "DequantizeLinear"}


def integer_checks(path: Path, scheme: str) -> list[Check]:
    """Judge whether the file at `path` computes with the types that `scheme` names."""
    if path.suffix == ".tflite":
        return _tflite(path, scheme)
    if path.suffix == ".onnx":
        return _onnx(path, scheme)
    return [not_checked("types", f"no reader for {path.suffix} files")]


def _tflite(path: Path, scheme: str) -> list[Check]:
    with needs("tflite"):
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    reader = Interpreter(str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    reader.allocate_tensors()
    # an operator without a name is a delegate's placeholder
    tensors = [t for t in reader.get_tensor_details() if t["name"]]
    floats = [t["name"] for t in tensors if t["dtype"].__name__.startswith("float")]
    ends = {t["dtype"].__name__ for t in (*reader.get_input_details(), *reader.get_output_details())}
    return _judged(scheme, len(floats), len(tensors), ends, floats[:1])


def _judged(scheme: str, floats: int, total: int, ends: set[str], first: list[str]) -> list[Check]:
    if SCHEMES[scheme][1] != "int8":
        return [reported("float tensors", floats, "tensors", f"of {total}")]
    shown = f"of {total} tensors" + (f"; first {first[0]}" if first else "")
    checks = [at_most("float tensors", floats, 0, "tensors", shown)]
    return [*checks, _ends(scheme, ends)]


def _ends(scheme: str, ends: set[str]) -> Check:
    wanted = {"int8": {"int8", "uint8"}, "fp32": {"float32"}}[SCHEMES[scheme][2]]
    verdict = Verdict.PASS if ends <= wanted else Verdict.FAIL
    return Check("input and output", verdict, len(ends - wanted), 0, "types", ", ".join(sorted(ends)))


def _onnx(path: Path, scheme: str) -> list[Check]:
    """Look at the graph that ONNX Runtime really runs on this processor, after its optimizer."""
    onnxruntime = import_onnxruntime()
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        operators = _operators(Path(folder) / "optimized.onnx")
    macs = sum(operators[name] for name in FLOAT_MACS)
    if SCHEMES[scheme][1] != "int8":
        return [reported("float multiply-accumulates", macs, "operators", f"of {operators.total()}")]
    integers = sum(operators[name] for name in INTEGER_MACS)
    left = {name: n for name, n in operators.items() if not name.startswith(("QLinear", "Nhwc", "QGemm"))}
    detail = f"{integers} integer ones; other operators: {', '.join(f'{n} {name}' for name, n in sorted(left.items()))}"
    ends = {_type(value.type) for value in (*session.get_inputs(), *session.get_outputs())}
    some = at_most("integer kernels missing", float(integers == 0), 0, "", f"{integers} integer multiply-accumulates")
    return [at_most("float multiply-accumulates", macs, 0, "operators", detail), some, _ends(scheme, ends)]


def _operators(path: Path) -> Counter[str]:
    import onnx

    graph: Any = onnx.load(path, load_external_data=False).graph
    return Counter(node.op_type for node in graph.node)


def _type(name: str) -> str:
    return {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(int8)": "int8"}.get(name, name)
