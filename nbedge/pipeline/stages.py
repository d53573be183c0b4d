"""The stages: each takes what earlier ones wrote, does one thing, and says which files it wrote."""

import itertools
import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from nbedge import artifact, benchmark, files, report
from nbedge.alignment import softmax
from nbedge.artifact import sidecar
from nbedge.contraction import contract
from nbedge.conversion import CHECKED, LEARNT, export
from nbedge.detection import Precision
from nbedge.errors import GateError
from nbedge.evaluation import Accuracy, Outputs, outputs_of_module
from nbedge.pipeline import learning, pruned
from nbedge.pipeline.baselines import baselines
from nbedge.pipeline.choosing import (
    CHOICE,
    GATES,
    GIANT_GATE,
    candidates,
    choose,
    chosen,
    gate_giant,
    gate_plt,
    present,
)
from nbedge.pipeline.context import Context, merged_name
from nbedge.pipeline.planning import chosen_plan
from nbedge.pipeline.stage import Outcome, Stage
from nbedge.progress import bar
from nbedge.recipe import Recipe
from nbedge.runtime import Runner, answer_pictures, of_module, open_file
from nbedge.tracing import cost
from nbedge.verification import Equivalence, verify
from nbedge.verification.agreement import REAL, agreement
from nbedge.verification.judging import paired

LOG = logging.getLogger(__name__)
SAMPLES = 12


def plan(context: Context, _state: Path) -> Outcome:
    """Choose the sites; count the pictures."""
    splits, chosen = context.splits, chosen_plan(context)
    files.write_bytes(context.folder / "plan.json", chosen.to_json().encode())
    if len(splits.calibration) < context.recipe.data.calibration:
        LOG.warning("data.calibration: %d pictures, half of the training part, not %d",
                    len(splits.calibration), context.recipe.data.calibration)  # fmt: skip
    counts = {part: len(getattr(splits, part)) for part in ("train", "validation", "calibration", "test")}
    about = {"schema_version": 1, "spec": context.recipe.data.source, "classes": list(splits.classes), **counts,
             "preprocessing": context.preprocessing.to_dict()}  # fmt: skip
    files.write_json(context.folder / "data.json", about)
    return Outcome(("plan.json", "data.json"))


def adopted_plan(context: Context, state: Path) -> Outcome:
    """Take the plan of the giant that comes from elsewhere, and keep a copy of what it comes from."""
    section, outputs = context.recipe.transfer, plan(context, state).outputs
    copies = {"source/giant.safetensors": section.giant, "source/control.safetensors": section.control}
    for name, path in copies.items():
        files.write_bytes(context.folder / name, Path(path).read_bytes())
    return Outcome((*outputs, *copies))


def contract_giant(context: Context, _state: Path) -> Outcome:
    """Merge the giant into the tiny model, and see that it is the tiny model in size and cost."""
    tiny = contract(context.load("linearized"))
    found, wanted = cost(tiny, context.example), cost(context.tiny(), context.example)
    if found != wanted:
        raise GateError(f"the contracted model costs {found}, the tiny model {wanted}; please report this")
    return Outcome((context.save(context.merged, tiny),))


def verify_contraction(context: Context, _state: Path) -> Outcome:
    """Prove that the contracted model equals the giant: as stored, and with the merge kept in float64."""
    inputs = context.proven_on()
    before, after = context.load("linearized"), context.load(context.merged)
    stored = verify(before, after, inputs).named("linearized.safetensors", f"{context.merged}.safetensors")
    before64 = context.load("linearized").double()
    exact = verify(before64, contract(before64), inputs.double())
    exact = exact.named("linearized in float64", f"{context.merged} in float64")
    return _judged(context, "verify", (stored, exact), ())


def export_files(context: Context, _state: Path) -> Outcome:
    """Write every file of the recipe, each verified on validation pictures before it is kept."""
    recipe, splits = context.recipe, context.splits
    prepare, held = context.preprocessing, splits.validation.spread(CHECKED)
    with bar("export", len(recipe.export.formats) + 1, context.shown) as shown:
        done = itertools.count()
        exported = export(
            context.load("chosen"), context.example, calibration=prepare(splits.calibration.images),
            preprocess=prepare, classes=splits.classes, out=context.folder / "exports",
            formats=recipe.export.formats, quant=recipe.export.quant, options=recipe.export,
            check_on=prepare(held.images[:]), labels=held.labels, name=recipe.name,
            derived_from=f"{chosen(context)}.safetensors", task=splits.task,
            learn_from=map(prepare, splits.to_learn(LEARNT)), limits=recipe.limits, overwrite=True,
            progress=lambda note: shown.to(next(done), note),
        )  # fmt: skip
    paths = [e.artifact.path for e in exported]
    outputs = tuple(str(p.relative_to(context.folder)) for path in paths for p in (path, sidecar(path)))
    return _judged(context, "export", tuple(edge for e in exported for edge in e.edges), outputs)


def evaluate(context: Context, _state: Path) -> Outcome:
    """Run every model and file on the test pictures, once, and compare each file with the chosen model."""
    answers, task = _answers(context), context.task
    test, classes = context.splits.test, context.splits.classes
    reference = answers[chosen(context)]
    rows = [_row(context, name, task.judge(y, test.labels, classes, reference)) for name, y in answers.items()]
    shown = np.linspace(0, len(test) - 1, min(SAMPLES, len(test))).astype(np.int64)
    with files.appearing(context.folder / "samples.npz") as part:
        np.savez_compressed(part, images=test.images[shown])
    content = {"schema_version": 1, "task": task.name, "metric": task.metric, "pictures": len(test), "rows": rows,
               "samples": [_sample(context, int(i), answers) for i in shown]}  # fmt: skip
    files.write_json(context.folder / "evaluation.json", content)
    return _judged(context, "evaluate", tuple(_edges(context, answers)), ("evaluation.json", "samples.npz"))


def _sample(context: Context, index: int, answers: Mapping[str, Outputs]) -> dict[str, Any]:
    """Return what is known of one test picture, and what every model and file says of it."""
    test, told = context.splits.test, context.task.told
    classes = context.splits.classes
    said = {name: told({part: y[index : index + 1] for part, y in of.items()}, classes) for name, of in answers.items()}
    return {"index": index, "label": context.task.truth(test.labels[index], classes), "predictions": said}


def _answers(context: Context) -> dict[str, Outputs]:
    """Return the outputs of every model and file on the test pictures, by name."""
    test = context.splits.test.images
    found: dict[str, Outputs] = {}
    models, paths = present(context, compared(context.recipe)), exported_files(context)
    with bar("evaluate", len(models) + len(paths), context.shown) as shown:
        for name in models:
            shown.to(len(found), name)
            found[name] = outputs_of_module(context.load(name), test, context.preprocessing)
        if paths:
            like = of_module(context.load("chosen"), context.recipe.model.input)
            for path in paths:
                shown.to(len(found), path.name)
                found[path.name] = _file_answers(context, path, like)
        shown.to(len(found))
    return found


def _file_answers(context: Context, path: Path, like: Runner) -> Outputs:
    """Return the outputs of a file, under the names of the model's, `like`."""
    runner = open_file(path)
    names = paired(like, runner)
    found = answer_pictures(runner, context.splits.test.images, artifact.read(path).prepared())
    return {old: found[new] for old, new in names.items()}


def _row(context: Context, name: str, accuracy: Accuracy | Precision) -> dict[str, Any]:
    figures = {**asdict(accuracy)}
    del figures["pictures"]
    if (context.folder / "exports" / name).exists():
        return {"name": name, "file": name, "parameters": None, "macs": None, **figures}
    return {"name": name, "file": f"{name}.safetensors", **asdict(cost(context.load(name), context.example)), **figures}


def _edges(context: Context, answers: Mapping[str, Outputs]) -> list[Equivalence]:
    """Judge each exported file against the chosen model on the test pictures."""
    name = chosen(context)
    found, reference = [], answers[name]
    if context.recipe.export.head == "softmax":
        reference = {name: softmax(y) for name, y in reference.items()}
    allowed = max(context.recipe.limits.accuracy_loss, context.recipe.export.budget)
    limits = replace(context.recipe.limits, accuracy_loss=allowed)
    for path in exported_files(context):
        checks = agreement(
            {REAL: reference}, {REAL: answers[path.name]}, quantized=".fp32." not in path.name, limits=limits,
            task=context.task, labels=context.splits.test.labels,
        )  # fmt: skip
        found.append(
            Equivalence(f"{name}.safetensors on test pictures", path.name, open_file(path).kernels, tuple(checks))
        )
    return found


def exported_files(context: Context) -> list[Path]:
    """Return the exported files of the recipe, in its order."""
    section = context.recipe.export
    names = [f"{context.recipe.name}.{scheme}.{format}" for format in section.formats for scheme in section.quant]
    return [context.folder / "exports" / name for name in names]


def bench(context: Context, _state: Path) -> Outcome:
    """Measure latency, memory and size of every file that can be timed, interleaved."""
    paths = [path for path in exported_files(context) if path.suffix in benchmark.TIMED]
    rows = [measurement.to_dict() for measurement in (_measured(context, paths) if paths else [])]
    content = {"schema_version": 2, "conditions": benchmark.conditions(), "rows": rows}
    files.write_json(context.folder / "bench.json", content)
    return Outcome(("bench.json",))


def _measured(context: Context, paths: list[Path]) -> list[benchmark.Measurement]:
    section = context.recipe.bench
    number = len(benchmark.cases(paths, section.runtimes, section.threads))
    with bar("bench", number * section.processes, context.shown) as shown:
        return benchmark.measure(
            paths, processes=section.processes, seconds=section.seconds, threads=section.threads,
            runtimes=section.runtimes, on=section.on,
            progress=lambda done, _total: shown.to(done, "interleaved, a fresh process each"),
        )  # fmt: skip


def write_report(context: Context, _state: Path) -> Outcome:
    """Write the page."""
    report.write(context.folder, context.folder / "report.html")
    return Outcome(("report.html",))


def _judged(context: Context, stage: str, judged: tuple[Equivalence, ...], outputs: tuple[str, ...]) -> Outcome:
    """Write the verdicts; the stage's number keeps them in the order of the path."""
    number = [s.name for s in stages(context.recipe)].index(stage)
    written = tuple(e.write(context.folder / "verification", f"{number}-{stage}") for e in judged)
    return Outcome((*outputs, *(str(path.relative_to(context.folder)) for path in written)), judged)


def compared(recipe: Recipe) -> tuple[str, ...]:
    """Return the names of the models whose accuracy is measured, the control first, the contracted one last."""
    transfer = recipe.transfer
    # a giant with a new head is not trained before it is linearized
    others = ("transferred",) if transfer.giant else ("giant",)
    merged = ("merged",) if recipe.train.tail == "contract-and-tune" else ()
    pruning = ("pruned",) if recipe.prune.wide else ()
    return ("control", *recipe.baselines.train, *pruning, *others, *merged, "contracted")


def stages(recipe: Recipe) -> tuple[Stage, ...]:
    """Return the stages of a recipe, in order."""
    return (*_until_linear(recipe), *_from_contraction(recipe))


def _until_linear(recipe: Recipe) -> tuple[Stage, ...]:
    tuning = ("train", "plt", "distill")
    teacher = (recipe.distill.teacher,) if recipe.distill.teacher not in ("", "giant", "virtual") else ()
    needs, gates = ("giant.safetensors", *teacher), (GIANT_GATE,)
    last = Stage("linearize", needs, tuning, learning.linearize, trains=True, gates=gates)
    lost = Stage("gate-plt", ("giant.safetensors", "linearized.safetensors"), ("gate",), gate_plt, gates=gates)
    control = Stage("control", (), ("train", "transfer"), learning.control, trains=True)
    if not recipe.transfer.giant:
        chosen = Stage("plan", (), ("plan",), plan)
        return (
            chosen,
            control,
            *_baseline(recipe),
            Stage("giant", ("plan.json",), ("train",), learning.giant, trains=True),
            *baselines(recipe),
            Stage(
                "gate-giant",
                ("control.safetensors", "curves/control.json", "giant.safetensors"),
                ("train", "gate"),
                gate_giant,
            ),
            last,
            lost,
        )
    chosen = Stage("plan", (recipe.transfer.giant, recipe.transfer.control), ("transfer",), adopted_plan)
    source = ("source/control.safetensors",)
    likewise = Stage("transferred", source, ("train",), learning.transferred, trains=True)
    adopted = Stage("giant", ("plan.json", "source/giant.safetensors"), (), learning.adopted_giant)
    return (chosen, control, likewise, adopted, last)


def _baseline(recipe: Recipe) -> tuple[Stage, ...]:
    if not recipe.prune.wide:
        return ()
    wide = Stage("wide", ("plan.json",), ("train", "prune"), pruned.wide, trains=True)
    needs = ("plan.json", "wide.safetensors")
    return (wide, Stage("pruned", needs, ("train", "prune"), pruned.pruned, trains=True))


def _from_contraction(recipe: Recipe) -> tuple[Stage, ...]:
    merged = merged_name(recipe)
    tuned = Stage("tune", ("merged.safetensors",), ("train", "distill"), learning.tune, trains=True, gates=GATES)
    models = candidates(recipe)
    proven = (
        Stage("contract", ("linearized.safetensors",), (), contract_giant, gates=GATES),
        Stage("verify", ("linearized.safetensors", f"{merged}.safetensors"), (), verify_contraction, gates=GATES),
        *((tuned,) if merged == "merged" else ()),
        Stage("choose", (*(f"{name}.safetensors" for name in models), *GATES), (), choose),
    )
    checkpoints = (CHOICE, *(f"{name}.safetensors" for name in compared(recipe)))
    records = ("evaluation.json", "curves", "verification", "data.json", "gates", CHOICE)
    if not recipe.export.formats:
        judged = Stage("evaluate", checkpoints, ("export", "limits"), evaluate)
        return (*proven, judged, Stage("report", records, (), write_report))
    return (
        *proven,
        Stage("export", ("chosen.safetensors", CHOICE), ("export", "limits"), export_files),
        Stage("evaluate", (*checkpoints, "exports"), ("export", "limits"), evaluate),
        Stage("bench", ("exports",), ("export", "bench"), bench),
        Stage("report", (*records, "bench.json"), (), write_report),
    )
