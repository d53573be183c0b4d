"""Filters: weights, biases and scales of a layer, laid out as the kernels read them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nbedge.errors import ExportError
from nbedge.graph import Tensor
from nbedge_exporters.c.arithmetic import HIGH, LONGEST, LOW, quantized_multiplier, saturated, scaled
from nbedge_exporters.c.layer import Constants

#: inputs that are one word
BLOCK = 4


@dataclass(frozen=True, slots=True, eq=False)
class Filters:
    """Filters of a layer.

    Attributes:
        weights: (channels, taps) int8.
        bias: (channels,) with the input's zero point in it.
        multipliers: (channels,) int32.
        shifts: (channels,).
        zero: zero point of the output.
    """

    weights: NDArray[np.int8]
    bias: NDArray[np.int64]
    multipliers: NDArray[np.int64]
    shifts: NDArray[np.int64]
    zero: int

    @property
    def fast(self) -> bool:
        """Whether the kernels' short way to a byte is exact: see `nbedge_byte`."""
        sums = np.abs(self.bias) + 255 * np.abs(self.weights.astype(np.int64)).sum(1)
        return bool((self.shifts >= -LONGEST).all() and (self.shifts <= -1).all() and sums.max() < 2**30)

    @property
    def alike(self) -> bool:
        """Whether one multiplier and one shift serve all channels."""
        return len({*zip(self.multipliers.tolist(), self.shifts.tolist(), strict=True)}) == 1

    def grouped(self, group: int) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int8]]:
        """Return biases, multipliers and shifts as the kernels take them, each (groups, channels of a group)."""
        missing = -len(self.bias) % group
        bias, multipliers = (np.pad(part, (0, missing)).astype(np.int32) for part in (self.bias, self.multipliers))
        shifts = np.pad(self.shifts, (0, missing), constant_values=-1)
        told = (-1 - shifts if self.fast else shifts).astype(np.int8)
        return bias.reshape(-1, group), multipliers.reshape(-1, group), told.reshape(-1, group)

    def arrays(self, group: int, packed: NDArray[np.int8]) -> tuple[Constants, ...]:
        """Return the constants, with groups of so many channels."""
        bias, multipliers, shifts = self.grouped(group)
        constants = np.concatenate([bias, multipliers], 1)
        return Constants("weights", packed), Constants("constants", constants), Constants("shifts", shifts.ravel())

    def fields(self) -> list[object]:
        """Return the values of the kernels' `nbedge_filters`."""
        return ["{own}_weights", "{own}_constants", "{own}_shifts", len(self.bias), self.zero, int(self.fast)]

    def packed(self, group: int, row: int) -> NDArray[np.int8]:
        """Return the weights by groups of channels, in them by blocks, rows of `row` taps filled up with 0.

        Args:
            group: channels.
            row: taps that lie in a row in memory.
        """
        channels, taps = self.weights.shape
        rows = self.weights.reshape(channels, taps // row, row)
        rows = np.pad(rows, ((0, -channels % group), (0, 0), (0, -row % BLOCK)))
        blocks = rows.reshape(len(rows) // group, group, -1, BLOCK)
        return np.ascontiguousarray(blocks.transpose(0, 2, 1, 3)).ravel()


def filters_of(
    entry: Tensor, weights: Tensor, bias: Tensor | None, result: Tensor, by_channel: NDArray[np.int8], name: str
) -> Filters:
    """Return the filters of a layer.

    Args:
        entry: its input.
        weights: of the file.
        bias: of the file.
        result: its output.
        by_channel: (channels, taps) the weights.
        name: of the layer, for messages.

    Raises:
        ExportError: a sum may need more than 32 bits, or the weights have a zero point.
    """
    if weights.zero_points.any():
        raise ExportError(f"{name}: the weights have a zero point; only symmetric weights can be computed with")
    channels, zero = len(by_channel), int(entry.zero_points[0])
    sums = np.zeros(channels, np.int64) if bias is None else np.asarray(bias.data, np.int64).ravel()
    sums = sums - zero * by_channel.astype(np.int64).sum(1)
    if np.abs(sums).max(initial=0) + 255 * np.abs(by_channel.astype(np.int64)).sum(1).max() >= 2**31:
        raise ExportError(f"{name}: its sums may need more than 32 bits")
    scales = np.broadcast_to(_scales(entry, weights, result, name), channels)
    pairs = [quantized_multiplier(scale) for scale in scales]
    multipliers, shifts = (np.asarray(part, np.int64) for part in zip(*pairs, strict=True))
    return _settled(Filters(by_channel, sums, multipliers, shifts, int(result.zero_points[0])))


def _settled(filters: Filters) -> Filters:
    """Return filters whose channels that give one byte to every input have weights of 0 and a plain bias.

    Networks have dead channels, whose scales may be so small that only the kernels' long way to a byte would do.
    """
    weights, bias = filters.weights.copy(), filters.bias.copy()
    multipliers, shifts = filters.multipliers.copy(), filters.shifts.copy()
    wide = filters.weights.astype(np.int64)
    least = bias + np.minimum(wide * LOW, wide * HIGH).sum(1)
    most = bias + np.maximum(wide * LOW, wide * HIGH).sum(1)
    for channel, ends in enumerate(zip(least.tolist(), most.tolist(), strict=True)):
        factor = int(multipliers[channel]), int(shifts[channel])
        low, high = (saturated(scaled(end, *factor) + filters.zero, LOW, HIGH) for end in ends)
        if low == high:
            weights[channel], bias[channel] = 0, (low - filters.zero) * 2**8
            multipliers[channel], shifts[channel] = 2**30, -7
    return Filters(weights, bias, multipliers, shifts, filters.zero)


def _scales(entry: Tensor, weights: Tensor, result: Tensor, name: str) -> NDArray[np.float64]:
    """Return the real multipliers; one for all channels is computed as TFLite Micro does, from a rounded product."""
    if name.startswith("FULLY_CONNECTED") and len(weights.scales) == 1:
        products = (entry.scales * weights.scales).astype(np.float64)
    else:
        products = entry.scales.astype(np.float64) * weights.scales.astype(np.float64)
    scales: NDArray[np.float64] = products / result.scales.astype(np.float64)
    return scales
