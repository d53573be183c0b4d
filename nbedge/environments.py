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
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return cache / "nbedge" / "environments" / self.name

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
}


def named(name: str) -> Environment:
    """Return an environment.

    Raises:
        InputError: there is none of that name.
    """
    if name not in ENVIRONMENTS:
        raise InputError(f"no environment is called {name!r}; choose from {', '.join(ENVIRONMENTS)}")
    return ENVIRONMENTS[name]


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
    try:
        return f"torch=={version('torch').partition('+')[0]}" if requirement == "torch" else requirement
    except PackageNotFoundError:
        return requirement


def carry(packages: tuple[str, ...], archive: Path) -> Path:
    """Write the sources of packages into an archive that another interpreter can import from, and return it."""
    with zipfile.ZipFile(archive, "w") as held:
        for package in packages:
            spec = find_spec(package)
            for root in spec.submodule_search_locations or () if spec else ():
                for source in sorted(Path(root).rglob("*.py")):
                    held.write(source, Path(package) / source.relative_to(root))
    return archive
