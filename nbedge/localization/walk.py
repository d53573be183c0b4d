"""Localization: the first value of the candidate that goes wrong, and how far each one is off."""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from nbedge.blocks import expanded_blocks
from nbedge.localization.matching import matched
from nbedge.localization.values import Array, Value, by_cutting, values_of
from nbedge.subject import Subject
from nbedge.verification.agreement import relative_error

#: SQNR in dB below which a float value has gone wrong: the limit of 1e-4 on the relative error; correct ones show 100
FLOAT = 80.0
#: dB that one operator may lose of what its inputs have, in a quantized file: rounding adds noise of the size of what
#: is there. In the files of the samples an operator lost at most 8 dB (measured)
DROP = 12.0
#: inputs that values are compared on; they are all held in memory
INPUTS = 8


@dataclass(frozen=True, slots=True)
class Layer:
    """How far one value is off.

    Attributes:
        reference: its name in the reference.
        candidate: its name in the candidate.
        label: path of the torch module where it is known.
        kind: operator of the candidate.
        sqnr_db: signal-to-quantization-noise ratio, 300 for equality.
        error: max|Δ| / RMS.
        lost_db: what the operator lost of the worst of its inputs.
    """

    reference: str
    candidate: str
    label: str
    kind: str
    sqnr_db: float
    error: float
    lost_db: float


@dataclass(frozen=True, slots=True)
class Localization:
    """Where a candidate goes wrong.

    Attributes:
        first_bad: the first value that its operator made wrong; None if all are within what is expected.
        layers: all that were compared, in the order of execution.
        kernels: in which the values were computed.
    """

    first_bad: Layer | None
    layers: tuple[Layer, ...]
    kernels: str

    def worst(self, number: int) -> list[Layer]:
        """Return the `number` layers with the least SQNR, the worst first."""
        return sorted(self.layers, key=lambda layer: layer.sqnr_db)[:number]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        first = asdict(self.first_bad) if self.first_bad else None
        return {"first_bad": first, "layers": [asdict(layer) for layer in self.layers], "kernels": self.kernels}


def localize(before: Subject, after: Subject, x: Array, kernels: str = "") -> Localization:
    """Walk both models value by value, and name the first that goes wrong.

    The values of a file are those of LiteRT's reference kernels, or of ONNX Runtime without its optimizer. If they are
    all right, the fault is in the kernels themselves: then the file is cut at each operator and run in them.

    Args:
        before: what is believed: a module, .onnx or .tflite.
        after: what is judged.
        x: (n, c, h, w) inputs; the first `INPUTS` are used.
        kernels: in which the candidate has failed.

    Raises:
        InputError: the values inside one of the two cannot be read.
    """
    alike = before.quantized and before.path and after.path and before.path.suffix == after.path.suffix
    x, quantized = x[:INPUTS], after.quantized and not alike
    wanted, found = values_of(before, x), _without_sites(before, after, values_of(after, x))
    said = _judged(wanted, found, quantized, "reference" if after.path else "torch")
    if said.first_bad is None and after.path is not None and kernels in ("xnnpack", "tflm", "builtin"):
        with tempfile.TemporaryDirectory(prefix="nbedge-cut-") as folder:
            return _judged(found, by_cutting(after.path, kernels, x, Path(folder)), True, kernels)
    return said


def _without_sites(before: Subject, after: Subject, found: list[Value]) -> list[Value]:
    """Leave out the layers of a contracted model whose bias sits in the BatchNorm behind: that one is compared."""
    if not (isinstance(before.model, nn.Module) and isinstance(after.model, nn.Module)):
        return found
    sites = {name for name, block in expanded_blocks(before.model) if block.site.norm}
    return [value for value in found if value.name not in sites]


def _judged(wanted: Sequence[Value], found: Sequence[Value], quantized: bool, kernels: str) -> Localization:
    ratios: dict[str, float] = {}
    layers, first = [], None
    for reference, value, sqnr in matched(wanted, found):
        known = [ratios[name] for name in value.inputs if name in ratios]
        lost = max(0.0, min(known, default=_START if quantized else 300.0) - sqnr)
        ratios[value.name] = sqnr
        error = relative_error(reference.real.reshape(-1), value.real.reshape(-1))
        layers.append(Layer(reference.name, value.name, value.label, value.kind, sqnr, error, lost))
        bad = lost > DROP and sqnr < _START if quantized else sqnr < FLOAT
        first = first or (layers[-1] if bad else None)
    return Localization(first, tuple(layers), kernels)


#: SQNR in dB of a value that is rounded to 8 bits once: 6.02 dB a bit, less 12 for a range that few values reach
_START = 36.0
