"""The folder for TFLite Micro: the file as an array of C, its operators, its arena, and vectors to test with."""

import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbedge import files
from nbedge.deployment import chart, timeline
from nbedge.deployment.boards import Board, board_of, core_for
from nbedge.deployment.contents import write_templates
from nbedge.deployment.detecting import write_boxes
from nbedge.deployment.fit import Fit, Need, fit_of, refuse_misfit
from nbedge.deployment.margin import REVISION, aligned, scratch_of
from nbedge.deployment.micro import CORE, GOLDEN, Subject, file_of, refuse_scheme, subject_of
from nbedge.deployment.request import Request, Used
from nbedge.deployment.resolver import method, operators_of, refuse_lacking
from nbedge.device.cores import Core
from nbedge.device.golden import WIDTH, golden
from nbedge.graph import Graph, read, without_metadata
from nbedge.runtime.arena import Arena, measure_arena
from nbedge.runtime.runner import batches, raw_answers
from nbedge.runtime.tflite import output_places

#: what TFLite Micro computes
SCHEMES = ("int8", "int8-float-io", "int8x16", "fp32")
TEMPLATES = ("NAME.h", "NAME.cc", "NAME_ops.h", "example.cc", "README.md")


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """What is written.

    Attributes:
        subject: the file.
        content: of it, without what is for phones.
        graph: of it.
        core: that it is for.
        arena: that TFLite Micro takes here, in bytes.
        scratch: bytes that each layer may borrow on the core.
    """

    subject: Subject
    content: bytes
    graph: Graph
    core: Core
    arena: Arena
    scratch: tuple[int, ...]

    @property
    def margin_bytes(self) -> int:
        """Of the arena, for other kernels and another revision."""
        return max(self.scratch, default=0) + REVISION

    @property
    def arena_bytes(self) -> int:
        """Of the arena that the sources reserve."""
        return aligned(self.arena.total + self.margin_bytes)

    @property
    def timeline(self) -> timeline.Timeline:
        """Its memory, layer by layer."""
        return timeline.of_graph(self.graph, self.arena_bytes, self.arena.kept, self.scratch)


def write(request: Request, folder: Path) -> Used:
    """Write the folder.

    Raises:
        ExportError: TFLite Micro lacks an operator of the file.
        InputError: the file, the name, the core or the board does not do, or the board is too small.
        MissingDependencyError: tflite-micro is not here.
    """
    board = board_of(request.board) if request.board is not None else None
    core = core_for(request.core, board, CORE)
    refuse_scheme(file_of(request), request.target, SCHEMES)
    graph = read(file_of(request))
    refuse_lacking(graph)
    subject = subject_of(request)
    content = without_metadata(subject.path)
    model = Model(subject, content, graph, core, measure_arena(subject.path), scratch_of(graph, core))
    fit = fit_on(model, board) if board else None
    _write_sources(model, folder)
    boxes = write_boxes(subject, folder, "interpreter.output({})->data".format)
    undrawn = chart.draw(model.timeline, subject.name, board, folder)
    arena = f"arena: {model.arena_bytes} bytes, {model.arena.total} measured here and {model.margin_bytes} of margin"
    return Used(subject.name, f"{subject.name}.h", tuple(filter(None, (arena, boxes, undrawn))), fit)


def fit_on(model: Model, board: Board) -> Fit:
    """Compare what a model needs with a board; the code and the stack of TFLite Micro are not known here.

    Raises:
        InputError: the board has too little.
    """
    needs = (
        Need("the model", "flash", len(model.content)),
        Need("TFLite Micro's code", "flash", None),
        Need("the arena", "RAM", model.arena_bytes),
        Need("the stack", "RAM", None),
    )
    fit = fit_of(board, needs, model.timeline)
    refuse_misfit(fit, board, model.subject.name)
    return fit


def _write_sources(model: Model, folder: Path) -> None:
    name = model.subject.name
    fed, answers = _golden(model)
    words = {
        **_words(model), "input_bytes": str(fed.shape[1]), "output_bytes": str(answers.shape[1]),
        "array": _array(model.content),
    }  # fmt: skip
    write_templates("tflm", {file: file.replace("NAME", name) for file in TEMPLATES}, folder, words)
    for file, text in zip(("golden.h", "golden.c"), golden(name, fed, answers), strict=True):
        files.write_bytes(folder / file, text.encode())
    about = manifest(model)
    files.write_json(folder / f"{name}.json", {**about, "input_bytes": fed.shape[1], "output_bytes": answers.shape[1]})


def _words(model: Model) -> dict[str, str]:
    """Return what the templates say of a model."""
    subject, kinds = model.subject, operators_of(model.graph)
    calls = "\n".join(f"  if (resolver->{method(kind)}() != kTfLiteOk) return kTfLiteError;" for kind in kinds)
    numbers = {
        "model_bytes": len(model.content), "arena_bytes": model.arena_bytes, "revision": REVISION,
        "measured_bytes": model.arena.total, "tensor_bytes": model.arena.tensors, "kept_bytes": model.arena.kept,
        "margin_bytes": model.margin_bytes, "scratch_bytes": max(model.scratch, default=0), "count": len(kinds),
    }  # fmt: skip
    words = {"name": subject.name, "NAME": subject.name.upper(), "source": subject.path.name, "core": model.core.name,
             "calls": calls, "operators": ", ".join(kinds), "peak": str(model.timeline.peak)}  # fmt: skip
    return words | {key: str(number) for key, number in numbers.items()}


def manifest(model: Model) -> dict[str, Any]:
    """Return what NAME.json says."""
    subject, about = model.subject, model.subject.sidecar
    return {
        "schema_version": 1, "name": subject.name, "source": subject.path.name,
        "source_sha256": files.sha256(subject.path), "kernels": "tflm", "core": model.core.name,
        "model_bytes": len(model.content), "operators": list(operators_of(model.graph)),
        "arena_bytes": model.arena_bytes, "arena_measured_bytes": model.arena.total,
        "arena_tensor_bytes": model.arena.tensors, "arena_kept_bytes": model.arena.kept,
        "arena_margin_bytes": model.margin_bytes, "arena_measured_with_pointers_of_bytes": 8,
        "inputs": [asdict(spec) for spec in subject.runner.inputs],
        "outputs": [asdict(spec) for spec in subject.runner.outputs], "layers": model.timeline.layers(),
        "preprocessing": about.preprocessing.to_dict() if about and about.preprocessing else None,
        "classes": list(about.classes) if about else [],
    }  # fmt: skip


def _golden(model: Model) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return golden inputs (n, bytes), and TFLite Micro's answers (n, bytes) of the file's first output."""
    runner, given = model.subject.runner, model.subject.inputs[:GOLDEN]
    fed = np.concatenate([part[:count] for part, count in batches(given, runner.inputs[0])])
    answers = raw_answers(runner, given)
    places = output_places(model.subject.path)
    return _bytes(fed), _bytes(answers[min(places, key=places.__getitem__)])


def _bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(values).reshape(len(values), -1).view(np.uint8)


def _array(content: bytes) -> str:
    return textwrap.fill(", ".join(map(str, content)), WIDTH, initial_indent="  ", subsequent_indent="  ")
