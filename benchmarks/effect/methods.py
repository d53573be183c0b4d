"""The methods that are compared: each is a record, and says which phases it trains for so many epochs."""

from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

from effect.averaging import Average
from effect.changes import Chain, Contract, Expand, Fix, Fresh, Learn, NewHead, Prune, Raise, Reestimate, Sites, Squeeze
from effect.objectives import Labels, Straightened, Teacher, Virtual
from effect.phases import Phase, Rising
from effect.widening import Augmented, Narrow, Widen

#: what a method ends with: exactly the tiny network, one that costs no more, or one that cannot be deployed as tiny
TINY, NO_LARGER, GIANT = "tiny", "no larger", "giant"

#: sites as published, as far as that is public: every second first pointwise layer, an inverted residual of ratio 6
PUBLISHED = Sites()
#: blocks that are 0 at first, beside the layers of a trained network
SILENT = Sites(start="zero")
#: chains without anything between, or branches, in place of every layer that takes them
LINEAR = Sites(block="linear", ratio=4, choose="name:*")
BRANCHES = Sites(block="branches", ratio=3, choose="name:*")
#: the ramp over the first quarter of the tuning, as published; the others are tries
QUARTER = Rising()
SECOND_QUARTER = Rising(0.25, 0.5)
HALF = Rising(0.0, 0.5)
EARLY = Rising(0.2, 0.55)
LATE = Rising(0.4, 0.9)
#: the giant as a teacher, the virtual one, and pruning by the same share everywhere
GIANT_TEACHER = Teacher()
VIRTUAL = Virtual()
UNIFORM = Prune()


class Method(Protocol):
    """A way to train the tiny network."""

    @property
    def ends(self) -> str:
        """What it ends with: `TINY`, `NO_LARGER` or `GIANT`."""

    def phases(self, epochs: float) -> tuple[Phase, ...]:
        """Return what is trained; `epochs` are those that the compared methods have in common."""


@dataclass(frozen=True, slots=True)
class Vanilla:
    """The tiny network in one cosine: the control.

    Attributes:
        smoothing: of the labels.
        decay: of an average of the weights over the second half; 0: none.
    """

    ends: ClassVar[str] = TINY
    smoothing: float = 0.0
    decay: float = 0.0

    def phases(self, epochs: float) -> tuple[Phase, ...]:
        """Return one phase."""
        return (Phase("tiny", epochs, Fresh(), goal=Labels(self.smoothing), average=Average(self.decay)),)


@dataclass(frozen=True, slots=True)
class TwoPhase:
    """The tiny network with the restart of the learning rate that boosting has: the control of that schedule."""

    ends: ClassVar[str] = TINY
    first: float = 0.5

    def phases(self, epochs: float) -> tuple[Phase, ...]:
        """Return two phases, `first` of the epochs and the rest."""
        return (
            Phase("tiny", self.first * epochs, Fresh()),
            Phase("tiny again", (1 - self.first) * epochs),
        )


@dataclass(frozen=True, slots=True)
class Giant:
    """The giant, never made linear: what boosting could hand down at best. Nothing that could be deployed as tiny."""

    ends: ClassVar[str] = GIANT
    sites: Sites = PUBLISHED

    def phases(self, epochs: float) -> tuple[Phase, ...]:
        """Return one phase."""
        return (Phase("giant", epochs, Expand(self.sites)),)


@dataclass(frozen=True, slots=True)
class NetBooster:
    """NetBooster (DAC 2023, arXiv 2306.13586), as far as it is public: the giant, then tuning that begins with PLT.

    Attributes:
        sites: that are expanded; by default every second first pointwise layer, as published.
        first: share of the epochs that trains the giant at slope 0.
        slopes: in the tuning; by default linear, over its first quarter.
        factor: on the learning rate of the tuning.
        decay: of an average of the weights over the second half of the tuning; 0: none.
    """

    ends: ClassVar[str] = TINY
    sites: Sites = PUBLISHED
    first: float = 0.5
    slopes: Rising = QUARTER
    factor: float = 1.0
    decay: float = 0.0

    def phases(self, epochs: float) -> tuple[Phase, ...]:
        """Return giant and tuning."""
        return (
            Phase("giant", self.first * epochs, Expand(self.sites)),
            Phase(
                "tuning", (1 - self.first) * epochs, slopes=self.slopes, factor=self.factor,
                average=Average(self.decay), finish=(Contract(),),
            ),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reestimated:
    """NetBooster whose BatchNorm statistics are measured anew, on `pictures` pictures, before it is contracted."""

    ends: ClassVar[str] = TINY
    sites: Sites = PUBLISHED
    first: float = 0.5
    slopes: Rising = QUARTER
    pictures: int = 4096

    def phases(self, epochs: float) -> tuple[Phase, ...]:
        """Return giant and tuning."""
        finish = (Reestimate(self.pictures), Contract())
        return (
            Phase("giant", self.first * epochs, Expand(self.sites)),
            Phase("tuning", (1 - self.first) * epochs, slopes=self.slopes, finish=finish),
        )


@dataclass(frozen=True, slots=True)
class LearnedSlopes:
    """NetBooster whose slopes are learned (Layer Folding, BMVC 2022), 1 at the latest where `slopes` end."""

    ends: ClassVar[str] = TINY
    sites: Sites = PUBLISHED
    first: float = 0.5
    slopes: Rising = HALF
    penalty: float = 0.1

    def phases(self, epochs: float) -> tuple[Phase, ...]:
        """Return giant and tuning."""
        return (
            Phase("giant", self.first * epochs, Expand(self.sites)),
            Phase(
                "tuning", (1 - self.first) * epochs, Learn(), self.slopes, Straightened(self.penalty),
                finish=(Fix(), Contract()),
            ),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rounds:
    """Blocks that change nothing at first are put in, straightened and contracted, several times, in a single cosine.

    Attributes:
        sites: of each round.
        number: of rounds.
        first: share of the epochs before the first round, of the tiny network alone.
        last: share of the epochs behind the last round.
        slopes: in a round.
    """

    ends: ClassVar[str] = TINY
    sites: Sites = SILENT
    number: int = 2
    first: float = 0.3
    last: float = 0.1
    slopes: Rising = LATE

    def phases(self, epochs: float) -> tuple[Phase, ...]:
        """Return the tiny network's training, the rounds, and the rest."""
        begin, end = self.first * epochs, self.last * epochs
        each = (epochs - begin - end) / self.number
        phases = [Phase("tiny", begin, Fresh(), after=epochs - begin)]
        for index in range(self.number):
            before = begin + index * each
            phases.append(
                Phase(
                    f"round {index + 1}", each, Expand(self.sites), self.slopes, before=before,
                    after=epochs - before - each, finish=(Contract(),),
                )
            )  # fmt: skip
        return (*phases, Phase("rest", end, before=epochs - end))


@dataclass(frozen=True, slots=True)
class Distilled:
    """NetBooster whose tuning also learns from the giant as it was before."""

    ends: ClassVar[str] = TINY
    sites: Sites = PUBLISHED
    first: float = 0.5
    slopes: Rising = QUARTER
    teacher: Teacher = GIANT_TEACHER

    def phases(self, epochs: float) -> tuple[Phase, ...]:
        """Return giant and tuning."""
        rest = (1 - self.first) * epochs
        return (
            Phase("giant", self.first * epochs, Expand(self.sites)),
            Phase("tuning", rest, slopes=self.slopes, goal=self.teacher, finish=(Contract(),)),
        )


@dataclass(frozen=True, slots=True)
class SqueezedTail:
    """NetBooster that is squeezed when its slopes are 1: the rest of the same cosine costs what the tiny network costs.

    Momentum begins anew behind the ramp; inner BatchNorms keep their statistics from there on.
    """

    ends: ClassVar[str] = TINY
    sites: Sites = PUBLISHED
    first: float = 0.5
    ramp: float = 0.25

    def phases(self, epochs: float) -> tuple[Phase, ...]:
        """Return giant, ramp and the rest."""
        tuning = (1 - self.first) * epochs
        ramp = self.ramp * tuning
        return (
            Phase("giant", self.first * epochs, Expand(self.sites)),
            Phase("ramp", ramp, slopes=Rising(0.0, 1.0), after=tuning - ramp),
            Phase("squeezed", tuning - ramp, Squeeze(), before=ramp, finish=(Contract(),)),
        )


@dataclass(frozen=True, slots=True)
class OneCycle:
    """Giant, ramp and tuning in a single cosine."""

    ends: ClassVar[str] = TINY
    sites: Sites = PUBLISHED
    slopes: Rising = EARLY

    def phases(self, epochs: float) -> tuple[Phase, ...]:
        """Return one phase."""
        return (Phase("boosted", epochs, Expand(self.sites), self.slopes, finish=(Contract(),)),)


@dataclass(frozen=True, slots=True)
class Continued:
    """Boosting of a trained tiny network: blocks that change nothing at first are put in, trained, and straightened."""

    ends: ClassVar[str] = TINY
    sites: Sites = SILENT
    first: float = 0.5
    slopes: Rising = SECOND_QUARTER

    def phases(self, epochs: float) -> tuple[Phase, ...]:
        """Return the tiny network's training and the boosted one."""
        return (
            Phase("tiny", self.first * epochs, Fresh()),
            Phase("boosted", (1 - self.first) * epochs, Expand(self.sites), self.slopes, finish=(Contract(),)),
        )


@dataclass(frozen=True, slots=True)
class Linear:
    """Chains without anything between: ExpandNets (NeurIPS 2020).

    They are trained squeezed: without BatchNorms inside that is the same computation, at the cost of the tiny network.
    """

    ends: ClassVar[str] = TINY
    sites: Sites = LINEAR

    def phases(self, epochs: float) -> tuple[Phase, ...]:
        """Return one phase."""
        return (Phase("linear", epochs, Chain((Expand(self.sites), Squeeze())), finish=(Contract(),)),)


@dataclass(frozen=True, slots=True)
class Straight:
    """The blocks of NetBooster at slope 1 from the start: is it the non-linear training that helps, or the factors?"""

    ends: ClassVar[str] = TINY
    sites: Sites = PUBLISHED

    def phases(self, epochs: float) -> tuple[Phase, ...]:
        """Return one phase."""
        return (Phase("straight", epochs, Expand(self.sites, slope=1.0), finish=(Contract(),)),)


@dataclass(frozen=True, slots=True)
class Branched:
    """Parallel branches with a BatchNorm each: RepVGG (CVPR 2021), MobileOne (CVPR 2023)."""

    ends: ClassVar[str] = TINY
    sites: Sites = BRANCHES

    def phases(self, epochs: float) -> tuple[Phase, ...]:
        """Return one phase."""
        return (Phase("branches", epochs, Expand(self.sites), finish=(Contract(),)),)


@dataclass(frozen=True, slots=True)
class Taught:
    """The tiny network, distilled from a giant; the giant's training is counted as a cost, and not among the epochs."""

    ends: ClassVar[str] = TINY
    sites: Sites = PUBLISHED
    giant: float = 1.0
    teacher: Teacher = GIANT_TEACHER

    def phases(self, epochs: float) -> tuple[Phase, ...]:
        """Return the giant's training, `giant` times the epochs, and the tiny network's."""
        return (
            Phase("giant", self.giant * epochs, Expand(self.sites)),
            Phase("taught", epochs, Fresh(), goal=self.teacher),
        )


@dataclass(frozen=True, slots=True)
class TeacherFreed:
    """The tiny network with a virtual teacher (CVPR 2020, arXiv 1909.11723)."""

    ends: ClassVar[str] = TINY
    goal: Virtual = VIRTUAL

    def phases(self, epochs: float) -> tuple[Phase, ...]:
        """Return one phase."""
        return (Phase("tiny", epochs, Fresh(), goal=self.goal),)


@dataclass(frozen=True, slots=True)
class Pruned:
    """A wider network, trained, pruned to the tiny one's multiply-accumulates, and tuned."""

    ends: ClassVar[str] = NO_LARGER
    wider: float = 2.0
    first: float = 0.5
    prune: Prune = UNIFORM

    def phases(self, epochs: float) -> tuple[Phase, ...]:
        """Return the wide network's training and the tuning of what is left of it."""
        return (
            Phase("wide", self.first * epochs, Fresh(self.wider)),
            Phase("pruned", (1 - self.first) * epochs, self.prune),
        )


@dataclass(frozen=True, slots=True)
class SameCost:
    """The tiny network for the training multiply-accumulates of another method: the control of its cost."""

    ends: ClassVar[str] = TINY
    of: Method

    def phases(self, epochs: float) -> tuple[Phase, ...]:
        """Return one phase of `epochs`, which are what `effect.jobs.equal_epochs` found."""
        return Vanilla().phases(epochs)


@dataclass(frozen=True, slots=True)
class Raised:
    """Another method whose fresh networks start with BatchNorm biases of `bias` in front of their activations."""

    of: Method
    bias: float = 1.0

    @property
    def ends(self) -> str:
        """What the other method ends with."""
        return self.of.ends

    def phases(self, epochs: float) -> tuple[Phase, ...]:
        """Return the phases of the other method."""
        found = self.of.phases(epochs)
        return tuple(
            replace(phase, change=Chain((phase.change, Raise(self.bias))))
            if phase is found[0] or isinstance(phase.change, Fresh)
            else phase
            for phase in found
        )


@dataclass(frozen=True, slots=True)
class Pretrained:
    """The tiny network, trained for `before` epochs on the pictures that come first, then tuned with a new head."""

    ends: ClassVar[str] = TINY
    before: float = 20.0

    def phases(self, epochs: float) -> tuple[Phase, ...]:
        """Return both trainings."""
        return Phase("source", self.before, Fresh(), first=True), Phase("target", epochs, NewHead())


@dataclass(frozen=True, slots=True)
class BoostedTransfer:
    """NetBooster's transfer: the giant is trained on the pictures that come first, PLT happens while it is tuned."""

    ends: ClassVar[str] = TINY
    before: float = 20.0
    sites: Sites = PUBLISHED
    slopes: Rising = QUARTER

    def phases(self, epochs: float) -> tuple[Phase, ...]:
        """Return both trainings."""
        return (
            Phase("source giant", self.before, Expand(self.sites), first=True),
            Phase("tuning", epochs, NewHead(), self.slopes, finish=(Contract(),)),
        )


@dataclass(frozen=True, slots=True)
class GiantTransfer:
    """The giant in both trainings, never made linear: what a boosted transfer could hand down at best."""

    ends: ClassVar[str] = GIANT
    before: float = 20.0
    sites: Sites = PUBLISHED

    def phases(self, epochs: float) -> tuple[Phase, ...]:
        """Return both trainings."""
        return (
            Phase("source giant", self.before, Expand(self.sites), first=True),
            Phase("target giant", epochs, NewHead()),
        )


@dataclass(frozen=True, slots=True)
class NetAug:
    """The tiny network, trained inside wider ones that share its weights: see `effect.widening`.

    Attributes:
        widths: of the wider networks, over the tiny one's, rising.
        weight: of their loss.
    """

    ends: ClassVar[str] = TINY
    widths: tuple[float, ...] = (2.0, 3.0)
    weight: float = 1.0

    def phases(self, epochs: float) -> tuple[Phase, ...]:
        """Return one phase."""
        goal = Augmented(self.widths, self.weight)
        return (Phase("augmented", epochs, Widen(self.widths), goal=goal, finish=(Narrow(),)),)


#: word in a study -> class
KINDS: dict[str, type[Method]] = {
    "vanilla": Vanilla, "two-phase": TwoPhase, "giant": Giant, "netbooster": NetBooster, "distilled": Distilled,
    "squeezed-tail": SqueezedTail, "one-cycle": OneCycle, "continued": Continued, "reestimated": Reestimated,
    "learned-slopes": LearnedSlopes,    "rounds": Rounds, "linear": Linear,
    "straight": Straight, "branched": Branched, "taught": Taught, "teacher-free": TeacherFreed, "pruned": Pruned,
    "netaug": NetAug, "pretrained": Pretrained, "boosted-transfer": BoostedTransfer,
    "giant-transfer": GiantTransfer,
}  # fmt: skip
#: word in a study -> class of methods around another one, which the key `of` names
AROUND: dict[str, type[SameCost] | type[Raised]] = {"same-cost": SameCost, "raised": Raised}
