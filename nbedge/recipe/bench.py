"""BenchSection: how a run measures its files, and what it refuses before hours are spent on them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nbedge.artifact import SCHEMES
from nbedge.benchmark import TIMED, Case, fitting, place_of
from nbedge.benchmark.case import GENERATED, refuse_twice, refuse_unknown, runtimes_of, within_threads
from nbedge.benchmark.microcontroller import INTEGERS
from nbedge.errors import InputError


@dataclass(frozen=True, slots=True)
class BenchSection:
    """How files are measured.

    Attributes:
        processes: fresh processes a file.
        seconds: sampled in each.
        threads: of the runtime; each file is measured with each of them.
        runtimes: those of each file that are named here; none: its usual one.
        on: where, "local", "emulated:CPU" or "ssh://user@host:port".
    """

    processes: int = 5
    seconds: float = 2.0
    threads: tuple[int, ...] = (1,)
    runtimes: tuple[str, ...] = ()
    on: str = "local"

    def __post_init__(self) -> None:
        """Refuse what nothing can be measured with."""
        with _of("threads"):
            if not self.threads:
                raise InputError("an empty list; give at least one number, for example [1]")
            refuse_twice(self.threads, "the number of threads")
        with _of("runtimes"):
            refuse_unknown(self.runtimes)
        with _of("on"):
            place_of(self.on)

    def refuse_files(self, formats: Sequence[str], schemes: Sequence[str]) -> None:
        """Refuse to measure files of these formats and schemes where they could not be run.

        Raises:
            InputError: they could not.
        """
        place = place_of(self.on)
        for suffix in (suffix for suffix in TIMED if suffix[1:] in formats):
            name = Path(f"NAME{suffix}")
            with _of("runtimes"):
                cases = [Case(name, runtime) for runtime in runtimes_of(name, self.runtimes)]
            with _of("on" if not self.runtimes else "runtimes"):
                cases = [fitting(case, place) for case in cases]
            with _of("threads"):
                for case in cases:
                    for threads in self.threads:
                        within_threads(fitting(Case(name, case.runtime, threads), place))
        if not (place.compiles and "tflite" in formats):
            return
        floats = [scheme for scheme in schemes if SCHEMES[scheme][1] not in INTEGERS]
        if floats:
            raise InputError(
                f"on: {self.on} runs {GENERATED.upper()} of integer files, and export.quant has {', '.join(floats)}; "
                "leave that out"
            )


@contextmanager
def _of(key: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"{key}: {error}") from error
