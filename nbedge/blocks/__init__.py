"""The modules that a giant is made of: blocks, how they are built for a site, and with which weights they start."""

from nbedge.blocks.block import Block, Expanded, Squeezed, Template, expanded_blocks, squeeze_, unsqueeze_
from nbedge.blocks.factorization import started
from nbedge.blocks.structures import hidden_channels, refusal, structure

__all__ = [
    "Block", "Expanded", "Squeezed", "Template", "expanded_blocks", "hidden_channels", "refusal", "squeeze_", "started",
    "structure", "unsqueeze_",
]  # fmt: skip
