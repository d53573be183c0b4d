"""A bundle that shows a failure to others: inputs, both answers, the part of the file that goes wrong, one command."""

import shutil
import tempfile
from pathlib import Path

from torch import nn

from nbedge import files
from nbedge.graph import cut, read
from nbedge.localization.values import Array, Value, values_of
from nbedge.localization.walk import DROP, INPUTS, Layer, Localization
from nbedge.runtime import Runner, answers, of_module, record
from nbedge.subject import Subject
from nbedge.verification import Equivalence
from nbedge.verification.declared import LINT

README = """\
{edge}: {verdict}

expected.npz      inputs, and what the reference computes there
found.npz         the same inputs, and what the candidate computes
{part}verdict.json      every check, and every layer that was compared

First bad tensor: {first}

This repeats it, in this folder, and ends with status 1:

    {command}
"""


def write_bundle(
    folder: Path, edge: Equivalence, said: Localization, before: Subject, after: Subject, x: Array, *,
    overwrite: bool = False,
) -> Path:  # fmt: skip
    """Write the bundle of an edge that failed, whole or not at all, and return `folder`.

    Args:
        folder: to be made.
        edge: the verdict.
        said: where the candidate goes wrong.
        before: the reference.
        after: the candidate.
        x: (n, c, h, w) inputs; the first `INPUTS` are kept.
        overwrite: replace a folder that is there.

    Raises:
        InputError: the folder is there already.
    """
    files.refuse_existing(folder, overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _fill(made, edge, said, before, after, x[:INPUTS])
        made.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return folder


def _fill(folder: Path, edge: Equivalence, said: Localization, before: Subject, after: Subject, x: Array) -> None:
    files.write_json(folder / "verdict.json", {**edge.to_dict(), "localization": said.to_dict()})
    first = said.first_bad if after.path is not None else None
    part = (
        _part(folder, first, before, after.path, after, x) if first and after.path else _whole(folder, before, after, x)
    )
    shown = _named(said.first_bad) if said.first_bad else "none; the outputs differ"
    listed = "" if part.suffix == ".npz" else f"{part.name:<18}the candidate, up to where it goes wrong\n"
    text = README.format(
        edge=f"{edge.reference} -> {edge.candidate} ({edge.kernels})", verdict=edge.verdict, part=listed, first=shown,
        command=" ".join(_command(part, edge, first)),
    )  # fmt: skip
    files.write_bytes(folder / "README.txt", text.encode())


def _named(layer: Layer) -> str:
    return layer.candidate if layer.label == layer.candidate else f"{layer.candidate} ({layer.label})"


def _whole(folder: Path, before: Subject, after: Subject, x: Array) -> Path:
    """Write the answers of both; the candidate itself, if it is a file."""
    record(folder / "expected.npz", x, answers(_runner(before, x), x))
    record(folder / "found.npz", x, answers(_runner(after, x), x))
    if after.path is None:
        return folder / "found.npz"
    return Path(shutil.copy(after.path, folder / f"candidate{after.path.suffix}"))


def _part(folder: Path, first: Layer, before: Subject, path: Path, after: Subject, x: Array) -> Path:
    """Cut the candidate at the first bad tensor, beside what the reference computes there."""
    part = folder / f"cut{path.suffix}"
    graph = read(path)
    cut(path, graph.inputs, [first.candidate], part)
    for name, subject, wanted in (("expected", before, first.reference), ("found", after, first.candidate)):
        held: dict[str, Value] = {value.name: value for value in values_of(subject, x)}
        record(folder / f"{name}.npz", x, {first.candidate: held[wanted].real})
    return part


def _runner(subject: Subject, x: Array) -> Runner:
    return of_module(subject.model, x.shape[1:]) if isinstance(subject.model, nn.Module) else subject.model


def _command(part: Path, edge: Equivalence, first: Layer | None) -> list[str]:
    words = ["nbedge", "verify", "expected.npz", part.name]
    if part.suffix == ".tflite" and edge.kernels != LINT:
        words += ["--kernels", edge.kernels]
    if first is not None and first.lost_db > DROP:  # what it should have had, had it lost no more than it may
        words += ["--sqnr", f"{first.sqnr_db + first.lost_db - DROP:.1f}"]
    return words
