"""A real sshd for the tests; nothing is installed into the system, and no rights are needed that the tests lack.

    python tests/device/sshd.py

fetches Debian's and unpacks it beside the environments. It runs as whoever runs the tests and lets in that user alone,
under the name `pi` and with a home of its own: libnss_wrapper shows it a list of users of ours. That list has the user
`sshd` too, whom an sshd that root runs wants. Its other wish is /run/sshd, an empty folder to lock a process without
rights into: that name is edited out of the copy.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

FETCHED = Path(__file__).parent.parent.parent / ".venv-environments" / "sshd"
READY = FETCHED / "ready"
#: libwrap0 is what small systems lack of what sshd needs
PACKAGES = ("openssh-server", "libnss-wrapper", "libwrap0")
SSHD = FETCHED / "usr" / "sbin" / "sshd"
#: its string for the empty folder; its end is also the name of the user
LOCK, ROOT = b"\0/run/sshd\0", b"\0/\0un/sshd\0"

CONFIGURATION = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PidFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
UseDNS no
PermitRootLogin yes
Subsystem sftp internal-sftp
"""
CLIENT = """
Host *
  IdentityFile {folder}/key
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile none
  UpdateHostKeys no
"""


def fetch() -> None:
    """Fetch and unpack it, with lists of packages of its own: reading Debian's needs no rights, renewing them does."""
    shutil.rmtree(FETCHED, ignore_errors=True)
    lists = FETCHED / "lists"
    (lists / "partial").mkdir(parents=True)
    own = [f"-oDir::State::lists={lists}", f"-oDir::Cache={lists}", "-oAPT::Sandbox::User="]
    apt = ["apt-get", "-qq", *own]
    subprocess.run([*apt, "update"], check=True)
    subprocess.run([*apt, "download", *PACKAGES], cwd=FETCHED, check=True)
    for package in FETCHED.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package.name, "."], cwd=FETCHED, check=True)
        package.unlink()
    shutil.rmtree(lists)
    SSHD.write_bytes(SSHD.read_bytes().replace(LOCK, ROOT))
    READY.touch()


@dataclass(frozen=True, slots=True)
class Sshd:
    """One that runs.

    Attributes:
        folder: all its files.
        port: on 127.0.0.1.
        pid: of its process.
    """

    folder: Path
    port: int
    pid: int

    @property
    def home(self) -> Path:
        """The home of its user."""
        return self.folder / "home"

    @property
    def address(self) -> str:
        return f"ssh://pi@127.0.0.1:{self.port}"

    @property
    def client(self) -> str:
        """The command that connects to it: ssh with a configuration of its own."""
        return f"ssh -F {self.folder / 'config'}"

    @property
    def sessions(self) -> list[int]:
        """The processes of its connections."""
        own = _children(self.pid)
        return [pid for pid in (*own, *(child for pid in own for child in _children(pid))) if _name(pid) == "sshd"]

    def accept_host_key(self) -> None:
        """Make its host key known to the client, as a person does at the first connection."""
        key = (self.folder / "host_key.pub").read_text()
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {key}")


@contextmanager
def serving(folder: Path) -> Iterator[Sshd]:
    """Run one, with everything it needs in `folder`."""
    port = _free_port()
    _prepare(folder, port)
    libraries = sorted({str(file.parent) for file in FETCHED.rglob("*.so*")})
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": ":".join(libraries),
        "LD_PRELOAD": "libnss_wrapper.so",
        "NSS_WRAPPER_PASSWD": str(folder / "passwd"),
        "NSS_WRAPPER_GROUP": str(folder / "group"),
    }
    process = subprocess.Popen(
        [SSHD, "-D", "-f", folder / "sshd_config", "-E", folder / "log"], env=environment, start_new_session=True
    )
    served = Sshd(folder, port, process.pid)
    try:
        _wait(served, process)
        yield served
    finally:
        for pid in (*served.sessions, process.pid):
            _kill(pid)
        process.wait()


def _prepare(folder: Path, port: int) -> None:
    """Write keys, configurations, and the list of users."""
    (folder / "home").mkdir(parents=True)
    for name in ("host_key", "key", "other_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    (folder / "sshd_config").write_text(CONFIGURATION.format(port=port, folder=folder))
    (folder / "config").write_text(CLIENT.format(folder=folder))
    user = f"pi:x:{os.getuid()}:{os.getgid()}::{folder / 'home'}:/bin/sh"
    (folder / "passwd").write_text(f"{user}\nsshd:x:65534:65534::/:/usr/sbin/nologin\n")
    (folder / "group").write_text(f"pi:x:{os.getgid()}:\nnogroup:x:65534:\n")


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def _wait(served: Sshd, process: "subprocess.Popen[bytes]") -> None:
    end = monotonic() + 10
    while monotonic() < end and process.poll() is None:
        with socket.socket() as knocking:
            if not knocking.connect_ex(("127.0.0.1", served.port)):
                return
        sleep(0.02)
    raise RuntimeError(f"sshd did not start: {(served.folder / 'log').read_text()}")


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


if __name__ == "__main__":
    try:
        if not READY.exists():
            fetch()
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(str(error))
    sys.stdout.write(f"{SSHD}\n")
