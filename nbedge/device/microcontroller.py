"""The compiler and the emulator for Arm microcontrollers: this machine's own, or a folder made of Debian packages."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from nbedge.device import userland
from nbedge.device.cores import CORES
from nbedge.environments import READY, folder_of
from nbedge.errors import MissingDependencyError

GCC, NM, QEMU = "arm-none-eabi-gcc", "arm-none-eabi-nm", "qemu-system-arm"
#: of Debian 12; what these recommend is a C++ library of 1.6 GB
PACKAGES = ("gcc-arm-none-eabi", "libnewlib-arm-none-eabi", "qemu-system-arm")
COUNTER = "marks.c"
#: what is kept of the programs in usr/bin, of those that gcc starts in its two own folders, and of the latter's rest
_TOOLS = (GCC, NM, QEMU, *(f"arm-none-eabi-{tool}" for tool in ("ar", "objcopy", "objdump", "size")))
_BINUTILS, _PASSES = ("as", "ld"), ("cc1", "collect2")
_UNNEEDED = ("cc1plus", "g++-mapper-server", "lto1", "plugin")


@dataclass(frozen=True, slots=True)
class Toolchain:
    """The programs.

    Attributes:
        gcc: the cross compiler.
        nm: that lists symbols.
        qemu: the emulator.
        counter: its plugin that counts instructions; None if it must be compiled first.
    """

    gcc: str
    nm: str
    qemu: str
    counter: Path | None = None


@dataclass(frozen=True, slots=True)
class EmulatedMicrocontroller:
    """The folder of Debian's compiler and emulator; it is made, listed and found as an environment is.

    Attributes:
        name: of it.
        used_for: for people.
    """

    name: str = "emulated-mcu"
    used_for: str = "build C for emulated microcontrollers and count instructions there"

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return folder_of(self.name).absolute()

    @property
    def ready(self) -> bool:
        """Whether it is there, whole."""
        return (self.folder / READY).exists()

    @property
    def programs(self) -> Path:
        """The folder of its programs, for PATH."""
        return self.folder / "root" / "usr" / "bin"

    @property
    def toolchain(self) -> Toolchain:
        """Its programs."""
        gcc, nm, qemu = (str(self.programs / program) for program in (GCC, NM, QEMU))
        return Toolchain(gcc, nm, qemu, self.folder / "marks.so")

    def make(self) -> None:
        """Make it anew: 110 MB of packages, 0.3 GB of disk; needs no root and changes nothing of the system.

        Raises:
            MissingDependencyError: this machine cannot: a tool is missing, apt-get cannot fetch a part, or the compiler
                does not work.
        """
        userland.need_tools("an emulated microcontroller")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        userland.unpack_packages(PACKAGES, userland.architecture(), self.folder / "root")
        self._link_newlib()
        userland.keep_only(*(self.programs / tool for tool in _TOOLS))
        self._wrap_programs()
        self._delete_unneeded()
        userland.compile_counter(self.folder / "marks.so", COUNTER)
        self._start()
        (self.folder / READY).touch()

    @property
    def _own(self) -> Path:
        return self.folder / "root" / "usr" / "lib" / "arm-none-eabi"

    @property
    def _passes(self) -> Path:
        (folder,) = (self.folder / "root" / "usr" / "lib" / "gcc" / "arm-none-eabi").iterdir()
        return folder

    def _link_newlib(self) -> None:
        """Show gcc the C library; Debian's is compiled to look for it at the root of the system."""
        (self._own / "lib").symlink_to("newlib")
        (self._own / "include").symlink_to("../../include/newlib")

    def _wrap_programs(self) -> None:
        """Make each program start with the loader and libraries of its packages: this machine's may be older.

        gcc starts its passes by itself, so each of them is wrapped, too.
        """
        for folder, names in ((self.programs, _TOOLS), (self._own / "bin", _BINUTILS), (self._passes, _PASSES)):
            for name in names:
                _wrap(folder / name, self.folder / "root")

    def _delete_unneeded(self) -> None:
        """Delete C++, and the libraries for other cores: two thirds of it all."""
        for name in _UNNEEDED:
            _delete(self._passes / name)
        needed = {self._multilib(core.flags) for core in CORES.values()}
        for root in (self._passes, self._own / "newlib"):
            _delete(root / "arm")
            for library in [path for path in root.glob("thumb/**") if any(path.glob("*.a"))]:
                if str(library.relative_to(root)) not in needed:
                    for archive in library.glob("*.a"):
                        archive.unlink()

    def _multilib(self, flags: tuple[str, ...]) -> str:
        done = subprocess.run(
            [self.toolchain.gcc, *flags, "-print-multi-directory"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise MissingDependencyError(f"{GCC} was unpacked and does not start: {done.stderr.strip()}")
        return done.stdout.strip()

    def _start(self) -> None:
        """Compile a line for every core, and start the emulator."""
        tools = self.toolchain
        compiles = [[tools.gcc, *core.flags, "-xc", "-c", "-o/dev/null", "-"] for core in CORES.values()]
        for command in (*compiles, [tools.qemu, "--version"]):
            code = "#include <string.h>\nint f(void) { return 0; }\n"
            done = subprocess.run(command, input=code, capture_output=True, text=True, check=False)
            if done.returncode:
                said = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
                raise MissingDependencyError(f"the emulated microcontroller was made and does not start: {said}")


def toolchain() -> Toolchain:
    """Return the programs: those in PATH if it has all three, else those of `EmulatedMicrocontroller`.

    Raises:
        MissingDependencyError: neither is here; the message holds the commands that install them.
    """
    gcc, nm, qemu = here = [shutil.which(program) for program in (GCC, NM, QEMU)]
    if gcc and nm and qemu:
        return Toolchain(gcc, nm, qemu)
    own = EmulatedMicrocontroller()
    if own.ready:
        return own.toolchain
    missing = " and ".join(name for name, path in zip((GCC, NM, QEMU), here, strict=True) if path is None)
    raise MissingDependencyError(
        f"{missing} not found; run: nbedge doctor --install {own.name} (Debian 12, no root), or: apt-get install "
        f"--no-install-recommends {' '.join(PACKAGES)}"
    )


def _wrap(program: Path, root: Path) -> None:
    """Move a program aside, and write a script in its place that starts it with the loader below `root`."""
    (loader,) = root.glob("lib/*-linux-gnu/ld-linux-*.so.*")
    libraries = (loader.parent, root / "usr" / "lib" / loader.parent.name)
    moved = program.with_name(f"{program.name}.elf")
    program.rename(moved)
    # gcc finds its parts from the name that it was started by
    words = [f"'{loader}'", "--library-path", f"'{':'.join(map(str, libraries))}'", '--argv0 "$0"', f"'{moved}'"]
    program.write_text(f'#!/bin/sh\nexec {" ".join(words)} "$@"\n', encoding="utf-8")
    program.chmod(0o755)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
