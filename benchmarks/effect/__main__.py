"""Run a study, choose its learning rates, or write its tables: see benchmarks/effect/README.md."""

import argparse
import multiprocessing
import sys
from collections.abc import Sequence
from pathlib import Path

from effect import gates, pages, plots, results, slices, study, tables
from effect.results import RESULTS
from effect.working import WORK, Asked, process, work
from nbedge.errors import InputError, NbedgeError
from nbedge.recipe import GateSection


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
    verb = verbs.add_parser("gates", help="say what the gates of a recipe would have done to the runs")
    verb.set_defaults(do=_gates)
    verb.add_argument("studies", nargs="+", metavar="study", help="names of studies, or paths of their .toml files")
    verb.add_argument("--results", type=Path, default=RESULTS, help="folder of the lines")
    verb = verbs.add_parser("page", help="write the tables of all studies into a page of Markdown, below their titles")
    verb.set_defaults(do=_page)
    verb.add_argument(
        "page", type=Path, help="the page, docs/results.md; what is written between a title and its tables stays"
    )
    verb.add_argument("--results", type=Path, default=RESULTS, help="folder of the lines")
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
    pool = [multiprocessing.get_context("spawn").Process(target=process, args=(order,)) for _ in range(asked.jobs)]
    for each in pool:
        each.start()
    for each in pool:
        each.join()
    return max(abs(each.exitcode or 0) for each in pool)


def _tables(asked: argparse.Namespace) -> int:
    wanted = study.read(asked.study)
    found = results.lines(asked.results / f"{Path(asked.study).stem}.jsonl")
    print("\n".join(tables.page(wanted, found)))
    if asked.plots:
        for path in plots.draw(wanted, found, asked.plots):
            print(f"\n{path}", file=sys.stderr)
    return 0


def _gates(asked: argparse.Namespace) -> int:
    found = [
        run
        for name in asked.studies
        for run in gates.boosted(study.read(name), results.lines(asked.results / f"{Path(name).stem}.jsonl"))
    ]
    usual = GateSection()
    print("\n".join(gates.page(found, usual.lead, usual.plt_loss)))
    return 0


def _page(asked: argparse.Namespace) -> int:
    pages.refresh(asked.page, asked.results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
