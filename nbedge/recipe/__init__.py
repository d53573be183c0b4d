"""Recipe: everything that a run depends on, in one TOML file. A key that is not known is an error, never ignored."""

from nbedge.recipe.bench import BenchSection
from nbedge.recipe.reading import read
from nbedge.recipe.records import (
    MEASURED,
    DataSection,
    DistillSection,
    ExportSection,
    ModelSection,
    PlanSection,
    PltSection,
    PruneSection,
    Recipe,
    TrainSection,
    TransferSection,
)
from nbedge.recipe.writing import literal, to_toml

__all__ = [
    "MEASURED", "BenchSection", "DataSection", "DistillSection", "ExportSection", "ModelSection", "PlanSection",
    "PltSection", "PruneSection", "Recipe", "TrainSection", "TransferSection", "literal", "read", "to_toml",
]  # fmt: skip
