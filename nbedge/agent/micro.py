"""TFLite Micro: inputs and outputs go by number, and it says how much of its arena it uses by printing it."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: bytes of arena that it gets; too small a one may end the process, so it is never searched for in it
ARENA = 64 * 2**20


@dataclass(frozen=True)
class OpenedMicro:
    """A file in TFLite Micro; `arena_bytes` is what it uses on this machine, where pointers have 8 bytes."""

    feed: Callable[[dict[str, Any]], None]
    invoke: Callable[[], object]
    answers: Callable[[], dict[str, Any]]
    arena_bytes: int | None


def open_micro(module: Any, path: str, entries: list[str], exits: list[str]) -> OpenedMicro:
    """Load `path`, whose inputs and outputs have these names."""
    interpreter = module.Interpreter.from_file(path, arena_size=ARENA)

    def feed(arrays: dict[str, Any]) -> None:
        for number, name in enumerate(entries):
            interpreter.set_input(arrays[name], number)

    said = printed(interpreter.print_allocations)
    return OpenedMicro(
        feed, interpreter.invoke, lambda: {name: interpreter.get_output(n) for n, name in enumerate(exits)},
        arena_of(said),
    )  # fmt: skip


def printed(call: Callable[[], object]) -> str:
    """Return what native code writes to the file descriptors 1 and 2 while `call` runs."""
    with tempfile.TemporaryFile() as held:
        saved = os.dup(1), os.dup(2)
        os.dup2(held.fileno(), 1)
        os.dup2(held.fileno(), 2)
        try:
            call()
        finally:
            for number, copy in enumerate(saved, 1):
                os.dup2(copy, number)
                os.close(copy)
        held.seek(0)
        return held.read().decode("utf-8", "replace")


def arena_of(said: str) -> int | None:
    """Return the bytes of arena that a printed list of allocations amounts to."""
    found = re.search(r"Arena allocation total (\d+) bytes", said)
    return int(found.group(1)) if found else None
