"""A Raspberry Pi, or any other Linux machine, over ssh; nothing of nbedge is installed there."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbedge.benchmark.archive import write_agent
from nbedge.benchmark.local import found_in
from nbedge.benchmark.place import CARRIED
from nbedge.device.address import Address
from nbedge.device.requirements import requirements_for
from nbedge.device.ssh import Connection

#: keys of a job that name files of this machine
FILES = ("file", "inputs", "sidecar")
#: seconds that a process may take besides its samples: loading, warming up, a hundred calls of a slow file
BESIDES = 900


class RemoteMachine:
    """A machine over ssh, `ssh://user@host:port`."""

    seconds = 10.0
    timed = True
    compiles = False
    runtimes = CARRIED

    def __init__(self, where: str, python: str = "python3", setup: bool = False) -> None:
        """Take an address, an interpreter there, and whether it gets an environment with the runtimes first.

        Raises:
            InputError: that is no address.
        """
        self.name, self._setup = where, setup
        self._connection = Connection(Address.parse(where), python)

    def __enter__(self) -> "RemoteMachine":
        """Connect, and put the agent there.

        Raises:
            DeviceError: the device does not answer, has no Python, or cannot get the runtimes.
            MissingDependencyError: there is no ssh here.
        """
        connection = self._connection.__enter__()
        try:
            with tempfile.TemporaryDirectory(prefix="nbedge-bench-") as folder:
                agent = write_agent(Path(folder) / "agent.pyz")
                self._agent = connection.put([agent])[agent]
            device = connection.device
            wanted = requirements_for(device.machine, device.python) if self._setup else ()
            self._interpreter = connection.setup(wanted) if self._setup else None
        except BaseException:
            connection.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self._connection.__exit__(None, None, None)

    def run(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Do a job in a fresh process there.

        Raises:
            DeviceError: it gave no result.
            InputError: the file could not be run.
            MissingDependencyError: its runtime is not installed there.
        """
        there = self._connection.put(Path(job[key]) for key in FILES if job.get(key))
        moved = {key: there[Path(job[key])] for key in FILES if job.get(key)}
        said = self._connection.run(
            self._agent, {**job, **moved}, BESIDES + 4 * float(job["seconds"]), self._interpreter
        )  # fmt: skip
        return found_in(said, job, f"run again with --setup, which installs the runtimes on {self.name}")

    def clean(self) -> None:
        """Remove what was put there.

        Raises:
            DeviceError: it cannot be removed.
        """
        self._connection.clean()
