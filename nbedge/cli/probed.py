"""The option --probe of `nbedge inspect`: short trainings, to guess whether boosting is likely to pay."""

import functools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nbedge.cli.screen import DASH, Screen, percent
from nbedge.cli.subject import ModelOptions
from nbedge.errors import InputError, needs
from nbedge.subject import Subject

if TYPE_CHECKING:
    from nbedge.plan import Plan
    from nbedge.probing import Build, Probe


@dataclass(frozen=True, slots=True)
class ProbeOptions:
    """What is probed, and for how long; `data` is None where nothing is."""

    data: str | None
    epochs: int
    seeds: int
    batch_size: int


def probe_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Add the options of --probe, and give the verb `ProbeOptions`."""

    @click.option("--probe", is_flag=True, help="Train a little, and guess whether boosting is likely to pay; minutes.")
    @click.option("--data", metavar="DATA", help="With --probe: the pictures.")
    @click.option(
        "--epochs", default=5, show_default=True, type=click.IntRange(min=1), help="With --probe: of each training."
    )
    @click.option(
        "--seeds", default=2, show_default=True, type=click.IntRange(min=1), help="With --probe: trainings of each."
    )
    @click.option(
        "--batch-size",
        default=256,
        show_default=True,
        type=click.IntRange(min=2),
        help="With --probe: a step.",
    )
    @functools.wraps(verb)
    def wrapped(probe: bool, data: str | None, epochs: int, seeds: int, batch_size: int, **rest: Any) -> None:
        if probe != bool(data):
            raise InputError("--probe trains on pictures: pass --probe and --data DATA together")
        verb(probing=ProbeOptions(data, epochs, seeds, batch_size), **rest)

    return wrapped


def probed(
    screen: Screen, name: str, options: ModelOptions, subject: Subject, plan: "Plan", wanted: ProbeOptions
) -> dict[str, Any]:
    """Probe, show what came of it, and return what the JSON object holds.

    Raises:
        InputError: the model has weights of its own, or does not fit the pictures.
    """
    with needs("train"):
        from nbedge import data
        from nbedge.preprocessing import Preprocessing
        from nbedge.probing import RATES, probe
        from nbedge.progress import bar
        from nbedge.training import TrainSettings
    shape, build = subject.pictured(), _build(name, options)
    splits = data.load(wanted.data or "", shape)
    mean, std = data.statistics(splits.train.sample())
    prepared = subject.preprocessing or Preprocessing(shape, mean, std)
    settings = TrainSettings(min(wanted.batch_size, len(splits.train)))
    seeds = range(wanted.seeds)
    with bar("probe", len(RATES) * 4 * wanted.seeds, screen.shows_progress) as shown:
        found = probe(
            build, plan, splits, prepared, settings, epochs=wanted.epochs, seeds=seeds,
            told=lambda done: shown.to(done),
        )  # fmt: skip
    _show(screen, found)
    return {"epochs": found.epochs, "tries": [asdict(each) for each in found.tries], "verdict": found.verdict,
            "why": found.why}  # fmt: skip


def _build(name: str, options: ModelOptions) -> "Build":
    """Return what builds the model with fresh weights of a seed; a checkpoint names its class."""
    import torch
    from torch import nn

    from nbedge.checkpoint import read_metadata
    from nbedge.reference import ModelReference

    if options.weights:
        raise InputError("--probe trains from scratch; leave out --weights")
    file = name.endswith(".safetensors")
    reference = read_metadata(Path(name)).model if file else ModelReference(name, options.arguments)
    if file and options.model:
        reference = ModelReference(options.model, reference.arguments)

    def build(seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return reference.build()

    return build


def _show(screen: Screen, found: "Probe") -> None:
    from nbedge.probing import CONTROL

    names = list(dict.fromkeys(each.name for each in found.tries))
    rows = [
        (
            name,
            ", ".join(percent(top1) for top1 in found.best(name).values()),
            f"{found.rate(name):g}",
            DASH if name == CONTROL else str(found.lead(name)),
        )
        for name in names
    ]
    screen.table("probe", ("network", "validation top-1, a seed each", "learning rate", "to the control"), rows)
    screen.say(f"Boosting is {found.verdict} to pay." if found.verdict != "open" else "Whether boosting pays is open.")
    screen.say(f"{found.why} This is a guess from a short training, which underestimates a giant.")
