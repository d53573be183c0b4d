"""Where a file keeps its weights, and how large it is for what it holds."""

from nbedge.artifact import SCHEMES
from nbedge.graph import Graph
from nbedge.verification.equivalence import Check, at_most, reported
from nbedge.verification.lint.weights import weights

#: bytes of one weight
WIDTHS = {"fp32": 4, "fp16": 2, "int8": 1}
#: bytes that a channel takes beside its weights: bias, and scale and zero point of both
CHANNEL = 36
#: bytes that an operator or tensor takes: its entry and its name; at most 222 in 14 files of TensorFlow's converter,
#: torch and ONNX Runtime (measured)
ENTRY = 300
#: bytes of what every file has: descriptions, versions, the schema
FIXED = 8_000
SLACK = 1.25
#: targets whose runtime reads weights inside the flatbuffer only, and the schemes made for them
MICRO = ("tflm", "ethos-u")


def storage_checks(graph: Graph, scheme: str, target: str | None) -> list[Check]:
    """Judge that all data lie inside the flatbuffer, where that matters, and that the file is not too large."""
    outside = [tensor.name for tensor in graph.constants() if not tensor.inline]
    detail = "TFLite Micro computes garbage from them, silently" + (f"; first {outside[0]}" if outside else "")
    for_micro = target in MICRO or (target is None and scheme == "int8" and graph.format == "tflite")
    name = "buffers outside the flatbuffer"
    judged = at_most(name, len(outside), 0, "buffers", detail) if for_micro else reported(name, len(outside), "buffers")
    return [judged, _size(graph, scheme)]


def _size(graph: Graph, scheme: str) -> Check:
    held = weights(graph)
    number, channels = sum(w.values.size for w in held), sum(len(w.values) for w in held)
    expected = SLACK * (number * WIDTHS[SCHEMES[scheme][0]] + CHANNEL * channels)
    expected += ENTRY * (len(graph.operators) + len(graph.tensors)) + FIXED
    size = graph.path.stat().st_size
    detail = f"{size} bytes; {number} weights in {scheme} with all that belongs to them take at most {expected:.0f}"
    return at_most("size over the expected", size / expected, 1, "", detail)
