"""Conversion: export() makes the files, each verified before it is kept."""

from nbedge.conversion.export import Exported, export

__all__ = ["Exported", "export"]
