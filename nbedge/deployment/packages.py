"""The runtimes of a web page: packages of npm at pinned versions, checked by their sha512, in a folder of nbedge's."""

import base64
import hashlib
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from nbedge import files
from nbedge.environments import READY, folder_of
from nbedge.errors import MissingDependencyError


@dataclass(frozen=True, slots=True)
class Package:
    """A package of npm.

    Attributes:
        name: of it.
        version: the pinned one.
        integrity: base64 of the sha512 of its archive, as npm's lock files have it.
        folder: where its files lie, under the folder of a page's runtime.
        files: those that a page needs, by their paths in the package.
        licence: name of its licence, whose text is among the templates; the package itself holds none.
    """

    name: str
    version: str
    integrity: str
    folder: str
    files: tuple[str, ...]
    licence: str

    @property
    def pinned(self) -> str:
        """What npm is asked for."""
        return f"{self.name}@{self.version}"


LITERT = (
    Package(
        "@litertjs/core", "2.5.3",
        "PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWoyJQ==", "litert",
        ("dist/index.js", "package.json",
         "wasm/litert_wasm_internal.js", "wasm/litert_wasm_internal.wasm",
         # for browsers without relaxed SIMD
         "wasm/litert_wasm_compat_internal.js", "wasm/litert_wasm_compat_internal.wasm"), "Apache-2.0",
    ),
    Package(
        "@litertjs/wasm-utils", "2.5.3",
        "4fJiw6tBQnIs+0jH/OQ16nYOiSl8/+zZnn5h2ul8aTKHi05sVqZW580Tmk78pC2kT39A9OYBVdFawteZ/sI1kQ==", "wasm-utils",
        ("dist/index.js", "package.json"), "Apache-2.0",
    ),
)  # fmt: skip
ONNX = (
    Package(
        "onnxruntime-web", "1.30.0",
        "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==", "onnxruntime",
        ("dist/ort.wasm.min.mjs", "dist/ort-wasm-simd-threaded.mjs", "dist/ort-wasm-simd-threaded.wasm",
         "package.json"), "MIT",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class WebRuntimes:
    """LiteRT.js and ONNX Runtime Web; they are made, listed and found as an environment is.

    Attributes:
        name: of them.
        used_for: for people.
    """

    name: str = "web"
    used_for: str = "deploy to the web"

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return folder_of(self.name).absolute()

    @property
    def ready(self) -> bool:
        """Whether they are there, whole."""
        return (self.folder / READY).exists()

    def make(self) -> None:
        """Fetch them anew: 45 MB, of which 33 MB are kept. No script of a package is run.

        Raises:
            MissingDependencyError: npm is missing, cannot fetch a package, or fetches another than the pinned one.
        """
        if not shutil.which("npm"):
            raise MissingDependencyError(
                "npm is not here; install Node.js (apt-get install npm), then run: nbedge doctor --install web"
            )
        shutil.rmtree(self.folder, ignore_errors=True)
        for package in (*LITERT, *ONNX):
            _fetch(package, self.folder / package.folder)
        (self.folder / READY).touch()

    def copy(self, packages: tuple[Package, ...], folder: Path) -> None:
        """Copy packages into a folder, each into its own.

        Raises:
            MissingDependencyError: they are not here.
        """
        if not self.ready:
            raise MissingDependencyError(
                f"the runtimes of web pages are not here; run: nbedge doctor --install {self.name}"
            )
        for package in packages:
            shutil.copytree(self.folder / package.folder, folder / package.folder)


def _fetch(package: Package, folder: Path) -> None:
    """Let npm fetch the archive of a package, check it, and unpack the files that a page needs."""
    with TemporaryDirectory() as place:
        command = ["npm", "pack", "--loglevel=error", "--ignore-scripts", f"--pack-destination={place}", package.pinned]
        nothing = subprocess.DEVNULL
        done = subprocess.run(command, cwd=place, stdin=nothing, stdout=nothing, check=False)
        archives = list(Path(place).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            raise MissingDependencyError(f"npm could not fetch {package.pinned}; its own words are above")
        _check(package, archives[0])
        with tarfile.open(archives[0]) as archive:
            for file in package.files:
                held = archive.extractfile(f"package/{file}")
                assert held, f"{package.pinned} holds {file}"
                # written anew: the rights of the archive keep web servers from reading it
                files.write_bytes(folder / file, held.read())


def _check(package: Package, archive: Path) -> None:
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != package.integrity:
        raise MissingDependencyError(f"npm fetched another {package.pinned} than the pinned one: sha512-{found}")
