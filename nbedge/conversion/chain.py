"""Which exporters run, in which order, to make the files that were asked for."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

from nbedge.artifact import SCHEMES, Exporter, exporter_of
from nbedge.errors import ExportError, MissingDependencyError

#: what every chain starts from
TORCH = "torch"


@dataclass(slots=True)
class Step:
    """One exporter and the schemes it is asked for in this run."""

    name: str
    exporter: Exporter
    schemes: set[str] = field(default_factory=set)


def steps(formats: Iterable[str], schemes: Iterable[str]) -> list[Step]:
    """Return the steps that make every scheme in every format, sources first.

    A step that consumes a format is fed that format's fp32 file, which is made even if nobody asked to keep it.

    Raises:
        ExportError: a scheme is unknown, or no exporter makes what was asked for.
    """
    found: dict[str, Step] = {}
    wanted = [(format, scheme) for format in formats for scheme in schemes]
    if not wanted:
        raise ExportError("there is nothing to export; name at least one format and one scheme")
    for format, scheme in wanted:
        if scheme not in SCHEMES:
            raise ExportError(f"unknown scheme {scheme!r}; choose from {', '.join(SCHEMES)}")
        _add(found, format, scheme, ())
    return list(found.values())


def require(exporter: Exporter) -> None:
    """Refuse an exporter whose packages are not all installed.

    Raises:
        MissingDependencyError: one is missing.
    """
    for package in exporter.packages:
        try:
            version(package)
        except PackageNotFoundError as error:
            raise MissingDependencyError(
                f"the package {package!r} is not installed; run: pip install 'nbedge[{exporter.extra}]'"
            ) from error


def _add(found: dict[str, Step], format: str, scheme: str, above: tuple[str, ...]) -> None:
    name, exporter = exporter_of(format, scheme)
    if name in above:
        raise ExportError(f"the exporters {', '.join(above)} consume each other's files; uninstall one of them")
    if exporter.consumes != TORCH:
        _add(found, exporter.consumes, "fp32", (*above, name))
    schemes = found.setdefault(name, Step(name, exporter)).schemes
    # a quantized file is compared with the float32 one of its format
    schemes |= {scheme, "fp32"} & exporter.schemes
