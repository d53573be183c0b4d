"""Conversion: export() makes the files, each verified before it is kept."""

from nbedge.conversion.chain import require, steps
from nbedge.conversion.workshop import CHECKED, Exported, export

__all__ = ["CHECKED", "Exported", "export", "require", "steps"]
