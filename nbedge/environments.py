"""Environments: tools whose pins collide with others', each in a Python environment of its own."""

import os
import subprocess
import sys
import venv
import zipfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from nbedge.errors import InputError, MissingDependencyError

#: the file that says that everything is installed
READY = "ready"
#: packages that another interpreter needs of this one, to do a part of its work
SOURCES = ("nbedge", "nbedge_exporters")


def folder_of(name: str) -> Path:
    """Return where the environment called `name` lies."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "nbedge" / "environments" / name


@dataclass(frozen=True, slots=True)
class Environment:
    """One environment.

    Attributes:
        name: of it; an exporter whose extra has this name runs there if its packages are not installed here.
        requirements: what pip installs.
        used_for: for people.
    """

    name: str
    requirements: tuple[str, ...]
    used_for: str

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return folder_of(self.name)

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def ready(self) -> bool:
        """Whether it is there, whole."""
        return (self.folder / READY).exists()

    def make(self) -> None:
        """Make it anew.

        Raises:
            MissingDependencyError: pip cannot install what it needs.
        """
        venv.create(self.folder, with_pip=True, clear=True)
        install(str(self.python), tuple(_as_here(requirement) for requirement in self.requirements))
        (self.folder / READY).touch()


ENVIRONMENTS = {
    "tflite-runtime": Environment("tflite-runtime", ("tflite-runtime==2.14.0", "numpy<2"), "run TFLite on a 32-bit Pi"),
    "litert": Environment(
        "litert", ("torch", "litert-torch==0.10.*", "ai-edge-quantizer==0.10.*"), "export TFLite without TensorFlow"
    ),
    "executorch": Environment(
        "executorch", ("torch", "executorch==1.5.*", "torchao==0.18.*"), "export and run ExecuTorch"
    ),
}


def named(name: str) -> Environment:
    """Return an environment.

    Raises:
        InputError: there is none of that name.
    """
    if name not in ENVIRONMENTS:
        raise InputError(f"no environment is called {name!r}; choose from {', '.join(ENVIRONMENTS)}")
    return ENVIRONMENTS[name]


def is_installed(package: str) -> bool:
    """Return whether a distribution is installed beside this one."""
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def python_with(packages: tuple[str, ...], extra: str) -> str:
    """Return the interpreter that has `packages`: this one, else that of the environment called `extra`.

    Raises:
        MissingDependencyError: neither has them; the message holds the command that installs them.
    """
    missing = next((package for package in packages if not is_installed(package)), None)
    if missing is None:
        return sys.executable
    own = ENVIRONMENTS.get(extra)
    if own is None or not own.ready:
        cure = f"nbedge doctor --install {own.name}" if own else f"pip install 'nbedge[{extra}]'"
        raise MissingDependencyError(f"the package {missing!r} is not installed; run: {cure}")
    return str(own.python)


def install(python: str, requirements: tuple[str, ...]) -> None:
    """Let pip install into the environment of an interpreter; what it says goes to standard error.

    Raises:
        MissingDependencyError: it cannot.
    """
    done = subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], stdout=sys.stderr, check=False)
    if done.returncode:
        raise MissingDependencyError(f"pip could not install {', '.join(requirements)}; its own words are above")


def _as_here(requirement: str) -> str:
    """Return torch pinned to the version that is here: it reads what this one writes."""
    if requirement != "torch" or not is_installed("torch"):
        return requirement
    return f"torch=={version('torch').partition('+')[0]}"


def carry(packages: tuple[str, ...], archive: Path) -> Path:
    """Write the sources of packages into an archive that another interpreter can import from, and return it."""
    with zipfile.ZipFile(archive, "w") as held:
        for package in packages:
            spec = find_spec(package)
            for root in spec.submodule_search_locations or () if spec else ():
                for source in sorted(Path(root).rglob("*.py")):
                    held.write(source, Path(package) / source.relative_to(root))
    return archive
