"""What two models say of themselves: preprocessing and classes must be the same, types those of the scheme."""

from nbedge.subject import Subject
from nbedge.verification.equivalence import Check, at_most
from nbedge.verification.integers import integer_checks


def declared(before: Subject, after: Subject) -> list[Check]:
    """Judge what the two say of themselves, as far as they do."""
    found = (
        [*integer_checks(after.path, after.scheme)] if after.path and after.path.suffix in (".onnx", ".tflite") else []
    )
    if before.preprocessing and after.preprocessing:
        differ = float(before.preprocessing != after.preprocessing)
        both = f"{before.preprocessing} against {after.preprocessing}"
        found.append(
            at_most("preprocessing differs", differ, 0, "", both if differ else "resize, mean and std are the same")
        )
    if before.classes and after.classes:
        differ = sum(a != b for a, b in zip(before.classes, after.classes, strict=False))
        differ += abs(len(before.classes) - len(after.classes))
        found.append(at_most("classes differ", differ, 0, "names", f"of {len(before.classes)}, in order"))
    return found
