"""Count what generated C takes on emulated microcontrollers, and write it into docs/results.md.

`benchmarks/microcontroller.py FOLDER --bakenn PYTHON`: FOLDER holds ad01_int8.tflite, kws_ref_model.tflite,
pretrainedResnet_quant.tflite and vww_96_int8.tflite, as tests/micro/mlperf_tiny does. PYTHON is an interpreter
that has BakeNN, which is no part of nbedge: `python -m venv bakenn; bakenn/bin/pip install "bakenn[tflite]==1.0.0"`,
then `--bakenn bakenn/bin/python`. Without it only nbedge's C is measured. Every measurement becomes a line of
results/microcontroller.jsonl, of which the newest of its kind counts; without FOLDER nothing is measured.
"""

import argparse
import hashlib
import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import microcontroller_page
from microcontroller_page import NBEDGE, Row
from nbedge.benchmark.microcontroller import NAME, generate_c
from nbedge.device import image
from nbedge.device.cores import CORES, core_of
from nbedge.device.inference import inferred
from nbedge.device.microcontroller import GCC, Toolchain, toolchain
from nbedge.errors import GateError
from nbedge.graph import Graph, read
from nbedge.runtime import open_file
from peers import bakenn

SAMPLES = Path(__file__).parent.parent / "sample_models"
#: net -> file in FOLDER
TINY = {
    "anomaly detection": "ad01_int8.tflite", "keyword spotting": "kws_ref_model.tflite",
    "image classification": "pretrainedResnet_quant.tflite", "visual wake words": "vww_96_int8.tflite",
}  # fmt: skip
OWN = ("fashion_mnist", "blood_cells")
#: golden vectors of each file
VECTORS = 16
COMPARED = "cortex-m4"
AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Subject:
    """A file whose C is measured: of which net, what was changed in it, its golden vectors."""

    net: str
    path: Path
    changes: tuple[str, ...]
    inputs: Path

    @property
    def row(self) -> Row:
        """What every measurement says of it."""
        digest = hashlib.sha256(self.path.read_bytes()).hexdigest()
        return {"net": self.net, "changes": list(self.changes), "file_sha256": digest, "vectors": VECTORS}


def main() -> None:
    """Measure if a folder is given, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--bakenn", type=Path, metavar="PYTHON", help="interpreter that has BakeNN")
    asked = parser.parse_args()
    if asked.folder:
        files = {net: asked.folder / name for net, name in TINY.items()}
        files |= {net: SAMPLES / net / "exports" / f"{net}.int8.tflite" for net in OWN}
        with microcontroller_page.RESULTS.open("a", encoding="utf-8") as record:
            for net, path in files.items():
                for row in measured(net, path, asked.bakenn):
                    print(*(row.get(key, "") for key in ("net", "engine", "core", "optimization", "instructions")))
                    record.write(json.dumps(row) + "\n")
    microcontroller_page.write()


def measured(net: str, path: Path, python: Path | None) -> Iterator[Row]:
    """Yield the measurements of a net: all C of what BakeNN takes of it, and nbedge's of the whole on all cores."""
    with tempfile.TemporaryDirectory(prefix="nbedge-") as name, ThreadPoolExecutor(AT_ONCE) as pool:
        folder = Path(name)
        taken = folder / path.name
        changes = bakenn.rewrite(path, taken)
        whole, cut = (Subject(net, file, what, folder / "inputs.npz") for file, what in ((path, ()), (taken, changes)))
        np.savez(whole.inputs, **made_up(path))
        engines = generated(whole, folder / "whole", None), generated(cut, folder / "cut", python)
        jobs: list[tuple[tuple[Path, Row], str, str]] = [(made, core, "-O2") for made in engines[0] for core in CORES]
        jobs += [(made, COMPARED, level) for made in engines[1] for level in image.OPTIMIZATIONS]
        yield from (row for _, row in engines[1] if row.get("refused"))
        ran = [(made, row, core, level) for (made, row), core, level in jobs if not row.get("refused")]
        # of files that differ in nothing that counts the C is the same
        different = {(digest(made), core, level): (made, core, level) for made, _, core, level in ran}
        found = dict(zip(different, pool.map(lambda job: counted(*job), different.values()), strict=True))
        last = {(*about(row), core, level): (made, row, core, level) for made, row, core, level in ran}
        yield from ({**row, **found[digest(made), core, level]} for made, row, core, level in last.values())


def about(row: Row) -> tuple[str, bool, str]:
    """Return what a row is of: net, whether something was changed, engine."""
    return row["net"], bool(row["changes"]), row["engine"]


def made_up(path: Path) -> dict[str, Any]:
    """Return inputs (VECTORS, ...) of a file by name: noise of any mean and width, so that some of it is extreme."""
    (spec,) = open_file(path).inputs
    generator, limits = np.random.default_rng(0), np.iinfo(np.dtype(spec.dtype))
    one = (VECTORS, *[1] * (len(spec.shape) - 1))
    means, widths = generator.uniform(limits.min, limits.max, one), 10 ** generator.uniform(0, 2.5, one)
    noise = means + widths * generator.standard_normal((VECTORS, *spec.shape[1:]))
    return {spec.name: noise.clip(limits.min, limits.max).round().astype(spec.dtype)}


def generated(subject: Subject, folder: Path, python: Path | None) -> list[tuple[Path, Row]]:
    """Return each engine's folder of C with what its rows say: nbedge's, and BakeNN's if it has an interpreter."""
    folder.mkdir()
    own = folder / "nbedge"
    generate_c({"file": subject.path, "sidecar": None, "inputs": subject.inputs}, core_of(COMPARED), own)
    about = {**subject.row, "peak_bytes": peak_bytes(read(subject.path))}
    found = [(own, {**about, "engine": NBEDGE, "outside_bytes": 0})]
    if python is None:
        return found
    for engine in bakenn.OPTIONS:
        other = folder / engine.replace(" ", "-")
        version, refused = bakenn.generate(python, subject.path, engine, other)
        row: Row = {**about, "engine": engine, "version": version}
        if refused is None:
            for name in ("golden.c", "golden.h"):
                (other / name).write_bytes((own / name).read_bytes())
            row["outside_bytes"] = bakenn.outside_bytes(other)
        found.append((other, {**row, "refused": refused} if refused else row))
    return found


def counted(folder: Path, core: str, optimization: str) -> Row:
    """Return what the golden vectors take of the C in a folder, or which answer differs."""
    tools = toolchain()
    row = {"core": core, "optimization": optimization, "compiler": f"{GCC} {version(tools, 'gcc')}",
           "emulator": version(tools, "qemu"), "sources_sha256": digest(folder)}  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="nbedge-") as name:
        library = image.compiled(folder, NAME, core_of(core), optimization, tools, Path(name))
        try:
            found = inferred(library, Path(name))
        except GateError as error:
            return {**row, "differs": str(error)}
    return {
        **row, "instructions": max(found.instructions), "instructions_least": min(found.instructions),
        "flash_bytes": found.image.flash_bytes, "code_bytes": found.image.code_bytes,
        "arena_bytes": found.image.arena_bytes, "stack_bytes": found.stack_bytes,
    }  # fmt: skip


@cache
def version(tools: Toolchain, tool: str) -> str:
    """Return the version of the compiler, or of the emulator."""
    command = {"gcc": [tools.gcc, "-dumpfullversion"], "qemu": [tools.qemu, "--version"]}[tool]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0].partition(" (")[0].replace(" emulator version", "").strip()


def digest(folder: Path) -> str:
    """Return the SHA-256 of all the C in a folder but golden vectors: what was measured."""
    files = sorted(path for path in folder.glob("*.[ch]") if not path.name.startswith("golden"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def peak_bytes(graph: Graph) -> int:
    """Return the most bytes of computed tensors that live at once, while any operator runs.

    A tensor lives from the operator that makes it, the input from the first one, to the last one that reads it, outputs
    to the end. What RESHAPE makes is the tensor that it reads. No operator writes over what it reads.
    """
    same: dict[str, str] = {}
    spans = {name: [0, 0] for name in graph.inputs}
    for place, operator in enumerate(graph.operators):
        computed = [name for name in operator.inputs if name and graph.tensors[name].data is None]
        if operator.kind == "RESHAPE":
            same |= {operator.outputs[0]: same.get(computed[0], computed[0])}
        for name in (same.get(name, name) for name in (*computed, *operator.outputs)):
            spans.setdefault(name, [place, place])[1] = place
    for name in graph.outputs:
        spans[same.get(name, name)][1] = len(graph.operators)
    return max(_live(graph, spans, place) for place in range(len(graph.operators)))


def _live(graph: Graph, spans: dict[str, list[int]], place: int) -> int:
    names: Sequence[str] = [name for name, (first, last) in spans.items() if first <= place <= last]
    return sum(graph.tensors[name].size * np.dtype(graph.tensors[name].dtype).itemsize for name in names)


if __name__ == "__main__":
    main()
