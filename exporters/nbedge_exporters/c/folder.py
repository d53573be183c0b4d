"""The folder of C that is written: the model, its kernels, golden vectors, and what builds and explains them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files as resources
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbedge import __version__, files
from nbedge.artifact import TensorSpec
from nbedge.device.cores import core_of
from nbedge.device.golden import golden
from nbedge.exporter import Job
from nbedge.graph import read
from nbedge.runtime import Runner, open_file
from nbedge.runtime.runner import batches, raw_answers
from nbedge.runtime.tflite import output_places
from nbedge_exporters.c import writing
from nbedge_exporters.c.layer import Program
from nbedge_exporters.c.lowering import lower
from nbedge_exporters.c.memory import SLACK, Memory, plan

#: numpy name of a type -> C's
TYPES = {"int8": "int8_t", "uint8": "uint8_t", "float32": "float"}


def write_folder(job: Job, target: Path) -> None:
    """Write the C of `job.source`; `target` is its NAME.c, and its folder takes the rest.

    Raises:
        ExportError: it cannot become C.
        MissingDependencyError: tflite-micro, which gives the golden answers, is not installed.
    """
    program = lower(read(job.source))
    memory = plan(program)
    runner = open_file(job.source, "tflm")
    name, core = target.stem, core_of(job.settings.get("core", "cortex-m4"))
    outputs = ordered(runner, job.source)
    types = TYPES[runner.inputs[0].dtype], tuple(TYPES[spec.dtype] for spec in outputs)
    sources = [f"{name}.c", *(file for file in writing.kernel_files(program) if file.endswith(".c"))]
    about = manifest(job, name, program, memory, runner, outputs)
    words = {
        "name": name, "NAME": name.upper(), "source": job.source.name, "version": __version__, "core": core.name,
        "flags": " ".join(core.flags), "sources": " ".join(sources), "arena": memory.size + SLACK,
        "live": max(memory.live), "peak": memory.live.index(max(memory.live)), "kind": types[1][0],
        "constants": _constant_bytes(program), "entry": _told(runner.inputs[0]), "exits": _told(outputs[0]),
    }  # fmt: skip
    header, vectors = golden(name, *_golden(job, runner, outputs[0].name))
    writing.write(target.parent, [
        (f"{name}.h", writing.header(name, program, memory, types, job.source.name)),
        (f"{name}.c", writing.source(name, program, memory, types, job.source.name)),
        *((file, writing.kernel(file)) for file in writing.kernel_files(program)),
        ("golden.h", header), ("golden.c", vectors),
        *((file, _template(file, words)) for file in ("example.c", "Makefile", "README.md")),
    ])  # fmt: skip
    files.write_json(target.with_suffix(".json"), {**about, "core": core.name})


def _template(name: str, words: Mapping[str, object]) -> str:
    text = resources("nbedge_exporters.c").joinpath("templates", name).read_text(encoding="utf-8")
    return Template(text).substitute(words)


def manifest(
    job: Job, name: str, program: Program, memory: Memory, runner: Runner, outputs: Sequence[TensorSpec]
) -> dict[str, Any]:  # fmt: skip
    """Return what NAME.json says: ends, memory and layers."""
    layers = [
        {"index": i, "operator": layer.operator, "output": layer.writes, "macs": layer.macs,
         "live_bytes": memory.live[i], "used_bytes": memory.used[i]}
        for i, layer in enumerate(program.layers)
    ]  # fmt: skip
    return {
        "schema_version": 1, "name": name, "source": job.source.name, "source_sha256": files.sha256(job.source),
        "kernels": "tflm", "arena_bytes": memory.size + SLACK, "live_bytes": max(memory.live),
        "constant_bytes": _constant_bytes(program), "input_bytes": program.sizes[program.input],
        "output_bytes": program.sizes[program.root(program.outputs[0])],
        "inputs": [asdict(runner.inputs[0])], "outputs": [asdict(spec) for spec in outputs], "layers": layers,
        "preprocessing": job.preprocessing.to_dict() if job.preprocessing else None, "classes": list(job.classes),
    }  # fmt: skip


def ordered(runner: Runner, path: Path) -> list[TensorSpec]:
    """Return the outputs of a TFLite file in its own order, which is that of the C; a runner has that of names."""
    places = output_places(path)
    return sorted(runner.outputs, key=lambda spec: places[spec.name])


def _constant_bytes(program: Program) -> int:
    arrays = [array.values for layer in program.layers for array in layer.arrays]
    return sum(values.nbytes for values in (*arrays, *program.constants.values()))


def _told(spec: TensorSpec) -> str:
    shape = "x".join(map(str, spec.shape))
    scaled = f", scale {spec.scale:.9g}, zero point {spec.zero_point}" if spec.scale else ""
    return f"{shape} {spec.dtype} ({spec.layout}){scaled}"


def _golden(job: Job, runner: Runner, output: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the golden inputs (n, bytes), and TFLite Micro's answers (n, bytes) of the first output."""
    given = np.load(job.calibration)
    fed = np.concatenate([part[:count] for part, count in batches(given, runner.inputs[0])])
    answers = raw_answers(runner, given)[output]
    return _bytes(fed), _bytes(answers)


def _bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(values).reshape(len(values), -1).view(np.uint8)
