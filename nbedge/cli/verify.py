"""`nbedge verify`: the equivalence check, for CI. The exit status is the verdict."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.text import Text

from nbedge import files
from nbedge.cli.failures import Judged, first_failure, show
from nbedge.cli.screen import DASH, Screen, verdict, with_screen
from nbedge.cli.subject import ModelOptions, model_options, open_subject
from nbedge.cli.verdicts import as_junit, as_markdown
from nbedge.errors import InputError, MissingDependencyError, needs
from nbedge.subject import Subject, refuse_other_data

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nbedge.localization import Located
    from nbedge.verification import Chain, Check, Equivalence, Families, Limits

#: suffix of answers that were written down
RECORDING = ".npz"
CHECKS = ("check", "value", "limit", "unit", "verdict", "detail")


@dataclass(frozen=True, slots=True)
class Asked:
    """How the user wants the links to be judged: the options of the same names."""

    data: str | None
    pictures: int
    limits: "Limits"
    kernels: tuple[str, ...]
    target: str | None
    allow_unchecked: bool


@click.command(name="verify")
@click.argument("reference")
@click.argument("candidates", nargs=-1, required=True, metavar="CANDIDATE...")
@click.option("--data", metavar="DATA", help="Real inputs: folder:PATH, npz:PATH, fashion-mnist:PATH or hf:NAME.")
@click.option("--pictures", default=500, show_default=True, type=click.IntRange(min=1), help="How many at most.")
@click.option("--kernels", default="", help="Kernels that files run in, separated by commas, e.g. xnnpack,tflm.")
@click.option("--target", type=click.Choice(["tflm", "litert", "ort", "ethos-u"]), help="What the files must run on.")
@click.option("--allow-unchecked", is_flag=True, help="NOT CHECKED does not fail.")
@click.option("--float-error", type=float, help="Largest max|Δ|/RMS of a float candidate.")
@click.option("--sqnr", "sqnr_db", type=float, help="Least SQNR of an integer candidate, in dB.")
@click.option("--cosine", type=float, help="Least cosine of an integer candidate.")
@click.option("--flips", type=float, help="Most inputs with another first answer, in percent.")
@click.option("--accuracy-loss", type=float, help="Largest loss of an integer candidate, in points.")
@click.option("--steps", type=float, help="Most integer steps between TFLite Micro and the reference kernels.")
@click.option("--junit", type=click.Path(path_type=Path), help="Write a JUnit file.")
@click.option("--markdown", type=click.Path(path_type=Path), help="Write a Markdown summary.")
@click.option("--bundle", type=click.Path(path_type=Path), help="Write what repeats the first failure into a folder.")
@click.option("--overwrite", is_flag=True, help="Replace these.")
@model_options
@with_screen
def command(
    screen: Screen, options: ModelOptions, reference: str, candidates: tuple[str, ...], data: str | None, pictures: int,
    kernels: str, target: str | None, allow_unchecked: bool, junit: Path | None, markdown: Path | None,
    bundle: Path | None, overwrite: bool, **asked: float | None,
) -> None:  # fmt: skip
    """Check that each CANDIDATE equals what it was made from; the first one equals REFERENCE.

    All are checkpoints, exported files (.onnx, .tflite, .pte, .pt2), answers written down (.npz) or model references.
    """
    written = [path for path in (junit, markdown, bundle) if path]
    for path in written:
        (files.refuse_existing if path == bundle else files.refuse_existing_file)(path, overwrite)
    if len({path.resolve() for path in written}) < len(written):
        raise InputError("two of --junit, --markdown and --bundle name the same path; give each its own")
    with needs("train"):
        from nbedge.verification import Chain, Limits, Verdict
    limits = replace(Limits(), **{name: value for name, value in asked.items() if value is not None})
    how = Asked(data, pictures, limits, tuple(filter(None, kernels.split(","))), target, allow_unchecked)
    judged = list(_edges((reference, *candidates), options, how))
    chain, failure = Chain(tuple(each.edge for each in judged)), first_failure(judged)
    _show(screen, chain, failure)
    if bundle and failure:
        from nbedge.localization import write_bundle

        folder = write_bundle(bundle, failure, overwrite=overwrite)
        screen.note(f"{folder} repeats the failure; its README.txt has the command")
    if junit:
        files.write_bytes(junit, as_junit(chain, failure).encode())
    if markdown:
        files.write_bytes(markdown, as_markdown(chain, failure).encode())
    allowed = {Verdict.PASS, Verdict.NOT_CHECKED} if allow_unchecked else {Verdict.PASS}
    sys.exit(0 if chain.verdict in allowed else 1)


def _edges(names: tuple[str, ...], options: ModelOptions, how: Asked) -> Iterator[Judged]:
    """Open all, and judge link after link; what cannot be opened here is an edge that was not checked."""
    from nbedge.verification import TARGETS, Equivalence, links, not_checked

    subjects: list[Subject] = []
    for name in names:
        try:
            subjects.append(open_subject(name, options))
        except MissingDependencyError as error:
            if not how.allow_unchecked or not subjects:
                raise
            yield Judged(Equivalence(subjects[-1].name, name, "none", (not_checked("runtime", str(error)),)))
    if how.target and not any(_meant_for(how.target, subject) for subject in subjects[1:]):
        raise InputError(
            f"--target {how.target} runs {TARGETS[how.target][0]} files, and none is a candidate; give one"
        )
    for before, after in links(subjects):
        yield from _link(before, after, how)


def _meant_for(target: str | None, subject: Subject) -> bool:
    """Return whether a file has the format that the target runs; the others of a chain only lead to it."""
    from nbedge.verification import TARGETS

    return target is not None and subject.path is not None and subject.path.suffix == f".{TARGETS[target][0]}"


def _link(before: Subject, after: Subject, how: Asked) -> Iterator[Judged]:
    """Judge a file's bytes, then its answers in each of its kernels."""
    from nbedge.alignment import aligned
    from nbedge.verification import REAL, Verdict, declared, linted, verify_edges
    from nbedge.verification.chain import RUNTIME

    before, after = aligned(before, after)
    given, labels = _inputs(before, after, how.data, how.pictures)
    bytes_of_it = linted(before, after, given.get(REAL), how.target if _meant_for(how.target, after) else None)
    if bytes_of_it is not None:
        yield Judged(bytes_of_it, before, after, given)
    own = how.kernels if after.path and after.path.suffix == ".tflite" else ()
    extra = declared(before, after)
    for edge in verify_edges(before, after, given, labels=labels, limits=how.limits, kernels=own):
        if edge.verdict is Verdict.NOT_CHECKED and edge.checks[0].name == RUNTIME and not how.allow_unchecked:
            raise MissingDependencyError(edge.checks[0].detail)
        yield Judged(replace(edge, checks=(*extra, *edge.checks)), before, after, given)
        extra = []


def _inputs(
    before: Subject, after: Subject, data: str | None, pictures: int
) -> "tuple[Families, NDArray[np.int64] | None]":  # fmt: skip
    """Return what the two are compared on, by family, and the labels of the real ones if there are any."""
    from nbedge.data import holds_prepared, load, load_prepared
    from nbedge.runtime import recorded_inputs
    from nbedge.verification import REAL, families

    recorded = next((s.path for s in (before, after) if s.path and s.path.suffix == RECORDING), None)
    if recorded:
        if data:
            raise InputError(f"{recorded} holds its own inputs; leave --data out")
        return {REAL: recorded_inputs(recorded)}, None
    prepared = before.preprocessing or after.preprocessing
    if data is None:
        return families(before.shape, prepared), None
    if holds_prepared(data):
        x, named = load_prepared(data, before.shape, pictures)
        return families(before.shape, prepared, x), named
    splits = load(data, before.pictured())
    for subject in (before, after):
        refuse_other_data(subject, splits.task, splits.classes, data)
    held = splits.validation.spread(pictures)
    prepared = prepared or before.prepared()
    return families(before.shape, prepared, prepared(held.images[:])), held.labels


def _show(screen: Screen, chain: "Chain", failure: "Located | None") -> None:
    """Print every check of a single link, and of what did not pass; of longer chains one line an edge (-v: all)."""
    single = len({edge.candidate for edge in chain.edges}) == 1
    for edge in chain.edges:
        if single or not edge or screen.verbosity > 0:
            screen.table(f"{edge.reference} -> {edge.candidate} ({edge.kernels})", CHECKS, map(_row, edge.checks))
    rows = [
        (edge.reference, edge.candidate, edge.kernels, _short(edge), verdict(str(edge.verdict))) for edge in chain.edges
    ]
    screen.table("", ("reference", "candidate", "kernels", "checks", "verdict"), rows)
    number = len(chain.edges)
    screen.say(Text(f"{number} edge{'s' if number > 1 else ''}: ").append_text(verdict(str(chain.verdict))))
    if failure:
        show(failure, screen)
    screen.result({**chain.to_dict(), "localization": failure.localization.to_dict() if failure else None})


def _row(check: "Check") -> tuple[str | Text, ...]:
    limit = DASH if check.limit is None else f"{check.limit:g}"
    return check.name, f"{check.value:.4g}", limit, check.unit, verdict(str(check.verdict)), check.detail


def _short(edge: "Equivalence") -> str:
    """Return how many checks passed, or the first that did not."""
    wrong = edge.failures()
    return f"{wrong[0].name}: {wrong[0].value:.4g} {wrong[0].unit}".strip() if wrong else f"{len(edge.checks)} passed"
