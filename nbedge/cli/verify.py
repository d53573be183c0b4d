"""`nbedge verify`: the equivalence check, for CI. The exit status is the verdict."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import click
from rich.text import Text

from nbedge import files
from nbedge.cli.screen import DASH, Screen, verdict, with_screen
from nbedge.cli.subject import ModelOptions, Subject, model_options, open_subject
from nbedge.errors import InputError, MissingDependencyError, needs
from nbedge.preprocessing import Preprocessing

if TYPE_CHECKING:
    from nbedge.verification import Check, Equivalence, Limits


@click.command(name="verify")
@click.argument("reference")
@click.argument("candidate")
@click.option("--data", metavar="DATA", help="Real pictures: folder:PATH, npz:PATH or fashion-mnist:PATH.")
@click.option("--pictures", default=500, show_default=True, type=click.IntRange(min=1), help="How many at most.")
@click.option("--allow-unchecked", is_flag=True, help="NOT CHECKED does not fail.")
@click.option("--float-error", type=float, help="Largest max|Δ|/RMS of a float candidate.")
@click.option("--sqnr", type=float, help="Least SQNR of an integer candidate, in dB.")
@click.option("--accuracy-loss", type=float, help="Largest loss of an integer candidate, in points.")
@click.option("--junit", type=click.Path(path_type=Path), help="Write a JUnit file.")
@click.option("--markdown", type=click.Path(path_type=Path), help="Write a Markdown summary.")
@click.option("--overwrite", is_flag=True, help="Replace these two files.")
@model_options
@with_screen
def command(
    screen: Screen, options: ModelOptions, reference: str, candidate: str, data: str | None, pictures: int,
    allow_unchecked: bool, float_error: float | None, sqnr: float | None, accuracy_loss: float | None,
    junit: Path | None, markdown: Path | None, overwrite: bool,
) -> None:  # fmt: skip
    """Check that CANDIDATE equals REFERENCE; both are checkpoints, exported files or model references."""
    for path in (junit, markdown):
        if path:
            files.refuse_existing(path, overwrite)
    with needs("train"):
        from nbedge.verification import Equivalence, Limits, Verdict
        from nbedge.verification.equivalence import not_checked
    asked = {"float_error": float_error, "sqnr_db": sqnr, "accuracy_loss": accuracy_loss}
    limits = replace(Limits(), **{name: value for name, value in asked.items() if value is not None})
    try:
        before, after = open_subject(reference, options), open_subject(candidate, options)
        judged = _judge(before, after, data, pictures, limits)
        judged = replace(judged, checks=(*_declared(before, after), *judged.checks))
    except MissingDependencyError as error:
        if not allow_unchecked:
            raise
        judged = Equivalence(reference, candidate, "none", (not_checked("runtime", str(error)),))
    judged = judged.named(reference, candidate)
    _show(screen, judged)
    if junit:
        files.write_bytes(junit, as_junit(judged).encode())
    if markdown:
        files.write_bytes(markdown, as_markdown(judged).encode())
    allowed = {Verdict.PASS, Verdict.NOT_CHECKED} if allow_unchecked else {Verdict.PASS}
    sys.exit(0 if judged.verdict in allowed else 1)


def _declared(before: Subject, after: Subject) -> "list[Check]":
    """Judge what the two say of themselves: types, normalisation, classes."""
    from nbedge.verification import integer_checks
    from nbedge.verification.equivalence import at_most

    found = [*integer_checks(after.path, after.scheme)] if after.path and after.quantized else []
    if before.preprocessing and after.preprocessing:
        differ = float(before.preprocessing != after.preprocessing)
        shown = (
            f"{before.preprocessing} against {after.preprocessing}" if differ else "resize, mean and std are the same"
        )
        found.append(at_most("preprocessing differs", differ, 0, "", shown))
    if before.classes and after.classes:
        differ = sum(a != b for a, b in zip(before.classes, after.classes, strict=False))
        differ += abs(len(before.classes) - len(after.classes))
        found.append(at_most("classes differ", differ, 0, "names", f"of {len(before.classes)}, in order"))
    return found


def _judge(before: Subject, after: Subject, data: str | None, pictures: int, limits: "Limits") -> "Equivalence":
    from nbedge.data import load
    from nbedge.verification import Equivalence, verify
    from nbedge.verification.equivalence import not_checked
    from nbedge.verification.families import families

    if before.shape != after.shape:
        raise InputError(
            f"{before.name} takes {before.shape}, {after.name} takes {after.shape}: they cannot be compared"
        )
    prepared = before.preprocessing or after.preprocessing
    quantized = after.quantized and not before.quantized
    if data is None:
        # noise and extremes need no normalisation of their own
        channels = before.shape[0]
        given = families(prepared or Preprocessing(before.shape, (0.5,) * channels, (0.5,) * channels))
        judged = verify(before.model, after.model, given, quantized=quantized, limits=limits)
        missing = not_checked("real pictures", "an integer file is judged on pictures; pass --data")
        return Equivalence("", "", judged.kernels, (*judged.checks, missing)) if quantized else judged
    held = load(data, before.shape).validation
    chosen, labels = held.images[:pictures], held.labels[:pictures]
    prepared = prepared or before.prepared()
    given = families(prepared, prepared(chosen))
    return verify(before.model, after.model, given, labels=labels, quantized=quantized, limits=limits)


def _show(screen: Screen, judged: "Equivalence") -> None:
    rows = [
        (
            c.name,
            f"{c.value:.4g}",
            DASH if c.limit is None else f"{c.limit:g}",
            c.unit,
            verdict(str(c.verdict)),
            c.detail,
        )
        for c in judged.checks
    ]
    screen.table("", ("check", "value", "limit", "unit", "verdict", "detail"), rows)
    screen.say(Text(f"{judged.reference} -> {judged.candidate}: ").append_text(verdict(str(judged.verdict))))
    screen.result(judged.to_dict())


def as_junit(judged: "Equivalence") -> str:
    """Return the verdict as a JUnit file: one test case a check."""
    suite = ElementTree.Element(
        "testsuite", name=f"{judged.reference} -> {judged.candidate}", tests=str(len(judged.checks))
    )
    for check in judged.checks:
        case = ElementTree.SubElement(suite, "testcase", name=check.name, classname="nbedge.verify")
        found = f"{check.value:.6g} {check.unit}, limit {check.limit}; {check.detail}"
        if str(check.verdict) == "FAIL":
            ElementTree.SubElement(case, "failure", message=found)
        elif str(check.verdict) == "NOT CHECKED":
            ElementTree.SubElement(case, "skipped", message=check.detail)
    failures = sum(str(c.verdict) == "FAIL" for c in judged.checks)
    suite.set("failures", str(failures))
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def as_markdown(judged: "Equivalence") -> str:
    """Return the verdict as a Markdown table, for a job summary."""
    lines = [
        f"### {judged.reference} → {judged.candidate}: {judged.verdict}", "",
        "| check | value | limit | unit | verdict | detail |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for c in judged.checks:
        limit = "" if c.limit is None else f"{c.limit:g}"
        cells = (c.name, f"{c.value:.4g}", limit, c.unit, str(c.verdict), c.detail)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
