"""What the gates of a recipe would have done to the runs of studies: which of them gain, and which would be stopped."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from effect.results import Line
from effect.study import Study
from effect.tables import best_control

#: share of the runs that gain which a gate has to let through
KEPT = 0.8


@dataclass(frozen=True, slots=True)
class Boosted:
    """One run of two phases, beside the control of its seed; all in points.

    Attributes:
        lead: of the giant on the validation pictures, after its phase, over the control after all epochs.
        loss: of the giant on the validation pictures while it became linear.
        gain: of the contracted network over the control on the test pictures.
    """

    lead: float
    loss: float
    gain: float


@dataclass(frozen=True, slots=True)
class Rates:
    """What a limit does: shares of the runs that gain and are let through, and of the others that are stopped."""

    limit: float
    passed: float
    stopped: float


def boosted(study: Study, found: Sequence[Line]) -> Iterator[Boosted]:
    """Yield every run of giant and tuning of a study whose control of the same seed has been run."""
    runs = [line for line in found if not line.tuning and line.test is not None]
    for network, data in sorted({(line.network, line.data) for line in runs}):
        here = [line for line in runs if (line.network, line.data) == (network, data)]
        name = best_control(study, {name: [line for line in here if line.method == name] for name in study.methods})
        control = {line.seed: line for line in here if line.method == name}
        for line in here:
            if [row["name"] for row in line.phases] == ["giant", "tuning"] and line.seed in control:
                yield _beside(line, control[line.seed])


def _beside(line: Line, control: Line) -> Boosted:
    giant = 100 * line.phases[0]["validation"]
    assert line.test is not None
    assert control.test is not None
    return Boosted(
        giant - 100 * control.validation, giant - 100 * line.validation, 100 * line.test - 100 * control.test
    )


def rates(values: Iterable[tuple[float, bool]], limit: float) -> Rates:
    """Return what a lower limit on `values`, pairs of (value, whether the run gains), does; nan of an empty side."""
    pairs = list(values)
    gaining, others = ([value >= limit for value, gains in pairs if gains is side] for side in (True, False))
    return Rates(limit, _share(gaining), 1 - _share(others))


def _share(passed: Sequence[bool]) -> float:
    return sum(passed) / len(passed) if passed else math.nan


def strictest(values: Iterable[tuple[float, bool]]) -> Rates | None:
    """Return the highest limit that lets `KEPT` of the gaining runs through; None if no run gains."""
    pairs = list(values)
    fitting = [found for value, _ in pairs if (found := rates(pairs, value)).passed >= KEPT]
    return max(fitting, key=lambda found: found.limit, default=None)


def page(runs: Sequence[Boosted], lead: float, loss: float) -> Iterator[str]:
    """Yield the lines of a table: the limits of a recipe, and the strictest ones that these runs allow."""
    gains = sum(run.gain > 0 for run in runs)
    yield f"{len(runs)} runs of giant and tuning, {gains} of them better than their control on the test pictures."
    yield from ("", "| gate | limit, points | gaining runs let through | other runs stopped |", "|---" * 4 + "|")
    leads = [(run.lead, run.gain > 0) for run in runs]
    losses = [(-run.loss, run.gain > 0) for run in runs]
    limits = ("giant's lead, least", leads, lead, 1), ("loss in PLT, most", losses, -loss, -1)
    for what, values, limit, sign in limits:
        for kind, found in (("recipe", rates(values, limit)), ("strictest", strictest(values))):
            if found is not None:
                shown = f"{sign * found.limit + 0.0:.1f} | {_percent(found.passed)} | {_percent(found.stopped)}"
                yield f"| {what}, {kind} | {shown} |"
    both = rates(((float(run.lead >= lead and run.loss <= loss), run.gain > 0) for run in runs), 1.0)
    yield f"| both, recipe | - | {_percent(both.passed)} | {_percent(both.stopped)} |"


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.0f} %"
