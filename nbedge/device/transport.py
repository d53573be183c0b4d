"""One connection by ssh, with the user's own configuration, keys, agent and jump hosts; it never asks anything."""

import os
import shlex
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from time import monotonic, sleep
from typing import IO, Any

from nbedge.device import failures
from nbedge.device.address import Address
from nbedge.device.failures import Outcome
from nbedge.device.scripts import HOLD, as_command
from nbedge.errors import MissingDependencyError

#: seconds until a host that does not answer is given up
CONNECT = 15
#: seconds for all of it: jump hosts, keys, a login that is slow
OPEN = 60
#: seconds that a command may take on the client beyond what it may take on the device
GRACE = 30
_OPTIONS = {
    "BatchMode": "yes",
    "ConnectTimeout": str(CONNECT),
    "ServerAliveInterval": "5",  # a device that is gone is noticed in 15 s
    "ServerAliveCountMax": "3",
    "ControlPersist": "no",
    "LogLevel": "ERROR",
    # what a configuration may hold for people
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "PermitLocalCommand": "no",
    "RemoteCommand": "none",
    "RequestTTY": "no",
}


@dataclass(frozen=True, slots=True)
class Transport:
    """An open connection.

    Attributes:
        address: of the device.
        folder: holds its socket.
        master: the process that holds the connection, which all commands share.
    """

    address: Address
    folder: "TemporaryDirectory[str]"
    master: "subprocess.Popen[bytes]"

    @classmethod
    def open(cls, address: Address) -> "Transport":
        """Connect.

        Raises:
            DeviceError: the device does not answer, or does not let the user in.
            MissingDependencyError: there is no ssh.
        """
        folder = TemporaryDirectory(prefix="nbedge-")  # a short path: a socket's may have 104 characters
        with TemporaryFile() as said:
            command = [*_ssh(folder.name), "-M", *address.arguments, as_command(HOLD)]
            try:
                transport = cls(address, folder, _start(command, subprocess.PIPE, subprocess.DEVNULL, said))
                transport._wait(said)
            except BaseException:
                folder.cleanup()
                raise
        return transport

    def _wait(self, said: IO[bytes]) -> None:
        """Wait until commands can use the connection."""
        end = monotonic() + OPEN
        try:
            while not (Path(self.folder.name) / "s").exists():
                if self.master.poll() is not None:
                    raise failures.of_connecting(self.address, _text(said))
                if monotonic() > end:
                    raise failures.of_connecting(self.address, "timed out")
                sleep(0.02)
        except BaseException:
            _end(self.master)
            raise

    def close(self) -> None:
        """Disconnect; what runs on the device ends with its input."""
        _end(self.master)
        self.folder.cleanup()

    def execute(
        self, script: str, *arguments: str, given: IO[bytes] | None = None, line: str = "", seconds: float = 60
    ) -> Outcome:
        """Run `script` on the device.

        Args:
            script: for sh.
            arguments: of it.
            given: what it reads, to the end; else it reads `line` and no end until it is done.
            line: the first line.
            seconds: that it may take.

        Raises:
            DeviceError: the connection is lost.
        """
        if self.master.poll() is not None:
            raise failures.lost(self.address)
        command = [*_ssh(self.folder.name), *self.address.arguments, as_command(script, *arguments)]
        begin = monotonic()
        with TemporaryFile() as out, TemporaryFile() as said:
            process = _start(command, given or subprocess.PIPE, out, said)
            try:
                _tell_(process, line)
                status = process.wait(seconds + GRACE)
            except subprocess.TimeoutExpired:
                status = 124
            finally:
                _end(process)
            return Outcome(status, _text(out), _text(said), monotonic() - begin)


def _ssh(folder: str) -> list[str]:
    """Return ssh with its options; NBEDGE_SSH names another one, and may hold options of its own, as `ssh -F FILE`."""
    options = [word for name, value in _OPTIONS.items() for word in ("-o", f"{name}={value}")]
    return [*shlex.split(os.environ.get("NBEDGE_SSH") or "ssh"), "-S", f"{folder}/s", *options]


def _start(command: list[str], given: Any, out: Any, said: Any) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(command, stdin=given, stdout=out, stderr=said)
    except FileNotFoundError as error:
        raise MissingDependencyError(
            f"there is no {command[0]} on this machine; install the client of OpenSSH: apt-get install openssh-client"
        ) from error


def _tell_(process: "subprocess.Popen[bytes]", line: str) -> None:
    """Write the first line of the input; the input stays open."""
    if process.stdin is not None:
        with suppress(BrokenPipeError):  # it has ended already; its status says why
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Let a process end: ssh closes its connection and removes its socket at SIGTERM."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin is not None:
        with suppress(BrokenPipeError):
            process.stdin.close()


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
