"""run(): the stages in order, each skipped if it is done already and nothing that it depends on has changed."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from nbedge import files
from nbedge.checkpoint import versions
from nbedge.errors import GateError, InputError
from nbedge.pipeline import manifest
from nbedge.pipeline.choosing import stopped
from nbedge.pipeline.context import Context
from nbedge.pipeline.manifest import Entry, Manifest
from nbedge.pipeline.planning import check
from nbedge.pipeline.stage import Outcome, Stage
from nbedge.pipeline.stages import stages
from nbedge.recipe import Recipe, to_toml
from nbedge.training import processes
from nbedge.training.sampling import here

#: told the stage's name, and "started", "done", "skipped", "left out" or "changed", with the seconds it took
Listener = Callable[[str, str, float], None]


def run(
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    until: str | None = None,
    shown: bool = False,
    listener: Listener = lambda _stage, _event, _seconds: None,
) -> Manifest:
    """Take the recipe through every stage (or up to `until`) into the run directory `folder`.

    Args:
        recipe: what to do.
        folder: the run directory.
        resume: go on in a run directory; what is done and unchanged is skipped.
        overwrite: start anew in a run directory, which is emptied first.
        until: name of the last stage to run.
        shown: show progress bars on stderr.
        listener: told of each stage.

    Raises:
        GateError: an edge did not pass; the run stops after writing what it found.
        InputError: the folder holds a run already, or something else.
    """
    with processes.together():
        context = Context(recipe, folder, shown)
        if here().rank:
            return _follow(context)
        try:
            return _lead(context, resume, overwrite, until, listener)
        finally:
            if not context.training:  # an error inside a training has reached the others by itself
                processes.told(None)  # they may go


def _follow(context: Context) -> Manifest:
    """Take part in every training that the first process of a distributed run announces; write nothing."""
    known = {stage.name: stage for stage in stages(context.recipe)}
    with _threads(context.recipe.threads):
        while announced := processes.told(None):
            name, state = announced
            known[name].run(context, state)
    return Manifest(context.folder, context.recipe.name, leads=False)


def _lead(context: Context, resume: bool, overwrite: bool, until: str | None, listener: Listener) -> Manifest:
    recipe, folder = context.recipe, context.folder
    planned = stages(recipe)
    names = [stage.name for stage in planned]
    if until is not None and until not in names:
        raise InputError(f"--until {until}: there is no such stage; choose from {', '.join(names)}")
    if resume and overwrite:
        raise InputError("--resume goes on in the run directory, --overwrite empties it; pass one of the two")
    record = _record(folder, recipe.name, resume, overwrite)
    check(context)
    if overwrite:
        shutil.rmtree(folder, ignore_errors=True)
    _sweep(folder)
    for stage in planned:
        _forget_changed(stage, context, record, listener)
    record.write()  # first: it marks the folder as a run directory
    files.write_bytes(folder / "recipe.toml", to_toml(recipe).encode())
    with _threads(recipe.threads):
        for stage in planned[: names.index(until) + 1 if until else None]:
            _step(stage, context, record, listener)
    return record


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Let torch use `number` threads inside the block: their number decides the last bits of every sum."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _record(folder: Path, name: str, resume: bool, overwrite: bool) -> Manifest:
    """Return the manifest to go on with; refuse a folder that holds a run nobody asked to touch, or something else."""
    filled = folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir())
    if filled and not (resume or overwrite):
        raise InputError(f"{folder} is not empty; pass --resume to go on there, --overwrite to start anew")
    found = manifest.read(folder) if filled else Manifest(folder, name)
    if resume and found.name != name:
        raise InputError(f"{folder} holds the run of {found.name!r}, the recipe is {name!r}; choose another folder")
    return found if resume else Manifest(folder, name)


def _sweep(folder: Path) -> None:
    """Remove what a kill left half-written: files beside their names, see `files.appearing`."""
    for path in folder.rglob(".*"):
        path.unlink()


def _step(stage: Stage, context: Context, record: Manifest, listener: Listener) -> None:
    if stopped(context, stage.gates):
        if stage.name in record.stages:
            record.forget(stage.name)
        listener(stage.name, "left out", 0.0)
        return
    inputs = _inputs(stage, context, record)
    if record.is_current(stage.name, inputs):
        listener(stage.name, "skipped", 0.0)
        return
    listener(stage.name, "started", 0.0)
    if stage.name in record.stages:
        record.forget(stage.name)
    started = time.perf_counter()
    # the state of a training that began with other inputs must not be taken up
    state = context.folder / "state" / f"{stage.name}-{_digest(inputs)[:12]}.ckpt"
    context.training = stage.trains
    if stage.trains:
        processes.told((stage.name, state))
    outcome = stage.run(context, state)
    context.training = False
    state.unlink(missing_ok=True)
    seconds = time.perf_counter() - started
    record.finish(stage.name, _entry(context.folder, inputs, outcome, seconds))
    record.forget_stale()
    listener(stage.name, "done", seconds)
    _refuse_failed(outcome)


def _entry(folder: Path, inputs: Mapping[str, str], outcome: Outcome, seconds: float) -> Entry:
    verdict = ("PASS" if all(outcome.judged) else "FAIL") if outcome.judged else None
    outputs = {path: files.sha256(folder / path) for path in outcome.outputs}
    return Entry(inputs, outputs, round(seconds, 3), versions(), verdict)


def _refuse_failed(outcome: Outcome) -> None:
    for equivalence in outcome.judged:
        if not equivalence:
            worst = equivalence.failures()[0]
            raise GateError(
                f"{equivalence.reference} -> {equivalence.candidate}: {equivalence.verdict}: {worst.name} is "
                f"{worst.value:.4g} {worst.unit} (limit {worst.limit}); {worst.detail}"
            )


def _forget_changed(stage: Stage, context: Context, record: Manifest, listener: Listener) -> None:
    """Forget a stage that was run by another recipe or on other pictures, also one that will not be reached."""
    entry = record.stages.get(stage.name)
    if entry and any(entry.inputs[name] != sha for name, sha in _sources(stage, context).items()):
        listener(stage.name, "changed", 0.0)
        record.forget(stage.name)
        record.forget_stale()


def _sources(stage: Stage, context: Context) -> dict[str, str]:
    return {"recipe": _digest(context.settings(*stage.sections)), "data": context.splits.fingerprint}


def _inputs(stage: Stage, context: Context, record: Manifest) -> dict[str, str]:
    """Return what the stage depends on: parts of the recipe, the pictures, files of finished stages or from elsewhere.

    Logs that only people read are none of these, nor is what a killed stage wrote last.
    """
    found, made = _sources(stage, context), {path for entry in record.stages.values() for path in entry.outputs}
    for need in stage.needs:
        place = context.folder / need
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            name = str(path.relative_to(context.folder) if path.is_relative_to(context.folder) else path)
            if path.is_file() and (name in made or Path(name).is_absolute()):
                found[name] = files.sha256(path)
    return found


def _digest(values: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
