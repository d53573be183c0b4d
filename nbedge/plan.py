"""Plan: which layers of the tiny model are expanded, by which block, at which ratio. Equal plans build equal giants."""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

from nbedge import files
from nbedge.errors import PlanError

#: 2 added start and shortcut, blocks other than the inverted residual, and sites without BatchNorm
SCHEMA_VERSION = 2
READABLE = (1, 2)
BLOCKS = ("inverted_residual", "basic", "bottleneck", "linear", "branches")
ACTIVATIONS = ("relu", "relu6", "hardswish", "silu", "gelu")
#: far above any use: the paper has 6, and a larger one fills the memory
LARGEST_RATIO = 1_000
STARTS = ("random", "zero", "factorized")


@dataclass(frozen=True, slots=True)
class Site:
    """One layer that is expanded, together with the BatchNorm that consumes its output.

    Attributes:
        layer: module path of the convolution or fully connected layer.
        norm: module path of the BatchNorm; None where no BatchNorm alone reads the layer's output.
        activation: the non-linearity that the inserted block uses.
        block: kind of block that takes the layer's place, one of `BLOCKS`.
        ratio: hidden channels of the block per input channel of the layer; of "branches" their number.
        start: "random" gives up the layer's weights; "zero" and "factorized" keep what the model computes.
        shortcut: an identity around the block; it costs accuracy in int8 (docs/how-it-works.md).
    """

    layer: str
    norm: str | None
    activation: str = "relu6"
    block: str = "inverted_residual"
    ratio: float = 6
    start: str = "random"
    shortcut: bool = False

    def __post_init__(self) -> None:
        """Refuse what no block can be built from."""
        paths = {"layer": self.layer} | ({} if self.norm is None else {"norm": self.norm})
        for what, value in paths.items():
            if not isinstance(value, str) or not value:
                raise PlanError(f"site {self.layer}: {what} is {value!r}; give a module path")
        for what, value, known in (
            ("block", self.block, BLOCKS), ("activation", self.activation, ACTIVATIONS), ("start", self.start, STARTS),
        ):  # fmt: skip
            if value not in known:
                raise PlanError(f"site {self.layer}: {what} is {value!r}; choose one of {', '.join(known)}")
        number = isinstance(self.ratio, int | float) and not isinstance(self.ratio, bool)
        if not number or not 0 < self.ratio <= LARGEST_RATIO:
            raise PlanError(f"site {self.layer}: ratio is {self.ratio!r}; give a number above 0, up to {LARGEST_RATIO}")
        if not isinstance(self.shortcut, bool):
            raise PlanError(f"site {self.layer}: shortcut is {self.shortcut!r}; give true or false")
        if self.block == "branches" and (self.ratio != int(self.ratio) or self.start == "factorized"):
            raise PlanError(
                f"site {self.layer}: branches come in whole numbers and start random or zero, not {self.ratio:g}, "
                f"{self.start}"
            )
        if self.shortcut and (self.start != "random" or self.block == "branches"):
            raise PlanError(f"site {self.layer}: a shortcut goes around a chain that starts random")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A convolution or linear layer that is not expanded, and why."""

    layer: str
    reason: str


class HasShapes(Protocol):
    """What a fingerprint is taken of: any `nn.Module`."""

    def state_dict(self) -> dict[str, Any]:
        """Return name -> tensor."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Which sites of one model are expanded.

    Attributes:
        fingerprint: of the names and shapes of the model that the plan was made for.
        sites: in the order in which the model runs them.
        refused: the layers left alone, with reasons; for people, no part of the plan's identity.
    """

    fingerprint: str
    sites: tuple[Site, ...]
    refused: tuple[Refusal, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        """Refuse a plan without sites, and one that names a layer or a BatchNorm twice."""
        if not self.sites:
            raise PlanError("the plan has no sites, so nothing would be expanded; write one with nbedge inspect --plan")
        layers = [site.layer for site in self.sites]
        norms = [site.norm for site in self.sites if site.norm is not None]
        for what, paths in (("layer", layers), ("norm", norms)):
            path, times = Counter(paths).most_common(1)[0] if paths else ("", 0)
            if times > 1:
                raise PlanError(f"the plan names the {what} {path} twice; keep one of the two sites")

    def check(self, model: HasShapes) -> None:
        """Refuse a model other than the plan's own.

        Raises:
            PlanError: the names or shapes of `model` differ from those the plan was made for.
        """
        found = fingerprint(model)
        if found != self.fingerprint:
            raise PlanError(
                f"the plan was made for another model (fingerprint {self.fingerprint[:12]}, this has {found[:12]}); "
                "propose a new plan for this model"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        sites = [asdict(site) for site in self.sites]
        return {"schema_version": SCHEMA_VERSION, "fingerprint": self.fingerprint, "sites": sites}

    def to_json(self) -> str:
        """Return indented JSON that `from_json` reads."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @classmethod
    def from_dict(cls, values: Any) -> "Plan":
        """Read what `to_dict` wrote.

        Raises:
            PlanError: a key is missing, unknown, or holds what no plan can hold.
        """
        try:
            if values["schema_version"] not in READABLE:
                known = ", ".join(map(str, READABLE))
                raise PlanError(f"the plan has schema_version {values['schema_version']!r}, this nbedge reads {known}")
            return cls(str(values["fingerprint"]), tuple(map(_site, values["sites"], itertools.count())))
        except (KeyError, TypeError) as error:
            raise PlanError(f"this is no plan ({error}); write one with nbedge inspect --plan") from error

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Read what `to_json` wrote.

        Raises:
            PlanError: `text` is no JSON or no plan.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise PlanError(f"the plan is no JSON ({error}); write one with nbedge inspect --plan") from error
        return cls.from_dict(values)


def read_plan(path: Path) -> Plan:
    """Read a plan that `nbedge inspect --plan` wrote, perhaps edited by hand.

    Raises:
        PlanError: the file is no plan; the message names it.
    """
    try:
        return Plan.from_json(files.text(path, "the plan"))
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from error


def _site(values: Any, index: int) -> Site:
    """Read one site; `index` says which, for the messages."""
    known = [f.name for f in fields(Site)]
    if not isinstance(values, dict):
        raise PlanError(f"sites[{index}] is {values!r}; write an object with the keys {', '.join(known)}")
    for key in values:
        if key not in known:
            raise PlanError(f"sites[{index}] has the unknown key {key!r}; known are {', '.join(known)}")
    for key in ("layer", "norm"):
        if key not in values:
            raise PlanError(f"sites[{index}] has no {key!r}; add it")
    return Site(**values)


def fingerprint(model: HasShapes) -> str:
    """Return the sha256 over the sorted names and shapes of a model's state."""
    rows = (f"{name}:{tuple(value.shape)}" for name, value in model.state_dict().items())
    return _digest(sorted(rows))


def _digest(rows: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()
