"""Lint: what a file's bytes say of it, without running it; each rule is one check."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbedge.graph import READABLE, Graph, read
from nbedge.verification.equivalence import Check
from nbedge.verification.lint.calibration import calibration_checks, saturation, statistics
from nbedge.verification.lint.delegated import delegation_checks
from nbedge.verification.lint.kernels import kernel_checks
from nbedge.verification.lint.scales import onnx_scale_checks, scale_checks
from nbedge.verification.lint.storage import storage_checks
from nbedge.verification.lint.targets import LACKED, PADS, TARGETS, lacking, target_checks
from nbedge.verification.lint.types import type_checks
from nbedge.verification.lint.weights import channel_checks, float_weights, largest_step, requantized

__all__ = [
    "LACKED", "PADS", "TARGETS", "calibration_checks", "kernel_checks", "lacking", "largest_step", "lint", "statistics",
]  # fmt: skip

#: format -> its own rules: what it computes with, and with which scales
_RULES: Mapping[str, Callable[[Graph, str, int], list[Check]]] = {
    "tflite": lambda graph, scheme, exempt: [*type_checks(graph, scheme, exempt), *scale_checks(graph)],
    "onnx": lambda graph, scheme, exempt: [*kernel_checks(graph, scheme, exempt), *onnx_scale_checks(graph)],
    "pte": lambda graph, scheme, _exempt: [*delegation_checks(graph, scheme), *onnx_scale_checks(graph)],
}


def lint(
    path: Path,
    scheme: str,
    *,
    reference: Path | None = None,
    target: str | None = None,
    calibration: Mapping[str, Any] | None = None,
    evaluated: NDArray[np.float32] | None = None,
    exempt: int = 0,
) -> list[Check]:
    """Judge a file from its bytes.

    Args:
        path: .onnx, .tflite or .pte.
        scheme: that it claims.
        reference: float file of the same model, of any of these formats, for the weights.
        target: name in `TARGETS`; None: none in particular.
        calibration: what its sidecar says of the inputs that its quantizer has seen; None: there is no sidecar.
        evaluated: (n, c, ...) real inputs that it is judged on.
        exempt: layers that may compute in more bits than the scheme says, as its sidecar tells.

    Raises:
        InputError: the file is damaged, or the target unknown.
    """
    graph = read(path)
    checks = _RULES[graph.format](graph, scheme, exempt)
    checks += float_weights(graph, scheme, exempt) + channel_checks(graph)
    checks += storage_checks(graph, scheme, target) + target_checks(graph, target)
    if reference is not None and reference.suffix in READABLE:
        checks += requantized(graph, read(reference))
    if scheme.startswith("int8"):
        checks += _inputs(graph, calibration, evaluated)
    return checks


def _inputs(graph: Graph, calibration: Mapping[str, Any] | None, evaluated: NDArray[np.float32] | None) -> list[Check]:
    checks = calibration_checks(calibration, evaluated) if calibration else []
    entry = graph.tensors.get(graph.inputs[0])
    if evaluated is not None and entry is not None and len(entry.scales) == 1:
        checks.append(saturation(evaluated, float(entry.scales[0]), int(entry.zero_points[0]), entry.dtype))
    return checks
