"""Case: one file in one runtime with so many threads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

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
        InputError: there is no file, one is missing or of an unknown kind, or none of `runtimes` runs it.
    """
    if not paths:
        raise InputError(f"there is no file to measure; name at least one that ends in {' or '.join(RUNTIMES)}")
    if not threads or min(threads) < 1:
        raise InputError(f"threads are {', '.join(map(str, threads)) or 'none'}; give 1 or more")
    return tuple(
        Case(path, runtime, number) for path in paths for runtime in _running(path, runtimes) for number in threads
    )


def _running(path: Path, runtimes: Sequence[str]) -> Iterator[str]:
    files.existing(path, "the file")
    able = RUNTIMES.get(path.suffix)
    if able is None:
        raise InputError(f"{path} cannot be measured; files that can end in {' or '.join(RUNTIMES)}")
    chosen = [runtime for runtime in runtimes if runtime in able]
    if runtimes and not chosen:
        raise InputError(f"{path} runs in {', '.join(able)}, not in {', '.join(runtimes)}; choose another --runtime")
    yield from chosen or able[:1]
