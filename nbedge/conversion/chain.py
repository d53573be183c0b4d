"""Which exporters run, in which order, to make the files that were asked for."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Optional

from nbedge.artifact import SCHEMES
from nbedge.conversion.options import Options
from nbedge.environments import python_with
from nbedge.errors import ExportError
from nbedge.exporter import Exporter, able_exporters, exporter_of, exporters

#: settings that say how integers come about: the float file that is quantized has none of them
QUANTIZERS = ("method", "exempt")
#: what every chain starts from
TORCH = "torch"


@dataclass(slots=True, eq=False)
class Step:
    """One exporter, and what it is asked for in this run.

    Attributes:
        name: of its entry point.
        exporter: the plug-in.
        settings: of its options, those that are set.
        source: what makes its source; None: it starts from torch.
        schemes: that it makes.
        kept: those of them that were asked for; the others are made to go on from, or to compare with.
        exempt: names of what those operators of the source compute that get another type than the scheme's.
    """

    name: str
    exporter: Exporter
    settings: Mapping[str, str]
    source: Optional["Step"]
    schemes: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)
    exempt: tuple[str, ...] = ()

    @property
    def ordered(self) -> list[str]:
        """Its schemes, fp32 first: the others are compared with it."""
        return sorted(self.schemes, key=lambda scheme: (scheme != "fp32", scheme))

    def told(self, option: str) -> str | None:
        """Return the value of an option, the exporter's usual one if none is set; None of one that it lacks."""
        known = self.exporter.options.get(option)
        return self.settings.get(option, known[0]) if known else None

    @property
    def batch(self) -> str:
        """The batch of the program that it starts from in the end: "1" or "dynamic"."""
        return self.settings.get("batch", "1") if self.source is None else self.source.batch


def steps(
    formats: Iterable[str], schemes: Iterable[str], options: Options | None = None, exempt: str = ""
) -> list[Step]:
    """Return the steps that make every scheme in every format, sources first.

    A step that consumes a format is fed that format's fp32 file, which is made even if nobody asked to keep it.

    Args:
        formats: to be made.
        schemes: to be made in each.
        options: how.
        exempt: what the layers that lose most are given, "float" or "int16"; empty: the scheme's own type.

    Raises:
        ExportError: a scheme is unknown, or no exporter makes what was asked for, or in the way that was asked for.
            Options that have no effect are no error here, see `planned`.
    """
    chain = _Chain(options or Options())
    settings = {**chain.options.settings(), **({"exempt": exempt} if exempt else {})}
    wanted = [(format, scheme) for format in formats for scheme in schemes]
    if not wanted:
        raise ExportError("there is nothing to export; name at least one format and one scheme")
    for format, scheme in wanted:
        if scheme not in SCHEMES:
            raise ExportError(f"unknown scheme {scheme!r}; choose from {', '.join(SCHEMES)}")
        chain.add(format, scheme, settings).kept.add(scheme)
    return chain.found


def planned(formats: Sequence[str], schemes: Sequence[str], options: Options) -> tuple[list[Step], list[Step]]:
    """Return the steps that make every file, and those by which the other backends make the files again.

    Raises:
        ExportError: as `steps`; or an option, a target or a backend has no effect on these files.
    """
    chain, again = steps(formats, schemes, options), []
    _refuse_without_effect(chain, options)
    for backend in options.backend[1:]:
        own = [
            step for format in formats for scheme in schemes for step in steps_again(backend, format, scheme, options)
        ]
        _refuse_idle(backend, own)
        again += own
    return chain, again


def _refuse_without_effect(found: Sequence[Step], options: Options) -> None:
    for option, value in options.settings().items():
        if not any(step.told(option) == value for step in found):
            raise ExportError(f"{option} {value!r} has no effect on these files; leave it out")
    known = {target for step in found for target in step.exporter.options.get("target", ())}
    for target in options.target:
        if target not in known:
            shown = f"know {', '.join(sorted(known))}" if known else "know no targets"
            raise ExportError(f"unknown target {target!r}: the exporters of these files {shown}")
    for step in (step for step in found if step.kept and step.exporter.consumes == step.exporter.produces):
        if step.exporter.needs.get("batch", step.batch) != (options.batch or step.batch):
            raise ExportError(
                f"{', '.join(sorted(step.kept))} files take one input at a time; export them apart, without batch "
                f"{options.batch!r}"
            )
    for backend in options.backend[:1]:
        _refuse_idle(backend, [step for step in found if step.exporter.backend == backend])


def _refuse_idle(backend: str, made: Sequence[Step]) -> None:
    if not made:
        raise ExportError(f"the backend {backend} makes none of these files; leave it out")


def steps_again(backend: str, format: str, scheme: str, options: Options) -> list[Step]:
    """Return the steps by which another backend makes the same file once more; none if it cannot."""
    if exporter_of(format, scheme, (backend,))[1].backend != backend:
        return []
    again = replace(options, backend=(backend,), target=(), opset="", batch="", operators="")
    return steps([format], [scheme], again)


def methods(format: str, scheme: str, options: Options) -> tuple[str, ...]:
    """Return the methods of calibration that files can be made with, the usual one first."""
    name, usual = exporter_of(format, scheme, options.backend[:1])
    others = [] if options.backend else [e for other, e in able_exporters(format, scheme).items() if other != name]
    return tuple(dict.fromkeys(m for e in (usual, *others) for m in e.options.get("method", ())))


def require(exporter: Exporter) -> None:
    """Refuse an exporter whose packages are installed neither here nor in an environment of its own.

    Raises:
        MissingDependencyError: one is missing.
    """
    python_with(exporter.packages, exporter.extra)


def _of_quantizers(settings: Mapping[str, str]) -> dict[str, str]:
    return {option: settings[option] for option in QUANTIZERS if option in settings}


class _Chain:
    """Steps as they are found."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.found: list[Step] = []
        known = {exporter.backend for exporter in exporters().values()}
        unknown = [name for name in options.backend if name not in known]
        if unknown:
            raise ExportError(
                f"no installed exporter has the backend {unknown[0]!r}; there are {', '.join(sorted(known))}"
            )

    def add(self, format: str, scheme: str, settings: Mapping[str, str], above: tuple[str, ...] = ()) -> Step:
        """Return the step that makes `scheme` in `format`, made with its sources if it is not there yet."""
        name, exporter = exporter_of(format, scheme, self.options.backend[:1], _of_quantizers(settings))
        if "exempt" in settings and "exempt" not in exporter.options:
            raise ExportError(f"{exporter.backend} gives single operators no other type than the scheme's")
        if name in above:
            raise ExportError(f"the exporters {', '.join(above)} consume each other's files; uninstall one of them")
        if exporter.source == "own":
            raise ExportError(
                f"{format} is made of a finished {exporter.consumes} file: export that, then run nbedge deploy FILE "
                f"--target {format}"
            )
        own = self._own(name, exporter, settings)
        source = None
        if exporter.consumes != TORCH:
            others = {option: value for option, value in settings.items() if option not in QUANTIZERS}
            source = self.add(exporter.consumes, "fp32", {**others, **exporter.needs}, (*above, name))
        step = next((s for s in self.found if s.name == name and s.settings == own and s.source is source), None)
        if step is None:
            step = Step(name, exporter, own, source)
            self.found.append(step)
        # a quantized file is compared with the float32 one of its format
        step.schemes |= {scheme, "fp32"} & exporter.schemes
        return step

    def _own(self, name: str, exporter: Exporter, settings: Mapping[str, str]) -> dict[str, str]:
        """Return the settings of the exporter's own options, but for those that are its usual ones."""
        own = {option: settings[option] for option in exporter.options if option in settings}
        for option, value in own.items():
            known = exporter.options[option]
            if value not in known:
                raise ExportError(
                    f"the exporter {name} ({exporter.backend}) has no {option} {value!r}; it has {', '.join(known)}"
                )
        own = {option: value for option, value in own.items() if value != exporter.options[option][0]}
        meant = [target for target in self.options.target if target in exporter.options.get("target", ())]
        if len(meant) > 1:
            raise ExportError(f"the targets {' and '.join(meant)} need files of their own; export for one at a time")
        return {**own, "target": meant[0]} if meant else own
