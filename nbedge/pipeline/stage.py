"""Stage: one step of the path, and what came of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nbedge.pipeline.context import Context
from nbedge.verification import Equivalence


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a stage wrote, by path in the run directory, and what it found where it judges."""

    outputs: tuple[str, ...]
    judged: tuple[Equivalence, ...] = ()


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the path.

    Attributes:
        name: on the command line and in the manifest.
        needs: files of earlier stages that it reads; a folder stands for all its files.
        sections: parts of the recipe that it depends on, besides model, data, seed and threads: sections, or single
            keys, such as "distill.weight".
        run: what it does, told where the state of a training is kept.
        trains: every process of a distributed training takes part.
        gates: files of the gates before it; it is left out when one of them has stopped boosting.
    """

    name: str
    needs: tuple[str, ...]
    sections: tuple[str, ...]
    run: Callable[[Context, Path], Outcome]
    trains: bool = False
    gates: tuple[str, ...] = ()
