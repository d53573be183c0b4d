"""Recipe: everything that a run depends on, in one TOML file. A key that is not known is an error, never ignored."""

import difflib
import json
import re
import tomllib
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from nbedge import files
from nbedge.conversion.chain import steps
from nbedge.errors import InputError
from nbedge.preprocessing import Preprocessing
from nbedge.training import TrainSettings
from nbedge.verification import Limits


@dataclass(frozen=True, slots=True)
class ModelSection:
    """The tiny model.

    Attributes:
        reference: sample:NAME, timm:NAME, package.module:factory or path/to/file.py:factory.
        input: channels, height, width.
        arguments: keyword arguments of the factory.
    """

    reference: str
    input: tuple[int, int, int]
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DataSection:
    """The pictures.

    Attributes:
        source: folder:PATH, npz:PATH or fashion-mnist:PATH; a relative path starts at the recipe.
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
    """Which layers are expanded: every `every`-th site, at `ratio` hidden channels per input channel."""

    every: int = 2
    ratio: int = 6


@dataclass(frozen=True, slots=True)
class TrainSection(TrainSettings):
    """How long, and how. The control is trained for giant_epochs + plt_epochs, in one cosine.

    Attributes:
        giant_epochs: of the giant, slope 0.
        plt_epochs: of the tuning, in which the slopes rise to 1.
        ramp: share of the tuning over which they rise; the rest is trained at slope 1.
    """

    giant_epochs: int = 20
    plt_epochs: int = 20
    ramp: float = 0.25


@dataclass(frozen=True, slots=True)
class ExportSection:
    """Which files are made: every scheme of `quant` in every format."""

    formats: tuple[str, ...] = ("onnx", "tflite")
    quant: tuple[str, ...] = ("fp32", "int8")


@dataclass(frozen=True, slots=True)
class BenchSection:
    """How files are measured: `processes` fresh processes a file, `seconds` each, `threads` of the runtime."""

    processes: int = 5
    seconds: float = 1.0
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Recipe:
    """A whole run. `name` names the files, `threads` are those of training (the same number gives the same bytes)."""

    name: str
    model: ModelSection
    data: DataSection
    seed: int = 0
    threads: int = 1
    plan: PlanSection = PlanSection()
    train: TrainSection = TrainSection()
    export: ExportSection = ExportSection()
    bench: BenchSection = BenchSection()
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Refuse values that no stage could use."""
        if not re.fullmatch(r"[\w.-]*\w[\w.-]*", self.name):
            raise InputError(f"name is {self.name!r}; it names files: give a word of letters, digits, '_', '-' and '.'")
        for name, value, least in (
            ("seed", self.seed, 0), ("threads", self.threads, 1), ("train.giant_epochs", self.train.giant_epochs, 1),
            ("train.plt_epochs", self.train.plt_epochs, 1), ("data.calibration", self.data.calibration, 1),
            ("bench.processes", self.bench.processes, 1), ("bench.threads", self.bench.threads, 1),
            ("plan.every", self.plan.every, 1), ("plan.ratio", self.plan.ratio, 1),
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
        if not self.bench.seconds > 0:
            raise InputError(f"bench.seconds is {self.bench.seconds}; give a number above 0")
        self._refuse_unknown()

    def _refuse_unknown(self) -> None:
        """Ask those who will use these values, before hours of training and not after."""
        literal(self.model.arguments)
        one = (0.5,) * self.model.input[0]
        with _of("model or data"):
            Preprocessing(self.model.input, self.data.mean or one, self.data.std or one)
        with _of("export"):
            steps(self.export.formats, self.export.quant)


@contextmanager
def _of(section: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"{section}: {error}") from error


def read(path: Path) -> Recipe:
    """Read a recipe; a relative data path or model file is taken from where the recipe lies.

    Raises:
        InputError: the file is missing or no TOML, or a key is unknown, missing, or of the wrong type.
    """
    try:
        table = tomllib.loads(files.existing(path, "the recipe").read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} is no TOML: {error}") from error
    recipe: Recipe = _record(Recipe, table, str(path), "")
    kind, separator, source = recipe.data.source.partition(":")
    if not (separator and source):
        raise InputError(f"{path}: data.source is {recipe.data.source!r}; write KIND:PATH, for example folder:pictures")
    data = replace(recipe.data, source=f"{kind}:{(path.parent / source).resolve()}")
    file, _, factory = recipe.model.reference.rpartition(":")
    if not file.endswith(".py"):
        return replace(recipe, data=data)
    return replace(
        recipe, data=data, model=replace(recipe.model, reference=f"{(path.parent / file).resolve()}:{factory}")
    )


def _record(kind: type[Any], table: Any, place: str, prefix: str) -> Any:
    """Read `table` into the dataclass `kind`; `place` and `prefix` say where, for the messages."""
    if not isinstance(table, dict):
        raise InputError(f"{place}: {prefix.rstrip('.')} is {table!r}; write a table [{prefix.rstrip('.')}]")
    hints = get_type_hints(kind)
    known = [f.name for f in fields(kind)]
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known are {', '.join(known)}"
            raise InputError(f"{place}: unknown key {prefix}{key}; {hint}")
    values = {name: _value(hints[name], table[name], place, prefix + name) for name in known if name in table}
    try:
        return kind(**values)
    except TypeError as error:
        missing = next(name for name in known if name not in values and _required(kind, name))
        raise InputError(f"{place}: the key {prefix}{missing} is missing; add it") from error
    except InputError as error:
        raise InputError(f"{place}: {prefix}{error}") from error


def _required(kind: type[Any], name: str) -> bool:
    found = next(f for f in fields(kind) if f.name == name)
    return found.default is MISSING and found.default_factory is MISSING


def _value(kind: Any, value: Any, place: str, key: str) -> Any:
    """Return `value` as `kind`, or say what was expected."""
    if is_dataclass(kind) and isinstance(kind, type):
        return _record(kind, value, place, key + ".")
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple and isinstance(value, list):
        wanted = [arguments[0]] * len(value) if arguments[-1] is ... else list(arguments)
        if len(wanted) == len(value):
            return tuple(_value(wanted[i], item, place, f"{key}[{i}]") for i, item in enumerate(value))
    elif origin in (Union, types.UnionType):
        return _value(next(k for k in arguments if k is not type(None)), value, place, key)
    elif kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif (isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, dict)) or (
        isinstance(kind, type) and type(value) is kind
    ):
        return value
    raise InputError(f"{place}: {key} is {json.dumps(value, default=str)}, expected {_expected(kind)}")


def _expected(kind: Any) -> str:
    words = {int: "a whole number", float: "a number", str: "a text in quotes", bool: "true or false"}
    if get_origin(kind) is tuple:
        arguments = get_args(kind)
        count = "a list" if arguments[-1] is ... else f"a list of {len(arguments)}"
        return f"{count}, each {_expected(arguments[0])}"
    return words.get(kind, "a table")


def to_toml(recipe: Recipe) -> str:
    """Return the recipe as TOML with every default written out; `read` gives the same recipe back."""
    values = asdict(recipe)
    tables = {name: value for name, value in values.items() if isinstance(value, dict)}
    lines = [f"{name} = {literal(value)}" for name, value in values.items() if name not in tables]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {literal(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def literal(value: Any) -> str:
    """Return a plain value as TOML writes it."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {literal(v)}" for key, v in value.items()) + " }" if value else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(literal, value)) + "]"
    if isinstance(value, str):
        # TOML has JSON's escapes, but none for one half of a character, and DEL must be escaped
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float):
        return repr(value)
    raise InputError(f"{value!r} cannot be written into a recipe; give texts, numbers, true or false, lists and tables")


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else literal(name)
