"""The whole path, one stage after the other, into a run directory that resumes after a kill at any moment."""

from nbedge.pipeline.stages import stages
from nbedge.pipeline.stepping import run

__all__ = ["run", "stages"]
