"""A Raspberry Pi that qemu emulates: Python 3.11 and the runtimes of a Pi, instruction by instruction."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from nbedge.device import userland
from nbedge.device.userland import Board, quoted
from nbedge.environments import READY, folder_of
from nbedge.errors import InputError, MissingDependencyError

_ARMV8 = "fp asimd evtstrm crc32 cpuid"
#: cores as qemu names them -> the board that has them
BOARDS = {
    "cortex-a53": Board("Raspberry Pi 3 Model B Plus Rev 1.3", "0xd03", 0, 4, _ARMV8),
    "cortex-a72": Board("Raspberry Pi 4 Model B Rev 1.4", "0xd08", 0, 3, _ARMV8),
    "cortex-a76": Board("Raspberry Pi 5 Model B Rev 1.0", "0xd0b", 4, 1, "fp asimd evtstrm aes pmull sha1 sha2 crc32 "
                        "atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"),
}  # fmt: skip
CPUS = tuple(BOARDS)
#: Debian packages of the emulator, which runs here, and of what it runs
EMULATOR = "qemu-user"
PYTHON = ("python3.11-minimal", "libpython3.11-stdlib", "libstdc++6")
#: wheels of the runtimes and of all that they import: the versions that constraints.txt pins
SITE = ("numpy==2.4.6", "ai-edge-litert==2.3.0", "onnxruntime==1.32.0")


@dataclass(frozen=True, slots=True)
class EmulatedPi:
    """The emulated Raspberry Pi; it is made, listed and found as an environment is.

    Attributes:
        name: of it.
        used_for: for people.
    """

    name: str = "emulated-pi"
    used_for: str = "measure on an emulated Raspberry Pi"

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return folder_of(self.name).absolute()

    @property
    def ready(self) -> bool:
        """Whether it is there, whole."""
        return (self.folder / READY).exists()

    def make(self) -> None:
        """Make it anew: 36 MB of packages and 54 MB of wheels; needs no root and changes nothing of the system.

        Raises:
            MissingDependencyError: this machine cannot: a tool is missing, apt-get or pip cannot fetch a part, or the
                Python does not start.
        """
        userland.need_tools()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        userland.unpack_packages((EMULATOR,), userland.architecture(), self.folder / "emulator")
        userland.keep_only(self._qemu)
        userland.unpack_packages(PYTHON, "arm64", self.folder / "root")
        userland.unpack_wheels(SITE, self.folder / "site")
        userland.compile_counter(self._counter)
        for cpu, board in BOARDS.items():
            userland.write_board(board, self.folder / "root", self.folder / "boards" / cpu)
        self._start()
        (self.folder / READY).touch()

    def python(
        self, cpu: str, counting: Path | None = None, site: Path | None = None
    ) -> tuple[list[str], dict[str, str]]:
        """Return the command of the emulated Python, which its arguments follow, and all its environment variables.

        Args:
            cpu: one of `CPUS`.
            counting: the file that gets the number of executed instructions when the program ends; of one thread.
            site: a folder of `site_with`.

        Raises:
            InputError: there is no such CPU.
            MissingDependencyError: it is not made.
        """
        if cpu not in CPUS:
            raise InputError(f"no emulated CPU is called {cpu!r}; choose from {', '.join(CPUS)}")
        if not self.ready:
            raise MissingDependencyError(
                f"the emulated Raspberry Pi is not here; run: nbedge doctor --install {self.name}"
            )
        return self._command(cpu, counting), self._variables(site)

    def site_with(self, requirement: str) -> Path:
        """Return the folder of one more wheel, such as "onnxruntime==1.21.0", that comes before the usual one.

        Raises:
            MissingDependencyError: it is not here, and pip cannot fetch it.
        """
        site = self._site(requirement)
        if not self.has_site(requirement):
            part = site.with_name(f".{site.name}")
            shutil.rmtree(part, ignore_errors=True)
            userland.unpack_wheels((requirement,), part)
            part.rename(site)
        return site

    def has_site(self, requirement: str) -> bool:
        """Return whether the folder of `site_with` is here."""
        return self._site(requirement).exists()

    def _site(self, requirement: str) -> Path:
        return self.folder / "sites" / requirement

    @property
    def _counter(self) -> Path:
        return self.folder / "instructions.so"

    @property
    def _qemu(self) -> Path:
        return self.folder / "emulator" / "usr" / "bin" / "qemu-aarch64"

    def _command(self, cpu: str, counting: Path | None = None) -> list[str]:
        root = self.folder / "emulator"
        # the emulator's own loader and C library: this machine's may be older
        (loader,) = root.glob("lib/*-linux-gnu/ld-linux-*.so.*")
        libraries = f"{loader.parent}:{root / 'usr' / 'lib' / loader.parent.name}"
        emulator = [str(loader), "--library-path", libraries, str(self._qemu)]
        counted = ["-plugin", f"file={quoted(self._counter)},to={quoted(counting)}"] if counting else []
        sysroot = self.folder / "boards" / cpu
        return [*emulator, "-L", str(sysroot), "-cpu", cpu, *counted, str(self.folder / "root/usr/bin/python3.11")]

    def _variables(self, site: Path | None = None) -> dict[str, str]:
        sites = [str(path) for path in (site, self.folder / "site") if path]
        return {
            "PYTHONHOME": str(self.folder / "root" / "usr"),
            "PYTHONPATH": ":".join(sites),
            "ORT_DISABLE_TELEMETRY": "1",
            # two runs execute the same instructions
            "PYTHONHASHSEED": "0",
            "OPENBLAS_NUM_THREADS": "1",
        }

    def _start(self) -> None:
        """Start it once, which also compiles what it imports."""
        code = "import numpy, onnxruntime, ai_edge_litert.interpreter"
        command = [*self._command("cortex-a72"), "-c", code]
        done = subprocess.run(command, env=self._variables(), capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
            raise MissingDependencyError(f"the emulated Raspberry Pi was made and does not start: {said}")
