"""A bundle that shows a failure to others: inputs, both answers, the part of the file that goes wrong, one command."""

import shutil
import tempfile
from pathlib import Path

from nbedge import files
from nbedge.graph import cut, read
from nbedge.localization.edge import Located, runner
from nbedge.localization.values import Value, values_of
from nbedge.localization.walk import DROP, Layer
from nbedge.runtime import answers, record
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


def write_bundle(folder: Path, found: Located, *, overwrite: bool = False) -> Path:
    """Write the bundle of an edge that failed, whole or not at all, and return `folder`.

    Args:
        folder: to be made.
        found: the edge, and where its candidate goes wrong.
        overwrite: replace a folder that is there.

    Raises:
        InputError: the folder is there already.
    """
    files.refuse_existing(folder, overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _fill(made, found)
        made.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return folder


def _fill(folder: Path, found: Located) -> None:
    edge, first = found.edge, found.localization.first_bad
    files.write_json(folder / "verdict.json", {**edge.to_dict(), "localization": found.localization.to_dict()})
    cut_at = first if found.after.path is not None else None
    part = _part(folder, cut_at, found.after.path, found) if cut_at and found.after.path else _whole(folder, found)
    shown = _named(first) if first else "none; the outputs differ"
    listed = "" if part.suffix == ".npz" else f"{part.name:<18}the candidate, up to where it goes wrong\n"
    text = README.format(
        edge=f"{edge.reference} -> {edge.candidate} ({edge.kernels})", verdict=edge.verdict, part=listed, first=shown,
        command=" ".join(_command(part, found, cut_at)),
    )  # fmt: skip
    files.write_bytes(folder / "README.txt", text.encode())


def _named(layer: Layer) -> str:
    return layer.candidate if layer.label == layer.candidate else f"{layer.candidate} ({layer.label})"


def _whole(folder: Path, found: Located) -> Path:
    """Write the answers of both; the candidate itself, if it is a file."""
    for name, subject in (("expected", found.before), ("found", found.after)):
        record(folder / f"{name}.npz", found.x, answers(runner(subject, found.x), found.x))
    if found.after.path is None:
        return folder / "found.npz"
    return Path(shutil.copy(found.after.path, folder / f"candidate{found.after.path.suffix}"))


def _part(folder: Path, first: Layer, path: Path, found: Located) -> Path:
    """Cut the candidate at the first bad tensor, beside what the reference computes there."""
    part = folder / f"cut{path.suffix}"
    cut(path, read(path).inputs, [first.candidate], part)
    for name, subject, wanted in (
        ("expected", found.before, first.reference),
        ("found", found.after, first.candidate),
    ):
        held: dict[str, Value] = {value.name: value for value in values_of(subject, found.x)}
        record(folder / f"{name}.npz", found.x, {first.candidate: held[wanted].real})
    return part


def _command(part: Path, found: Located, first: Layer | None) -> list[str]:
    words = ["nbedge", "verify", "expected.npz", part.name]
    if part.suffix == ".tflite" and found.edge.kernels != LINT:
        words += ["--kernels", found.edge.kernels]
    if found.after.quantized and first is not None and first.lost_db > DROP:
        words += ["--sqnr", f"{first.sqnr_db + first.lost_db - DROP:.1f}"]
    return words
