"""Runners: named arrays in, named arrays out, whatever runs the model."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbedge import files
from nbedge.artifact import TensorSpec
from nbedge.errors import InputError, needs
from nbedge.evaluation import Logits
from nbedge.machine import onnxruntime_kernels
from nbedge.preprocessing import Images, Preprocessing

Arrays = dict[str, NDArray[Any]]
LAYOUTS = {4: "NCHW", 2: "NC"}
#: key of the metadata in which an ONNX file with integer input or output holds its scale and zero point
QUANTIZATION = "nbedge.quantization."


@dataclass(frozen=True, slots=True)
class Runner:
    """A model ready to run.

    Attributes:
        inputs: what it takes, in its own names, layouts and types; a first size of 0 takes any batch.
        outputs: what it gives.
        kernels: which kernels compute ("torch", "ort-vnni", "ort-avx2", "ort-arm", "xnnpack", "reference", "builtin").
        run: arrays by name -> arrays by name.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    kernels: str
    run: Callable[[Arrays], Arrays]


def of_module(model: Any, shape: tuple[int, int, int], classes: int) -> Runner:
    """Run a torch module in eval mode: "input" (n, c, h, w) float32 -> "logits" (n, classes)."""
    import torch

    from nbedge.tracing import evaluating

    dtype = next(model.parameters()).dtype

    def run(arrays: Arrays) -> Arrays:
        with evaluating(model), torch.inference_mode():
            return {"logits": model(torch.from_numpy(arrays["input"]).to(dtype)).numpy()}

    entry = TensorSpec("input", (0, *shape), "float32", "NCHW")
    return Runner((entry,), (TensorSpec("logits", (0, classes), "float32", "NC"),), "torch", run)


def import_onnxruntime() -> Any:
    """Import ONNX Runtime with its telemetry off: it is on by default and writes into the user's home."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    with needs("onnx"):
        import onnxruntime
    return onnxruntime


def of_onnx(path: Path, threads: int = 1) -> Runner:
    """Run an ONNX file in ONNX Runtime on the CPU."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises several unrelated classes
        raise _unreadable(path, "ONNX Runtime", error) from error
    noted = session.get_modelmeta().custom_metadata_map
    inputs = tuple(_onnx_spec(value, noted) for value in session.get_inputs())
    outputs = tuple(_onnx_spec(value, noted) for value in session.get_outputs())

    def run(arrays: Arrays) -> Arrays:
        return dict(zip([o.name for o in outputs], session.run(None, arrays), strict=True))

    return Runner(inputs, outputs, onnxruntime_kernels(), run)


def _onnx_spec(value: Any, noted: dict[str, str]) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else 0 for size in value.shape)
    dtype = (
        value.type.removeprefix("tensor(").removesuffix(")").replace("float", "float32").replace("float3216", "float16")
    )
    quantization = json.loads(noted.get(QUANTIZATION + value.name, "{}"))
    return TensorSpec(value.name, shape, dtype, LAYOUTS.get(len(shape), "ANY"), **quantization)


def of_tflite(path: Path, kernels: str = "xnnpack", threads: int = 1) -> Runner:
    """Run a TFLite file in LiteRT.

    Args:
        path: the file.
        kernels: "xnnpack" (phones, Pi), "reference" (the kernels that TFLite Micro follows) or "builtin".
        threads: used by the kernels.
    """
    with needs("tflite"):
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    resolvers = {
        "xnnpack": OpResolverType.AUTO,
        "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        "reference": OpResolverType.BUILTIN_REF,
    }
    try:
        with _quiet():
            resolver = resolvers[kernels]
            interpreter = Interpreter(str(path), num_threads=threads, experimental_op_resolver_type=resolver)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise _unreadable(path, "LiteRT", error) from error
    entries, exits = interpreter.get_input_details(), interpreter.get_output_details()

    def run(arrays: Arrays) -> Arrays:
        for entry in entries:
            interpreter.set_tensor(entry["index"], arrays[entry["name"]])
        interpreter.invoke()
        return {exit_["name"]: interpreter.get_tensor(exit_["index"]) for exit_ in exits}

    return Runner(tuple(map(_tflite_spec, entries)), tuple(map(_tflite_spec, exits)), kernels, run)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what native code says of its delegates on file descriptor 2 off the screen."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def _tflite_spec(details: dict[str, Any]) -> TensorSpec:
    shape = tuple(int(size) for size in details["shape"])
    scale, zero_point = details["quantization"]
    layout = {4: "NHWC", 2: "NC"}.get(len(shape), "ANY")
    return TensorSpec(details["name"], shape, np.dtype(details["dtype"]).name, layout, float(scale), int(zero_point))


def _unreadable(path: Path, runtime: str, error: Exception) -> InputError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return InputError(f"{runtime} cannot load {path}: {reason}; export the file again")


READERS: dict[str, Callable[[Path], Runner]] = {".onnx": of_onnx, ".tflite": of_tflite}


def open_file(path: Path) -> Runner:
    """Return the runner of an exported file, by its suffix.

    Raises:
        InputError: the file is missing, cut short, or of a format that no runtime here reads.
    """
    if files.existing(path, "the file").suffix not in READERS:
        raise InputError(
            f"{path}: no runtime here reads {path.suffix or 'a file without suffix'}; give .onnx or .tflite"
        )
    return READERS[path.suffix](path)


def quantize(x: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    """Return real values as the integers of `spec`, saturated; a float spec leaves them as they are."""
    if not spec.scale:
        return x.astype(spec.dtype, copy=False)
    limits = np.iinfo(spec.dtype)
    steps = np.clip(np.rint(x / spec.scale) + spec.zero_point, limits.min, limits.max)
    return np.asarray(steps, spec.dtype)


def dequantize(q: NDArray[Any], spec: TensorSpec) -> NDArray[np.float32]:
    """Return the real values that the integers of `spec` stand for."""
    if not spec.scale:
        return q.astype(np.float32, copy=False)
    return ((q.astype(np.float32) - spec.zero_point) * np.float32(spec.scale)).astype(np.float32)


def answer(runner: Runner, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run inputs x (n, c, h, w) through the first input and return the first output (n, k) as real values.

    Layout, integer types and a fixed batch of 1 are the file's own and are met here.

    Raises:
        InputError: there are no inputs, or the model takes another shape, or another batch than 1 or any.
    """
    if not len(x):
        raise InputError("there are no inputs to run the model on; give at least one")
    entry, exit_ = runner.inputs[0], runner.outputs[0]
    fed = x.transpose(0, 2, 3, 1) if entry.layout == "NHWC" else x
    if entry.shape[1:] != fed.shape[1:] or entry.shape[0] not in (0, 1):
        raise InputError(f"the model takes {entry.layout} {entry.shape}, the pictures are {fed.shape}; check --input")
    fed = np.ascontiguousarray(quantize(fed, entry))
    size = 1 if entry.shape[0] else 500
    parts = [runner.run({entry.name: fed[i : i + size]})[exit_.name] for i in range(0, len(fed), size)]
    return dequantize(np.concatenate(parts), exit_)


def answer_pictures(runner: Runner, images: Images, preprocessing: Preprocessing) -> Logits:
    """Run pictures (n, h, w, c) through `runner` and return logits (n, classes)."""
    parts = [answer(runner, preprocessing(images[i : i + 500])) for i in range(0, len(images), 500)]
    return np.concatenate(parts)
