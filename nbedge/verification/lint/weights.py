"""The weights of a file: which constants its multiply-accumulates use, and are they the float ones, quantized?"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nbedge.artifact import SCHEMES
from nbedge.graph import KINDS, Graph, Operator, Tensor, read, weight_index
from nbedge.verification.equivalence import Check, at_most, not_checked, reported

#: steps of the integer grid between a quantized weight and the float one: half a step by rounding (at most 0.500003 in
#: 7 files, measured). One weight that is off by one step shows, unless it lay halfway
STEPS = 0.51
#: widest scale of a channel over max|w| / 127, the scale that uses all steps; a narrower one clips what lies outside
WIDEST = 1.01
#: largest step of weights with 7 bits, which processors without VNNI instructions need lest their sums saturate
REDUCED = 64
#: largest channel over the smallest above which one scale for all would lose the small ones: of 7 bits, a channel that
#: is 50 times smaller keeps 1
SPREAD = 50.0
#: share of the largest channel below which a channel is dead: quantizers give it the scale they like
DEAD = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Weight:
    """The constant that a multiply-accumulate multiplies with.

    Attributes:
        operator: which one.
        tensor: the constant as stored.
        values: (o, i, *kernel) real values, output channel first whatever the file's layout.
        stored: likewise, as stored.
        scales: (o,) or (1,); empty for float weights.
    """

    operator: Operator
    tensor: Tensor
    values: NDArray[np.float64]
    stored: NDArray[np.float64]
    scales: NDArray[np.float64]


def weights(graph: Graph) -> list[Weight]:
    """Return the weights of a graph, in the order in which they are used."""
    found = []
    for operator in (o for o in graph.operators if o.kind in KINDS):
        tensor = graph.stored(operator.inputs[weight_index(operator)])
        if tensor is not None and tensor.data is not None:
            real, stored = (_channels_first(values, operator) for values in (tensor.real(), tensor.data.astype(float)))
            found.append(Weight(operator, tensor, real, stored, tensor.scales.astype(np.float64)))
    return found


def _channels_first(values: NDArray[np.float64], operator: Operator) -> NDArray[np.float64]:
    if operator.kind == "DEPTHWISE_CONV_2D":  # 1, h, w, o
        return values.transpose(3, 0, 1, 2)
    if operator.kind == "CONV_2D":  # o, h, w, i
        return values.transpose(0, 3, 1, 2)
    across = operator.kind in ("Gemm", "QGemm") and not operator.options.get("transB")
    if across or operator.kind in ("MatMul", "FusedMatMul", "QLinearMatMul"):
        return np.swapaxes(values, -1, -2)
    return values


def float_weights(graph: Graph, scheme: str, exempt: int = 0) -> list[Check]:
    """Judge whether a file whose scheme has integer weights holds none in floating point but for exempt ones."""
    if SCHEMES[scheme][0] != "int8":
        return []
    held = weights(graph)
    left = [w for w in held if w.tensor.is_float]
    return [at_most("operators with float weights", len(left), exempt, "operators", _first(left, len(held)))]


def largest_step(path: Path) -> int:
    """Return the largest step that the weights of an integer file use: 127, or 64 in one of ONNX with 7 bits.

    Raises:
        InputError: the file is damaged.
    """
    graph = read(path)
    return _largest_step(graph, [w for w in weights(graph) if len(w.scales)])


def channel_checks(graph: Graph) -> list[Check]:
    """Judge the scales of integer weights: one a channel, centred on 0."""
    held = [w for w in weights(graph) if len(w.scales)]
    if not held:
        return []
    single = [w for w in held if len(w.scales) == 1 < len(w.values) and w.values.ndim == 4]
    spread = [float(np.ptp(np.log(_largest(w.values)))) for w in held]
    worst = int(np.argmax(spread))
    ratio = float(np.exp(spread[worst]))
    warning = "; WARNING: above 50, one scale for all channels would lose the small ones" if ratio > SPREAD else ""
    off = [w for w in held if w.tensor.zero_points.any()]
    return [
        at_most("convolutions with one scale for all channels", len(single), 0, "operators", _first(single, len(held))),
        at_most("weights not centred on 0", len(off), 0, "operators", _first(off, len(held))),
        reported("largest channel over the smallest", ratio, "", f"{held[worst].tensor.name}{warning}"),
    ]


def _largest(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return max|w| of each output channel that is not all 0."""
    each = np.abs(values).reshape(len(values), -1).max(1)
    return each[each > 0] if each.any() else np.ones(1)


def _first(wrong: list[Weight], total: int) -> str:
    return f"of {total}" + (f"; first {wrong[0].tensor.name}" if wrong else "")


def requantized(graph: Graph, reference: Graph) -> list[Check]:
    """Judge whether every integer weight is the reference's float weight, rounded to its grid.

    Weights are paired by shape, those of one shape by likeness; a layer whose weights were changed on purpose, as by
    equalization, must be changed in the float file too.
    """
    held = [w for w in weights(graph) if len(w.scales)]
    pairs = list(_pairs(held, [w for w in weights(reference) if not len(w.scales)]))
    if not pairs:
        return (
            [not_checked("weights as requantized", "no weight of the file has a float one of its shape")]
            if held
            else []
        )
    apart = [float(_apart(w, f).max()) for w, f in pairs]
    largest = _largest_step(graph, held)
    wide = [float(_width(w, f, largest).max()) for w, f in pairs]
    worst, widest = int(np.argmax(apart)), int(np.argmax(wide))
    channel = int(_apart(*pairs[worst]).reshape(len(pairs[worst][0].values), -1).max(1).argmax())
    missing = len(held) - len(pairs)
    return [
        at_most("weights as requantized", apart[worst], STEPS, "steps",
                f"{len(pairs)} of {len(held)} tensors; worst {pairs[worst][0].tensor.name}, channel {channel}"),
        at_most("scales of weights too wide", wide[widest], WIDEST, f"of max|w|/{largest}",
                pairs[widest][0].tensor.name),
        reported("weights without a float one", missing, "tensors", f"of {len(held)}, in {reference.path.name}"),
    ]  # fmt: skip


def _pairs(held: list[Weight], floats: list[Weight]) -> Iterator[tuple[Weight, Weight]]:
    """Yield (integer weight, float weight): of the same shape, each float one once, the most alike first in order."""
    free = list(floats)
    for weight in held:
        same = [f for f in free if f.values.shape == weight.values.shape]
        if same:
            best = max(same, key=lambda f: _likeness(weight.values, f.values))
            free.remove(best)
            yield weight, best


def _likeness(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    sizes = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float((one * other).sum()) / sizes if sizes else 0.0


def _by_channel(scales: NDArray[np.float64], like: NDArray[np.float64]) -> NDArray[np.float64]:
    return scales.reshape(-1, *(1,) * (like.ndim - 1))


def _apart(weight: Weight, true: Weight) -> NDArray[np.float64]:
    """Return |q - clip(w / scale)| in steps, element by element."""
    limit = np.iinfo(weight.tensor.dtype)
    wanted = np.clip(true.values / _by_channel(weight.scales, true.values), limit.min, limit.max)
    apart: NDArray[np.float64] = np.abs(weight.stored - wanted)
    return apart


def _largest_step(graph: Graph, held: list[Weight]) -> int:
    """Return the largest step that weights use: 127, or 64 in a file of ONNX with 7 bits throughout."""
    reduced = graph.format == "onnx" and all(np.abs(weight.stored).max() <= REDUCED for weight in held)
    return REDUCED if reduced else 127


def _width(weight: Weight, true: Weight, largest: int) -> NDArray[np.float64]:
    """Return the scale of each channel over that which uses all steps; a channel of (nearly) zeros may have any."""
    rows = np.abs(true.values).reshape(len(true.values), -1).max(1)
    full = (rows if len(weight.scales) > 1 else rows.max(keepdims=True)) / largest
    return np.where(full > DEAD * full.max(), weight.scales / np.maximum(full, 1e-300), 1.0)
