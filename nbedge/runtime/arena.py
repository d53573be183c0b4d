"""Arena: what TFLite Micro's interpreter says of the memory that it takes for a file."""

import re
from dataclasses import dataclass
from pathlib import Path

from nbedge.agent.micro import ARENA, printed
from nbedge.errors import InputError, needs

_PART = re.compile(r"Arena allocation (head|tail) (\d+) bytes")


@dataclass(frozen=True, slots=True)
class Arena:
    """Bytes on this machine, where pointers have 8 bytes.

    Attributes:
        tensors: of activations, with the kernels' scratch memory; reused from layer to layer.
        kept: of what the interpreter and its kernels keep.
    """

    tensors: int
    kept: int

    @property
    def total(self) -> int:
        """Bytes of both."""
        return self.tensors + self.kept


def measure_arena(path: Path) -> Arena:
    """Return what TFLite Micro takes for a file that it is known to load.

    Raises:
        InputError: it does not say.
        MissingDependencyError: tflite-micro is not installed.
    """
    with needs("micro"):
        from tflite_micro import runtime
    interpreter = runtime.Interpreter.from_file(str(path), arena_size=ARENA)
    found = {part: int(size) for part, size in _PART.findall(printed(interpreter.print_allocations))}
    if found.keys() != {"head", "tail"}:
        raise InputError(f"TFLite Micro does not say how much memory {path} takes; install another tflite-micro")
    return Arena(found["head"], found["tail"])
