"""Remedies: what is done to the float network so that its integer files lose less; every format profits."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nbedge.artifact import BIAS, CONSTANT, EQUALIZATION, ROUNDING, TUNING
from nbedge.errors import ExportError
from nbedge.quantization import Grid, corrected, equalized, folded, rounded, settled, tuned
from nbedge.verification import Equivalence, Limits, verify

Array = NDArray[np.float32]
#: calibration inputs without which too many channels look constant: of a single one all behind a pooling are
DIFFERENT = 10


@dataclass(frozen=True, slots=True, eq=False)
class Treated:
    """A network after its remedies.

    Attributes:
        model: the network.
        edges: that those remedies which must not change its answers did not.
        detail: what was done, for people.
    """

    model: nn.Module
    edges: tuple[Equivalence, ...] = ()
    detail: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Remedies:
    """Treats one network, whatever the order in which its remedies were chosen.

    Attributes:
        model: any module.
        seen: (n, c, h, w) inputs that quantizers see.
        held: (n, c, h, w) inputs that answers are compared on.
        learn: returns the (n, c, h, w) inputs that tuning learns from.
        name: of the model.
        limits: of the comparison.
    """

    model: nn.Module
    seen: Array
    held: Array
    learn: Callable[[], Array]
    name: str
    limits: Limits

    def treated(self, remedies: Collection[str], grid: Grid) -> Treated:
        """Return the network after some remedies: those that keep its answers first, then what depends on the weights.

        Raises:
            ExportError: torch cannot trace it for any number of inputs, there is nothing to do or too little to know it
                by, or its answers would change.
        """
        if not remedies:
            return Treated(self.model)
        network, x = folded(self.model, self.seen.shape[1:]), torch.from_numpy(self.seen)
        edges, details = [], []
        if CONSTANT in remedies:
            different = len(np.unique(self.seen.reshape(len(self.seen), -1), axis=0))
            if different < DIFFERENT:
                raise ExportError(f"{different} different calibration inputs do not tell which channels are constant")
            still = settled(network, x)
            if not still.channels:
                raise ExportError("no channel is the same for every input")
            details.append(f"weights of constant channels removed: {still.channels}")
            edges.append(self._same(still.module, "without the weights of constant channels"))
            network = still.module
        if EQUALIZATION in remedies:
            equal = equalized(network, x)
            if not equal.tensors:
                raise ExportError(f"no channels can be scaled; {equal.skipped} tensors are clipped or read otherwise")
            details.append(f"{equal.tensors} tensors equalized, {equal.skipped} clipped or read otherwise")
            edges.append(self._same(equal.module, "equalized"))
            network = equal.module
        if TUNING in remedies:
            return Treated(tuned(network, torch.from_numpy(self.learn()), grid), tuple(edges), ", ".join(details))
        network = rounded(network, x, grid) if ROUNDING in remedies else network
        network = corrected(network, x, grid) if BIAS in remedies else network
        return Treated(network, tuple(edges), ", ".join(details))

    def _same(self, module: nn.Module, how: str) -> Equivalence:
        """Return the verdict on a network that must answer as before; `how` says what became of it.

        Raises:
            ExportError: it does not.
        """
        edge = verify(self.model, module, self.held, limits=self.limits).named(self.name, f"{self.name}, {how}")
        if not edge:
            worst = edge.failures()[0]
            raise ExportError(f"the network answers otherwise {how} ({worst.name} {worst.value:.3g} {worst.unit})")
        return edge
