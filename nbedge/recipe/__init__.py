"""Recipe: everything that a run depends on, in one TOML file. A key that is not known is an error, never ignored."""

from nbedge.recipe.baselines import BASELINES, BaselinesSection
from nbedge.recipe.bench import BenchSection
from nbedge.recipe.gate import GateSection
from nbedge.recipe.phases import MEASURED, DistillSection, PltSection, TrainSection
from nbedge.recipe.reading import read
from nbedge.recipe.records import (
    DataSection,
    ExportSection,
    ModelSection,
    PlanSection,
    PruneSection,
    Recipe,
    TransferSection,
)
from nbedge.recipe.writing import literal, to_toml

__all__ = [
    "BASELINES", "MEASURED", "BaselinesSection", "BenchSection",
    "DataSection", "DistillSection", "ExportSection", "GateSection", "ModelSection",
    "PlanSection", "PltSection", "PruneSection", "Recipe", "TrainSection", "TransferSection", "literal", "read",
    "to_toml",
]  # fmt: skip
