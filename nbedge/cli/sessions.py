"""`nbedge bench --compare`: two stored sessions side by side."""

from collections.abc import Iterator
from pathlib import Path

import click

from nbedge.benchmark import baseline, sessions
from nbedge.benchmark.sessions import Difference
from nbedge.cli.screen import DASH, Screen, number, refuse_given
from nbedge.errors import InputError

#: parameters of the verb that have an effect beside it
KEPT = ("paths", "sessions", "as_json", "quiet", "verbose", "no_color")
COLUMNS = ("file", "runtime", "kernels", "threads", "figure")


def refuse_others(paths: tuple[Path, ...]) -> None:
    """Refuse what would have no effect beside --compare.

    Raises:
        InputError: the user gave something.
    """
    why = "--compare shows two stored sessions and measures nothing"
    if paths:
        raise InputError(f"{why}; leave the FILE out")
    names = [parameter.name or "" for parameter in click.get_current_context().command.params]
    refuse_given([name for name in names if name not in KEPT], why)


def show(screen: Screen, old: Path, new: Path) -> None:
    """Print them, with what has no partner and what stands against comparing them."""
    before, after = baseline.rows(old), baseline.rows(new)
    found = list(sessions.differences(before, after))
    screen.table("", (*COLUMNS, str(old), str(new), "new / old"), map(_row, found))
    lonely = {str(old): sessions.alone(before, after), str(new): sessions.alone(after, before)}
    for path, rows in lonely.items():
        for row in rows:
            screen.say(f"only {path} has {baseline.label(row)} in {baseline.engine(row)}; it is compared with nothing.")
    caveats = sessions.caveats(before, after)
    for caveat in caveats:
        screen.say(caveat)
    screen.say(
        "Times of two sessions differ by some percent of themselves; size, arena and instructions do not. To compare "
        "times, measure both files in turn: nbedge bench NEW --against OLD."
    )
    unmatched = [{**sessions.named(row), "in": path} for path, rows in lonely.items() for row in rows]
    screen.result({"rows": [each.to_dict() for each in found], "unmatched": unmatched, "caveats": caveats})


def _row(found: Difference) -> Iterator[str]:
    yield from map(str, sessions.named(found.row).values())
    yield found.metric
    for value in (found.old, found.new):
        yield number(value, found.unit, 4 if found.unit == "ms" else 0)
    yield f"{found.times:.3f}" if found.old else DASH
