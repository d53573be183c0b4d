"""The inputs that a quantizer has seen: enough, not all alike, and like those that the file is judged on."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbedge.verification.equivalence import Check, at_least, at_most, not_checked

Array = NDArray[np.float32]
#: fewest inputs of a calibration (a choice; of the blood cells 1 picture spans half of the range of 100, 10 three
#: quarters of it)
FEWEST = 10
#: least share of the calibration inputs that differ from all others
DISTINCT = 0.5
#: most that the mean of a channel may lie away from that of the evaluation inputs, in their standard deviations, and
#: the largest ratio of the deviations. 100 pictures of the samples stayed within 0.09 and 1.06, a single one was off by
#: up to 0.6 and 3.1 (measured, 3 splits each); a forgotten normalisation is far beyond
SHIFT, STRETCH = 0.5, 1.5
#: most elements of the evaluation inputs outside the range of the file's input, in percent (a choice; 0.0 in files
#: that were calibrated on 200 pictures of the same set)
SATURATED = 1.0


def statistics(inputs: Array) -> dict[str, Any]:
    """Return what a sidecar keeps of calibration inputs (n, c, ...): number, distinct, and per channel the rest."""
    apart = tuple(axis for axis in range(inputs.ndim) if axis != 1)
    by_channel: dict[str, Any] = {"mean": np.mean, "std": np.std, "minimum": np.min, "maximum": np.max}
    distinct = len({row.tobytes() for row in inputs})
    figures = {name: f(inputs.astype(np.float64), axis=apart) for name, f in by_channel.items()}
    rounded = {name: [round(float(value), 6) for value in values] for name, values in figures.items()}
    return {"number": len(inputs), "distinct": distinct, **rounded}


def calibration_checks(seen: Mapping[str, Any], evaluated: Array | None) -> list[Check]:
    """Judge what a sidecar says of the calibration, beside the inputs (n, c, ...) that the file is judged on."""
    if not seen:
        return [not_checked("calibration inputs", "the sidecar says nothing of them; export the file again")]
    checks = [
        at_least("calibration inputs", seen["number"], FEWEST, "inputs"),
        at_least("calibration inputs that differ", 100 * seen["distinct"] / seen["number"], 100 * DISTINCT, "%"),
    ]
    if evaluated is None:
        return checks
    there = statistics(evaluated)
    scale = np.maximum(there["std"], 1e-12)
    shift = np.abs(np.subtract(seen["mean"], there["mean"])) / scale
    ratio = np.maximum(seen["std"], 1e-12) / scale
    stretch = np.maximum(ratio, 1 / ratio)
    return [
        *checks,
        at_most("calibration mean against evaluation", float(shift.max()), SHIFT, "std", f"channel {shift.argmax()}"),
        at_most(
            "calibration spread against evaluation", float(stretch.max()), STRETCH, "", f"channel {stretch.argmax()}"
        ),
    ]


def saturation(evaluated: Array, scale: float, zero_point: int, dtype: str) -> Check:
    """Judge how many elements of real inputs lie outside what the file's integer input can hold."""
    limits = np.iinfo(dtype)
    ends = (limits.min - zero_point - 0.5) * scale, (limits.max - zero_point + 0.5) * scale
    outside = 100 * float(((evaluated < ends[0]) | (evaluated > ends[1])).mean())
    return at_most("inputs outside the file's range", outside, SATURATED, "%", f"{ends[0]:.4g} to {ends[1]:.4g}")
