"""Place: what a machine can do, known without one: its runtimes, and whether its clock says anything."""

from dataclasses import dataclass, replace
from typing import Protocol

from nbedge.benchmark.case import GENERATED, RUNTIMES, Case
from nbedge.errors import InputError

#: the usual runtime of .tflite files: the first one that is installed
USUAL = RUNTIMES[".tflite"][0]
#: runtimes of this machine
NATIVE: tuple[str, ...] = tuple(name for names in RUNTIMES.values() for name in names if name != GENERATED)
#: of a machine over ssh: a checkpoint needs nbedge itself, which is not put there
CARRIED: tuple[str, ...] = tuple(name for name in NATIVE if name not in RUNTIMES[".safetensors"])
#: of an emulated Raspberry Pi: its environment has LiteRT and ONNX Runtime
EMULATED: tuple[str, ...] = ("onnxruntime", USUAL, "litert", "litert-builtin", "litert-reference")
#: of a microcontroller
COMPILED: tuple[str, ...] = (GENERATED,)


class Able(Protocol):
    """A machine, or what is known of one beforehand."""

    @property
    def name(self) -> str:
        """As the user gives it."""

    @property
    def timed(self) -> bool:
        """Whether its clock says anything: that of an emulator does not."""

    @property
    def compiles(self) -> bool:
        """Whether it runs generated C, the runtime `c`, and nothing else."""

    @property
    def runtimes(self) -> tuple[str, ...]:
        """Those that may be there."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a machine can do, see `Able`."""

    name: str
    timed: bool
    compiles: bool
    runtimes: tuple[str, ...]


def fitting(case: Case, place: Able) -> Case:
    """Return the case in the runtime that the machine has for it.

    Raises:
        InputError: there is none, or it is asked for threads that are not counted.
    """
    if case.threads > 1 and not place.timed:
        raise InputError(f"{case.threads} threads on {place.name}: instructions are counted of one; give 1 thread")
    if place.compiles:
        return _compiled(case, place)
    if case.runtime == GENERATED:
        raise InputError(f"generated C is not run on {place.name}; give --on emulated:cortex-m4")
    if case.runtime in place.runtimes:
        return case
    if case.path.suffix == ".safetensors":
        raise InputError(
            f"{case.path.name} is a checkpoint, which is not run on {place.name}; export it, and give that"
        )
    raise InputError(
        f"{case.path.name} cannot run in {case.runtime} on {place.name}, which has {', '.join(place.runtimes)}; choose "
        "one of these"
    )


def _compiled(case: Case, place: Able) -> Case:
    if case.runtime not in (USUAL, GENERATED):
        raise InputError(
            f"{case.path.name} cannot run in {case.runtime} on {place.name}: a microcontroller runs C that is "
            "generated of .tflite files in int8; give one, and no other runtime"
        )
    return replace(case, runtime=GENERATED)
