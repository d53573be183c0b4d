"""Timeline: the bytes of arena that each layer of a network needs while it runs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nbedge.graph import Graph, Operator


@dataclass(frozen=True, slots=True)
class Step:
    """One layer; bytes.

    Attributes:
        operator: its name.
        output: name of the tensor that it makes.
        live_bytes: of the tensors that are needed during it or after it.
        scratch_bytes: that it borrows.
    """

    operator: str
    output: str
    live_bytes: int
    scratch_bytes: int = 0

    @property
    def used_bytes(self) -> int:
        """Of tensors and what is borrowed."""
        return self.live_bytes + self.scratch_bytes


@dataclass(frozen=True, slots=True)
class Timeline:
    """All layers.

    Attributes:
        steps: in the order in which they run.
        arena_bytes: of the whole arena.
        kept_bytes: of the arena that the runtime keeps for itself all the time.
    """

    steps: tuple[Step, ...]
    arena_bytes: int
    kept_bytes: int = 0

    @property
    def peak(self) -> int:
        """Number of the layer that needs most."""
        used = [step.used_bytes for step in self.steps]
        return used.index(max(used)) if used else 0

    @property
    def peak_words(self) -> str:
        """Which layer sets the size of the arena, for people."""
        if not self.steps:
            return "there is no layer"
        step = self.steps[self.peak]
        return (
            f"layer {self.peak}, {step.operator}, sets the peak of {step.used_bytes} bytes while it makes "
            f"{step.output.partition(';')[0]}"
        )

    def layers(self) -> list[dict[str, Any]]:
        """Return plain JSON values of the layers."""
        return [{"index": i, **asdict(step)} for i, step in enumerate(self.steps)]


def of_manifest(about: Mapping[str, Any]) -> Timeline:
    """Return the timeline that the manifest of generated C holds."""
    steps = tuple(
        Step(layer["operator"], layer["output"], layer["live_bytes"], layer["used_bytes"] - layer["live_bytes"])
        for layer in about["layers"]
    )
    return Timeline(steps, about["arena_bytes"])


def of_graph(graph: Graph, arena_bytes: int, kept_bytes: int, scratch: Sequence[int]) -> Timeline:
    """Return the timeline of a file in TFLite Micro, which gives every tensor its own memory.

    Args:
        graph: of the file.
        arena_bytes: of the whole arena.
        kept_bytes: of the arena that holds no tensor.
        scratch: bytes that each layer may borrow.
    """
    lives = _lives(graph)
    live = [0] * len(graph.operators)
    for name, (first, last) in lives.items():
        for i in range(first, last + 1):
            live[i] += _bytes(graph, name)
    steps = tuple(
        Step(operator.kind, operator.outputs[0] if operator.outputs else "", here, borrowed)
        for operator, here, borrowed in zip(graph.operators, live, scratch, strict=True)
    )
    return Timeline(steps, arena_bytes, kept_bytes)


def _lives(graph: Graph) -> dict[str, tuple[int, int]]:
    """Return tensor -> first and last layer of its life: inputs from the first layer on, outputs to the last one."""
    lives: dict[str, tuple[int, int]] = {name: (0, 0) for name in graph.inputs}
    for i, operator in enumerate(graph.operators):
        for name in _computed(graph, operator):
            lives[name] = (lives.get(name, (i, i))[0], i)
    end = len(graph.operators) - 1
    return {name: (first, end if name in graph.outputs else last) for name, (first, last) in lives.items()}


def _computed(graph: Graph, operator: Operator) -> list[str]:
    names = [name for name in (*operator.inputs, *operator.outputs) if name in graph.tensors]
    return [name for name in names if graph.tensors[name].data is None]


def _bytes(graph: Graph, name: str) -> int:
    tensor = graph.tensors[name]
    return tensor.size * np.dtype(tensor.dtype).itemsize
