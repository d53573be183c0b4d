"""What emulated devices are made of: Debian packages, wheels, and what the kernel says of a Raspberry Pi."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from nbedge.errors import MissingDependencyError

#: programs that fetch and unpack it, and compile the counter of instructions
TOOLS = ("apt-get", "dpkg", "dpkg-deb", "gcc")
#: what wheels for 64-bit Raspberry Pi OS are tagged with
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
CORES = 4


@dataclass(frozen=True, slots=True)
class Board:
    """What the kernel says of a board; runtimes choose their kernels by it.

    Attributes:
        model: its name.
        part: Arm's number of its cores.
        variant: of the cores, the major number of their revision.
        revision: of the cores, the minor number.
        features: of its cores, as Linux abbreviates them.
    """

    model: str
    part: str
    variant: int
    revision: int
    features: str

    @property
    def cpuinfo(self) -> str:
        """What /proc/cpuinfo says."""
        core = (
            f"BogoMIPS\t: 108.00\nFeatures\t: {self.features}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
            f"CPU variant\t: {self.variant:#x}\nCPU part\t: {self.part}\nCPU revision\t: {self.revision}\n\n"
        )
        return "".join(f"processor\t: {number}\n{core}" for number in range(CORES)) + f"Model\t\t: {self.model}\n"


def need_tools(what: str = "an emulated Raspberry Pi") -> None:
    """Refuse a machine on which the userland of `what` cannot be made.

    Raises:
        MissingDependencyError: it is not Linux, or lacks one of `TOOLS`.
    """
    if sys.platform != "linux":
        raise MissingDependencyError(f"{what} needs Linux, and this is {sys.platform}")
    missing = next((tool for tool in TOOLS if not shutil.which(tool)), None)
    if missing:
        raise MissingDependencyError(f"{what} needs {missing}, which is not here; make it on Debian 12 with gcc")


def architecture() -> str:
    """Return Debian's name of this machine's architecture."""
    done = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def unpack_packages(names: Sequence[str], architecture: str, root: Path) -> None:
    """Fetch Debian packages and all that they need, and unpack them under `root`.

    Raises:
        MissingDependencyError: apt-get cannot fetch them.
    """
    with TemporaryDirectory() as folder:
        apt = ["apt-get", "-qq", *_state(Path(folder), architecture)]
        wanted = f"apt-get could not fetch {', '.join(names)} for {architecture}, which Debian 12 has"
        _run([*apt, "update"], wanted)
        _run([*apt, "install", "--yes", "--no-install-recommends", "--download-only", *names], wanted)
        for package in sorted(Path(folder).glob("archives/*.deb")):
            _run(["dpkg-deb", "--extract", str(package), str(root)], f"dpkg-deb could not unpack {package.name}")
    shutil.rmtree(root / "usr" / "share")  # manuals


def keep_only(*programs: Path) -> None:
    """Delete what lies beside some programs of one folder: the emulators of thirty other processors."""
    for other in programs[0].parent.iterdir():
        if other not in programs:
            other.unlink()


def _state(folder: Path, architecture: str) -> list[str]:
    """Return the options of an apt-get that has nothing installed and leaves the system's own state alone."""
    for made in ("lists/partial", "archives/partial"):
        (folder / made).mkdir(parents=True)
    (folder / "status").touch()
    settings = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "root",  # its own user may not write here
        "Dir::State": folder,
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder,
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def unpack_wheels(requirements: Sequence[str], site: Path) -> None:
    """Fetch wheels for 64-bit Raspberry Pi OS and Python 3.11, without what they need, and unpack them into `site`.

    Raises:
        MissingDependencyError: pip cannot fetch them.
    """
    with TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        tags = [f"--platform={platform}" for platform in PLATFORMS]
        command = [*pip, *tags, "--python-version=3.11", f"--dest={folder}", *requirements]
        _run(command, f"pip could not fetch {', '.join(requirements)} for aarch64")
        for wheel in sorted(Path(folder).glob("*.whl")):
            with zipfile.ZipFile(wheel) as held:
                held.extractall(site)


def compile_counter(library: Path, source: str = "instructions.c") -> None:
    """Compile a plugin of qemu that counts instructions: a file beside this one.

    Raises:
        MissingDependencyError: gcc cannot, or is not here.
    """
    if not shutil.which("gcc"):
        raise MissingDependencyError("gcc, which compiles qemu's counter of instructions, is not here; install it")
    path = Path(__file__).with_name(source)
    command = ["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-o", str(library), str(path)]
    _run(command, f"gcc could not compile {path}")


def write_board(board: Board, root: Path, sysroot: Path) -> None:
    """Make the folder `sysroot`: the packages of `root`, and the files that the kernel of a board would show."""
    (sysroot / "proc" / "device-tree").mkdir(parents=True)
    for shared in root.iterdir():
        (sysroot / shared.name).symlink_to(os.path.relpath(shared, sysroot))
    (sysroot / "proc" / "cpuinfo").write_text(board.cpuinfo, encoding="ascii")
    (sysroot / "proc" / "device-tree" / "model").write_text(f"{board.model}\0", encoding="ascii")


def quoted(path: Path) -> str:
    """Return a path as qemu reads it in an option, where commas part the values."""
    return str(path.absolute()).replace(",", ",,")


def _run(command: list[str], failed: str) -> None:
    """Run a program; what it says goes to standard error."""
    if subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False).returncode:
        raise MissingDependencyError(f"{failed}; its own words are above")
