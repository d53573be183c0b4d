"""Which of a model's candidates are expanded: a policy looks at all of them and names its choice."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from nbedge.errors import PlanError
from nbedge.survey import Candidate

FORMS = "every:N, all, name:PATTERN, macs:SHARE or budget:TIMES"
#: candidate -> multiply-accumulates of its block beyond those of the layer, for one input
Extra = Callable[[Candidate], int]


@dataclass(frozen=True, slots=True)
class Field:
    """What a policy chooses from.

    Attributes:
        usual: the candidates of the method, in the order in which they run (see `usual_candidates`).
        every: all candidates.
        macs: multiply-accumulates of the whole tiny model for one input.
        extra: what a block adds to them.
    """

    usual: Sequence[Candidate]
    every: Sequence[Candidate]
    macs: int
    extra: Extra = field(compare=False)


class Policy(ABC):
    """One way to choose."""

    @abstractmethod
    def choose(self, field: Field) -> Sequence[Candidate]:
        """Return the chosen candidates, in the order in which they run.

        Raises:
            PlanError: nothing can be chosen.
        """


@dataclass(frozen=True, slots=True)
class Every(Policy):
    """Every `step`-th of the usual candidates, beginning with the first: spread evenly, as in NetBooster."""

    step: int

    def __post_init__(self) -> None:
        """Refuse a step below 1."""
        if self.step < 1:
            raise PlanError(f"every is {self.step}; give 1 for each site, 2 for every second one")

    def choose(self, field: Field) -> Sequence[Candidate]:
        """Choose by place."""
        return field.usual[:: self.step]


@dataclass(frozen=True, slots=True)
class Named(Policy):
    """Each candidate whose module path matches a shell pattern, such as `features.*.conv.0.0`."""

    pattern: str

    def choose(self, field: Field) -> Sequence[Candidate]:
        """Choose by name."""
        found = [c for c in field.every if fnmatchcase(c.site.layer, self.pattern)]
        if not found:
            raise PlanError(
                f"no layer that can be expanded matches {self.pattern!r}; there are for example "
                f"{', '.join(c.site.layer for c in field.every[:3])}"
            )
        return found


@dataclass(frozen=True, slots=True)
class MacsShare(Policy):
    """The costliest candidates, until they hold `share` of the model's multiply-accumulates."""

    share: float

    def __post_init__(self) -> None:
        """Refuse what is no share."""
        if not 0 < self.share <= 1:
            raise PlanError(f"the share of MACs is {self.share}; give a number above 0, up to 1")

    def choose(self, field: Field) -> Sequence[Candidate]:
        """Choose by cost."""
        chosen: list[Candidate] = []
        for candidate in sorted(field.every, key=lambda c: c.macs, reverse=True):
            if sum(c.macs for c in chosen) >= self.share * field.macs:
                break
            chosen.append(candidate)
        return [candidate for candidate in field.every if candidate in chosen]


@dataclass(frozen=True, slots=True)
class Budget(Policy):
    """As many of the usual candidates, spread evenly, as keep the giant within `times` the model's MACs."""

    times: float

    def __post_init__(self) -> None:
        """Refuse a budget that leaves nothing to add."""
        if not self.times > 1:
            raise PlanError(f"the budget is {self.times} times the model's MACs; give more than 1")

    def choose(self, field: Field) -> Sequence[Candidate]:
        """Choose the densest even spread that fits."""
        extra = [field.extra(candidate) for candidate in field.usual]
        for step in range(1, len(extra) + 1):
            if field.macs + sum(extra[::step]) <= self.times * field.macs:
                return field.usual[::step]
        needed = 1 + extra[0] / field.macs
        raise PlanError(
            f"the budget of {self.times:g} times the model's MACs is too small for one site, which takes "
            f"{needed:.2f}; raise it, or lower the ratio"
        )


def parse(text: str) -> Policy:
    """Return the policy that `every:N`, `all`, `name:PATTERN`, `macs:SHARE` or `budget:TIMES` names.

    Raises:
        PlanError: it names none.
    """
    kind, _, value = text.partition(":")
    readers: dict[str, Callable[[str], Policy]] = {
        "every": lambda v: Every(int(v)), "name": Named, "macs": lambda v: MacsShare(float(v)),
        "budget": lambda v: Budget(float(v)),
    }  # fmt: skip
    if text == "all":
        return Every(1)
    try:
        if kind in readers and value:
            return readers[kind](value)
    except ValueError as error:
        raise PlanError(f"the choice of sites {text!r} holds no number ({error}); write {FORMS}") from error
    raise PlanError(f"{text!r} names no choice of sites; write {FORMS}")


def usual_candidates(candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    """Return the candidates that the method means.

    NetBooster expands the first pointwise layer of inverted residuals: those that feed a depthwise layer. Where they
    are less than a tenth of the pointwise layers, the model is built of other blocks, and all of its pointwise layers
    are taken; without any, all that can be expanded. (They are half of them in MobileNetV2, a quarter in EfficientNet,
    whose squeeze-and-excite layers are pointwise too; a thirtieth in EfficientViT, which has one such block.)
    """
    pointwise = [c for c in candidates if c.kind == "pointwise"]
    first = [c for c in pointwise if c.feeds_depthwise]
    return first if 10 * len(first) >= len(pointwise) > 0 else pointwise or candidates
