"""The runtimes that can be timed: open a file, feed it once, invoke it as often as asked.

Nothing is copied in or out between two calls, so that a call is the invoke and nothing else.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

import numpy as np

from nbedge.agent import RUNTIME
from nbedge.agent.micro import open_micro
from nbedge.machine import onnxruntime_kernels

_ORT_TYPES = {"float": "float32", "float16": "float16", "double": "float64", "bool": "bool"}


@dataclass(frozen=True)
class Opened:
    """A file in its runtime.

    Attributes:
        entries: name -> (shape, dtype) of its inputs; a size that is dynamic is 1.
        feed: takes name -> array.
        invoke: runs it once.
        answers: returns name -> array.
        kernels: which kernels run it: "xnnpack", "builtin", "reference", "tflm", "ort-vnni", ...
        arena_bytes: of tensor memory, where the runtime tells it.
    """

    entries: dict[str, tuple[tuple[int, ...], str]]
    feed: Callable[[dict[str, Any]], None]
    invoke: Callable[[], object]
    answers: Callable[[], dict[str, Any]]
    kernels: str
    arena_bytes: int | None = None


class Engine(Protocol):
    """A runtime, imported.

    Attributes:
        runtime: distribution and version, e.g. "onnxruntime 1.32.0".
    """

    runtime: str

    def open(self, path: str, threads: int) -> Opened:
        """Load `path` for `threads` threads."""


class MissingRuntimeError(ImportError):
    """The runtime is not installed; `name` is its distribution."""


class OnnxRuntime:
    """ONNX Runtime on the CPU."""

    def __init__(self) -> None:
        """Import the runtime."""
        self._ort, self.runtime = imported("onnxruntime", "onnxruntime")

    def open(self, path: str, threads: int) -> Opened:
        """Load `path`; inputs and outputs are bound once, so that a call copies nothing."""
        options = self._ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        session = self._ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        binding = session.io_binding()
        names = [tensor.name for tensor in session.get_outputs()]

        def feed(arrays: dict[str, Any]) -> None:
            for name, array in arrays.items():
                binding.bind_cpu_input(name, array)
            for name in names:
                binding.bind_output(name)

        return Opened(
            {tensor.name: (_shape(tensor.shape), _ort_type(tensor.type)) for tensor in session.get_inputs()}, feed,
            lambda: session.run_with_iobinding(binding),
            lambda: {name: value for name, value in zip(names, binding.copy_outputs_to_cpu())},  # noqa: B905
            onnxruntime_kernels(),
        )  # fmt: skip


class TFLite:
    """An interpreter of TFLite files, with one set of its kernels."""

    def __init__(self, module: str, distribution: str, kernels: str) -> None:
        """Import the interpreter."""
        self._module, self.runtime = imported(module, distribution)
        self._kernels = kernels

    def open(self, path: str, threads: int) -> Opened:
        """Load `path`; dynamic sizes are 1, as the interpreter sets them."""
        resolvers = self._module.OpResolverType
        resolver = {"xnnpack": resolvers.AUTO, "builtin": resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
                    "reference": resolvers.BUILTIN_REF}[self._kernels]  # fmt: skip
        interpreter = self._module.Interpreter(path, num_threads=threads, experimental_op_resolver_type=resolver)
        interpreter.allocate_tensors()
        entries, exits = interpreter.get_input_details(), interpreter.get_output_details()

        def feed(arrays: dict[str, Any]) -> None:
            for entry in entries:
                interpreter.set_tensor(entry["index"], arrays[entry["name"]])

        return Opened(
            {entry["name"]: (_shape(entry["shape"]), np.dtype(entry["dtype"]).name) for entry in entries}, feed,
            interpreter.invoke, lambda: {exit_["name"]: interpreter.get_tensor(exit_["index"]) for exit_ in exits},
            self._applied(interpreter),
        )  # fmt: skip

    def _applied(self, interpreter: Any) -> str:
        """Return what the delegate took, not what was asked for: XNNPACK leaves 16-bit activations to other kernels."""
        if self._kernels != "xnnpack":
            return self._kernels
        operators = {node["op_name"] for node in interpreter._get_ops_details()}
        return "xnnpack" if "DELEGATE" in operators else "builtin"


class Micro:
    """The interpreter of TFLite Micro, built for this machine."""

    def __init__(self) -> None:
        """Import the runtime, and LiteRT, which knows the names."""
        self._module, self.runtime = imported("tflite_micro.python.tflite_micro.runtime", "tflite-micro")
        self._names = TFLite("ai_edge_litert.interpreter", "ai-edge-litert", "reference")

    def open(self, path: str, threads: int) -> Opened:
        """Load `path`; it has one thread."""
        known = self._names.open(path, 1)  # it refuses what would end the process in TFLite Micro
        opened = open_micro(self._module, path, list(known.entries), list(known.answers()))
        return Opened(
            known.entries, opened.feed, opened.invoke, opened.answers, "tflm", opened.arena_bytes
        )  # fmt: skip


def tflite(module: str, distribution: str, kernels: str = "xnnpack") -> Callable[[], Engine]:
    """Return what imports an interpreter of TFLite files."""
    return lambda: TFLite(module, distribution, kernels)


def any_tflite() -> Engine:
    """Import the first interpreter of TFLite files that is installed; its default delegate is XNNPACK.

    tflite-runtime is what a 32-bit Raspberry Pi has; on a PC it has no integer kernels of XNNPACK.

    Raises:
        MissingRuntimeError: none is installed.
    """
    for name in ("litert", "tflite-runtime", "tensorflow"):
        try:
            return ENGINES[name]()
        except MissingRuntimeError:
            continue
    raise MissingRuntimeError(
        "none of the packages 'ai-edge-litert', 'tflite-runtime' and 'tensorflow' is installed", name="ai-edge-litert"
    )


_LITERT = ("ai_edge_litert.interpreter", "ai-edge-litert")
#: name -> what imports it
ENGINES: dict[str, Callable[[], Engine]] = {
    "onnxruntime": OnnxRuntime,
    "tflite": any_tflite,
    "litert": tflite(*_LITERT),
    "litert-builtin": tflite(*_LITERT, kernels="builtin"),
    "litert-reference": tflite(*_LITERT, kernels="reference"),
    "tflite-runtime": tflite("tflite_runtime.interpreter", "tflite-runtime"),
    "tensorflow": tflite("tensorflow.lite.python.interpreter", "tensorflow"),
    "tflite-micro": Micro,
}


def imported(module: str, distribution: str) -> tuple[Any, str]:
    """Import a runtime; return it with its name and version.

    Raises:
        MissingRuntimeError: it is not installed.
    """
    try:
        known = f"{distribution} {version(distribution)}"
    except PackageNotFoundError:  # unpacked, not installed; or not there
        known = distribution
    sys.stdout.write(f"{RUNTIME}{known}\n")
    sys.stdout.flush()
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise  # the runtime is there and lacks something of its own
        raise MissingRuntimeError(f"the package {distribution!r} is not installed", name=distribution) from error
    return found, known if " " in known else f"{distribution} {getattr(found, '__version__', 'of unknown version')}"


def _shape(sizes: Any) -> tuple[int, ...]:
    return tuple(int(size) if isinstance(size, (int, np.integer)) and size > 0 else 1 for size in sizes)


def _ort_type(name: str) -> str:
    inner = name[len("tensor(") : -1] if name.startswith("tensor(") else name
    return "object" if inner == "string" else _ORT_TYPES.get(inner, inner)
