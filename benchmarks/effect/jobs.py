"""A job: one method on one network, pictures, seed and learning rate; its phases, and what identifies their results."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import nn

from effect.changes import Setting
from effect.identity import digest
from effect.methods import Method, SameCost, Vanilla
from effect.phases import Begin, Phase, price
from effect.pictures import Dataset, Wanted
from effect.training import Optimizer
from nbedge.errors import InputError
from nbedge.training.sampling import steps_per_epoch


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a study.

    Attributes:
        name: of the method in the study.
        method: that trains.
        network: name of the network.
        data: name of the pictures.
        seed: of weights, order and augmentation.
        optimizer: with the learning rate.
        epochs: that the methods of the study have in common.
        tuning: it only helps to choose the learning rate, and never sees the test pictures.
    """

    name: str
    method: Method
    network: str
    data: str
    seed: int
    optimizer: Optimizer
    epochs: float
    tuning: bool = False

    @property
    def key(self) -> str:
        """What identifies the job among the lines of results: changed values give another key."""
        case = (self.method, self.network, self.data, self.seed, self.optimizer, float(self.epochs), self.tuning)
        return digest(*case)


@dataclass(frozen=True, slots=True, eq=False)
class Planned:
    """A job with its pictures: all that is needed to train it.

    Attributes:
        job: the job.
        phases: in order.
        settings: one a phase.
        keys: one a phase: it identifies the result of this phase behind those before, whatever the method's name. So
            methods that begin alike share what they share.
    """

    job: Job
    phases: tuple[Phase, ...]
    settings: tuple[Setting, ...]
    keys: tuple[str, ...]


def planned(job: Job, wanted: Mapping[str, Wanted], datasets: Mapping[str, Dataset]) -> Planned:
    """Return the plan of `job`.

    Args:
        job: the job.
        wanted: name -> pictures of the study.
        datasets: the same, loaded.
    """
    own, before = datasets[job.data], wanted[job.data].before
    setting = Setting(job.network, job.seed, own, job.optimizer.batch)
    first = replace(setting, dataset=datasets[before]) if before else setting
    phases = phases_of(job, setting)
    if any(phase.first for phase in phases) and not before:
        raise InputError(f"{job.name} is a transfer; give data.{job.data}.before, the pictures that come first")
    settings = tuple(first if phase.first else setting for phase in phases)
    told = tuple((s.dataset.fingerprint, phase) for s, phase in zip(settings, phases, strict=True))
    keys = tuple(digest(job.network, job.seed, job.optimizer, told[: index + 1]) for index in range(len(phases)))
    return Planned(job, phases, settings, keys)


def phases_of(job: Job, setting: Setting) -> tuple[Phase, ...]:
    """Return the phases of `job`."""
    if isinstance(job.method, SameCost):
        return job.method.phases(equal_epochs(job.method.of.phases(job.epochs), setting))
    return job.method.phases(job.epochs)


def equal_epochs(phases: tuple[Phase, ...], setting: Setting) -> float:
    """Return for how many epochs the tiny network can be trained at the training cost of `phases`."""
    each = steps_per_epoch(len(setting.dataset.train), setting.batch)
    (phase,) = Vanilla().phases(1)
    tiny = price(phase, setting.tiny(), None, setting, each)
    return round(cost(phases, setting, each) / (each * tiny.macs), 4)


def cost(phases: tuple[Phase, ...], setting: Setting, each: int) -> int:
    """Return steps times multiply-accumulates of training for one input, by going through all phases untrained.

    Only for phases on one and the same set of pictures.
    """
    total, left = 0, None
    for phase in phases:
        model = phase.change(left, setting)
        found = price(phase, model, left, setting, each)
        total += found.steps * found.macs
        phase.slopes.setter(model, found.steps, Begin(left, setting))(found.steps)
        left = _finished(model.eval(), phase, setting)
    return total


def _finished(model: nn.Module, phase: Phase, setting: Setting) -> nn.Module:
    for change in phase.finish:
        model = change(model, setting)
    return model
