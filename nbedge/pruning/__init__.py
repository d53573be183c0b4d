"""Pruning: a wide model cut down to the cost of a tiny one, the usual other way to it."""

from nbedge.pruning.channels import MULTIPLE, SPREADS, prune_channels
from nbedge.pruning.weights import emptied, nonzero, prune_weights, settle_

__all__ = ["MULTIPLE", "SPREADS", "emptied", "nonzero", "prune_channels", "prune_weights", "settle_"]
