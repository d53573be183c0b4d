"""`nbedge run`: the whole path, one stage after the other."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from nbedge.cli.screen import Screen, fail, number, percent, verdict, with_screen
from nbedge.errors import GateError, needs

if TYPE_CHECKING:
    from nbedge.recipe import Recipe
    from nbedge.report import Summary


@click.command(name="run")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Run directory; default runs/NAME.")
@click.option("--resume", is_flag=True, help="Go on in the run directory; what is done and unchanged is skipped.")
@click.option("--overwrite", is_flag=True, help="Empty the run directory and start anew.")
@click.option("--until", metavar="STAGE", help="Last stage to run.")
@click.option("--data", metavar="DATA", help="Pictures, instead of the recipe's data.source.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="A few steps on generated pictures, up to the proof: finds out whether the recipe will go through.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Instead of the recipe's seed.")
@with_screen
def command(
    screen: Screen, recipe: Path, out: Path | None, resume: bool, overwrite: bool, until: str | None, data: str | None,
    dry_run: bool, seed: int | None,
) -> None:  # fmt: skip
    """Take RECIPE (a .toml file) through every stage, into a run directory."""
    with needs("all"):
        from nbedge.recipe import read
    read_recipe = read(recipe)
    if data:
        read_recipe = replace(read_recipe, data=replace(read_recipe.data, source=data))
    if seed is not None:
        read_recipe = replace(read_recipe, seed=seed)
    if dry_run:
        with needs("all"):
            from nbedge.pipeline.derived import rehearsal
        read_recipe, until = rehearsal(read_recipe), until or "verify"
    folder = out or Path("runs") / read_recipe.name
    carry_out(screen, read_recipe, folder, resume=resume, overwrite=overwrite, until=until)


def carry_out(
    screen: Screen, recipe: "Recipe", folder: Path, *, resume: bool, overwrite: bool, until: str | None = None
) -> None:  # fmt: skip
    """Take a recipe through the pipeline, and show what came of it."""
    with needs("all"):  # after the recipe is read: this takes seconds
        from nbedge import pipeline
        from nbedge.report import summarize

    def listen(stage: str, event: str, seconds: float) -> None:
        if event != "started":
            detail = {
                "done": f" in {seconds:.0f} s",
                "changed": ": the recipe or the data is another; it runs again",
                "left out": ": a gate has stopped boosting",
            }
            screen.note(f"{stage:>11} {event}{detail.get(event, '')}")

    failed = None
    try:
        record = pipeline.run(
            recipe, folder, resume=resume, overwrite=overwrite, until=until, shown=screen.shows_progress,
            listener=listen,
        )  # fmt: skip
        leads = record.leads
    except GateError as error:
        failed, leads = error, True
    if not leads:  # another process of the same run speaks for all
        return
    content: dict[str, Any] = {"run": str(folder), "until": until}
    if (folder / "evaluation.json").exists():
        content = show_summary(screen, summarize(folder), folder)
    if failed:
        fail(str(failed), failed.exit_status, content)
    screen.result(content)


def show_summary(screen: Screen, summary: "Summary", folder: Path) -> dict[str, Any]:
    """Print the closing table and the closing line; return what the JSON object holds."""
    columns = (
        "model",
        "parameters",
        "MACs",
        summary.metric,
        "size",
        "latency (median)",
        "p90",
        "peak memory",
        "verdict",
    )
    screen.table("", columns, [_row(row) for row in summary.rows])
    screen.say(summary.closing())
    page = folder / "report.html"
    if page.exists():
        screen.say(f"The report is {page}")
    return {
        "run": str(folder), "rows": [_as_dict(row) for row in summary.rows], "closing": summary.closing(),
        "chosen": summary.choice.chosen if summary.choice else None,
    }  # fmt: skip


def _row(row: Any) -> tuple[str | Text, ...]:
    return (
        row.name, number(row.parameters), number(row.macs), percent(row.score),
        number(None if row.size_bytes is None else row.size_bytes / 1000, "kB", 1),
        number(row.latency_median_ms, "ms", 3), number(row.latency_p90_ms, "ms", 3),
        number(None if row.peak_rss_bytes is None else row.peak_rss_bytes / 1e6, "MB", 1), verdict(row.verdict),
    )  # fmt: skip


def _as_dict(row: Any) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__dataclass_fields__}
