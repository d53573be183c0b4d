"""The runner of ONNX files: ONNX Runtime on the CPU."""

import json
import os
from pathlib import Path
from typing import Any

from nbedge.artifact import QUANTIZATION, TensorSpec
from nbedge.errors import InputError, first_line, needs
from nbedge.machine import onnxruntime_kernels
from nbedge.runtime.runner import Arrays, Runner, layout

#: ONNX Runtime's names of the types that are not numpy's
_TYPES = {"float": "float32", "double": "float64"}

#: the level of optimization that it uses itself
USUAL = "ORT_ENABLE_ALL"


def optimization_levels() -> tuple[str, ...]:
    """Return ONNX Runtime's names of its levels of optimization; releases differ in them."""
    return tuple(import_onnxruntime().GraphOptimizationLevel.__members__)


def import_onnxruntime() -> Any:
    """Import ONNX Runtime with its telemetry off: it is on by default and writes into the user's home."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    with needs("onnx"):
        import onnxruntime
    return onnxruntime


def of_onnx(path: Path, threads: int = 1, level: str = USUAL) -> Runner:
    """Run an ONNX file in ONNX Runtime on the CPU.

    Args:
        path: the file.
        threads: used by the kernels.
        level: of optimization, one of `optimization_levels()`.

    Raises:
        InputError: ONNX Runtime cannot load it.
    """
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises several unrelated classes
        raise unreadable(path, "ONNX Runtime", error) from error
    noted = session.get_modelmeta().custom_metadata_map
    inputs = tuple(_spec(value, noted) for value in session.get_inputs())
    outputs = tuple(_spec(value, noted) for value in session.get_outputs())

    def run(arrays: Arrays) -> Arrays:
        return dict(zip([o.name for o in outputs], session.run(None, arrays), strict=True))

    return Runner(inputs, outputs, onnxruntime_kernels(), run)


def _spec(value: Any, noted: dict[str, str]) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else 0 for size in value.shape)
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    quantization = json.loads(noted.get(QUANTIZATION + value.name, "{}"))
    return TensorSpec(value.name, shape, _TYPES.get(kind, kind), layout(shape, "NCHW"), **quantization)


def unreadable(path: Path, runtime: str, error: Exception) -> InputError:
    """Return the error that says, in one sentence, that `runtime` cannot load the file."""
    reason = first_line(error)
    return InputError(f"{runtime} cannot load {path}: {reason}; export the file again")
