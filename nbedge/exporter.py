"""Exporter: what a plug-in of the entry-point group `nbedge.exporters` must be, and what it is asked to do."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from nbedge.errors import ExportError
from nbedge.preprocessing import Preprocessing

if TYPE_CHECKING:
    from nbedge.runtime import Runner

#: whose files are made where several backends make the same: format -> backend
USUAL: Mapping[str, str] = {"tflite": "onnx2tf"}


@dataclass(frozen=True, slots=True)
class Job:
    """What an exporter is asked to do, in a process of its own.

    Attributes:
        source: the file to convert, a copy that may be spoiled.
        targets: scheme -> file to write.
        calibration: `.npy`, preprocessed inputs (n, c, h, w) float32, as the source's input takes them.
        workdir: an empty folder for everything else; it is thrown away.
        settings: of the options that the exporter has, those that were set.
        preprocessing: how a picture becomes the input of what is written, for formats that say it.
        classes: names of the outputs, in order, likewise.
        exempt: names of what those operators of the source compute that get the type of the setting "exempt" and not
            the scheme's: the ones that lose most.
    """

    source: Path
    targets: Mapping[str, Path]
    calibration: Path
    workdir: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    preprocessing: Preprocessing | None = None
    classes: tuple[str, ...] = ()
    exempt: tuple[str, ...] = ()


class Exporter(Protocol):
    """A plug-in of the entry-point group `nbedge.exporters`: it makes files of one format from another.

    Attributes:
        consumes: format of the source ("torch" is a `torch.export` program, `.pt2`).
        produces: format written.
        source: scheme of the file that it starts from: "fp32", or "own" for one that has the scheme which it writes.
        schemes: the schemes that it can write.
        backend: the tool that does it, as `--backend` calls it.
        options: what can be set, with the values that it knows; the first one is used if none is set.
        needs: settings that its source must be made with, whatever the user has set.
        extra: the extra of nbedge that installs what it needs.
        packages: distributions whose versions are recorded in the sidecar.
        imports: modules that take long to import; they are imported while the source is still being made.
    """

    @property
    def consumes(self) -> str:
        """See above."""
        ...

    @property
    def produces(self) -> str:
        """See above."""
        ...

    @property
    def source(self) -> str:
        """See above."""
        ...

    @property
    def schemes(self) -> frozenset[str]:
        """See above."""
        ...

    @property
    def backend(self) -> str:
        """See above."""
        ...

    @property
    def options(self) -> Mapping[str, tuple[str, ...]]:
        """See above."""
        ...

    @property
    def needs(self) -> Mapping[str, str]:
        """See above."""
        ...

    @property
    def extra(self) -> str:
        """See above."""
        ...

    @property
    def packages(self) -> tuple[str, ...]:
        """See above."""
        ...

    @property
    def imports(self) -> tuple[str, ...]:
        """See above."""
        ...

    def convert(self, job: Job) -> None:
        """Write every file of `job.targets`; anything raised or printed goes into the log."""

    def open(self, path: Path) -> "Runner":
        """Return what runs a file that `convert` wrote; its inputs and outputs are the file's signature."""
        ...


def plugin_of(name: str) -> str:
    """Return where the exporter of an entry point lies, MODULE:OBJECT, for interpreters that do not know it."""
    return next(entry.value for entry in entry_points(group="nbedge.exporters") if entry.name == name)


def exporters() -> dict[str, Exporter]:
    """Return every installed exporter by the name of its entry point.

    Raises:
        ExportError: a plug-in cannot be loaded.
    """
    return {entry.name: _loaded(entry) for entry in entry_points(group="nbedge.exporters")}


def _loaded(entry: EntryPoint) -> Exporter:
    try:
        found: Exporter = entry.load()
    except Exception as error:  # whatever the code of somebody else raises
        owner = entry.dist.name if entry.dist else entry.module
        raise ExportError(
            f"the exporter {entry.name} of the package {owner} cannot be loaded ({type(error).__name__}: {error}); "
            f"repair it, or run: pip uninstall {owner}"
        ) from error
    return found


def exporter_of(
    format: str, scheme: str, backends: Collection[str] = (), settings: Mapping[str, str] | None = None
) -> tuple[str, Exporter]:
    """Find the exporter that writes `scheme` in `format`: of one of the `backends`, else of the usual one, else any.

    Where no backend decides, one that has the values of `settings` goes before one that lacks them.

    Raises:
        ExportError: no installed exporter does.
    """
    able = able_exporters(format, scheme)
    fitting = {name: e for name, e in able.items() if _has(e, able.values(), settings or {})}
    for some, wanted in ((able, backends), (fitting, (USUAL.get(format),))):
        for name, candidate in some.items():
            if candidate.backend in wanted:
                return name, candidate
    for name, candidate in (fitting or able).items():
        return name, candidate
    found = exporters()
    offered = "; ".join(f"{format}: {', '.join(schemes)}" for format, schemes in _offered(found.values()).items())
    raise ExportError(f"no exporter writes {scheme!r} in the format {format!r}; installed are {offered or 'none'}")


def able_exporters(format: str, scheme: str) -> dict[str, Exporter]:
    """Return the exporters that write `scheme` in `format`, by name."""
    return {name: e for name, e in exporters().items() if e.produces == format and scheme in e.schemes}


def _has(exporter: Exporter, able: Collection[Exporter], settings: Mapping[str, str]) -> bool:
    """Return whether an exporter has the value of each setting that one of its like has."""
    known = [option for option in settings if any(option in other.options for other in able)]
    return all(settings[option] in exporter.options.get(option, ()) for option in known)


def _offered(found: Iterable[Exporter]) -> dict[str, list[str]]:
    """Return format -> schemes."""
    schemes: dict[str, set[str]] = {}
    for exporter in found:
        schemes.setdefault(exporter.produces, set()).update(exporter.schemes)
    return {format: sorted(schemes[format]) for format in sorted(schemes)}
