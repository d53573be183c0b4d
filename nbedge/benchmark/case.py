"""Case: one file in one runtime with so many threads."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbedge import files
from nbedge.errors import InputError

#: the runtime of a microcontroller: C that is generated of the file
GENERATED = "c"
#: suffix of the file -> the runtimes that can run it, the usual one first; "tflite" is the first one that is installed
RUNTIMES = {
    ".onnx": ("onnxruntime",),
    ".tflite": (
        "tflite",
        "litert",
        "litert-builtin",
        "litert-reference",
        "tflite-runtime",
        "tensorflow",
        "tflite-micro",
        GENERATED,
    ),
    ".safetensors": ("torch",),
}
#: runtimes that have one thread
MICRO = "tflite-micro"
SINGLE = (MICRO, GENERATED)
#: what a run measures by itself
TIMED = (".onnx", ".tflite")


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured.

    Attributes:
        path: the file.
        runtime: one of `RUNTIMES`.
        threads: of the runtime.
    """

    path: Path
    runtime: str
    threads: int = 1


def cases(paths: Sequence[Path], runtimes: Sequence[str], threads: Sequence[int]) -> tuple[Case, ...]:
    """Return a case for each file, each of `runtimes` that can run it (none: the usual one) and each of `threads`.

    Raises:
        InputError: there is no file, one is missing or of an unknown kind, none of `runtimes` runs it, or something is
            named twice.
    """
    if not paths:
        raise InputError(f"there is no file to measure; name at least one that ends in {' or '.join(RUNTIMES)}")
    if not threads or min(threads) < 1:
        raise InputError(f"threads are {', '.join(map(str, threads)) or 'none'}; give 1 or more")
    refuse_unknown(runtimes)
    for path in paths:
        _refuse_no_file(path)
    refuse_twice([path.resolve() for path in paths], "the file")
    refuse_twice(threads, "the number of threads")
    return tuple(
        within_threads(Case(path, runtime, number))
        for path in paths
        for runtime in runtimes_of(path, runtimes)
        for number in threads
    )


def _refuse_no_file(path: Path) -> None:
    if files.existing(path, "the file").is_dir():
        raise InputError(f"{path} is a folder; name a file that ends in {' or '.join(RUNTIMES)}")


def refuse_unknown(runtimes: Sequence[str]) -> None:
    """Refuse names of no runtime.

    Raises:
        InputError: there is one, or one is given twice.
    """
    known = tuple(name for names in RUNTIMES.values() for name in names)
    for runtime in runtimes:
        if runtime not in known:
            raise InputError(f"no runtime is called {runtime!r}; choose from {', '.join(known)}")
    refuse_twice(runtimes, "the runtime")


def refuse_twice(things: Sequence[Any], what: str) -> None:
    """Refuse what would be measured twice.

    Raises:
        InputError: something is in `things` twice.
    """
    twice = [thing for number, thing in enumerate(things) if thing in things[:number]]
    if twice:
        raise InputError(f"{what} {twice[0]} is given twice; name it once")


def within_threads(case: Case) -> Case:
    """Return the case.

    Raises:
        InputError: it asks for more threads than its runtime has.
    """
    if case.threads > 1 and case.runtime in SINGLE:
        raise InputError(f"{case.runtime} has one thread, not {case.threads}; measure it by itself, with 1 thread")
    return case


def runtimes_of(path: Path, runtimes: Sequence[str]) -> tuple[str, ...]:
    """Return which of `runtimes` run a file of this name (none: the usual one of its kind).

    Raises:
        InputError: nothing does.
    """
    able = RUNTIMES.get(path.suffix)
    if able is None:
        raise InputError(f"{path} cannot be measured; files that can end in {' or '.join(RUNTIMES)}")
    chosen = tuple(runtime for runtime in runtimes if runtime in able)
    if runtimes and not chosen:
        raise InputError(f"{path} runs in {', '.join(able)}, not in {', '.join(runtimes)}; choose another runtime")
    return chosen or able[:1]
