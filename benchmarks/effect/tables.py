"""The tables of a study, from its lines: accuracy, paired differences to the best control, retention, cost."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from effect.results import Line, best_rates
from effect.study import Study
from nbedge.benchmark.statistics import mean_interval


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95 % interval by Student's t; nan where there are fewer than two values."""

    mean: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Interval":
        """Take it of paired differences, or of any values."""
        return cls(*mean_interval(values), len(values)) if values else cls(math.nan, math.nan, math.nan, 0)

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside; an unknown interval excludes nothing."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        """Show it with signs."""
        if not self.count:
            return "-"
        reach = f" ({self.low:+.2f} to {self.high:+.2f})" if self.count > 1 else ""
        return f"{self.mean:+.2f}{reach}"


#: seed -> test accuracy, percent
BySeed = Mapping[int, float]


def by_seed(found: Iterable[Line]) -> BySeed:
    """Return the test accuracy of each seed, percent."""
    return {line.seed: 100 * line.test for line in found if line.test is not None}


def difference(candidate: BySeed, control: BySeed) -> Interval:
    """Return candidate - control in points, seed by seed, over the seeds that both have."""
    return Interval.of([candidate[seed] - control[seed] for seed in sorted(candidate.keys() & control.keys())])


def retention(candidate: BySeed, control: BySeed, giant: BySeed) -> float | None:
    """Return (candidate - control) / (giant - control), of means over the seeds that all three have.

    None, undefined, unless the 95 % interval of giant - control lies above 0.
    """
    seeds = sorted(candidate.keys() & control.keys() & giant.keys())
    lead = Interval.of([giant[seed] - control[seed] for seed in seeds])
    if not lead.low > 0:  # also where it is unknown
        return None
    return statistics.mean(candidate[seed] - control[seed] for seed in seeds) / lead.mean


def fall_back(candidate: Sequence[Line], control: Sequence[Line]) -> BySeed:
    """Return the test accuracy, percent, of what `nbedge run` would keep of each seed that both have.

    That is the candidate where it is better on the validation pictures, else the control.
    """
    other = {line.seed: line for line in control}
    pairs = [(line, other[line.seed]) for line in candidate if line.seed in other]
    return by_seed(own if own.validation > plain.validation else plain for own, plain in pairs)


def page(study: Study, found: Sequence[Line]) -> Iterator[str]:
    """Yield the lines of the study's page, a section a network and pictures."""
    runs = [line for line in found if not line.tuning]
    yield from (f"## {study.title}", "")
    for network in study.networks:
        for data in study.targets:
            here = [line for line in runs if (line.network, line.data) == (network, data)]
            if here:
                yield from _section(study, network, data, here)
    yield from _rates(study, found)
    yield from _origin(runs)


def _section(study: Study, network: str, data: str, here: Sequence[Line]) -> Iterator[str]:
    lines = {name: [line for line in here if line.method == name] for name in study.methods}
    seeds = {name: by_seed(of) for name, of in lines.items() if of}
    control = best_control(study, lines)
    giant = seeds.get(study.giant, {})
    yield from (f"### {network} on {data}", "", f"Control: {control or 'none has been run yet'}.", "")
    head = "| method | n | test, % | sd | validation, % | - control, points (95 %) | with the fall-back | retention"
    head += " | parameters | MACs | learning rate | epochs | training MACs | seconds |"
    yield from (head, "|---" * (head.count("|") - 1) + "|")
    for name, of in lines.items():
        if not of:
            continue
        compared, safe = "-", "-"
        if control not in (name, None):
            compared = str(difference(seeds[name], seeds[control]))
            safe = str(difference(fall_back(of, lines[control]), seeds[control]))
        kept = _kept(study, name, control, seeds, giant) if control else "-"
        yield f"| {name} | {' | '.join((*_accuracy(of), compared, safe, kept, *_cost(of)))} |"
    yield ""


def best_control(study: Study, lines: Mapping[str, Sequence[Line]]) -> str | None:
    """Return the control of the best mean validation accuracy; the test pictures choose nothing."""
    run = [name for name in study.controls if lines.get(name)]
    return max(run, key=lambda name: statistics.mean(line.validation for line in lines[name])) if run else None


def _kept(study: Study, name: str, control: str, seeds: Mapping[str, BySeed], giant: BySeed) -> str:
    if name in (control, study.giant, *study.controls):
        return "-"
    share = retention(seeds[name], seeds[control], giant)
    return "undefined" if share is None else f"{100 * share:.0f} %"


def _accuracy(of: Sequence[Line]) -> tuple[str, ...]:
    tests = [100 * line.test for line in of if line.test is not None]
    diverged = sum(line.diverged for line in of)
    spread = f"{statistics.stdev(tests):.2f}" if len(tests) > 1 else "-"
    held = statistics.mean(100 * line.validation for line in of)
    number = f"{len(of)}, {diverged} diverged" if diverged else str(len(of))
    return number, f"{statistics.mean(tests):.2f}", spread, f"{held:.2f}"


def _cost(of: Sequence[Line]) -> tuple[str, ...]:
    first = of[0]
    phases = " + ".join(f"{row['epochs']:g}" for row in first.phases)
    rates = ", ".join(f"{rate:g}" for rate in sorted({line.learning_rate for line in of}))
    seconds = statistics.median(line.seconds for line in of)
    return (
        grouped(first.parameters), grouped(first.macs), rates, phases, f"{first.training_macs:.3g}", f"{seconds:.0f}",
    )  # fmt: skip


def grouped(number: int) -> str:
    """Return a number with a space behind each thousand."""
    return f"{number:,}".replace(",", " ")


def _rates(study: Study, found: Sequence[Line]) -> Iterator[str]:
    trials = [line for line in found if line.tuning]
    if not trials:
        return
    best = best_rates(trials)
    yield from ("### Learning rates", "", "Mean validation accuracy of the trials, %; the best one was taken.", "")
    grid = sorted({line.learning_rate for line in trials})
    yield from (
        f"| network | pictures | method | {' | '.join(f'{rate:g}' for rate in grid)} |",
        "|---" * 3 + "|---" * len(grid) + "|",
    )
    for case, rate in sorted(
        best.items(), key=lambda item: (item[0][1], item[0][2], list(study.methods).index(item[0][0]))
    ):
        cells = []
        for tried in grid:
            values = [
                100 * t.validation for t in trials if (t.method, t.network, t.data) == case and t.learning_rate == tried
            ]
            text = f"{statistics.mean(values):.2f}" if values else "-"
            cells.append(f"**{text}**" if tried == rate else text)
        yield f"| {case[1]} | {case[2]} | {case[0]} | {' | '.join(cells)} |"
    yield ""


def _origin(runs: Sequence[Line]) -> Iterator[str]:
    if not runs:
        yield "No run yet."
        return
    for what, values in (
        ("trained by", Counter(f"torch {line.torch} on {line.device}" for line in runs)),
        ("at", Counter(f"revision {line.revision}" for line in runs)),
    ):
        yield f"{sum(values.values())} runs {what}: {', '.join(f'{text} ({n})' for text, n in values.items())}."
