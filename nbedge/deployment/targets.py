"""The targets by name; a new one is a module with a function `write`, and a line here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nbedge.deployment import android, c, ios, pi, tflm, web
from nbedge.deployment.bundle import Bundle, gather
from nbedge.deployment.request import Request, Used

#: what only some targets take
OPTIONS = ("picture", "core", "board", "data")


@dataclass(frozen=True, slots=True)
class Target:
    """What a folder can be for.

    Attributes:
        write: writes what is asked for into an empty folder, and returns what it used.
        used_for: for people.
        options: those of `OPTIONS` that it takes.
        tasks: what the networks may do whose answers it can read.
    """

    write: Callable[[Request, Path], Used]
    used_for: str
    options: tuple[str, ...]
    tasks: tuple[str, ...] = ("classification", "detection")


#: of targets whose program tells classes apart
CLASSES_ONLY = ("classification",)


def _of_bundle(formats: tuple[str, ...], write: Callable[[Bundle, Path], Bundle]) -> Callable[[Request, Path], Used]:
    """Return what writes a bundle, of files of these formats with their sidecars."""

    def written(request: Request, folder: Path) -> Used:
        used = write(gather(request.paths, formats, request.target, request.name, request.picture), folder)
        return Used(used.name, used.file_name(used.first))

    return written


TARGETS: Mapping[str, Target] = {
    "android": Target(
        _of_bundle(android.FORMATS, android.write), "the files and a class in Kotlin", ("picture",), CLASSES_ONLY
    ),
    "c": Target(c.write, "C99 for a microcontroller, without a runtime", options=("core", "board", "data")),
    "ios": Target(_of_bundle(ios.FORMATS, ios.write), "the files and a class in Swift", ("picture",), CLASSES_ONLY),
    "pi": Target(
        _of_bundle(pi.FORMATS, pi.write), "a program in Python for a Raspberry Pi", ("picture",), CLASSES_ONLY
    ),
    "tflm": Target(tflm.write, "the file as an array, with what TFLite Micro needs", options=("core", "board", "data")),
    "web": Target(_of_bundle(web.FORMATS, web.write), "a page for any static server", options=("picture",)),
}
