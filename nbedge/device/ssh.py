"""Connection: copy files to a device, let an agent measure them there, and leave nothing but a cache folder behind."""

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from nbedge import files
from nbedge.agent import RUNTIME, SENTINEL
from nbedge.device import failures, scripts
from nbedge.device.address import Address
from nbedge.device.failures import Outcome
from nbedge.device.requirements import DISTRIBUTIONS, OLDEST
from nbedge.device.transport import Transport

#: bytes a second that any network has
_SLOWEST = 50_000
_SIGILL = 132


@dataclass(frozen=True, slots=True)
class Device:
    """What there is at the other end.

    Attributes:
        machine: its kind of processor as `uname -m` names it; armv7l for a 32-bit system on a 64-bit one.
        python: version of its interpreter.
        home: the user's folder there.
    """

    machine: str
    python: tuple[int, ...]
    home: str

    @property
    def cache(self) -> str:
        """The only folder that is written to."""
        return f"{self.home}/{scripts.CACHE}"


class Connection:
    """A device, for the length of a `with` block.

    Attributes:
        address: where it is.
        python: its interpreter, a name or a path there; a relative one counts from the user's folder.
        device: what there is.
    """

    def __init__(self, address: Address, python: str = "python3") -> None:
        self.address = address
        self.python = python

    def __enter__(self) -> "Connection":
        """Connect.

        Raises:
            DeviceError: the device does not answer, refuses, or has no Python of 3.9 or later.
            MissingDependencyError: there is no ssh on this machine.
        """
        self._transport = Transport.open(self.address)
        try:
            self.device = self._identify()
        except BaseException:
            self._transport.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport.close()

    def _identify(self) -> Device:
        outcome = self._transport.execute(scripts.PYTHON, self.python, scripts.IDENTIFY)
        found = _marked(outcome, scripts.MARK)
        if found is None and outcome.status in (126, 127):
            raise failures.without_python(self.address, self.python)
        if found is None:
            raise failures.of_command(self.address, outcome, f"run {self.python}", "check it by hand")
        version = tuple(found["python"])
        if version < OLDEST:
            raise failures.too_old(self.address, self.python, ".".join(map(str, version)))
        narrow = found["machine"] in ("aarch64", "armv8l") and found["bits"] == 32
        return Device("armv7l" if narrow else found["machine"], version, found["home"])

    def put(self, paths: Iterable[Path]) -> dict[Path, str]:
        """Copy files to the cache folder, those that it lacks; return where each lies there.

        Raises:
            DeviceError: there is no room, or the connection is lost.
        """
        names = {path: files.sha256(path) + path.suffix for path in paths}
        there = self._transport.execute(scripts.DIGESTS, *names.values()).out if names else ""
        for name, path in {name: path for path, name in names.items()}.items():
            if f"{name[:64]}  {name}" not in there.splitlines():
                self._send(path, name)
        return {path: f"{self.device.cache}/files/{name}" for path, name in names.items()}

    def _send(self, path: Path, name: str) -> None:
        seconds = 60 + path.stat().st_size / _SLOWEST
        with path.open("rb") as content:
            outcome = self._transport.execute(scripts.RECEIVE, name[:64], name, given=content, seconds=seconds)
        if outcome.status:
            raise failures.of_command(self.address, outcome, f"take {path}", f"check ~/{scripts.CACHE} there")

    def run(self, agent: str, job: dict[str, Any], seconds: float, interpreter: str | None = None) -> dict[str, Any]:
        """Let an agent do a job; return its result. It ends after `seconds`, or with the connection.

        The agent prints `SENTINEL` and a JSON object last. One that measures in a process of its own ends as that did:
        with 128 and the number of the signal; it may print `RUNTIME` before.

        Args:
            agent: where it lies there, as `put` says.
            job: it reads this, as a line of JSON.
            seconds: that it may take.
            interpreter: there, as `setup` says; else the one of the connection.

        Raises:
            DeviceError: it gave no result; the message says why.
        """
        interpreter = interpreter or self.python
        line = json.dumps(job)
        outcome = self._transport.execute(
            scripts.GUARD, str(math.ceil(seconds)), interpreter, agent, line=line, seconds=seconds
        )
        result = _marked(outcome, SENTINEL)
        if result is not None:
            return result
        if outcome.status == _SIGILL:
            raise failures.illegal_instruction(self.address, self.device.machine, self._runtimes(outcome, interpreter))
        raise failures.of_measuring(self.address, outcome, self.device.machine, interpreter, seconds)

    def _runtimes(self, outcome: Outcome, interpreter: str) -> dict[str, str]:
        """Return the version of the runtime that an agent has named, else of each that is installed."""
        for line in outcome.out.splitlines():
            if line.startswith(RUNTIME):
                name, _, version = line.removeprefix(RUNTIME).partition(" ")
                return {name: version.strip()}
        source = scripts.VERSIONS.format(names=DISTRIBUTIONS)
        return _marked(self._transport.execute(scripts.PYTHON, interpreter, source), scripts.MARK) or {}

    def setup(self, requirements: Sequence[str], seconds: float = 1800) -> str:
        """Make an environment in the cache folder, unless it is there; return its interpreter.

        Args:
            requirements: what pip installs, wheels only.
            seconds: that it may take.

        Raises:
            DeviceError: it cannot be made.
        """
        key = json.dumps([self.python, self.device.python, *requirements])
        folder = f"{self.device.cache}/environments/{hashlib.sha256(key.encode()).hexdigest()[:16]}"
        script = ("sh", "-c", f"export LC_ALL=C\n{scripts.MAKE_ENVIRONMENT}", "sh", self.python, folder, *requirements)
        outcome = self._transport.execute(scripts.GUARD, str(math.ceil(seconds)), *script, seconds=seconds)
        if outcome.status:
            what = f"install {', '.join(requirements)}"
            raise failures.of_command(self.address, outcome, what, "check its network and pip")
        return f"{folder}/bin/python"

    def clean(self) -> None:
        """Remove the cache folder.

        Raises:
            DeviceError: it cannot be removed.
        """
        outcome = self._transport.execute(scripts.CLEAN)
        if outcome.status:
            raise failures.of_command(self.address, outcome, "remove its cache folder", f"remove ~/{scripts.CACHE}")


def _marked(outcome: Outcome, mark: str) -> dict[str, Any] | None:
    """Return the JSON object after the last `mark`; what else is printed there does not matter."""
    for line in reversed(outcome.out.splitlines()):
        _, marked, rest = line.partition(mark)
        if marked:
            try:
                found = json.loads(rest)
            except json.JSONDecodeError:
                return None
            return found if isinstance(found, dict) else None
    return None
