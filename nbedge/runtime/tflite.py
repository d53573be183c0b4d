"""The runners of TFLite files: LiteRT with each of its kernels, and TFLite Micro."""

import os
import re
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
    interpreter = _loaded(path, kernels, threads)
    entries, exits = interpreter.get_input_details(), interpreter.get_output_details()
    named = _outputs(interpreter)

    def run(arrays: Arrays) -> Arrays:
        for entry in entries:
            interpreter.set_tensor(entry["index"], arrays[entry["name"]])
        interpreter.invoke()
        return {name: interpreter.get_tensor(exits[place]["index"]) for name, place in named.items()}

    outputs = tuple(_spec({**exits[place], "name": name}) for name, place in named.items())
    return Runner(tuple(map(_spec, entries)), outputs, kernels, run)


def _loaded(path: Path, kernels: str, threads: int) -> Any:
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
    return interpreter


def _outputs(interpreter: Any) -> dict[str, int]:
    """Return name -> place in the file of each output.

    Converters list several outputs in any order; the signature holds the names, or the order, that the model gave them.
    """
    exits = interpreter.get_output_details()
    if len(exits) > 1 and len(interpreter.get_signature_list()) == 1:
        places = {details["index"]: place for place, details in enumerate(exits)}
        signed = interpreter.get_signature_runner().get_output_details()
        if {details["index"] for details in signed.values()} == places.keys() and len(signed) == len(exits):
            return {name: places[signed[name]["index"]] for name in sorted(signed, key=natural)}
    return {details["name"]: place for place, details in enumerate(exits)}


def output_places(path: Path) -> dict[str, int]:
    """Return name -> place in the file of each output of a TFLite file.

    Raises:
        InputError: LiteRT cannot read it.
    """
    return _outputs(_loaded(path, "reference", threads=1))


def natural(name: str) -> list[tuple[int, str]]:
    """Return the key by which output_2 comes before output_10."""
    return [(int(number or 0), word) for word, number in re.findall(r"(\D*)(\d*)", name)]


def of_micro(path: Path) -> Runner:
    """Run a TFLite file in the interpreter of TFLite Micro, built for this machine.

    Raises:
        InputError: TFLite Micro cannot run it.
        MissingDependencyError: tflite-micro is not installed.
    """
    with needs("micro"):
        from tflite_micro import runtime
    # TFLite Micro knows no names, and ends the process on some files that LiteRT refuses: LiteRT looks first
    litert = _loaded(path, "reference", threads=1)
    entries, exits, named = litert.get_input_details(), litert.get_output_details(), _outputs(litert)
    try:
        with quiet():
            interpreter = runtime.Interpreter.from_file(str(path), arena_size=ARENA)
    except (ValueError, RuntimeError) as error:
        raise unreadable(path, "TFLite Micro", error) from error

    def run(arrays: Arrays) -> Arrays:
        with quiet():
            for index, entry in enumerate(entries):
                interpreter.set_input(arrays[entry["name"]], index)
            interpreter.invoke()
        return {name: interpreter.get_output(place) for name, place in named.items()}

    outputs = tuple(_spec({**exits[place], "name": name}) for name, place in named.items())
    return Runner(tuple(map(_spec, entries)), outputs, "tflm", run)


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
