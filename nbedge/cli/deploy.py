"""`nbedge deploy`: a folder that an app, a microcontroller, a Raspberry Pi or a web server takes as it is."""

import sys
from dataclasses import asdict
from pathlib import Path

import click

from nbedge.cli.screen import Screen, number, with_screen
from nbedge.deployment import BOARDS, TARGETS, deploy
from nbedge.deployment.fit import NOT_CHECKED, Fit
from nbedge.device.cores import CORES


def _list(context: click.Context, _option: click.Parameter, asked: bool) -> None:
    """Print the boards, and leave."""
    if not asked:
        return
    screen = Screen("--json" in sys.argv, 0, "--no-color" in sys.argv)
    rows = [
        (board.name, board.core, number(board.ram_bytes), number(board.flash_bytes), board.chip)
        for board in BOARDS.values()
    ]
    screen.table("RAM in one piece and flash, bytes", ("board", "core", "RAM", "flash", "chip"), rows)
    screen.result({"boards": [asdict(board) for board in BOARDS.values()]})
    context.exit()


def _show(screen: Screen, fit: Fit) -> None:
    rows = [
        (f"{row.need.memory}, {row.need.what}", NOT_CHECKED if row.need.needs is None else number(row.need.needs),
         number(row.has), number(row.left))
        for row in fit.rows
    ]  # fmt: skip
    screen.table(f"{fit.board}, bytes", ("what", "needs", "board has", "left"), rows)
    screen.say(fit.peak)


@click.command(name="deploy")
@click.argument("paths", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--target", required=True, metavar="TARGET", help=f"What it is for: {', '.join(TARGETS)}.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The folder.")
@click.option("--name", help="Of the network and its files; default that of the first FILE.")
@click.option("--picture", type=click.Path(path_type=Path), metavar="PICTURE", help="One to try it with.")
@click.option("--core", metavar="CORE", help=f"Of the microcontroller: {', '.join(CORES)}.")
@click.option("--board", metavar="BOARD", help="That the network must fit; its core is taken. --boards lists them.")
@click.option("--boards", is_flag=True, is_eager=True, expose_value=False, callback=_list, help="List the boards.")
@click.option("--data", help="Real pictures, for golden vectors on a microcontroller.")
@click.option("--overwrite", is_flag=True, help="Replace a folder that nbedge has written.")
@with_screen
def command(
    screen: Screen, paths: tuple[Path, ...], target: str, out: Path, name: str | None, picture: Path | None,
    core: str | None, board: str | None, data: str | None, overwrite: bool,
) -> None:  # fmt: skip
    """Write a folder with FILE (.tflite or .onnx) and all that TARGET needs to run it."""
    made = deploy(
        paths, target=target, out=out, name=name, picture=picture, core=core, board=board, data=data,
        overwrite=overwrite,
    )  # fmt: skip
    screen.say(f"{out}: {made.uses} for {target}, {len(made.contents)} files, {number(made.size_bytes / 1000)} kB")
    for finding in made.findings:
        screen.say(finding)
    if made.fit:
        _show(screen, made.fit)
    screen.note(f"{out / 'README.md'} says how to use it")
    screen.result(made.to_dict())
