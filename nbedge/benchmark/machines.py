"""Which machine a name stands for."""

from contextlib import AbstractContextManager

from nbedge.benchmark.emulated import EmulatedMachine
from nbedge.benchmark.local import LocalMachine
from nbedge.benchmark.microcontroller import MicrocontrollerMachine
from nbedge.benchmark.place import Place
from nbedge.benchmark.remote import RemoteMachine
from nbedge.device.address import Address
from nbedge.device.cores import CORES
from nbedge.device.emulated import CPUS
from nbedge.device.image import OPTIMIZATIONS
from nbedge.errors import InputError

#: how the address of a machine over ssh begins
SSH = "ssh://"
_EMULATED = "emulated:"
_KNOWN = ", ".join((*CPUS, *CORES))


def place_of(on: str) -> Place:
    """Return what the machine of this name can do, without looking for it.

    Raises:
        InputError: `on` is no machine, see `machine_of`.
    """
    kind: type[LocalMachine | EmulatedMachine | MicrocontrollerMachine | RemoteMachine] = LocalMachine
    if on.startswith(SSH):
        Address.parse(on)
        kind = RemoteMachine
    elif on.startswith(_EMULATED):
        kind = MicrocontrollerMachine if _known_cpu(on.removeprefix(_EMULATED)) in CORES else EmulatedMachine
    elif on != LocalMachine.name:
        raise InputError(f"cannot measure on {on!r}; give local, ssh://USER@HOST, or emulated:CPU, one of {_KNOWN}")
    return Place(on, kind.timed, kind.compiles, kind.runtimes)


def _known_cpu(cpu: str) -> str:
    if cpu not in (*CPUS, *CORES):
        raise InputError(f"no emulated CPU is called {cpu!r}; choose from {_KNOWN}")
    return cpu


def machine_of(
    on: str, *, python: str = "python3", setup: bool = False, optimization: str = OPTIMIZATIONS[0]
) -> AbstractContextManager[LocalMachine | EmulatedMachine | MicrocontrollerMachine | RemoteMachine]:
    """Return a machine, for the length of a `with` block.

    Args:
        on: "local", "emulated:CPU" (of a Raspberry Pi, or a Cortex-M core) or "ssh://user@host:port".
        python: the interpreter of one over ssh.
        setup: whether that one gets an environment with the runtimes first.
        optimization: level of the compiler, for a Cortex-M core.

    Raises:
        InputError: `on` is none of these.
        MissingDependencyError: what emulates it is not here: the Raspberry Pi, or compiler and emulator for a Cortex-M.
    """
    place = place_of(on)
    if on.startswith(SSH):
        return RemoteMachine(on, python, setup)
    if place.compiles:
        return MicrocontrollerMachine(on.removeprefix(_EMULATED), optimization)
    return LocalMachine() if place.timed else EmulatedMachine(on.removeprefix(_EMULATED))
