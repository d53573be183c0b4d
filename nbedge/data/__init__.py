"""Labelled pictures: where they come from, and how they are split."""

from nbedge.data.arrays import FASHION_CLASSES
from nbedge.data.folder import picture
from nbedge.data.records import Pictures, Source, Splits, fingerprint, statistics
from nbedge.data.splits import load, read

__all__ = ["FASHION_CLASSES", "Pictures", "Source", "Splits", "fingerprint", "load", "picture", "read", "statistics"]
