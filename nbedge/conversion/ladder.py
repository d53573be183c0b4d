"""The accuracy ladder: what is tried, rung by rung, until an integer file loses no more than the budget."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from nbedge import files
from nbedge.artifact import BIAS, METHOD, PRECISION, ROUNDING, TUNING, Artifact
from nbedge.conversion.chain import Step, methods, steps
from nbedge.conversion.layerwise import LayerLoss, layers_before_and_after, worst_layers
from nbedge.conversion.options import Options
from nbedge.conversion.remedies import Remedies
from nbedge.conversion.workshop import Exported, Progress, Workshop, loads
from nbedge.errors import ExportError, GateError, InputError
from nbedge.graph import READABLE
from nbedge.quantization import Grid
from nbedge.verification import largest_step

#: the first rung, on which every file stands
PER_CHANNEL = "per-channel"
#: dB by which a rung must raise the signal-to-noise ratio to be kept
LEAST = 0.1
#: target -> what its worst layers may be given; others want every layer in 8 bits
ALLOWED: Mapping[str, str] = {
    "litert": "float", "tflm": "int16", "x86-vnni": "float", "x86-avx2": "float", "arm": "float",
}  # fmt: skip
#: numbers of layers that are tried
WORST = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One file that was tried.

    Attributes:
        rung: that it stands on.
        detail: what was tried there.
        loss: of top-1 accuracy against the float file, in percentage points of the pictures that it is judged on;
            without labels, of answers that differ. NaN where no file came about, or where its outputs are no answers.
        sqnr_db: of its answers.
        passed: whether all verdicts passed.
        kept: whether the next rungs build on it.
    """

    rung: str
    detail: str
    loss: float
    sqnr_db: float
    passed: bool
    kept: bool


@dataclass(frozen=True, slots=True)
class Climb:
    """How a file came within the budget, or did not.

    Attributes:
        budget: largest loss, in percentage points.
        met: whether the file that was kept is within it.
        rung: the last one that was kept.
        attempts: in order.
        layers: signal-to-noise ratio of each layer, empty where nothing had to be done.
    """

    budget: float
    met: bool
    rung: str
    attempts: tuple[Attempt, ...]
    layers: tuple[LayerLoss, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; a number that is none is None."""
        attempts = [
            {**asdict(a), "loss": _finite(a.loss), "sqnr_db": _finite(a.sqnr_db)} for a in self.attempts
        ]  # fmt: skip
        layers = [asdict(layer) for layer in self.layers]
        return {"budget": self.budget, "met": self.met, "rung": self.rung, "attempts": attempts, "layers": layers}


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


@dataclass(frozen=True, slots=True)
class State:
    """What a file is made with: remedies of the float network, method of calibration, layers that are exempt."""

    remedies: frozenset[str] = frozenset()
    method: str = ""
    exempt: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """A file, what it was made with, and where."""

    state: State
    exported: Exported
    work: Workshop
    detail: str = ""

    @property
    def passed(self) -> bool:
        """Whether no verdict is FAIL."""
        return self.work.passed(self.exported)

    @property
    def loss(self) -> float:
        """See `Attempt`."""
        for name in ("accuracy loss", "answers that differ"):
            for edge in self.exported.edges:
                # several outputs have a check each; of the float network they are reported too, with no limit
                found = [c.value for c in edge.checks if c.name.partition(",")[0] == name and c.limit is not None]
                if found:
                    return max(found)
        return math.nan  # its outputs are no answers, or no numbers, or nothing could run it

    @property
    def sqnr_db(self) -> float:
        """Worst of all kernels; minus infinity of a file that nothing could run."""
        found = [c.value for e in self.exported.edges for c in e.checks if c.name.startswith("SQNR, real")]
        return min(found, default=-math.inf)


@dataclass(slots=True, eq=False)
class Ladder:
    """Climbs for one run of export().

    Attributes:
        work: where the files of the untreated network are.
        remedies: treats it.
        workshop: returns the workshop of a treated network.
        options: of the run.
        progress: told what is tried.
    """

    work: Workshop
    remedies: Remedies
    workshop: Callable[[nn.Module, frozenset[str]], Workshop]
    options: Options
    progress: Progress
    _workshops: dict[tuple[frozenset[str], Grid], tuple[Workshop, str]] = field(default_factory=dict)

    def climb(self, base: Exported) -> Made:
        """Return the first file that is within the budget, or else the best one; its artifact says how it was found."""
        self.log(base).unlink(missing_ok=True)  # what an earlier export tried says nothing of this one
        first = best = Made(State(), base, self.work)
        grid = _grid(base)
        attempts = [self._noted(PER_CHANNEL, first, kept=True)]
        rung = PER_CHANNEL
        for name in self.options.rungs:
            if self._met(best):
                break
            for made in self._tried(name, best, grid, attempts):
                better = self._worth(made) > self._worth(best, LEAST)
                attempts.append(self._noted(name, made, kept=better))
                if better:
                    best, rung = made, name
                if self._met(best):
                    break
        layers: tuple[LayerLoss, ...] = ()
        if best is not first and loads(first.exported):
            layers = layers_before_and_after(first.work, first.exported, best.work, best.exported)
        climb = Climb(self.options.budget, self._met(best), rung, tuple(attempts), layers)
        if len(attempts) > 1 or not climb.met:
            files.write_json(self.log(base), climb.to_dict())
        artifact = replace(
            best.exported.artifact, ladder=climb.to_dict(), remedies=tuple(sorted(best.state.remedies)),
            exempt=best.state.exempt,
        )  # fmt: skip
        return replace(best, exported=Exported(artifact, best.exported.edges))

    def log(self, exported: Exported) -> Path:
        """Return where it is written down what was tried for a file."""
        return self.work.out / "logs" / f"{exported.artifact.path.name}.ladder.json"

    def _met(self, made: Made) -> bool:
        # what cannot be judged by answers is judged by its numbers alone
        return made.passed and not made.loss > self.options.budget

    def _worth(self, made: Made, more: float = 0.0) -> tuple[bool, bool, float]:
        """Return what files are ranked by: SQNR among those alike, for few pictures tell losses apart."""
        return made.passed, self._met(made), made.sqnr_db + more

    def _noted(self, rung: str, made: Made, kept: bool) -> Attempt:
        return Attempt(rung, made.detail, made.loss, made.sqnr_db, made.passed, kept)

    def _tried(self, rung: str, best: Made, grid: Grid, attempts: list[Attempt]) -> Iterator[Made]:
        """Yield the files of a rung; what could not be made is noted."""
        try:
            states = list(self._states(rung, best))
        except (ExportError, InputError) as error:
            attempts.append(Attempt(rung, str(error), math.nan, math.nan, passed=False, kept=False))
            return
        for detail, state in states:
            name = best.exported.artifact.path.name
            self.progress(f"{name} {_said(best)}; {rung}{f' ({detail})' if detail else ''}")
            try:
                yield self._made(state, best.exported, grid, detail)
            except (ExportError, GateError, InputError) as error:
                attempts.append(Attempt(rung, f"{detail}: {error}", math.nan, math.nan, passed=False, kept=False))

    def _states(self, rung: str, best: Made) -> Iterator[tuple[str, State]]:
        """Yield what a rung tries.

        Raises:
            ExportError: it has nothing to try.
        """
        state, artifact = best.state, best.exported.artifact
        if rung == METHOD:
            known = methods(artifact.format, artifact.scheme, self.options)
            others = [method for method in known[1:] if method != self.options.method]
            if not others:
                raise ExportError("the quantizer has one method only")
            yield from ((method, replace(state, method=method)) for method in others)
        elif rung == PRECISION:
            if not loads(best.exported):
                raise ExportError("the file cannot be loaded, so nobody knows which layers lose most")
            kind = self._allowed(artifact)
            self._chain(artifact, replace(state, exempt=("any",)))  # that it can be done at all
            for number in WORST:
                exempt = worst_layers(best.work, best.exported, number)
                yield f"{len(exempt)} operators in {kind}", replace(state, exempt=exempt)
        elif rung == TUNING:
            yield "", replace(state, remedies=state.remedies - {BIAS, ROUNDING} | {TUNING})
        else:
            yield "", replace(state, remedies=state.remedies | {rung})

    def _allowed(self, artifact: Artifact) -> str:
        """Return what the target of a file may give its worst layers.

        Raises:
            ExportError: it has none, or one that wants every layer in 8 bits.
        """
        options = replace(self.options, backend=self.options.backend[:1])
        target = steps([artifact.format], [artifact.scheme], options)[-1].told("target") or ""
        if target not in self.options.target or target not in ALLOWED:
            raise ExportError("no target was named that may run some layers in more than 8 bits")
        return ALLOWED[target]

    def _chain(self, artifact: Artifact, state: State) -> list[Step]:
        """Return the steps that make a file anew.

        Raises:
            ExportError: its quantizer cannot do what is tried.
        """
        options = replace(self.options, method=state.method or self.options.method, backend=self.options.backend[:1])
        exempt = self._allowed(artifact) if state.exempt else ""
        chain = steps([artifact.format], [artifact.scheme], options, exempt)
        chain[-1].exempt = state.exempt
        return chain

    def _made(self, state: State, like: Exported, grid: Grid, detail: str) -> Made:
        """Make a file.

        Raises:
            ExportError: it cannot be made.
        """
        key = (state.remedies, grid)
        if key not in self._workshops:
            treated = self.remedies.treated(state.remedies, grid)
            self._workshops[key] = (
                replace(self.workshop(treated.model, state.remedies), edges=treated.edges), treated.detail,
            ) if state.remedies else (self.work, "")  # fmt: skip
        work, done = self._workshops[key]
        chain = self._chain(like.artifact, state)
        (made,) = work.make_all(chain, lambda _text: None)
        return Made(state, made, work, ", ".join(filter(None, (detail, done))))


def _said(made: Made) -> str:
    if not loads(made.exported):
        return "cannot be loaded"
    return "fails its comparison" if math.isnan(made.loss) else f"loses {made.loss:.2f} points"


def _grid(base: Exported) -> Grid:
    bits = 16 if base.artifact.scheme == "int8x16" else 8
    path = base.artifact.path
    return Grid(largest_step(path), bits) if path.suffix in READABLE and loads(base) else Grid(bits=bits)
