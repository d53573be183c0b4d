"""What went wrong with a device: one sentence each, which says where, what, and what to do."""

import re
from dataclasses import dataclass

from nbedge.device.address import Address
from nbedge.errors import DeviceError

#: what ssh says, what that means, what to do; the first that is found counts
_CONNECTING = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "its host key is not the one that is known",
        "if it was installed anew, run: ssh-keygen -R {known}; then connect once by hand: ssh {arguments}",
    ),
    ("Host key verification failed", "its host key is not known", "connect once by hand to accept it: ssh {arguments}"),
    (
        "Permission denied|Too many authentication failures",
        "it does not accept your key",
        "put the key there: ssh-copy-id {arguments}",
    ),
    ("Could not resolve hostname", "no host of that name is known", "check the name, or give its address"),
    ("Connection refused", "nothing listens at that port", "check the port, and that ssh is enabled there"),
    ("imed out", "it does not answer", "check that it is on and in this network"),
    ("No route to host|unreachable", "no network leads there", "check that it is on and in this network"),
)
_FULL = "No space left on device|Disk quota exceeded"
_MISSING = re.compile(r"No module named '?([A-Za-z_]\w*)")
_WITHOUT_32_BIT = ("onnxruntime", "ai_edge_litert")
_KILLED = (124, 137, 143)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command on a device ended.

    Attributes:
        status: its exit status; 255 is also that of an ssh that failed.
        out: what it wrote.
        said: what it wrote to standard error.
        took: seconds.
    """

    status: int
    out: str
    said: str
    took: float

    @property
    def last_line(self) -> str:
        """What it said last."""
        lines = [line.strip() for line in f"{self.out}\n{self.said}".splitlines() if line.strip()]
        return lines[-1] if lines else "nothing"


def of_connecting(address: Address, said: str) -> DeviceError:
    """Return why there is no connection, from what ssh said."""
    words = {"known": address.known_as, "arguments": " ".join(address.arguments)}
    for pattern, what, cure in _CONNECTING:
        if re.search(pattern, said):
            return DeviceError(f"{address} cannot be reached: {what}; {cure.format(**words)}")
    last = Outcome(255, "", said, 0).last_line
    return DeviceError(
        f"{address} cannot be reached: ssh says {last!r}; connect once by hand: ssh {words['arguments']}"
    )


def lost(address: Address) -> DeviceError:
    """Return that the connection is gone."""
    return DeviceError(
        f"the connection to {address} was lost; "
        "check its power and network, and whether it has rebooted, then try again"
    )


def without_python(address: Address, python: str) -> DeviceError:
    """Return that there is no such interpreter."""
    return DeviceError(f"{address} has no {python}; install Python 3.9 or later there, or name its interpreter")


def too_old(address: Address, python: str, version: str) -> DeviceError:
    """Return that its Python cannot run the agent."""
    return DeviceError(
        f"{python} of {address} is Python {version}, and 3.9 is the oldest that can measure; "
        "install a later one there, or name its interpreter"
    )


def of_command(address: Address, outcome: Outcome, what: str, cure: str) -> DeviceError:
    """Return why a command that does no measuring went wrong; `what` could not be done, `cure` if nothing is known."""
    if outcome.status == 255:
        return lost(address)
    if re.search(_FULL, outcome.said):
        return DeviceError(f"{address} cannot {what}: its disk is full; make room there")
    if "ensurepip" in outcome.out + outcome.said or "No module named venv" in outcome.said:
        return DeviceError(f"{address} cannot {what}: its Python lacks venv; run there: sudo apt install python3-venv")
    if outcome.status == 124:
        return DeviceError(f"{address} cannot {what}: it took more than its time; check its network, then try again")
    return DeviceError(f"{address} cannot {what} ({outcome.last_line}); {cure}")


def of_measuring(address: Address, outcome: Outcome, machine: str, interpreter: str, seconds: float) -> DeviceError:
    """Return why an agent gave no result.

    Args:
        address: of the device.
        outcome: of the agent.
        machine: the device's, as `uname -m` names it.
        interpreter: that ran the agent.
        seconds: that it had.
    """
    if outcome.status in _KILLED and outcome.took >= seconds:
        return DeviceError(
            f"the measurement on {address} took more than {seconds:g} s and was ended; give it more time or less work"
        )
    if outcome.status == 137:
        return DeviceError(
            f"the measurement on {address} was killed, most likely for want of memory; "
            "close what else runs there, or measure a smaller file"
        )
    if outcome.status == 255:
        return lost(address)
    if outcome.status in (126, 127):
        tool = "timeout" if re.search("timeout.*not found", outcome.said) else interpreter
        return without_python(address, interpreter) if tool == interpreter else _without_timeout(address)
    if re.search(_FULL, outcome.said):
        return DeviceError(f"{address} cannot measure: its disk is full; make room there")
    missing = _MISSING.findall(outcome.said)
    if missing:
        return _without_module(address, interpreter, missing[-1], machine)
    return DeviceError(
        f"the measurement on {address} ended without a result (exit status {outcome.status}); "
        f"the last line there: {outcome.last_line}"
    )


def illegal_instruction(address: Address, machine: str, versions: dict[str, str]) -> DeviceError:
    """Return that a runtime was built for another processor; `versions` are those of the runtimes that may be it."""
    names = " or ".join(f"{name} {version}" for name, version in versions.items()) or "the runtime"
    first = next(iter(versions.items()), None)
    cure = f"pip install '{first[0]}!={first[1]}'" if first else "pip install"
    return DeviceError(
        f"{names} on {address} died of an illegal instruction: it was built for a later processor than this {machine}; "
        f"install another version there: {cure}"
    )


def _without_module(address: Address, interpreter: str, module: str, machine: str) -> DeviceError:
    if machine == "armv7l" and module in _WITHOUT_32_BIT:
        return DeviceError(
            f"{address} has a 32-bit system (armv7l), for which {module} has no wheels; "
            "install the 64-bit Raspberry Pi OS there, or measure a .tflite file with tflite-runtime"
        )
    return DeviceError(f"{interpreter} of {address} has no {module}; run again with --setup")


def _without_timeout(address: Address) -> DeviceError:
    return DeviceError(f"{address} has no timeout, which ends what takes too long; install coreutils there")
