"""The runners of TFLite files: LiteRT with each of its kernels, and TFLite Micro."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nbedge.artifact import TensorSpec
from nbedge.errors import needs
from nbedge.runtime.onnx import unreadable
from nbedge.runtime.runner import Arrays, Runner, layout

#: bytes of arena that TFLite Micro gets; too small a one may end the process, so it is never searched for in it
ARENA = 64 * 2**20


def import_litert() -> Any:
    """Import the interpreter of LiteRT.

    Raises:
        MissingDependencyError: it is not installed.
    """
    with needs("tflite"):
        from ai_edge_litert import interpreter
    return interpreter


def of_tflite(path: Path, kernels: str = "xnnpack", threads: int = 1) -> Runner:
    """Run a TFLite file in LiteRT.

    Args:
        path: the file.
        kernels: "xnnpack" (phones, Pi), "reference" (the kernels that TFLite Micro follows) or "builtin".
        threads: used by the kernels.

    Raises:
        InputError: LiteRT cannot load it.
    """
    litert = import_litert()
    resolvers = {
        "xnnpack": litert.OpResolverType.AUTO,
        "builtin": litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        "reference": litert.OpResolverType.BUILTIN_REF,
    }
    try:
        with quiet():
            interpreter = litert.Interpreter(
                str(path), num_threads=threads, experimental_op_resolver_type=resolvers[kernels]
            )
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise unreadable(path, "LiteRT", error) from error
    entries, exits = interpreter.get_input_details(), interpreter.get_output_details()

    def run(arrays: Arrays) -> Arrays:
        for entry in entries:
            interpreter.set_tensor(entry["index"], arrays[entry["name"]])
        interpreter.invoke()
        return {exit_["name"]: interpreter.get_tensor(exit_["index"]) for exit_ in exits}

    return Runner(tuple(map(_spec, entries)), tuple(map(_spec, exits)), kernels, run)


def of_micro(path: Path) -> Runner:
    """Run a TFLite file in the interpreter of TFLite Micro, built for this machine.

    Raises:
        InputError: TFLite Micro cannot run it.
        MissingDependencyError: tflite-micro is not installed.
    """
    with needs("micro"):
        from tflite_micro import runtime
    # TFLite Micro knows no names, and ends the process on some files that LiteRT refuses: LiteRT looks first
    described = of_tflite(path, "reference")
    try:
        with quiet():
            interpreter = runtime.Interpreter.from_file(str(path), arena_size=ARENA)
    except (ValueError, RuntimeError) as error:
        raise unreadable(path, "TFLite Micro", error) from error

    def run(arrays: Arrays) -> Arrays:
        with quiet():
            for index, entry in enumerate(described.inputs):
                interpreter.set_input(arrays[entry.name], index)
            interpreter.invoke()
        return {spec.name: interpreter.get_output(index) for index, spec in enumerate(described.outputs)}

    return Runner(described.inputs, described.outputs, "tflm", run)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what native code says of its delegates on file descriptor 2 off the screen."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def _spec(details: dict[str, Any]) -> TensorSpec:
    shape = tuple(int(size) for size in details["shape"])
    scale, zero_point = details["quantization"]
    name, dtype = details["name"], np.dtype(details["dtype"]).name
    return TensorSpec(name, shape, dtype, layout(shape, "NHWC"), float(scale), int(zero_point))
