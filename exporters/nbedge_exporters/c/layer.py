"""Layer: one step of the generated program: a call, its constants, the memory that it reads, writes and borrows."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class At:
    """Where a tensor lies: in the arena, or among the constants; `offset` bytes behind its start."""

    tensor: str
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Scratch:
    """Where the memory lies that a layer borrows."""


@dataclass(frozen=True, slots=True, eq=False)
class Constants:
    """An array of numbers in flash.

    Attributes:
        name: what follows the layer's own name.
        values: of any shape.
    """

    name: str
    values: NDArray[np.generic]

    @property
    def type(self) -> str:
        """Of its elements, in C."""
        return f"{self.values.dtype}_t"


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a kernel.

    Attributes:
        kernel: name of the function, without its prefix.
        arguments: in order; text stands as it is, with `{own}` for the layer's own name.
    """

    kernel: str
    arguments: tuple[At | Scratch | str, ...]


@dataclass(frozen=True, slots=True)
class Layer:
    """One step.

    Attributes:
        operator: TFLite's name.
        reads: names of the tensors in the arena that it reads.
        writes: name of the tensor that it makes.
        calls: of kernels.
        arrays: its constants.
        record: type and initialiser of its struct, "" for none; names of arrays as in a call.
        scratch: bytes that it borrows.
        shares: the tensor of `reads` whose memory its result may take, "" for none.
        macs: multiply-accumulates.
    """

    operator: str
    reads: tuple[str, ...]
    writes: str
    calls: tuple[Call, ...]
    arrays: tuple[Constants, ...] = ()
    record: tuple[str, str] = ("", "")
    scratch: int = 0
    shares: str = ""
    macs: int = 0


@dataclass(frozen=True, slots=True)
class Program:
    """A network as layers.

    Attributes:
        layers: in the order in which they run.
        sizes: tensor in the arena -> bytes.
        aliases: tensor -> the tensor whose memory it is: results of RESHAPE.
        input: name of the tensor.
        outputs: likewise.
        constants: tensor -> constant operand of a layer, in flash.
    """

    layers: tuple[Layer, ...]
    sizes: dict[str, int]
    aliases: dict[str, str]
    input: str
    outputs: tuple[str, ...]
    constants: dict[str, NDArray[np.generic]] = field(default_factory=dict)

    def root(self, tensor: str) -> str:
        """Return the tensor whose memory a tensor is."""
        while tensor in self.aliases:
            tensor = self.aliases[tensor]
        return tensor


def initialiser(values: Sequence[object]) -> str:
    """Return C's initialiser of nested sequences."""
    return "{" + ", ".join(initialiser(v) if isinstance(v, list | tuple) else str(v) for v in values) + "}"
