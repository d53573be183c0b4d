"""`nbedge expand`: the giant of a model, as a checkpoint."""

from pathlib import Path

import click

from nbedge.cli.planning import PLAN_OPTIONS, PlanOptions, plan_options
from nbedge.cli.screen import Screen, number, refuse_given, with_screen
from nbedge.cli.subject import ModelOptions, described, model_options, open_subject
from nbedge.errors import InputError, needs


@click.command(name="expand")
@click.argument("model_name", metavar="MODEL")
@plan_options
@click.option("--plan", "plan_file", type=click.Path(path_type=Path), help="A plan, instead of proposing one.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of the new weights.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("giant.safetensors"), show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace the checkpoint.")
@model_options
@with_screen
def command(
    screen: Screen, options: ModelOptions, wanted: PlanOptions, model_name: str, plan_file: Path | None, seed: int,
    out: Path, overwrite: bool,
) -> None:  # fmt: skip
    """Build the giant of MODEL (a checkpoint or a reference) and write it as a checkpoint."""
    with needs("train"):
        import torch
        from torch import nn

        from nbedge.blocks import expanded_blocks
        from nbedge.checkpoint import refuse_target, save_checkpoint
        from nbedge.expansion import expand
        from nbedge.plan import read_plan
        from nbedge.survey import confirm
        from nbedge.tracing import cost
    if plan_file:
        refuse_given(PLAN_OPTIONS, "--plan says it already")
    refuse_target(out, overwrite)
    subject = open_subject(model_name, options)
    if not isinstance(subject.model, nn.Module):
        raise InputError(f"{model_name} is an exported file; expand takes a model reference or a checkpoint")
    if expanded_blocks(subject.model):
        raise InputError(f"{model_name} is a giant already, and a checkpoint holds one plan; expand it again in Python")
    example = torch.zeros(1, *subject.shape)
    plan = read_plan(plan_file) if plan_file else wanted.propose(subject.model, example)
    giant = expand(subject.model, plan, seed=seed)
    if plan_file:
        confirm(plan, subject.model, example)
    save_checkpoint(out, giant, described(subject, model_name, options, "giant", plan, seed))
    before, after = cost(subject.model, example), cost(giant, example)
    screen.say(
        f"{out}: {len(plan.sites)} sites, {number(after.parameters)} parameters ({number(before.parameters)} in the "
        f"tiny model), {after.macs / before.macs:.2f} times its MACs"
    )
    screen.result({"giant": str(out), "plan": plan.to_dict(), "parameters": after.parameters, "macs": after.macs})
