"""The production line: exporters one after the other, the next one at work while the files of this one are judged."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from nbedge.conversion.chain import Step
from nbedge.conversion.diagnosis import suspects
from nbedge.conversion.places import Places
from nbedge.conversion.process import Worker
from nbedge.errors import ExportError
from nbedge.exporter import Job
from nbedge.preprocessing import Preprocessing


class Line:
    """Runs the exporters of a chain, but for those whose files are there already.

    A context manager: at its end no process is left. The first process starts at once, each other one when that before
    it begins its job: so it has imported what it needs when its turn comes.
    """

    def __init__(
        self, chain: Sequence[Step], places: Places, logs: Path, preprocessing: Preprocessing | None,
        classes: tuple[str, ...], progress: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._chain, self._places, self._logs = chain, places, logs
        self._preprocessing, self._classes, self._progress = preprocessing, classes, progress
        self._todo = [step for step in chain if not places.made(step)]
        self._workers: list[Worker] = []
        self._running = ExitStack()

    def __enter__(self) -> "Line":
        self._start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._running.close()

    def finished(self) -> Iterator[Step]:
        """Yield the steps in order, each when its files are whole.

        Raises:
            ExportError: an exporter failed; operators that few converters know are named.
        """
        self._begin(0)
        for step in self._chain:
            if step in self._todo:
                place = self._todo.index(step)
                try:
                    versions = self._workers[place].end()
                except ExportError as error:
                    raise ExportError(f"{error}{suspects(self._places.program(step.batch))}") from error
                self._places.finish(step, versions)
                self._begin(place + 1)
            yield step

    def _start(self) -> None:
        """Start the process of the next exporter that has none, if there is one."""
        for step in self._todo[len(self._workers) :][:1]:
            worker = Worker(step.name, step.exporter, self._places.workdir(step), self._logs / f"{step.name}.log")
            self._workers.append(self._running.enter_context(worker))

    def _begin(self, place: int) -> None:
        """Let one exporter, if there are so many, do its job."""
        for step in self._todo[place : place + 1]:
            self._progress(f"{step.name}: {', '.join(sorted(step.schemes))}")
            workdir, source = self._places.workdir(step), self._places.source(step)
            copied = Path(shutil.copy(source, workdir / f"source{source.suffix}"))
            job = Job(
                copied, {scheme: self._places.path(step, scheme) for scheme in step.ordered}, self._places.calibration,
                workdir, step.settings, self._preprocessing, self._classes, step.exempt,
            )  # fmt: skip
            self._workers[place].begin(job)
            self._start()
