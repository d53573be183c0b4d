"""What the merged weights will cost in 8 bits: reported with every merge, before a file is made of it.

Merging may leave weights that integers hold badly: channels of very different sizes, which one scale for all would lose
(gammas over six decades: 0 dB with one scale, over 40 dB with one a channel), or a few large weights among small ones,
as an identity shortcut leaves them (44 dB without, 34 to 36 dB with one, down to 3 dB for what was learned beside it).
Measured on 1x1 convolutions of 96 and 160 channels.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from nbedge.verification.equivalence import Check, reported
from nbedge.verification.sites import MergedSite

#: largest channel over the smallest, and SNR of a channel in 8 bits, at which there is a warning; ordinary layers show
#: 3 to 5, and 44 to 47 dB over all channels (measured)
SPREAD, LEAST_DB = 50.0, 30.0
#: share of the largest channel below which a channel is dead
DEAD = 1e-6


def weight_ranges(sites: list[MergedSite]) -> Iterator[Check]:
    """Report the worst of all merged layers, BatchNorm folded in, as exporters fold it."""
    spread = {site.name: _spread(_folded(site)) for site in sites}
    noise = {site.name: _snr_db(_folded(site)) for site in sites}
    widest, worst = max(spread, key=spread.__getitem__), min(noise, key=noise.__getitem__)
    wide = f"; WARNING: above {SPREAD:g}, integers with one scale for all would lose the small ones"
    rough = f"; WARNING: below {LEAST_DB:g} dB, a few large weights leave few steps to the others"
    yield reported("channel range of weights", spread[widest], "", widest + (wide if spread[widest] > SPREAD else ""))
    yield reported("weights in 8 bits", noise[worst], "dB", worst + (rough if noise[worst] < LEAST_DB else ""))


def _folded(site: MergedSite) -> Tensor:
    """Return (channels, numbers) the weights of each output channel that is not dead."""
    weight = site.layer.weight.double()
    norm: Any = site.tiny_norm
    if norm is not None:
        factor = torch.rsqrt(norm.running_var.double() + norm.eps)
        factor = factor if norm.weight is None else factor * norm.weight.double()
        weight = weight * factor.reshape(-1, *(1,) * (weight.ndim - 1))
    rows = weight.flatten(1)
    size = rows.abs().amax(1)
    alive = size > DEAD * size.max()
    return rows[alive] if alive.any() else torch.ones(1, 1, dtype=torch.float64)


def _spread(rows: Tensor) -> float:
    size = rows.abs().amax(1)
    return float(size.max() / size.min())


def _snr_db(rows: Tensor) -> float:
    """Return 10 log10 of mean w² over the noise of rounding to 127 steps, of the worst channel."""
    scale = rows.abs().amax(1, keepdim=True) / 127
    noise = (torch.round(rows / scale) * scale - rows).square().sum(1)
    ratio = rows.square().sum(1) / noise.clamp_min(1e-30)
    return float(10 * torch.log10(ratio.min()))
