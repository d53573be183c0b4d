"""The limits of `nbedge bench`: what is refused before anything is measured, and what fails afterwards."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from nbedge import benchmark
from nbedge.benchmark import Case, Comparison, Place, baseline, stability
from nbedge.benchmark.baseline import Limit, Rows
from nbedge.cli.screen import refuse_given
from nbedge.errors import GateError, InputError


def refuse_unfit(cases: Sequence[Case], place: Place, against: Path | None, limits: Sequence[Limit]) -> None:
    """Refuse a comparison or a limit that could not be judged.

    Raises:
        InputError: there is one.
    """
    if against is None:
        refuse_given(("blocks",), "nothing is compared without --against")
        if limits:
            raise InputError("--fail-if compares with something; name it with --against")
        return
    if against.suffix == ".json":
        stored = baseline.rows(against)
        refuse_given(("blocks",), f"{against} is stored, and nothing is measured in turn")
        if not limits:
            raise InputError(
                f"--against {against} compares nothing without --fail-if; add for example --fail-if size:1.02"
            )
    else:
        stored = []
        old_case(cases, place, against)
    for case in cases:
        baseline.refuse_unmatched(case, stored)
    for limit in limits:
        for case in cases:
            baseline.refuse_untold(limit, case, place, stored)


def old_case(cases: Sequence[Case], place: Place, against: Path) -> Case:
    """Return how the other file is measured: as the one, or in the usual runtime of its kind.

    Raises:
        InputError: there are several to compare it with, or it cannot be measured there.
    """
    if len(cases) != 1:
        raise InputError(
            f"--against compares one file with {against} in one way, not in {len(cases)}; give one --runtime and one "
            "number of --threads"
        )
    (case,) = cases
    names = (case.runtime,) if case.path.suffix == against.suffix else ()
    (before,) = benchmark.cases([against], names, (case.threads,))
    return benchmark.fitting(before, place)


def refuse_untimed(place: Place) -> None:
    """Refuse options about time where none is measured.

    Raises:
        InputError: the user gave one.
    """
    if not place.timed:
        refuse_given(
            ("processes", "seconds", "blocks", "require_stable", "plot"), f"no time is measured on {place.name}"
        )


def refuse_unstable(processes: int) -> None:
    """Refuse --require-stable where too few processes are asked for: it could only fail.

    Raises:
        InputError: they are too few.
    """
    if processes < stability.PROCESSES:
        raise InputError(f"--require-stable needs --processes {stability.PROCESSES} or more, not {processes}")


def passed(rows: Rows, compared: Comparison | None, old: Rows, limits: Sequence[Limit]) -> Iterator[str]:
    """Yield a sentence for each limit that is kept.

    Raises:
        GateError: others are not; all of them are told.
        InputError: one cannot be judged.
    """
    failed = []
    for limit in limits:
        for row in rows[:1] if limit.metric == baseline.RATIO else rows:
            try:
                yield _kept(limit, row, compared, old)
            except GateError as error:
                failed.append(str(error))
    if failed:
        raise GateError("; and ".join(failed))


def _kept(limit: Limit, row: baseline.Row, compared: Comparison | None, old: Rows) -> str:
    if limit.metric == baseline.RATIO:
        return _not_slower(compared, limit.times)
    return _not_grown(limit, row, baseline.matching(row, old))


def _not_slower(compared: Comparison | None, times: float) -> str:
    if compared is None:
        raise InputError("an emulator measures no time; use --fail-if instructions:TIMES there")
    where = f"95 % interval {compared.low:.3f} to {compared.high:.3f}, {compared.blocks} blocks"
    said = f"{compared.after.path} takes {compared.ratio:.3f} times as long as {compared.before.path}"
    if compared.exceeds(times):
        raise GateError(f"{said}, more than {times:g} ({where})")
    if not compared.is_precise(times):
        raise GateError(
            f"this machine is too restless to tell {times:g} from 1 ({where}); close other work, or raise --seconds"
        )
    return f"passed: {said}; at most {times:g} times is allowed"


def _not_grown(limit: Limit, row: baseline.Row, before: baseline.Row) -> str:
    found = baseline.growth(limit, row, before)
    allowed = f"at most {limit.times:g} times is allowed"
    if found.times > limit.times:
        raise GateError(f"{found}; {allowed}")
    return f"passed: {found}; {allowed}"


def refuse_shaky(rows: Rows) -> None:
    """Refuse a latency that cannot be relied on.

    Raises:
        GateError: there is one.
    """
    for row in rows:
        if row["verdict"] != "stable":
            raise GateError(f"the latency of {baseline.label(row)} is {row['verdict']}: {row['reason']}")
