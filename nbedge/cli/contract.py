"""`nbedge contract`: the tiny model that a giant has become, proven before it is written."""

from dataclasses import replace
from pathlib import Path

import click

from nbedge.cli.screen import Screen, verdict, with_screen
from nbedge.cli.subject import ModelOptions, model_options
from nbedge.errors import GateError, needs


@click.command(name="contract")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=Path("contracted.safetensors"), show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace the checkpoint.")
@model_options
@with_screen
def command(screen: Screen, options: ModelOptions, checkpoint: Path, out: Path, overwrite: bool) -> None:
    """Merge the giant in CHECKPOINT, at slope 1, into the tiny model, and prove them equal on noise."""
    with needs("train"):
        import torch

        from nbedge.checkpoint import load_checkpoint, refuse_target, save_checkpoint
        from nbedge.contraction import contract
        from nbedge.verification import verify
    refuse_target(out, overwrite)
    giant, about = load_checkpoint(checkpoint, model=options.model, trust=options.trust)
    tiny = contract(giant)
    noise = torch.randn(16, *about.preprocessing.shape, generator=torch.Generator().manual_seed(0))
    proof = verify(giant, tiny, noise).named(checkpoint.name, out.name)
    if not proof:
        raise GateError(f"{out} is not written: {proof.failures()[0].name} is {proof.failures()[0].value:.3g}")
    save_checkpoint(out, tiny, replace(about, stage="contracted"))
    screen.say(verdict(str(proof.verdict)) + f"  {out}")
    screen.result({"contracted": str(out), "verification": proof.to_dict()})
