"""Conversion: export() makes the files, each verified before it is kept."""

from nbedge.conversion.chain import planned, require
from nbedge.conversion.exporting import CHECKED, LEARNT, export
from nbedge.conversion.options import Options
from nbedge.conversion.workshop import Exported

__all__ = ["CHECKED", "LEARNT", "Exported", "Options", "export", "planned", "require"]
