"""Progress bars on stderr, shown only where somebody looks: a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; `to` moves it to a count of steps done, with a word on what is going on."""

    progress: Progress
    task: TaskID

    def to(self, done: float, note: str = "") -> None:
        """Move to `done` steps."""
        self.progress.update(self.task, completed=done, note=note)


@contextmanager
def bar(title: str, total: float, shown: bool = True) -> Iterator[Bar]:
    """Open a bar of `total` steps; it stays on the screen when the block ends."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, disable=not (shown and console.is_terminal)) as progress:
        yield Bar(progress, progress.add_task(f"{title:>10}", total=total, note=""))
