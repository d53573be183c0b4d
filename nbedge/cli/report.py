"""`nbedge report`: the page of a run."""

from pathlib import Path

import click

from nbedge import files
from nbedge.cli.run import show_summary
from nbedge.cli.screen import Screen, with_screen


@click.command(name="report")
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The page; default RUN_DIR/report.html.")
@click.option("--overwrite", is_flag=True, help="Replace the page.")
@with_screen
def command(screen: Screen, run_dir: Path, out: Path | None, overwrite: bool) -> None:
    """Write the self-contained page of RUN_DIR, and print its table."""
    from nbedge import report

    page = out or run_dir / "report.html"
    summary = report.summarize(run_dir)
    files.refuse_existing(page, overwrite)
    report.write(run_dir, page)
    content = show_summary(screen, summary, run_dir)
    if out:
        screen.say(f"The page is {out}")
    screen.result({**content, "page": str(page)})
