"""Conversion: export() makes the files, each verified before it is kept."""

from nbedge.conversion.workshop import Examples, Exported, export

__all__ = ["Examples", "Exported", "export"]
