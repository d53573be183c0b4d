"""An inference on an emulated microcontroller: what it executes, needs and answers."""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from nbedge.device import image
from nbedge.device.image import Image, Library
from nbedge.device.microcontroller import COUNTER
from nbedge.device.userland import compile_counter, quoted
from nbedge.errors import DeviceError, ExportError, GateError

TIMEOUT_S = 600
#: the label behind the call of the model
RETURNED = "nbedge_returned"
_AFTER = re.compile(r"nbedge_after_(\d+)_")


@dataclass(frozen=True, slots=True)
class Inference:
    """What the golden vectors took; bytes, and instructions that were executed.

    Attributes:
        image: the program, without marks.
        instructions: of each vector.
        layers: of each layer, for the vector that takes most; what comes after the last one is in it.
        stack_bytes: of the function of the model and all that it calls, the deepest of all vectors.
        answer: to the first vector.
    """

    image: Image
    instructions: tuple[int, ...]
    layers: tuple[int, ...]
    stack_bytes: int
    answer: bytes


def inferred(library: Library, build: Path) -> Inference:
    """Run the golden vectors of a library, and the one that takes most again with marks; `build` is an empty folder.

    Raises:
        DeviceError: it faults, or takes longer than `TIMEOUT_S`.
        ExportError: it does not link.
        GateError: an answer is not the golden one.
        InputError: the board has too little memory for it.
    """
    plain = image.linked(library, _folder(build / "plain"))
    said, notes = _run(library, plain, (), build / "plain")
    ends = [count for address, count in notes if address == plain.symbols[RETURNED]]
    begins = [count for address, count in notes if address == plain.symbols[f"{library.name}_invoke"]]
    counts = tuple(end - begin for begin, end in zip(begins, ends, strict=True))
    layers = _layers(library, _folder(build / "marked"), counts.index(max(counts)))
    return Inference(plain, counts, layers, int(said["stack"][0], 16), bytes.fromhex(said["answer"][0]))


def _layers(library: Library, build: Path, vector: int) -> tuple[int, ...]:
    """Return what each layer executes for one vector."""
    marked = image.linked(library, build, (str(vector), str(vector + 1)), marks=True)
    marks = {name: int(found[1]) for name in marked.symbols if (found := _AFTER.match(name))}
    _, notes = _run(library, marked, tuple(marks), build)
    # a layer of no instructions has its mark where the next one has
    at: dict[int, list[int]] = {}
    for name, layer in marks.items():
        at.setdefault(marked.symbols[name], []).append(layer)
    passed = [(layer, count) for address, count in notes for layer in sorted(at.get(address, ()))]
    number = len(set(marks.values()))
    if [layer for layer, _ in passed] != list(range(number)):
        raise ExportError(f"{library.name}.c does not pass the marks of its {number} layers once and in order")
    counts = [notes[0][1], *(count for _, count in passed[:-1]), notes[-1][1]]
    return tuple(after - before for before, after in pairwise(counts)) if passed else ()


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _run(
    library: Library, program: Image, marks: Sequence[str], build: Path
) -> tuple[dict[str, list[str]], list[tuple[int, int]]]:
    """Return the words of the harness by their first one, and (address, count) of each mark that was passed."""
    noted = build / "notes"
    done = _emulated(
        library, program, [program.symbols[m] for m in (f"{library.name}_invoke", RETURNED, *marks)], noted
    )
    said = {words[0]: words[1:] for line in reversed(done.stdout.splitlines()) if (words := line.split())}
    if "differs" in said:
        vector, at, found, wanted = (int(word, 16) for word in said["differs"])
        raise GateError(
            f"{library.name} answers {found} and not {wanted} at byte {at} of golden vector {vector} on "
            f"{library.core.name}; its C does not compute what the file does"
        )
    if done.returncode or "end" not in said:
        why = (
            "a fault of the processor, as of more than 64 KB of stack"
            if "fault" in said
            else f"status {done.returncode}: {done.stderr.strip()[-200:]}"
        )
        raise DeviceError(f"{library.name} stopped on the emulated {library.core.name} before its end ({why})")
    lines = [line.split() for line in noted.read_text(encoding="ascii").splitlines()]
    return said, [(int(address, 16), int(count)) for address, count in lines]


def _emulated(
    library: Library, program: Image, addresses: Sequence[int], noted: Path
) -> "subprocess.CompletedProcess[str]":
    counter = library.tools.counter
    if counter is None:
        counter = noted.with_name("marks.so")
        compile_counter(counter, COUNTER)
    at = "".join(f",at={address:x}" for address in dict.fromkeys(addresses))
    command = [
        library.tools.qemu, "-M", library.core.board, "-display", "none", "-monitor", "none", "-serial", "none",
        "-chardev", "stdio,id=said", "-semihosting-config", "enable=on,target=native,chardev=said",
        "-plugin", f"file={quoted(counter)},to={quoted(noted)}{at}", "-kernel", str(program.elf),
    ]  # fmt: skip
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace",
            timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            f"{library.name} did not end within {TIMEOUT_S} s on the emulated {library.core.name}"
        ) from error
