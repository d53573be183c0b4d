"""`nbedge inspect`: what would be expanded, what not and why, and what it costs."""

import math
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nbedge import files
from nbedge.cli.planning import PlanOptions, plan_options
from nbedge.cli.probed import ProbeOptions, probe_options, probed
from nbedge.cli.screen import DASH, Screen, number, with_screen
from nbedge.cli.subject import ModelOptions, model_options, open_subject
from nbedge.errors import ExportError, GateError, InputError, PlanError, needs
from nbedge.plan import Plan
from nbedge.preprocessing import Preprocessing
from nbedge.subject import Subject

if TYPE_CHECKING:
    from torch import nn

TARGETS = ("onnx", "tflite")
#: noise pictures that a network is converted with
NOISE = 32


@click.command(name="inspect")
@click.argument("model_name", metavar="MODEL")
@plan_options
@click.option("--plan", "plan_file", type=click.Path(path_type=Path), help="Write the plan to this file.")
@click.option("--target", type=click.Choice(TARGETS), help="Say whether the net can become int8 in this format.")
@click.option("--overwrite", is_flag=True, help="Replace the plan file.")
@probe_options
@model_options
@with_screen
def command(
    screen: Screen, options: ModelOptions, wanted: PlanOptions, probing: ProbeOptions, model_name: str,
    plan_file: Path | None, target: str | None, overwrite: bool,
) -> None:  # fmt: skip
    """List the layers of MODEL that would be expanded, and the others with the reason."""
    if plan_file:
        files.refuse_existing(plan_file, overwrite)
    subject = open_subject(model_name, options)
    with needs("train"):
        from torch import nn
    if not isinstance(subject.model, nn.Module):
        raise InputError(f"{model_name} is an exported file; inspect takes a model reference or a checkpoint")
    found = _survey(subject.model, subject.pictured(), wanted)
    _show(screen, found)
    if plan_file:
        if not found["plan"]:
            raise PlanError(f"{plan_file} is not written: {found['why']}")
        files.write_json(plan_file, found["plan"])
        screen.note(f"the plan is in {plan_file}")
    if target:
        found["int8"] = _feasible(subject.model, subject, target)
        screen.say(f"int8 in {target}: {found['int8']['verdict']}. {found['int8']['why']}")
    if probing.data:
        if not found["plan"]:
            raise PlanError(f"there is nothing to probe: {found['why']}")
        found["probe"] = probed(screen, model_name, options, subject, Plan.from_dict(found["plan"]), probing)
    screen.result(found)


def _survey(model: "nn.Module", shape: tuple[int, int, int], wanted: PlanOptions) -> dict[str, Any]:
    import torch

    from nbedge.expansion import expand
    from nbedge.survey import survey
    from nbedge.tracing import cost

    example = torch.zeros(1, *shape)
    tiny = asdict(cost(model, example))
    try:
        plan = wanted.propose(model, example)
    except PlanError as error:
        found = survey(model, example, wanted.wish())
        if found.candidates:  # the choice is at fault, not the model
            raise
        return {"sites": [], "refused": [asdict(r) for r in found.refused], "tiny": tiny, "giant": None, "plan": None,
                "why": str(error)}  # fmt: skip
    giant = asdict(cost(expand(model, plan), example))
    return {"sites": [asdict(s) for s in plan.sites], "refused": [asdict(r) for r in plan.refused], "tiny": tiny,
            "giant": giant, "plan": plan.to_dict()}  # fmt: skip


def _show(screen: Screen, found: dict[str, Any]) -> None:
    rows = [(s["layer"], s["norm"] or DASH, f"{s['block']} x{s['ratio']:g}", s["activation"]) for s in found["sites"]]
    screen.table(f"{len(rows)} sites", ("layer", "BatchNorm", "block", "activation"), rows)
    screen.table("left alone", ("layer", "reason"), [(r["layer"], r["reason"]) for r in found["refused"]])
    costs = [(name, number(c["parameters"]), number(c["macs"])) for name in ("tiny", "giant") if (c := found[name])]
    screen.table("cost for one input", ("model", "parameters", "MACs"), costs)
    if "why" in found:
        screen.say(found["why"])


def _feasible(model: "nn.Module", subject: Subject, target: str) -> dict[str, str]:
    """Convert the model as it is, on noise pictures, and look at the types: accuracy is no question here."""
    with needs("all"):
        import torch

        from nbedge.conversion import Options, export
        from nbedge.verification import Limits
    channels = subject.shape[0]
    noise = torch.randn(NOISE, *subject.shape, generator=torch.Generator().manual_seed(0))
    prepared = subject.preprocessing or Preprocessing(subject.pictured(), (0.5,) * channels, (0.5,) * channels)
    with tempfile.TemporaryDirectory() as folder:
        try:
            export(
                model,
                noise[:1],
                calibration=noise,
                preprocess=prepared,
                classes=(),
                out=Path(folder),
                formats=(target,),
                quant=("int8",),
                options=Options(budget=100, rungs=()),
                limits=Limits(sqnr_db=-math.inf, cosine=-1, flips=100),
            )
        except (GateError, ExportError) as error:
            return {"verdict": "no", "why": str(error).partition("; see ")[0]}  # its log goes with the folder
    return {"verdict": "yes", "why": "Every multiply-accumulate and both ends are integers."}
