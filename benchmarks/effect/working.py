"""What one process does: read the study and the pictures, and do slices until none is left."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from effect import jobs, pictures, results, slices, study
from effect.pictures import Dataset
from nbedge.errors import InputError, NbedgeError

#: outside of the repository: decoded pictures, states of runs, claims
WORK = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nbedge-effect"


@dataclass(frozen=True, slots=True)
class Asked:
    """What one process is asked to do; see the options of `run`."""

    study: str
    tuning: bool
    sources: tuple[tuple[str, str], ...]
    device: str
    minutes: float
    slice: float
    work: Path
    results: Path

    @property
    def file(self) -> Path:
        """The file of lines."""
        return self.results / f"{Path(self.study).stem}.jsonl"


def process(order: Asked) -> None:
    """Be a process of its own: `work`, and exit with its status."""
    try:
        sys.exit(work(order))
    except NbedgeError as error:
        sys.exit(f"error: {error}")


def work(order: Asked) -> int:
    """Do slices of the study in this process until none is left, or time is up; return the exit status."""
    torch.set_num_threads(1)
    revision = results.revision()
    wanted = study.read(order.study)
    # choices are made before pictures are read: a study that is not tuned yet is refused at once
    listed = list(wanted.trials() if order.tuning else wanted.jobs(results.best_rates(results.lines(order.file))))
    datasets = _datasets(order, wanted)
    queue = [jobs.planned(job, wanted.pictures, datasets) for job in listed]
    place = slices.Place(order.work / "states", order.file, torch.device(order.device), 60 * order.slice, revision)
    left = slices.work(queue, place, lambda text: print(text, flush=True), 60 * order.minutes)
    print(f"{len(queue) - left} of {len(queue)} runs have their line in {order.file}", flush=True)
    return 3 if left else 0


def _datasets(order: Asked, wanted: study.Study) -> dict[str, Dataset]:
    places = dict(order.sources)
    missing = sorted({w.source for w in wanted.pictures.values()} - places.keys())
    if missing:
        raise InputError(f"the study needs the pictures {missing[0]}; say where they are: --data {missing[0]}=SOURCE")
    device = torch.device(order.device)
    return {name: pictures.load(w, places[w.source], order.work).to(device) for name, w in wanted.pictures.items()}
