"""What two models say of themselves, and what a file's bytes say of it, without running anything."""

import numpy as np
from numpy.typing import NDArray

from nbedge.graph import READABLE
from nbedge.subject import Subject
from nbedge.verification.equivalence import Check, Equivalence, at_most, reported
from nbedge.verification.lint import lint

#: what stands for the kernels of an edge on which nothing was run
LINT = "lint"


def declared(before: Subject, after: Subject) -> list[Check]:
    """Judge what the two say of preprocessing and classes, as far as they do."""
    found = []
    if before.preprocessing and after.preprocessing:
        differ = float(before.preprocessing != after.preprocessing)
        both = f"{before.preprocessing} against {after.preprocessing}"
        shown = both if differ else "resize, mean and std are the same"
        found.append(at_most("preprocessing differs", differ, 0, "", shown))
    if before.classes and after.classes:
        differ = sum(a != b for a, b in zip(before.classes, after.classes, strict=False))
        differ += abs(len(before.classes) - len(after.classes))
        found.append(at_most("classes differ", differ, 0, "names", f"of {len(before.classes)}, in order"))
    return found


def linted(
    before: Subject, after: Subject, real: NDArray[np.float32] | None = None, target: str | None = None
) -> Equivalence | None:
    """Judge a file from its bytes, its weights against those of the file it was quantized from; None for no file.

    Args:
        before: what it was made from.
        after: the file.
        real: (n, c, ...) inputs that it is judged on.
        target: name in `lint.TARGETS`.

    Raises:
        InputError: the target is unknown, or the file damaged.
    """
    if after.path is None or after.path.suffix not in READABLE:
        return None
    # remedies such as equalization change the weights that were quantized: the float file holds the old ones
    floats = before.path if after.quantized and not before.quantized and not after.remedies else None
    checks = lint(
        after.path, after.scheme, reference=floats, target=target, calibration=after.calibration, evaluated=real,
        exempt=len(after.exempt),
    )  # fmt: skip
    if after.remedies:
        shown = f"not the float file's, by {', '.join(after.remedies)}"
        checks.append(reported("remedies of the weights", len(after.remedies), "", shown))
    return Equivalence(f"target {target}" if target else before.name, after.name, LINT, tuple(checks))
