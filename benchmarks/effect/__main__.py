"""Run a study, choose its learning rates, or write its tables: see benchmarks/effect/README.md."""

import argparse
import multiprocessing
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from effect import jobs, pictures, plots, results, slices, study, tables
from effect.pictures import Dataset
from effect.results import RESULTS
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 0 done, 1 a failure, 3 time was up before all was done."""
    asked = _parser().parse_args(arguments)
    try:
        return int(asked.do(asked))
    except NbedgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("effect", description=__doc__)
    verbs = parser.add_subparsers(required=True)
    for name, what in (("tune", "choose learning rates by validation accuracy"), ("run", "do the runs of a study")):
        verb = verbs.add_parser(name, help=what, description=what)
        verb.set_defaults(do=_run, tuning=name == "tune")
        _common(verb)
        verb.add_argument("--data", action="append", default=[], metavar="NAME=SOURCE", help="fashion-mnist:PATH, ...")
        verb.add_argument("--device", default="cpu", help="cpu or cuda")
        verb.add_argument("--jobs", type=int, default=1, help="processes, each with one thread of torch")
        verb.add_argument("--minutes", type=float, default=1e6, help="stop then; what is not done goes on next time")
        verb.add_argument("--slice", type=float, default=slices.SLICE / 60, help="minutes of a slice")
        verb.add_argument("--work", type=Path, default=WORK, help="folder of pictures, states and claims")
    verb = verbs.add_parser("tables", help="write the tables as Markdown")
    verb.set_defaults(do=_tables)
    _common(verb)
    verb.add_argument("--plots", type=Path, help="folder for a plot a network and pictures")
    return parser


def _common(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("study", help="name of a study, or path of its .toml file")
    verb.add_argument("--results", type=Path, default=RESULTS, help="folder of the lines")


def _run(asked: argparse.Namespace) -> int:
    sources = tuple(tuple(text.split("=", 1)) for text in asked.data)
    for pair in sources:
        if len(pair) != 2:
            raise InputError(f"--data {pair[0]} has no =; write NAME=SOURCE")
    order = Asked(
        asked.study,
        asked.tuning,
        sources,
        asked.device,
        asked.minutes,
        asked.slice,
        asked.work,
        asked.results,
    )
    if asked.jobs == 1:
        return work(order)
    pool = [multiprocessing.get_context("spawn").Process(target=_worker, args=(order,)) for _ in range(asked.jobs)]
    for process in pool:
        process.start()
    for process in pool:
        process.join()
    return max((abs(process.exitcode or 0) for process in pool), default=0)


def _worker(order: Asked) -> None:
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


def _tables(asked: argparse.Namespace) -> int:
    wanted = study.read(asked.study)
    found = results.lines(asked.results / f"{Path(asked.study).stem}.jsonl")
    print("\n".join(tables.page(wanted, found)))
    if asked.plots:
        for path in plots.draw(wanted, found, asked.plots):
            print(f"\n{path}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
