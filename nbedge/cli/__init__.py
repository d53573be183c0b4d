"""The command line: each verb parses, calls one function of the core, and prints or writes its result."""

import atexit
import gc
import os
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from types import FrameType
from typing import NoReturn

import click

from nbedge import __version__
from nbedge.errors import NbedgeError

#: verb -> the module that holds it and what it does; modules are loaded when their verb is used
VERBS = {
    "init": "write a commented recipe to start from",
    "run": "take a recipe through the whole path, into a run directory",
    "inspect": "show which layers would be expanded, which not and why, and what it costs",
    "expand": "build the giant of a model, with fresh weights or computing what the model computes",
    "train": "train a checkpoint, or with --from move a giant to new data",
    "contract": "merge a giant at slope 1 into the tiny model",
    "prune": "cut a wide model down to the cost of a tiny one, and tune it",
    "verify": "check that CANDIDATE equals REFERENCE; the exit status is the verdict",
    "export": "write ONNX and TFLite files, each verified before it is kept",
    "evaluate": "measure the accuracy of checkpoints and exported files",
    "predict": "say what is on one picture",
    "deploy": "write a folder that an app, a Raspberry Pi or a web server takes as it is",
    "bench": "measure latency, memory and size of exported files",
    "report": "write the page of a run",
    "doctor": "show which runtimes and tools are here, and how to get those that are missing",
}


class _Verbs(click.Group):
    """Load a verb's module only when it is called, so that `nbedge --help` is instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = import_module(f"nbedge.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS:
            raise click.UsageError(f"there is no verb {args[0]!r}; nbedge --help lists them")
        return super().resolve_command(ctx, args)


@click.group(cls=_Verbs, epilog="Exit status: 0 done and passed, 1 a gate failed, 2 wrong usage or bad input, "
             "3 a missing dependency, 4 the device did not answer, 70 an internal error, 130, 143 stopped")  # fmt: skip
@click.version_option(__version__, prog_name="nbedge")
def nbedge() -> None:
    """Make a tiny CNN more accurate at no cost on the device, and prove every step."""


def main() -> None:
    """Run the command line; every error on purpose becomes one sentence and its exit status."""
    # two threads that spin for each other on a busy machine are a hundred times slower than two that sleep (measured)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    stopped = _orderly_stop()
    atexit.register(gc.freeze)  # at its end no one looks through all of torch for garbage: 0.6 s (measured)
    try:
        nbedge(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except click.ClickException as error:
        _fail(error.format_message(), 2, error.show)
    except (click.Abort, KeyboardInterrupt):
        kept = {"run", "--from"} & set(sys.argv)  # only a run directory can be gone on with
        _fail("stopped" + ("; the same command with --resume goes on" if kept else ""), stopped[0] if stopped else 130)
    except NbedgeError as error:
        _fail(str(error), error.exit_status)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _fail(f"{place}{error.strerror or error}; check the path, its permissions and the space on the disk", 2)
    except Exception as error:  # not raised on purpose: status 1 would tell a CI that a check failed
        if "-v" in sys.argv or "--verbose" in sys.argv:
            raise
        _fail(f"internal error, {type(error).__name__}: {error}; please report it with the output of -v", 70)


def _orderly_stop() -> list[int]:
    """Let SIGTERM stop this process as Ctrl-C does: what it started ends, and its temporary files go.

    Returns:
        An empty list, which then holds the exit status.
    """
    stopped: list[int] = []
    owner = os.getpid()

    def stop(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a copy of this process, which cleans nothing up
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        stopped[:] = [128 + number]
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    return stopped


def _fail(sentence: str, status: int, show: Callable[[], None] | None = None) -> NoReturn:
    from nbedge.cli.screen import fail

    fail(sentence, status, show=show)
