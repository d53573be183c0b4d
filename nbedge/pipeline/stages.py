"""The stages: each takes what earlier ones wrote, does one thing, and says which files it wrote."""

import itertools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nbedge import benchmark, files, report
from nbedge.artifact import sidecar
from nbedge.contraction import contract
from nbedge.conversion import export
from nbedge.evaluation import Accuracy, Logits, judge, logits_of_module
from nbedge.expansion import expand
from nbedge.linearization import PLT
from nbedge.pipeline.context import Context
from nbedge.progress import bar
from nbedge.proposal import propose
from nbedge.runtime import answer_pictures, open_file
from nbedge.slopes import set_slope_
from nbedge.tracing import cost
from nbedge.training import steps_per_epoch, train
from nbedge.verification import Equivalence, verify
from nbedge.verification.agreement import REAL, agreement

#: pictures on which the merge is proven; the proof of the sites needs none
PROOF_PICTURES = 128
SAMPLES = 12


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a stage wrote, by path in the run directory, and what it found where it judges."""

    outputs: tuple[str, ...]
    judged: tuple[Equivalence, ...] = ()


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the path.

    Attributes:
        name: on the command line and in the manifest.
        needs: files of earlier stages that it reads; a folder stands for all its files.
        sections: parts of the recipe that it depends on, besides model, data, seed and threads.
        run: what it does.
    """

    name: str
    needs: tuple[str, ...]
    sections: tuple[str, ...]
    run: Callable[[Context, Path], Outcome]


def plan(context: Context, _state: Path) -> Outcome:
    """Choose the sites; count the pictures."""
    section, splits = context.recipe.plan, context.splits
    chosen = propose(context.tiny(), context.example, ratio=section.ratio, every=section.every)
    files.write_bytes(context.folder / "plan.json", chosen.to_json().encode())
    counts = {part: len(getattr(splits, part)) for part in ("train", "validation", "calibration", "test")}
    about = {"schema_version": 1, "spec": context.recipe.data.source, "classes": list(splits.classes), **counts,
             "preprocessing": context.preprocessing.to_dict()}  # fmt: skip
    files.write_json(context.folder / "data.json", about)
    return Outcome(("plan.json", "data.json"))


def control(context: Context, state: Path) -> Outcome:
    """Train the tiny model as it is, for as many epochs as the giant and its tuning take together."""
    section = context.recipe.train
    return _trained(context, "control", context.tiny(), section.giant_epochs + section.plt_epochs, state)


def giant(context: Context, state: Path) -> Outcome:
    """Expand the tiny model and train the giant."""
    expanded = expand(context.tiny(), context.plan, seed=context.recipe.seed)
    return _trained(context, "giant", expanded, context.recipe.train.giant_epochs, state)


def linearize(context: Context, state: Path) -> Outcome:
    """Tune the giant while its slopes rise to 1."""
    section = context.recipe.train
    steps = steps_per_epoch(len(context.splits.train), section.batch_size) * section.plt_epochs
    plt = PLT(0, max(1, round(section.ramp * steps)))
    return _trained(context, "linearized", context.load("giant"), section.plt_epochs, state, plt)


def _trained(
    context: Context, stage: str, model: nn.Module, epochs: int, state: Path, plt: PLT | None = None
) -> Outcome:
    recipe = context.recipe
    curve = train(
        model, context.splits, context.preprocessing, recipe.train, epochs=epochs, seed=recipe.seed, plt=plt,
        resume=state, title=stage, progress=context.shown,
    )  # fmt: skip
    if plt:
        set_slope_(model, 1.0)
    files.write_json(
        context.folder / "curves" / f"{stage}.json", {"schema_version": 1, "epochs": [asdict(epoch) for epoch in curve]}
    )
    return Outcome((context.save(stage, model), f"curves/{stage}.json"))


def contract_giant(context: Context, _state: Path) -> Outcome:
    """Merge the giant into the tiny model."""
    return Outcome((context.save("contracted", contract(context.load("linearized"))),))


def verify_contraction(context: Context, _state: Path) -> Outcome:
    """Prove that the contracted model equals the giant: as stored, and with the merge kept in float64."""
    inputs = torch.from_numpy(context.preprocessing(context.splits.validation.images[:PROOF_PICTURES]))
    before, after = context.load("linearized"), context.load("contracted")
    stored = verify(before, after, inputs).named("linearized.safetensors", "contracted.safetensors")
    before64 = context.load("linearized").double()
    exact = verify(before64, contract(before64), inputs.double())
    exact = exact.named("linearized in float64", "contracted in float64")
    return _judged(context, "verify", (stored, exact), ())


def export_files(context: Context, _state: Path) -> Outcome:
    """Write every file of the recipe, each verified on validation pictures before it is kept."""
    recipe, splits = context.recipe, context.splits
    prepare = context.preprocessing
    with bar("export", len(recipe.export.formats) + 1, context.shown) as shown:
        done = itertools.count()
        exported = export(
            context.load("contracted"), context.example, calibration=prepare(splits.calibration.images),
            preprocess=prepare, classes=splits.classes, out=context.folder / "exports",
            formats=recipe.export.formats, quant=recipe.export.quant, check_on=prepare(splits.validation.images),
            labels=splits.validation.labels, name=recipe.name, derived_from="contracted.safetensors",
            limits=recipe.limits, overwrite=True, progress=lambda note: shown.to(next(done), note),
        )  # fmt: skip
    paths = [e.artifact.path for e in exported]
    outputs = tuple(str(p.relative_to(context.folder)) for path in paths for p in (path, sidecar(path)))
    return _judged(context, "export", tuple(e.equivalence for e in exported), outputs)


def evaluate(context: Context, _state: Path) -> Outcome:
    """Run every model and file on the test pictures, once, and compare each file with the contracted model."""
    answers = _answers(context)
    test, classes = context.splits.test, context.splits.classes
    reference = answers["contracted"]
    rows = [_row(context, name, judge(logits, test.labels, classes, reference)) for name, logits in answers.items()]
    chosen = np.linspace(0, len(test) - 1, min(SAMPLES, len(test))).astype(np.int64)
    samples = [
        {
            "index": int(i),
            "label": classes[test.labels[i]],
            "predictions": {name: classes[int(logits[i].argmax())] for name, logits in answers.items()},
        }
        for i in chosen
    ]
    with files.appearing(context.folder / "samples.npz") as part:
        np.savez_compressed(part, images=test.images[chosen])
    content = {"schema_version": 1, "pictures": len(test), "rows": rows, "samples": samples}
    files.write_json(context.folder / "evaluation.json", content)
    return _judged(context, "evaluate", tuple(_edges(context, answers)), ("evaluation.json", "samples.npz"))


def _answers(context: Context) -> dict[str, Logits]:
    """Return the logits of every model and file on the test pictures, by name."""
    test = context.splits.test.images
    found: dict[str, Logits] = {}
    models, paths = ("control", "giant", "contracted"), exported_files(context)
    with bar("evaluate", len(models) + len(paths), context.shown) as shown:
        for name in models:
            shown.to(len(found), name)
            found[name] = logits_of_module(context.load(name), test, context.preprocessing)
        for path in paths:
            shown.to(len(found), path.name)
            found[path.name] = answer_pictures(open_file(path), test, context.preprocessing)
        shown.to(len(found))
    return found


def _row(context: Context, name: str, accuracy: Accuracy) -> dict[str, Any]:
    figures = {**asdict(accuracy)}
    del figures["pictures"]
    if (context.folder / "exports" / name).exists():
        return {"name": name, "file": name, "parameters": None, "macs": None, **figures}
    return {"name": name, "file": f"{name}.safetensors", **asdict(cost(context.load(name), context.example)), **figures}


def _edges(context: Context, answers: dict[str, Logits]) -> list[Equivalence]:
    """Judge each exported file against the contracted model on the test pictures."""
    found = []
    for path in exported_files(context):
        checks = agreement(
            {REAL: answers["contracted"]}, {REAL: answers[path.name]}, quantized=".fp32." not in path.name,
            limits=context.recipe.limits, labels=context.splits.test.labels,
        )  # fmt: skip
        found.append(
            Equivalence("contracted.safetensors on test pictures", path.name, open_file(path).kernels, tuple(checks))
        )
    return found


def exported_files(context: Context) -> list[Path]:
    """Return the exported files of the recipe, in its order."""
    section = context.recipe.export
    names = [f"{context.recipe.name}.{scheme}.{format}" for format in section.formats for scheme in section.quant]
    return [context.folder / "exports" / name for name in names]


def bench(context: Context, _state: Path) -> Outcome:
    """Measure latency, memory and size of every file, interleaved."""
    paths, section = exported_files(context), context.recipe.bench
    with bar("bench", len(paths) * section.processes, context.shown) as shown:
        measured = benchmark.measure(
            paths, processes=section.processes, seconds=section.seconds, threads=section.threads,
            progress=lambda done, _total: shown.to(done, "interleaved, a fresh process each"),
        )  # fmt: skip
    rows = [m.to_dict() for m in measured]
    content = {"schema_version": 1, "conditions": benchmark.conditions(), "rows": rows}
    files.write_json(context.folder / "bench.json", content)
    return Outcome(("bench.json",))


def write_report(context: Context, _state: Path) -> Outcome:
    """Write the page."""
    report.write(context.folder, context.folder / "report.html")
    return Outcome(("report.html",))


def _judged(context: Context, stage: str, judged: tuple[Equivalence, ...], outputs: tuple[str, ...]) -> Outcome:
    """Write the verdicts; the stage's number keeps them in the order of the path."""
    number = [s.name for s in STAGES].index(stage)
    written = tuple(e.write(context.folder / "verification", f"{number}-{stage}") for e in judged)
    return Outcome((*outputs, *(str(path.relative_to(context.folder)) for path in written)), judged)


CHECKPOINTS = ("control.safetensors", "giant.safetensors", "contracted.safetensors")
STAGES = (
    Stage("plan", (), ("plan",), plan),
    Stage("control", (), ("train",), control),
    Stage("giant", ("plan.json",), ("train",), giant),
    Stage("linearize", ("giant.safetensors",), ("train",), linearize),
    Stage("contract", ("linearized.safetensors",), (), contract_giant),
    Stage("verify", ("linearized.safetensors", "contracted.safetensors"), (), verify_contraction),
    Stage("export", ("contracted.safetensors",), ("export", "limits"), export_files),
    Stage("evaluate", (*CHECKPOINTS, "exports"), ("export", "limits"), evaluate),
    Stage("bench", ("exports",), ("export", "bench"), bench),
    Stage("report", ("evaluation.json", "bench.json", "curves", "verification", "data.json"), (), write_report),
)
