"""The queue: jobs are cut into slices, each claimed by one process, resumed by the next one, repeated if killed."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from effect.batches import accuracy
from effect.changes import refuse_other
from effect.identity import words
from effect.jobs import Planned
from effect.methods import NO_LARGER, TINY
from effect.results import Line, append, lines
from effect.training import State, advance, begin
from nbedge import files
from nbedge.errors import GateError
from nbedge.machine import cpu_model
from nbedge.tracing import cost

#: seconds until a slice ends; it then finishes its last steps and saves
SLICE = 8 * 60.0
#: seconds between two looks for work that others have claimed
WAIT = 1.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a queue keeps its things.

    Attributes:
        states: folder of states and claims, outside of the repository; another machine needs none of it.
        results: file of lines.
        device: that trains.
        slice: seconds until a slice ends.
        revision: of the code, when the process started.
    """

    states: Path
    results: Path
    device: torch.device
    slice: float = SLICE
    revision: str = ""

    def state(self, key: str) -> Path:
        """Return the file of a phase's state."""
        return self.states / f"{key}.pt"


def work(jobs: Sequence[Planned], place: Place, told: Callable[[str], None], seconds: float) -> int:
    """Do slices until all jobs have a line or `seconds` are over; return how many jobs have none.

    Several processes may do this at once, on one machine: what one has claimed the others leave.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done = {line.key for line in lines(place.results)}
        left = [job for job in jobs if job.job.key not in done]
        if not left:
            return 0
        if not any(_slice(job, place, told, end) for job in left):
            time.sleep(WAIT)
    done = {line.key for line in lines(place.results)}
    return sum(job.job.key not in done for job in jobs)


def _slice(job: Planned, place: Place, told: Callable[[str], None], end: float) -> bool:
    """Do the next slice of `job`, unless another process does; return whether anything was done."""
    index = _next(job, place)
    with _claimed(place.states / f"{job.keys[index]}.lock") as mine:
        if not mine or _next(job, place) != index or _is_done(job, place):
            return False  # another process has it, or has been faster
        state = _load(place, job.keys[index])
        if state is None:
            before = _load(place, job.keys[index - 1]) if index else None
            state = begin(job.phases[index], before, job.settings[index])
        _go_on(job, index, state, place, end)
        told(_word(job, index, state))
        if state.diverged or (state.finished and index == len(job.phases) - 1):
            append(place.results, line(job, state, place))
    return True


def _next(job: Planned, place: Place) -> int:
    """Return the number of the phase that the next slice trains: behind the last finished one, or the last."""
    for index in reversed(range(len(job.keys))):
        state = _load(place, job.keys[index])
        if state is not None:
            last = index == len(job.keys) - 1
            return index if last or state.diverged or not state.finished else index + 1
    return 0


def _is_done(job: Planned, place: Place) -> bool:
    return job.job.key in {line.key for line in lines(place.results)}


def _go_on(job: Planned, index: int, state: State, place: Place, end: float) -> None:
    if state.finished or state.diverged:  # by another job that begins alike, or killed before its line was written
        return
    stop = min(time.monotonic() + place.slice, end)
    began, setting = state.step, job.settings[index]
    advance(state, job.phases[index], setting, job.job.optimizer, lambda: time.monotonic() >= stop)
    if state.finished:
        part = setting.dataset.validation
        right = accuracy(state.model.to(place.device), setting.dataset, part)
        state.model.to("cpu")
        phase = job.phases[index]
        state.history.append(
            {"name": phase.name, "epochs": phase.epochs, "macs": state.price.macs, "validation": round(right, 5)}
        )
    _save(place, job.keys[index], state)
    with (place.states / "slices.txt").open("a", encoding="utf-8") as file:
        file.write(f"{job.keys[index]} {began} {state.step} {os.getpid()}\n")


def _word(job: Planned, index: int, state: State) -> str:
    j = job.job
    share = f"{state.step} of {state.price.steps} steps"
    return f"{j.name}, {j.network}, {j.data}, seed {j.seed}, lr {j.optimizer.learning_rate:g}: " + (
        f"{job.phases[index].name}, {share}, {state.seconds:.0f} s"
    )


@contextmanager
def _claimed(path: Path) -> Iterator[bool]:
    """Hold a claim inside the block, if no living process has it: the kernel gives up those of the killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _load(place: Place, key: str) -> State | None:
    """Return the state of a phase; it is a pickle, read only from the folder that this program writes."""
    path = place.state(key)
    if not path.exists():
        return None
    state: State = torch.load(path, map_location="cpu", weights_only=False)
    return state


def _save(place: Place, key: str, state: State) -> None:
    with files.appearing(place.state(key)) as part:
        torch.save(state, part)


def line(job: Planned, state: State, place: Place) -> Line:
    """Return the line of a finished job. This is where the test pictures are read; a trial never reads them.

    Raises:
        GateError: the network is not what the method is to end with.
    """
    j, setting, model = job.job, job.settings[-1], state.model
    if j.method.ends == TINY and not state.diverged:
        refuse_other(model, setting)
    size = cost(model, setting.task.example)
    if j.method.ends == NO_LARGER and not state.diverged and size.macs > setting.macs(setting.tiny()):
        raise GateError(f"{j.name} ends with {size.macs} multiply-accumulates, more than {j.network} has")
    chance = 1 / setting.task.classes
    model.to(place.device)
    parts = {"validation": setting.dataset.validation, "test": None if j.tuning else setting.dataset.test}
    found = {
        name: (chance if state.diverged else accuracy(model, setting.dataset, part)) if part else None
        for name, part in parts.items()
    }
    return Line(
        key=j.key, method=j.name, told=words(j.method), ends=j.method.ends, network=j.network,
        parameters=size.parameters, macs=size.macs, data=j.data, fingerprint=setting.dataset.fingerprint, seed=j.seed,
        learning_rate=j.optimizer.learning_rate,
        epochs=sum(row["epochs"] for row, phase in zip(state.history, job.phases, strict=False) if not phase.first),
        phases=state.history, training_macs=state.macs, seconds=round(state.seconds, 1), device=_device(place.device),
        validation=found["validation"] or 0.0, test=found["test"], diverged=state.diverged, revision=place.revision,
        torch=str(torch.__version__), tuning=j.tuning,
    )  # fmt: skip


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{cpu_model()}, {torch.get_num_threads()} thread(s)"
