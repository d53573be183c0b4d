"""The targets by name; a new one is a module with an object `target`, and a line here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nbedge.deployment import android, ios, pi, web
from nbedge.deployment.bundle import Bundle


@dataclass(frozen=True, slots=True)
class Target:
    """What a folder can be for.

    Attributes:
        formats: suffixes of the files that it runs.
        write: writes the bundle into an empty folder, and returns the bundle of the files that it took.
        used_for: for people.
    """

    formats: tuple[str, ...]
    write: Callable[[Bundle, Path], Bundle]
    used_for: str


TARGETS: Mapping[str, Target] = {
    "android": Target(android.FORMATS, android.write, "the files and a class in Kotlin"),
    "ios": Target(ios.FORMATS, ios.write, "the files and a class in Swift"),
    "pi": Target(pi.FORMATS, pi.write, "a program in Python for a Raspberry Pi"),
    "web": Target(web.FORMATS, web.write, "a page for any static server"),
}
