"""The sections of a recipe, and what each refuses before hours are spent on it."""

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from nbedge.conversion.chain import planned
from nbedge.conversion.options import Options
from nbedge.distillation import TeacherFree
from nbedge.errors import InputError, PlanError
from nbedge.linearization import ORDERS, SHAPES
from nbedge.plan import BLOCKS, Site
from nbedge.preprocessing import Preprocessing
from nbedge.pruning import SPREADS
from nbedge.recipe.baselines import BaselinesSection
from nbedge.recipe.bench import BenchSection
from nbedge.recipe.gate import GateSection
from nbedge.recipe.phases import MEASURED, SCHEDULES, TAILS, DistillSection, PltSection, TrainSection
from nbedge.recipe.writing import literal
from nbedge.selection import Every, Policy, parse
from nbedge.verification import Limits

#: ways to prune
PRUNING = ("structured", "magnitude")


@dataclass(frozen=True, slots=True)
class ModelSection:
    """The tiny model.

    Attributes:
        reference: sample:NAME, timm:NAME, package.module:factory or path/to/file.py:factory.
        input: channels, height, width.
        arguments: keyword arguments of the factory.
        norm_bias: what the BatchNorms in front of activations start with, of the control too; 1 helps narrow networks
            of separable blocks without shortcuts, see `nbedge.initialization.raise_norms_`.
    """

    reference: str
    input: tuple[int, int, int]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    norm_bias: float = 0.0


@dataclass(frozen=True, slots=True)
class DataSection:
    """The pictures.

    Attributes:
        source: folder:PATH, npz:PATH, fashion-mnist:PATH or hf:NAME; a relative path starts at the recipe.
        validation: share of the training pictures held back for choices.
        calibration: training pictures held back for quantizers.
        mean: per channel in [0, 1] units; measured on the training pictures if left out.
        std: likewise.
    """

    source: str
    validation: float = 0.1
    calibration: int = 200
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanSection:
    """Which layers are expanded, and by which block.

    Attributes:
        every: take every `every`-th site.
        ratio: hidden channels per input channel.
        choose: another choice, in place of `every`: all, name:PATTERN, macs:SHARE or budget:TIMES.
        block: inverted_residual, basic, bottleneck, linear or branches; empty: the inverted residual, for a fully
            connected layer the basic block.
        start: random, zero or factorized.
        shortcut: an identity around each block.
    """

    every: int = 2
    ratio: float = 6
    choose: str = ""
    block: str = ""
    start: str = "random"
    shortcut: bool = False

    def __post_init__(self) -> None:
        """Refuse what no plan can be made of."""
        block = self.block or BLOCKS[0]
        try:
            Site("*", None, block=block, ratio=self.ratio, start=self.start, shortcut=self.shortcut)
        except PlanError as error:
            raise InputError(str(error).removeprefix("site *: ")) from error
        if self.choose:
            parse(self.choose)

    @property
    def policy(self) -> Policy:
        """The choice."""
        return parse(self.choose) if self.choose else Every(self.every)


@dataclass(frozen=True, slots=True)
class TransferSection:
    """A giant that was trained on other data: its head is replaced, and the tuning is on the new data.

    Attributes:
        giant: its checkpoint; empty: no transfer.
        control: checkpoint of the tiny model that was trained plainly on the same data: without it nothing would tell
            what the giant adds.
        part: path of the module that is taken over, where the two networks share less than all but the last layer: the
            backbone of a classifier becomes that of a detector. Empty: all but the last layer.
    """

    giant: str = ""
    control: str = ""
    part: str = ""

    def __post_init__(self) -> None:
        """Refuse one without the other."""
        if bool(self.giant) != bool(self.control):
            raise InputError(
                "giant goes with a control, the tiny model that was trained plainly on the same data; "
                f"the {'control' if self.giant else 'giant'} is missing"
            )
        if self.part and not self.giant:
            raise InputError("part says what is taken over of a giant; name the giant, or leave it out")


@dataclass(frozen=True, slots=True)
class PruneSection:
    """Pruning as a second baseline: a wider network, trained, pruned to what the tiny one costs, and tuned.

    Its training costs what that of giant and tuning does, as far as whole epochs allow: epochs times
    multiply-accumulates.

    Attributes:
        wide: arguments of the factory that make the model wider, over those of the tiny one; empty: no such baseline.
        method: structured (channels, to the tiny model's multiply-accumulates) or magnitude (weights, to its number of
            parameters).
        spread: of structured pruning: uniform or global.
        share: of that cost which goes into the wider network; the rest tunes what is left of it.
    """

    wide: Mapping[str, Any] = field(default_factory=dict)
    method: str = "structured"
    spread: str = "uniform"
    share: float = 0.6

    def __post_init__(self) -> None:
        """Refuse what no network can be pruned by."""
        for name, word, known in (("method", self.method, PRUNING), ("spread", self.spread, SPREADS)):
            if word not in known:
                raise InputError(f"{name} is {word!r}; choose from {', '.join(known)}")
        if not 0 < self.share < 1:
            raise InputError(f"share is {self.share}; give a share between 0 and 1")


@dataclass(frozen=True, slots=True)
class ExportSection(Options):
    """Which files are made: every scheme of `quant` in every format; without formats the run ends with the model.

    The other keys say how, see `nbedge.conversion.Options`; what is empty is left to the exporters.
    """

    formats: tuple[str, ...] = ("onnx", "tflite")
    quant: tuple[str, ...] = ("fp32", "int8")


@dataclass(frozen=True, slots=True)
class Recipe:
    """A whole run.

    `name` names the files, `threads` are those of training: the same number gives the same bytes, on one kind of
    processor.
    """

    name: str
    model: ModelSection
    data: DataSection
    seed: int = 0
    threads: int = 1
    plan: PlanSection = PlanSection()
    train: TrainSection = field(default_factory=TrainSection)
    plt: PltSection = field(default_factory=PltSection)
    gate: GateSection = field(default_factory=GateSection)
    distill: DistillSection = field(default_factory=DistillSection)
    transfer: TransferSection = TransferSection()
    baselines: BaselinesSection = field(default_factory=BaselinesSection)
    prune: PruneSection = field(default_factory=PruneSection)
    export: ExportSection = ExportSection()
    bench: BenchSection = field(default_factory=BenchSection)
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Refuse values that no stage could use."""
        if not re.fullmatch(r"[\w.-]*\w[\w.-]*", self.name):
            raise InputError(f"name is {self.name!r}; it names files: give a word of letters, digits, '_', '-' and '.'")
        self._refuse_numbers()
        self._refuse_words()
        self._refuse_schedules()
        self._refuse_unknown()

    def _refuse_numbers(self) -> None:
        for name, value, least in (
            ("seed", self.seed, 0), ("threads", self.threads, 1), ("train.giant_epochs", self.train.giant_epochs, 1),
            ("train.plt_epochs", self.train.plt_epochs, 1), ("data.calibration", self.data.calibration, 1),
            ("bench.processes", self.bench.processes, 1), ("bench.threads", min(self.bench.threads), 1),
            ("plan.every", self.plan.every, 1), ("train.reestimate", self.train.reestimate, 0),
            ("train.plt_learning_rate", self.train.plt_learning_rate, 0), ("plt.penalty", self.plt.penalty, 0),
            ("train.warmup_epochs", self.train.warmup_epochs, 0), ("train.weight_decay", self.train.weight_decay, 0),
            ("each size in model.input", min(self.model.input), 1),
        ):  # fmt: skip
            if not value >= least:
                raise InputError(f"{name} is {value}; give {least} or more")
        for name, share in (("train.ramp", self.train.ramp), ("data.validation", self.data.validation)):
            if not 0 < share < 1:
                raise InputError(f"{name} is {share}; give a share between 0 and 1")
        for name, share in (
            ("train.momentum", self.train.momentum),
            ("train.label_smoothing", self.train.label_smoothing),
        ):
            if not 0 <= share < 1:
                raise InputError(f"{name} is {share}; give 0 or more, below 1")
        if not abs(self.model.norm_bias) < math.inf:
            raise InputError(f"model.norm_bias is {self.model.norm_bias}; give a number, 0 for torch's own start")
        if not 0 < self.bench.seconds < math.inf:
            raise InputError(f"bench.seconds is {self.bench.seconds}; give a number above 0")

    def _refuse_words(self) -> None:
        for name, word, known in (
            ("train.tail", self.train.tail, TAILS), ("train.schedule", self.train.schedule, SCHEDULES),
            ("plt.shape", self.plt.shape, tuple(SHAPES)),
            ("plt.order", self.plt.order, (*ORDERS, MEASURED)),
        ):  # fmt: skip
            if word not in known:
                raise InputError(f"{name} is {word!r}; choose from {', '.join(known)}")

    def _refuse_schedules(self) -> None:
        """Refuse phases that have no room for what they are to hold."""
        if not 0 <= self.plt.fall < 1 - self.train.ramp:
            raise InputError(f"plt.fall is {self.plt.fall}; give a share that leaves train.ramp its own")
        if self.train.tail == "contract-and-tune" and self.train.plt_epochs < 2:
            raise InputError(
                "train.tail contract-and-tune needs 2 plt_epochs or more: one before contraction, one after"
            )
        if self.train.schedule == "one-cycle" and (self.train.plt_learning_rate or self.transfer.giant):
            raise InputError(
                "train.schedule one-cycle has one learning rate for giant and tuning, both trained here; leave out "
                "train.plt_learning_rate, and choose two-phase for a transfer"
            )
        shortest = min(self.train.giant_epochs, self.train.plt_epochs)
        if self.train.warmup_epochs > shortest:
            raise InputError(
                f"train.warmup_epochs is {self.train.warmup_epochs:g}; a training of {shortest} epochs has no more"
            )

    def _refuse_unknown(self) -> None:
        """Ask those who will use these values, before hours of training and not after."""
        literal(self.model.arguments)
        literal(self.prune.wide)
        literal(self.baselines.wide)
        for key, value in (("prune.wide", self.prune.wide), ("baselines.train", self.baselines.train)):
            if value and self.transfer.giant:
                raise InputError(f"{key} is for a training from scratch; leave it out of a transfer")
        with _of("distill"):
            TeacherFree(self.distill.weight, self.distill.temperature)
            if self.distill.features and self.distill.teacher != "giant":
                raise InputError(
                    "features are compared with the teacher 'giant' only, whose layers have the same names"
                )
        one = (0.5,) * self.model.input[0]
        with _of("model or data"):
            Preprocessing(self.model.input, self.data.mean or one, self.data.std or one)
        with _of("export"):
            _ = self.export.formats and planned(self.export.formats, self.export.quant, self.export)
        with _of("bench", "."):
            self.bench.refuse_files(self.export.formats, self.export.quant)


@contextmanager
def _of(section: str, mark: str = ": ") -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"{section}{mark}{error}") from error
