"""PlanOptions: what the user says of the plan: which layers, which block, how wide, and with which weights."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from nbedge.cli.screen import refuse_given
from nbedge.plan import BLOCKS, STARTS, Plan

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nbedge.survey import Wish


#: what `plan_options` adds
PLAN_OPTIONS = ("every", "choose", "ratio", "block", "start", "shortcut")


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """The arguments of `nbedge.propose`, as the command line gives them."""

    every: int = 2
    ratio: float = 6
    choose: str | None = None
    block: str | None = None
    start: str = "random"
    shortcut: bool = False

    def propose(self, model: "nn.Module", example: "Tensor") -> Plan:
        """Return the plan for `model` on an input (n, c, h, w)."""
        from nbedge.proposal import propose
        from nbedge.selection import Every, parse

        policy = parse(self.choose) if self.choose else Every(self.every)
        return propose(
            model, example, ratio=self.ratio, choose=policy, block=self.block, start=self.start, shortcut=self.shortcut
        )

    def wish(self) -> "Wish":
        """Return what a site is wanted to be."""
        from nbedge.survey import Wish

        return Wish(self.block, self.ratio, self.start, self.shortcut)


def plan_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Add the options that describe a plan, and give the verb a `PlanOptions`."""

    @click.option("--every", default=2, show_default=True, help="Take every n-th site.")
    @click.option("--choose", help="Another choice: all, name:PATTERN, macs:SHARE or budget:TIMES.")
    @click.option("--ratio", default=6.0, show_default=True, help="Hidden channels per input channel.")
    @click.option("--block", type=click.Choice(BLOCKS), help="Kind of block; default by the kind of layer.")
    @click.option(
        "--start",
        type=click.Choice(STARTS),
        default="random",
        show_default=True,
        help="With zero and factorized the giant computes what the model computes.",
    )
    @click.option("--shortcut", is_flag=True, help="An identity around each block.")
    @functools.wraps(verb)
    def wrapped(
        every: int, choose: str | None, ratio: float, block: str | None, start: str, shortcut: bool, **rest: Any
    ) -> None:
        if choose:
            refuse_given(("every",), f"--choose {choose} is another choice")
        verb(wanted=PlanOptions(every, ratio, choose, block, start, shortcut), **rest)

    return wrapped
