"""write: one HTML page of a run that needs nothing but itself."""

from importlib.resources import files as resources
from pathlib import Path
from typing import Any

from nbedge import files
from nbedge.benchmark.baseline import label
from nbedge.errors import InputError, needs
from nbedge.report import formats, pictures, plots, records
from nbedge.report.records import Json, Records
from nbedge.report.summary import Summary, of_records
from nbedge.task import DETECTION


def write(run: Path, out: Path) -> Path:
    """Write the page of the run directory `run` to `out` and return `out`.

    The page loads nothing: styles, drawings and pictures are inside. The same run gives the same bytes.

    Raises:
        InputError: `run` is no run directory, or a record in it was not written by nbedge.
        MissingDependencyError: matplotlib or jinja2 is not installed.
    """
    found = records.read(run)
    summary = of_records(found)
    try:
        content = _render(_content(found, summary))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{run} has a record that nbedge cannot read ({error!r}); run it again") from error
    files.write_bytes(out, content.encode())
    return out


def _content(found: Records, summary: Summary) -> dict[str, Any]:
    """Gather what the template shows."""
    with needs("report"):
        drawings = {
            "trade_off": plots.trade_off(summary),
            "distributions": plots.distributions(found.bench),
            "training": plots.training(summary),
            "classes": plots.classes(_per_class(found.evaluation), _per_class_metric(summary.metric)),
        }
    return {
        "summary": summary,
        "detects": summary.metric == DETECTION.metric,
        "scores": {row.name: row.score for row in summary.rows},
        "verdicts": [edge.verdict for edge in summary.edges],
        "samples": pictures.samples(found.evaluation, found.pictures, _product(summary), _classes(found)),
        "product": _product(summary),
        "class_count": len(_per_class(found.evaluation).get("contracted", ())),
        "class_limit": plots.CLASSES,
        "found": found,
        "timed": _timed(found.bench),
        "chosen": _chosen(found.bench),
        "tools": _tools(found),
        **drawings,
    }


def _classes(found: Records) -> list[str]:
    return list((found.data or {}).get("classes", ()))


def _product(summary: Summary) -> str:
    return summary.choice.chosen if summary.choice else "contracted"


def _per_class_metric(metric: str) -> str:
    """Return the name of the metric on one class: a mean over classes is none there."""
    return metric.removeprefix("m")


def _per_class(evaluation: Json | None) -> dict[str, dict[str, float | None]]:
    return {row["name"]: row.get("per_class") or {} for row in (evaluation or {}).get("rows", [])}


def _timed(bench: Json | None) -> str:
    """Say how the latencies were taken, each distinct way once."""
    ways = {
        f"{row['runtime']} ({row['kernels']}), {row['threads']} thread{'s' * (row['threads'] != 1)}, "
        f"{row['processes']} processes"
        for row in (bench or {}).get("rows", [])
    }
    return "; ".join(sorted(ways))


def _chosen(bench: Json | None) -> str:
    """Say which rows the first table shows of the files that have several."""
    rows = (bench or {}).get("rows", [])
    first: dict[str, Json] = {row["file"]: row for row in reversed(rows)}
    several = [file for file in first if sum(row["file"] == file for row in rows) > 1]
    return ", ".join(label(first[file]) for file in sorted(several))


def _tools(found: Records) -> dict[str, str]:
    """Return package -> version, of nbedge and of whatever wrote the exported files."""
    tools = {"nbedge": version} if (version := (found.manifest or {}).get("nbedge")) else {}
    for sidecar in found.sidecars:
        tools |= sidecar.get("tools", {})
    return dict(sorted(tools.items()))


def _render(content: dict[str, Any]) -> str:
    with needs("report"):
        from jinja2 import Environment, StrictUndefined, UndefinedError
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    shown = ("percent", "points", "whole", "kilobytes", "megabytes", "digits", "measured")
    environment.filters.update({name: getattr(formats, name) for name in shown})
    source = (resources("nbedge.report") / "template.html").read_text(encoding="utf-8")
    try:
        return environment.from_string(source).render(content)
    except UndefinedError as error:
        raise KeyError(str(error)) from error
