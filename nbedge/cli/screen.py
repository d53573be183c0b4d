"""Screen: where a verb prints; with --json one JSON object goes to stdout and nothing else."""

import functools
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import click
from click.core import ParameterSource
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nbedge import files
from nbedge.errors import InputError

SCHEMA_VERSION = 1
DASH = "\N{EN DASH}"
NUMBER = re.compile(r"([-+]?(\d[\d .e+-]*|nan)( \S{1,3})?)?|" + DASH)


@dataclass(frozen=True, slots=True)
class Screen:
    """What the common options ask for.

    Attributes:
        as_json: one JSON object on stdout, nothing else there.
        verbosity: below 0 only results, above 0 more.
        plain: no colour.
    """

    as_json: bool
    verbosity: int
    plain: bool

    @property
    def shows_progress(self) -> bool:
        """Whether progress bars are wanted."""
        return self.verbosity >= 0

    def say(self, text: str | Text) -> None:
        """Print a line of the result, as it is."""
        if not self.as_json:
            console = self._console()
            console.print(text, soft_wrap=not console.is_terminal)  # words are kept whole where somebody reads

    def note(self, text: str) -> None:
        """Print a line about what goes on, on stderr, unless -q."""
        if self.verbosity >= 0:
            self._console(stderr=True).print(text, style="dim", soft_wrap=True)

    def table(self, title: str, columns: Iterable[str], rows: Iterable[Iterable[str | Text]]) -> None:
        """Print a table; columns of numbers are aligned to the right."""
        if self.as_json:
            return
        cells = [[cell if isinstance(cell, Text) else Text(cell) for cell in row] for row in rows]
        table = Table(title=title or None, title_justify="left", header_style="bold")
        for index, column in enumerate(columns):
            numbers = all(NUMBER.fullmatch(row[index].plain) for row in cells)
            table.add_column(Text(column), justify="right" if numbers else "left", overflow="fold")
        for row in cells:
            table.add_row(*row)
        console = self._console()
        # a pipe has no width of its own: cells must not be cut there
        console.print(table) if console.is_terminal else self._console(width=200).print(table)

    def result(self, content: Mapping[str, Any]) -> None:
        """Print the JSON object, if it was asked for."""
        if self.as_json:
            click.echo(files.as_json({"schema_version": SCHEMA_VERSION, **content}))

    def _console(self, **options: Any) -> Console:
        if self.plain:  # no_color alone would leave bold and dim, which are escape codes too
            options |= {"no_color": True, "color_system": None}
        return Console(highlight=False, markup=False, **options)


def fail(
    sentence: str, status: int, content: Mapping[str, Any] | None = None, show: Callable[[], None] | None = None
) -> NoReturn:
    """Leave with `status`: the sentence goes to stderr (or what `show` prints), and into the JSON if it was asked for.

    Args:
        sentence: what is wrong, where, and what to do.
        status: of the exit.
        content: what else the JSON object holds.
        show: prints the sentence in another way.
    """
    sentence = " ".join(sentence.split())
    Screen("--json" in sys.argv, 0, True).result({**(content or {}), "error": sentence, "exit_status": status})
    if show:
        show()
    else:
        click.echo(f"nbedge: {sentence}", err=True)
    sys.exit(status)


def refuse_given(names: Iterable[str], why: str) -> None:
    """Refuse options of the running verb that would have no effect.

    Args:
        names: of its parameters.
        why: the reason, a clause.

    Raises:
        InputError: the user gave one of them.
    """
    context = click.get_current_context()
    for parameter in context.command.params:
        if parameter.name in names and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE:
            raise InputError(f"{parameter.opts[0]} has no effect here: {why}; leave it out")


def with_screen(verb: Callable[..., None]) -> Callable[..., None]:
    """Add --json, -q, -v and --no-color to a verb, and give it a `Screen`."""

    @click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, nothing else there.")
    @click.option("-q", "--quiet", count=True, help="No notes and no progress bars.")
    @click.option("-v", "--verbose", count=True, help="More detail.")
    @click.option("--no-color", is_flag=True, help="No colour; NO_COLOR does the same.")
    @functools.wraps(verb)
    def wrapped(as_json: bool, quiet: int, verbose: int, no_color: bool, **options: Any) -> None:
        if no_color:
            os.environ["NO_COLOR"] = "1"  # for the progress bars, and for processes of our own
        verb(screen=Screen(as_json, verbose - quiet, no_color), **options)

    return wrapped


def percent(share: float | None) -> str:
    """Return a fraction as a percentage, or a dash."""
    return DASH if share is None else f"{100 * share:.2f} %"


def number(value: float | None, unit: str = "", digits: int = 0) -> str:
    """Return a number with thin thousands and a unit, or a dash."""
    return DASH if value is None else f"{value:,.{digits}f}".replace(",", " ") + (f" {unit}" if unit else "")


def verdict(word: str) -> Text:
    """Return a verdict in its colour."""
    return Text(word, {"PASS": "green", "FAIL": "bold red", "NOT CHECKED": "yellow"}.get(word, "dim"))
