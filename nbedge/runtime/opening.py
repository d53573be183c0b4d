"""open_file(): the runner of a file, by its suffix and the kernels asked for."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from nbedge import files
from nbedge.errors import InputError
from nbedge.exporter import exporters
from nbedge.machine import onnxruntime_kernels
from nbedge.runtime.modules import of_program
from nbedge.runtime.onnx import of_onnx
from nbedge.runtime.recorded import of_recording
from nbedge.runtime.runner import Runner
from nbedge.runtime.tflite import of_micro, of_tflite

#: suffix -> kernels -> what opens the file with them; the first kernels are the usual ones
_READERS: Mapping[str, Mapping[str, Callable[[Path], Runner]]] = {
    ".onnx": {onnxruntime_kernels(): of_onnx},
    ".tflite": {
        "xnnpack": partial(of_tflite, kernels="xnnpack"), "reference": partial(of_tflite, kernels="reference"),
        "tflm": of_micro, "builtin": partial(of_tflite, kernels="builtin"),
    },
    ".pt2": {"torch": of_program},
    ".npz": {"recorded": of_recording},
}  # fmt: skip


def kernels_of(path: Path) -> tuple[str, ...]:
    """Return the names of the kernels that can run a file, the usual ones first.

    Raises:
        InputError: no runtime here reads such files.
    """
    return tuple(_readers_of(path))


def suffixes() -> tuple[str, ...]:
    """Return the suffixes of the files that can be run, those of plug-ins included."""
    return tuple(dict.fromkeys((*_READERS, *(f".{exporter.produces}" for exporter in exporters().values()))))


def _readers_of(path: Path) -> Mapping[str, Callable[[Path], Runner]]:
    """Return kernels -> what opens the file with them; of a plug-in's format the plug-in says what they are."""
    if path.suffix in _READERS:
        return _READERS[path.suffix]
    for exporter in exporters().values():
        if path.suffix == f".{exporter.produces}":
            return {exporter.backend: exporter.open}
    shown = path.suffix or "a file without suffix"
    raise InputError(f"{path}: no runtime here reads {shown}; give {', '.join(suffixes())}")


def open_file(path: Path, kernels: str | None = None) -> Runner:
    """Return the runner of an exported file, by its suffix.

    Args:
        path: the file.
        kernels: one of `kernels_of(path)`; None: the first of them.

    Raises:
        InputError: the file is missing, cut short, or of a format that no runtime here reads, or has no such kernels.
        MissingDependencyError: what runs it is not installed.
    """
    known = kernels_of(files.existing(path, "the file"))
    if kernels is not None and kernels not in known:
        raise InputError(f"{path.name} does not run in the kernels {kernels!r}; choose from {', '.join(known)}")
    return _readers_of(path)[kernels or known[0]](path)
