"""Labelled pictures: where they come from, and how they are split."""

from nbedge.data.arrays import FASHION_CLASSES
from nbedge.data.decoding import picture
from nbedge.data.lazy import EncodedImages, Example, FolderImages, LazyImages
from nbedge.data.pictures import Labels, Pictures, statistics
from nbedge.data.prepared import holds_prepared, load_prepared
from nbedge.data.records import CLASSIFICATION, DETECTION, Source, Splits, fingerprint
from nbedge.data.splits import anchored, load, read, split
from nbedge.data.stream import PictureStream
from nbedge.preprocessing import Images

__all__ = [
    "CLASSIFICATION", "DETECTION", "EncodedImages", "Example", "FASHION_CLASSES", "FolderImages", "Images", "Labels",
    "LazyImages", "PictureStream", "Pictures", "Source", "Splits", "anchored", "fingerprint", "holds_prepared",
    "load", "load_prepared", "picture", "read", "split", "statistics",
]  # fmt: skip
