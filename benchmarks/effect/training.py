"""Training of one phase on a device, from any step to any step, and the state that a later slice goes on from."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from effect.batches import Feeder
from effect.changes import Setting
from effect.phases import Begin, Phase, Price, price
from nbedge.slopes import copy_slopes_
from nbedge.training.sampling import steps_per_epoch
from nbedge.training.schedule import Schedule

#: steps between two looks at the clock and at the loss
LOOK = 20


@dataclass(frozen=True, slots=True)
class Optimizer:
    """SGD with Nesterov momentum; weight decay on convolution and linear weights only; warm-up in epochs."""

    learning_rate: float
    batch: int = 256
    momentum: float = 0.9
    weight_decay: float = 4e-5
    warmup: float = 0.5

    def made(self, model: nn.Module) -> torch.optim.SGD:
        """Return the optimizer of `model`."""
        decayed = [p for p in model.parameters() if p.ndim > 1]
        others = [p for p in model.parameters() if p.ndim <= 1]
        groups: list[dict[str, Any]] = [{"params": decayed, "weight_decay": self.weight_decay}, {"params": others}]
        return torch.optim.SGD(groups, self.learning_rate, self.momentum, nesterov=True)


@dataclass(slots=True)
class State:
    """Where a run stands: the network and what the next slice needs; on the CPU between slices.

    Attributes:
        model: that is trained; behind the last step of a phase the phase's result.
        previous: the network as the phase before left it.
        step: of the phase that comes next.
        momentum: state of the optimizer; None before the first step and behind the last.
        average: of the weights, once it has begun; None behind the last step.
        price: of the phase.
        seconds: of the clock, in this phase and those before.
        macs: of training, likewise.
        history: a row a finished phase: name, epochs, macs of one input, validation accuracy.
        finished: the phase is done.
        diverged: the loss was not finite; the run ends here.
    """

    model: nn.Module
    previous: nn.Module | None
    price: Price
    step: int = 0
    momentum: dict[str, Any] | None = None
    average: nn.Module | None = None
    seconds: float = 0.0
    macs: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    finished: bool = False
    diverged: bool = False


def begin(phase: Phase, previous: State | None, setting: Setting) -> State:
    """Return the state before the first step of `phase`; `previous` is that behind the phase before."""
    left = previous.model if previous else None
    model = phase.change(copy.deepcopy(left), setting)
    each = steps_per_epoch(len(setting.dataset.train), setting.batch)
    state = State(model, left, price(phase, model, left, setting, each))
    if previous:
        state.seconds, state.macs, state.history = previous.seconds, previous.macs, list(previous.history)
    return state


def advance(state: State, phase: Phase, setting: Setting, optimizer: Optimizer, until: Callable[[], bool]) -> None:
    """Train until the phase is over or `until` says so; the state is left on the CPU, ready to be saved.

    Args:
        state: of the phase.
        phase: that is trained.
        setting: with the pictures, on the device that trains.
        optimizer: with the run's learning rate.
        until: asked every few steps.
    """
    began = time.perf_counter()
    device = setting.dataset.train.images.device
    model = state.model.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    with torch.random.fork_rng():
        _train(state, model, phase, setting, optimizer, until)
    state.model = _home(model)
    state.average = _home(state.average) if state.average else None
    state.seconds += time.perf_counter() - began
    if state.step >= state.price.steps and not state.diverged:
        state.model = state.average or state.model
        for change in phase.finish:
            state.model = change(state.model, setting)
        state.finished, state.momentum, state.average = True, None, None
        state.macs += state.price.of(min(optimizer.batch, len(setting.dataset.train)))


def _home(model: nn.Module) -> nn.Module:
    home: nn.Module = model.to("cpu", memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    return home


def _train(
    state: State, model: nn.Module, phase: Phase, setting: Setting, optimizer: Optimizer, until: Callable[[], bool]
) -> None:
    device = setting.dataset.train.images.device
    feeder = Feeder(setting.dataset, setting.seed, optimizer.batch)
    sgd, schedule = optimizer.made(model), _schedule(phase, feeder.each, optimizer)
    if state.average:
        state.average.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if state.momentum:
        sgd.load_state_dict(state.momentum)
    slopes = phase.slopes.setter(model, state.price.steps, Begin(state.previous, setting))
    objective = phase.goal.made(state.previous, setting)
    while state.step < state.price.steps:
        slopes(state.step)
        for group in sgd.param_groups:
            group["lr"] = optimizer.learning_rate * phase.factor * schedule.share(state.step)
        torch.manual_seed((setting.seed * 1_000_003 + state.step) % 2**63)  # of what a loss or dropout draws
        sgd.zero_grad()
        loss = objective(model, *feeder.batch(state.step))
        loss.backward()  # type: ignore[no-untyped-call]
        sgd.step()
        state.step += 1
        if phase.average.decay and state.step > phase.average.start * state.price.steps:
            state.average = phase.average.updated(state.average, model)
        if state.step % LOOK == 0:
            if not math.isfinite(loss.item()):
                state.diverged = True
                break
            if until():
                break
    if state.step >= state.price.steps:
        slopes(state.step)
        if state.average:
            copy_slopes_(model, state.average)
    state.momentum = _on_cpu(sgd.state_dict())


def _schedule(phase: Phase, each: int, optimizer: Optimizer) -> Schedule:
    total = round((phase.before + phase.epochs + phase.after) * each)
    return Schedule(total, round(optimizer.warmup * each), round(phase.before * each))


def _on_cpu(values: Any) -> Any:
    if isinstance(values, torch.Tensor):
        return values.cpu()
    if isinstance(values, dict):
        return {key: _on_cpu(value) for key, value in values.items()}
    return [_on_cpu(value) for value in values] if isinstance(values, list) else values
