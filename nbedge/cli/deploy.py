"""`nbedge deploy`: a folder that an app, a Raspberry Pi or a web server takes as it is."""

from pathlib import Path

import click

from nbedge.cli.screen import Screen, number, with_screen
from nbedge.deployment import TARGETS, deploy
from nbedge.device.cores import CORES


@click.command(name="deploy")
@click.argument("paths", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--target", required=True, metavar="TARGET", help=f"What it is for: {', '.join(TARGETS)}.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The folder.")
@click.option("--name", help="Of the network and its files; default that of the first FILE.")
@click.option("--picture", type=click.Path(path_type=Path), metavar="PICTURE", help="One to try it with.")
@click.option("--core", metavar="CORE", help=f"Of the microcontroller: {', '.join(CORES)}.")
@click.option("--data", help="Real pictures, for golden vectors on a microcontroller.")
@click.option("--overwrite", is_flag=True, help="Replace a folder that nbedge has written.")
@with_screen
def command(
    screen: Screen, paths: tuple[Path, ...], target: str, out: Path, name: str | None, picture: Path | None,
    core: str | None, data: str | None, overwrite: bool,
) -> None:  # fmt: skip
    """Write a folder with FILE (.tflite or .onnx) and all that TARGET needs to run it."""
    made = deploy(paths, target=target, out=out, name=name, picture=picture, core=core, data=data, overwrite=overwrite)
    screen.say(f"{out}: {made.uses} for {target}, {len(made.contents)} files, {number(made.size_bytes / 1000)} kB")
    for finding in made.findings:
        screen.say(finding)
    screen.note(f"{out / 'README.md'} says how to use it")
    screen.result(made.to_dict())
