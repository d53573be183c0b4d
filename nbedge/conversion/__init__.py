"""Conversion: export() makes the files, each verified before it is kept."""

from nbedge.conversion.chain import require, steps
from nbedge.conversion.exporting import CHECKED, export
from nbedge.conversion.options import HEADS, INPUTS, Options
from nbedge.conversion.workshop import Exported

__all__ = ["CHECKED", "HEADS", "INPUTS", "Exported", "Options", "export", "require", "steps"]
