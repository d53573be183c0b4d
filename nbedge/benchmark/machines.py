"""Which machine a name stands for."""

from contextlib import AbstractContextManager

from nbedge.benchmark.emulated import EmulatedMachine
from nbedge.benchmark.local import LocalMachine
from nbedge.benchmark.remote import RemoteMachine
from nbedge.device.emulated import CPUS
from nbedge.errors import InputError

#: how the address of a machine over ssh begins
SSH = "ssh://"
_EMULATED = "emulated:"


def machine_of(
    on: str, *, python: str = "python3", setup: bool = False
) -> AbstractContextManager[LocalMachine | EmulatedMachine | RemoteMachine]:
    """Return a machine, for the length of a `with` block.

    Args:
        on: "local", "emulated:CPU" or "ssh://user@host:port".
        python: the interpreter of one over ssh.
        setup: whether that one gets an environment with the runtimes first.

    Raises:
        InputError: `on` is none of these.
        MissingDependencyError: the emulated Raspberry Pi is not made.
    """
    if on.startswith(SSH):
        return RemoteMachine(on, python, setup)
    if on.startswith(_EMULATED):
        return EmulatedMachine(on.removeprefix(_EMULATED))
    if on != LocalMachine.name:
        raise InputError(f"cannot measure on {on!r}; give local, ssh://USER@HOST, or emulated:{'|'.join(CPUS)}")
    return LocalMachine()
