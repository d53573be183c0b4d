"""Graph: the operators and tensors of an exported file, read from its bytes; a graph can be cut."""

from collections.abc import Sequence
from pathlib import Path

from nbedge.errors import InputError
from nbedge.graph.executorch import read_pte
from nbedge.graph.macs import KINDS, macs, weight_index
from nbedge.graph.onnx import cut_onnx, load_onnx, read_onnx
from nbedge.graph.records import Graph, Operator, Tensor
from nbedge.graph.tflite import cut_tflite, read_tflite, without_metadata
from nbedge.graph.weights import weights_type

__all__ = [
    "KINDS", "READABLE", "Graph", "Operator", "Tensor", "cut", "load_onnx", "macs", "read", "weight_index",
    "weights_type", "without_metadata",
]  # fmt: skip

_READERS = {".onnx": read_onnx, ".tflite": read_tflite, ".pte": read_pte}
#: suffixes of the files that are read
READABLE = tuple(_READERS)
_CUTTERS = {".onnx": cut_onnx, ".tflite": cut_tflite}


def read(path: Path) -> Graph:
    """Read the graph of an exported file, by its suffix.

    Raises:
        InputError: the file is missing, damaged, or of a format whose graph is not read here.
        MissingDependencyError: what reads it is not installed.
    """
    if path.suffix not in _READERS:
        raise InputError(f"{path}: the graph of {path.suffix or 'such'} files is not read; give {', '.join(READABLE)}")
    return _READERS[path.suffix](path)


def cut(path: Path, inputs: Sequence[str], outputs: Sequence[str], out: Path) -> None:
    """Write to `out` the part of a file that computes the tensors `outputs` from the tensors `inputs`.

    Raises:
        InputError: a tensor is unknown, or the outputs need more than these inputs.
    """
    _CUTTERS[path.suffix](path, inputs, outputs, out)
