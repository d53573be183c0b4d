"""Localization: where two models part, value by value, and a bundle that shows it to others."""

from nbedge.localization.bundle import write_bundle
from nbedge.localization.edge import Located, locate
from nbedge.localization.values import Value, values_of
from nbedge.localization.walk import Layer, Localization, localize

__all__ = ["Layer", "Localization", "Located", "Value", "locate", "localize", "values_of", "write_bundle"]
