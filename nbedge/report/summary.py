"""summarize: the rows, edges and curves of a run, and what they amount to in plain words."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nbedge.errors import InputError
from nbedge.report import closing
from nbedge.report.closing import LINEAR, Choice, Sampling
from nbedge.report.records import Json, Records, read
from nbedge.task import CLASSIFICATION

#: rows that nothing has to be equal to: they are trained, not derived
TRAINED = ("control", *(name for name in closing.BASELINES if name not in LINEAR), "pruned", "transferred", "giant")
UNJUDGED = "\N{EN DASH}"
#: the worst first
_VERDICTS = ("FAIL", "NOT CHECKED", "PASS")


@dataclass(frozen=True, slots=True)
class Row:
    """A model or an exported file; what is not known is None.

    Attributes:
        name: "control", "pruned", "giant", "contracted", "transferred", "merged", or the name of an exported file.
        parameters: number of weights.
        macs: multiply-accumulates for one picture.
        top1: accuracy, a fraction.
        size_bytes: of an exported file.
        latency_median_ms: of one invoke.
        latency_p90_ms: likewise.
        peak_rss_bytes: over the imported runtime.
        verdict: the worst of the edges that lead to it: PASS, FAIL, NOT CHECKED, or a dash for what is trained.
        top5: accuracy, a fraction.
        flips: pictures on which its answer differs from the chosen model's.
        map: mean average precision over overlaps of 0.5 to 0.95, a fraction; of a detector.
        map50: likewise at an overlap of 0.5.
        map_error: standard error of `map`.
        stability: of the latency, "stable", "noisy", "unusable" or "invalid".
    """

    name: str
    parameters: int | None = None
    macs: int | None = None
    top1: float | None = None
    size_bytes: int | None = None
    latency_median_ms: float | None = None
    latency_p90_ms: float | None = None
    peak_rss_bytes: int | None = None
    verdict: str = UNJUDGED
    top5: float | None = None
    flips: int | None = None
    stability: str | None = None
    map: float | None = None
    map50: float | None = None
    map_error: float | None = None

    @property
    def score(self) -> float | None:
        """What the task is judged by, a fraction."""
        return self.map if self.top1 is None else self.top1


@dataclass(frozen=True, slots=True)
class Check:
    """One check of an edge: `value` against `limit`, in `unit`."""

    name: str
    verdict: str
    value: float | None
    limit: float | None
    unit: str
    detail: str


@dataclass(frozen=True, slots=True)
class Edge:
    """What verification said of the pair (reference, candidate)."""

    reference: str
    candidate: str
    verdict: str
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch of training; accuracy is a fraction, slope None where there is none."""

    number: int
    train_loss: float | None
    validation_score: float | None
    slope: float | None
    learning_rate: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of a run.

    Attributes:
        name: of the run.
        pictures: number of test pictures behind every accuracy; 0 before evaluation.
        rows: models, then files.
        edges: every pair that was verified.
        curves: stage -> its epochs, in the order of training.
        choice: which model is the product; None in runs of an earlier nbedge, and before it is chosen.
        metric: that the models are judged by.
        linear: whether the giant's blocks are linear from the start.
    """

    name: str
    pictures: int
    rows: tuple[Row, ...]
    edges: tuple[Edge, ...]
    curves: dict[str, tuple[Epoch, ...]]
    choice: Choice | None = None
    metric: str = CLASSIFICATION.metric
    linear: bool = False

    def closing(self) -> str:
        """Return what the run shows about accuracy, no more than it shows."""
        scores = {row.name: row.score for row in self.rows if row.score is not None}
        return closing.text(scores, Sampling(self.pictures, self._error(), self.metric), self.choice, self.linear)

    def _error(self) -> float:
        """Return the standard error of the control's score; nan where it is unknown."""
        control = next((row for row in self.rows if row.name == "control"), Row("control"))
        if control.top1 is not None and self.pictures:
            return math.sqrt(control.top1 * (1 - control.top1) / self.pictures)
        # a precision is no mean over pictures, so that their number does not give its error
        return math.nan if control.map_error is None else control.map_error


def summarize(run: Path) -> Summary:
    """Read the run directory `run` and merge what its stages found.

    Raises:
        InputError: `run` is no run directory, or a file in it was not written by nbedge.
    """
    return of_records(read(run))


def of_records(records: Records) -> Summary:
    """Merge what the stages of a run found.

    Raises:
        InputError: a record lacks what nbedge writes.
    """
    evaluation = records.evaluation or {}
    try:
        edges = tuple(_edge(values) for values in records.edges)
        return Summary(
            name=(records.manifest or {}).get("name") or records.path.resolve().name,
            pictures=evaluation.get("pictures", 0),
            rows=_rows(evaluation.get("rows", []), _files(records), edges, _trained(records)),
            edges=edges,
            curves={stage: tuple(map(_epoch, curve["epochs"])) for stage, curve in records.curves.items()},
            choice=_choice(records.choice),
            metric=evaluation.get("metric", CLASSIFICATION.metric),
            linear=records.plan is not None and all(site["block"] in LINEAR for site in records.plan["sites"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{records.path} has a record that nbedge cannot read ({error!r}); run it again") from error


def _choice(values: Json | None) -> Choice | None:
    return Choice(values["chosen"], values["why"], values["stopped"]) if values else None


def _files(records: Records) -> dict[str, Json]:
    """Return what is known of each exported file; before measuring that is its size."""
    exported = {values["file"]: {"size_bytes": values["size_bytes"]} for values in records.sidecars}
    # of a file that was measured in several ways the first one is the usual one
    return exported | {values["file"]: values for values in reversed((records.bench or {}).get("rows", []))}


def _trained(records: Records) -> tuple[str, ...]:
    """Return the rows that no merge leads to; a contracted model that was tuned further is one of them."""
    return (*TRAINED, "contracted") if "tuned" in records.curves else TRAINED


def _rows(
    evaluated: list[Json], exported: dict[str, Json], edges: tuple[Edge, ...], trained: tuple[str, ...]
) -> tuple[Row, ...]:  # fmt: skip
    # files may be there that were not evaluated
    names = {values["name"] for values in evaluated}
    alone = [{"name": name} for name in exported if name not in names]
    return tuple(_row(v, exported.get(v["name"], {}), edges, trained) for v in [*evaluated, *alone])


def _row(evaluated: Json, timed: Json, edges: tuple[Edge, ...], trained: tuple[str, ...]) -> Row:
    names = {evaluated["name"], Path(evaluated.get("file") or evaluated["name"]).name}
    judged = _worst(edge.verdict for edge in edges if Path(edge.candidate).name in names)
    return Row(
        name=evaluated["name"],
        **{
            key: evaluated.get(key)
            for key in ("parameters", "macs", "top1", "top5", "flips", "map", "map50", "map_error")
        },
        **{key: timed.get(key) for key in ("size_bytes", "latency_median_ms", "latency_p90_ms", "peak_rss_bytes")},
        verdict=UNJUDGED if evaluated["name"] in trained else judged,
        stability=timed.get("verdict"),
    )


def _worst(verdicts: Iterable[str]) -> str:
    found = set(verdicts)
    return next((verdict for verdict in _VERDICTS if verdict in found), "NOT CHECKED")


def _edge(values: Json) -> Edge:
    checks = tuple(
        Check(c["name"], c["verdict"], c.get("value"), c.get("limit"), c.get("unit") or "", c.get("detail") or "")
        for c in values.get("checks", [])
    )
    return Edge(values["reference"], values["candidate"], values["verdict"], checks)


def _epoch(values: Json) -> Epoch:
    optional = (values.get(key) for key in ("train_loss", "validation_score", "slope", "learning_rate"))
    return Epoch(values["epoch"], *optional)
