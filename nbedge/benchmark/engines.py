"""The runtimes that can be timed: open a file, feed it once, invoke it as often as asked.

These are not Runners: nothing is copied in or out between two calls, so that a call is the invoke and nothing else.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nbedge.errors import InputError, MissingDependencyError
from nbedge.machine import onnxruntime_kernels

#: where a TFLite interpreter is looked for, in this order: module -> distribution.
#: tflite-runtime is for 32-bit Raspberry Pis; on a PC it has no int8 XNNPACK kernels.
TFLITE = {
    "ai_edge_litert.interpreter": "ai-edge-litert",
    "tflite_runtime.interpreter": "tflite-runtime",
    "tensorflow.lite.python.interpreter": "tensorflow",
}
_ORT_TYPES = {"float": "float32", "float16": "float16", "double": "float64", "bool": "bool"}


@dataclass(frozen=True, slots=True)
class Opened:
    """A file in its runtime, fed with an input.

    Attributes:
        invoke: runs it once.
        kernels: which kernels run it ("xnnpack", "builtin", "ort-vnni", ...).
    """

    invoke: Callable[[], object]
    kernels: str


class Engine(Protocol):
    """A runtime, imported.

    Attributes:
        runtime: distribution and version, e.g. "onnxruntime 1.32.0".
    """

    runtime: str

    def open(self, path: Path, threads: int) -> Opened:
        """Load `path` for `threads` threads and feed it with a seeded random input."""


class OnnxRuntime:
    """ONNX Runtime on the CPU."""

    def __init__(self) -> None:
        """Import the runtime."""
        self._ort = _import({"onnxruntime": "onnxruntime"}, "onnx")[0]
        self.runtime = f"onnxruntime {self._ort.__version__}"

    def open(self, path: Path, threads: int) -> Opened:
        """Load `path`; inputs are bound once, so that a call copies nothing in."""
        options = self._ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        session = self._ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        binding = session.io_binding()
        for tensor in session.get_inputs():
            shape = [size if isinstance(size, int) and size > 0 else 1 for size in tensor.shape]
            binding.bind_cpu_input(tensor.name, random_input(shape, _ort_type(tensor.type)))
        for tensor in session.get_outputs():
            binding.bind_output(tensor.name)
        return Opened(lambda: session.run_with_iobinding(binding), onnxruntime_kernels())


class TFLite:
    """A TFLite interpreter with its default delegate, which is XNNPACK."""

    def __init__(self) -> None:
        """Import the first interpreter that is installed."""
        self._module, distribution = _import(TFLITE, "tflite")
        self.runtime = f"{distribution} {version(distribution)}"

    def open(self, path: Path, threads: int) -> Opened:
        """Load `path`; dynamic sizes are 1, as the interpreter sets them."""
        interpreter = self._module.Interpreter(str(path), num_threads=threads)
        interpreter.allocate_tensors()
        for tensor in interpreter.get_input_details():
            value = random_input(tensor["shape"], np.dtype(tensor["dtype"]).name)
            interpreter.set_tensor(tensor["index"], value)
        # what the delegate took, not what was asked for: int16 activations for instance stay with the builtin kernels
        operators = {node["op_name"] for node in interpreter._get_ops_details()}
        return Opened(interpreter.invoke, "xnnpack" if "DELEGATE" in operators else "builtin")


#: suffix of the file -> what runs it
ENGINES: dict[str, Callable[[], Engine]] = {".onnx": OnnxRuntime, ".tflite": TFLite}


def random_input(shape: Sequence[int], dtype: str) -> NDArray[Any]:
    """Return the same random array at every call: floats are normal, bytes span their range, wider integers are 0 or 1.

    Raises:
        InputError: `dtype` is no number.
    """
    generator = np.random.default_rng(0)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return generator.standard_normal(shape).astype(kind)
    if kind.kind in "iu" and kind.itemsize == 1:
        limits = np.iinfo(kind)
        return generator.integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)
    if kind.kind in "iub":
        return generator.integers(0, 2, shape).astype(kind)
    raise InputError(f"an input of type {dtype} cannot be made up; measure a file whose inputs are numbers")


def _ort_type(name: str) -> str:
    inner = name.removeprefix("tensor(").removesuffix(")")
    return "object" if inner == "string" else _ORT_TYPES.get(inner, inner)


def _import(places: dict[str, str], extra: str) -> tuple[ModuleType, str]:
    """Import the first module of `places` that is installed; return it with its distribution."""
    for module, distribution in places.items():
        try:
            return importlib.import_module(module), distribution
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
                raise  # the runtime is there and lacks something of its own
    names = " or ".join(repr(distribution) for distribution in places.values())
    raise MissingDependencyError(f"the package {names} is not installed; run: pip install 'nbedge[{extra}]'")
