"""Localization: the first value of the candidate that goes wrong, and how far each one is off."""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from nbedge.blocks import expanded_blocks
from nbedge.graph import KINDS
from nbedge.localization.matching import Pair, matched
from nbedge.localization.values import Array, Value, by_cutting, values_of
from nbedge.subject import Subject
from nbedge.verification.agreement import relative_error, sqnr_db

#: SQNR in dB below which a float value has gone wrong: the limit of 1e-4 on the relative error; correct ones show 100
FLOAT = 80.0
#: dB that one operator may lose of what its inputs have, in a quantized file: rounding adds noise of the size of what
#: is there. In the files of the samples an operator lost at most 8 dB (measured)
DROP = 12.0
#: SQNR in dB of a value that is rounded to 8 bits once: 6.02 dB a bit, less 12 for a range that few values reach
ROUNDED = 36.0
#: kernels that do not show what they compute inside
CLOSED = ("xnnpack", "tflm", "builtin")


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
        x: (n, c, h, w) inputs, all held in memory with every value computed from them.
        kernels: in which the candidate has failed.

    Raises:
        InputError: the values inside one of the two cannot be read.
    """
    alike = before.quantized and before.path and after.path and before.path.suffix == after.path.suffix
    wanted, found = values_of(before, x), _without_sites(before, after, values_of(after, x))
    said = _judged(wanted, found, after.quantized and not alike, "reference" if after.path else "torch")
    if said.first_bad is None and after.path is not None and kernels in CLOSED:
        with tempfile.TemporaryDirectory(prefix="nbedge-cut-") as folder:
            return _judged(found, by_cutting(after.path, kernels, x, Path(folder)), after.quantized, kernels)
    return said


def _without_sites(before: Subject, after: Subject, found: list[Value]) -> list[Value]:
    """Leave out the layers of a contracted model whose bias sits in the BatchNorm behind: that one is compared."""
    if not (isinstance(before.model, nn.Module) and isinstance(after.model, nn.Module)):
        return found
    sites = {name for name, block in expanded_blocks(before.model) if block.site.norm}
    return [value for value in found if value.name not in sites]


def _judged(wanted: Sequence[Value], found: Sequence[Value], quantized: bool, kernels: str) -> Localization:
    pairs = matched(wanted, found)
    layers = _layers(pairs, ROUNDED if quantized else 300.0)
    wrong = [pair for pair, layer in zip(pairs, layers, strict=True) if _is_bad(layer, quantized)]
    first = _first(pairs, wrong, ROUNDED if quantized else FLOAT)
    place = None if first is None else pairs.index(first)
    named = None if place is None or first is None else _named(wanted, pairs, layers, place, quantized)
    return Localization(named, tuple(layers), kernels)


def _is_bad(layer: Layer, quantized: bool) -> bool:
    return layer.lost_db > DROP and layer.sqnr_db < ROUNDED if quantized else layer.sqnr_db < FLOAT


def _layers(pairs: Iterable[Pair], start: float) -> list[Layer]:
    """Return how far each value is off; what has no known inputs is compared with `start`, in dB."""
    ratios: dict[str, float] = {}
    layers = []
    for pair in pairs:
        known = [ratios[name] for name in pair.candidate.inputs if name in ratios]
        lost = max(0.0, min(known, default=start) - pair.sqnr_db)
        ratios[pair.candidate.name] = pair.sqnr_db
        layers.append(_layer(pair.reference, pair.candidate, pair.sqnr_db, lost))
    return layers


def _layer(wanted: Value, found: Value, sqnr: float, lost: float) -> Layer:
    error = relative_error(wanted.real.reshape(-1), found.real.reshape(-1))
    return Layer(wanted.name, found.name, found.label, found.kind, sqnr, error, lost)


def _first(pairs: Sequence[Pair], wrong: Sequence[Pair], right: float) -> Pair | None:
    """Return the first wrong value of which nothing right is computed: a fault does not heal, a bad match does."""
    healed = {name for pair in pairs if pair.sqnr_db >= right for name in pair.candidate.inputs}
    return next((pair for pair in wrong if pair.candidate.name not in healed), None)


def _named(
    wanted: Sequence[Value], pairs: Sequence[Pair], layers: Sequence[Layer], place: int, quantized: bool
) -> Layer:
    """Return the layer that is to blame for the first wrong value: its own, or an input that lacks its activation.

    A convolution that has lost its fused activation equals what the reference computes before the activation; only
    what reads it goes wrong, and nothing in the candidate stands for the activation.
    """
    taken = {pair.place for pair in pairs}
    for pair, layer in zip(pairs[:place], layers, strict=False):
        if pair.candidate.name not in pairs[place].candidate.inputs:
            continue
        for index, value in enumerate(wanted[: pairs[place].place]):
            if index in taken or pair.reference.name not in value.inputs or value.kind in KINDS:
                continue
            ratio = sqnr_db(value.real.reshape(-1), pair.candidate.real.reshape(-1))
            lacking = _layer(value, pair.candidate, ratio, layer.lost_db + pair.sqnr_db - ratio)
            if _is_bad(lacking, quantized):
                return lacking
    return layers[place]
