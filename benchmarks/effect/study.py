"""A study: a TOML file that names networks, pictures, methods and seeds, and the jobs that it expands into."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from effect.jobs import Job
from effect.methods import AROUND, KINDS, Method
from effect.networks import NETWORKS
from effect.pictures import Wanted
from effect.training import Optimizer
from nbedge import files
from nbedge.errors import InputError
from nbedge.recipe.reading import record

STUDIES = Path(__file__).with_name("studies")


@dataclass(frozen=True, slots=True)
class Tune:
    """How the learning rate is chosen, for each method, network and pictures, by validation accuracy alone.

    Attributes:
        grid: learning rates that are tried.
        seeds: of the trials; none of them is a seed of the study.
        epochs: of a trial; 0: as many as the study's.
        like: method -> method whose choice it takes over; what begins alike is then trained once.
    """

    grid: tuple[float, ...]
    seeds: tuple[int, ...] = (1000,)
    epochs: float = 0
    like: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Study:
    """What is compared.

    Attributes:
        title: one line for people.
        networks: names.
        data: name -> pictures.
        methods: name -> kind and its values, as written.
        seeds: of the runs.
        epochs: that the methods have in common.
        controls: methods of equal epochs that train the tiny network alone; the best of them is the control.
        giant: name of the method that retention is measured against.
        tune: how the learning rate is chosen; or it is given:
        learning_rate: 0: it is tuned.
        batch: pictures of a step.
        warmup: epochs of linear warm-up.
    """

    title: str
    networks: tuple[str, ...]
    data: Mapping[str, Any]
    methods: Mapping[str, Any]
    seeds: tuple[int, ...]
    epochs: float
    controls: tuple[str, ...] = ("vanilla",)
    giant: str = "giant"
    tune: Tune = Tune(())
    learning_rate: float = 0.0
    batch: int = 256
    warmup: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what could not be run."""
        for what, names, known in (
            ("networks", self.networks, tuple(NETWORKS)), ("controls", self.controls, tuple(self.methods)),
            ("data", [wanted.source for wanted in self.pictures.values()], None),
            ("tune.like", [*self.tune.like, *self.tune.like.values()], tuple(self.methods)),
        ):  # fmt: skip
            for name in names:
                if known is not None and name not in known:
                    raise InputError(f"{what} names {name!r}; choose from {', '.join(known)}")
        if bool(self.learning_rate) == bool(self.tune.grid):
            raise InputError("give either learning_rate or tune.grid")
        chained = sorted(set(self.tune.like) & set(self.tune.like.values()))
        if chained:
            raise InputError(f"tune.like names {chained[0]}, which itself is like another; name that one")
        both = set(self.seeds) & set(self.tune.seeds)
        if self.tune.grid and both:
            raise InputError(
                f"the seed {min(both)} is one of the study and of its tuning; choose another for the tuning"
            )
        self.built()

    @property
    def pictures(self) -> dict[str, Wanted]:
        """The pictures by name."""
        return {name: record(Wanted, table, "study", f"data.{name}.") for name, table in self.data.items()}

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the pictures that methods are compared on: all but those that only come first."""
        first = {wanted.before for wanted in self.pictures.values()}
        return tuple(name for name in self.data if name not in first)

    def built(self) -> dict[str, Method]:
        """Return the methods by name."""
        return {name: self._method(table, f"methods.{name}") for name, table in self.methods.items()}

    def _method(self, words: Mapping[str, Any], place: str) -> Method:
        table = dict(words)
        kind = table.pop("kind", None)
        if kind in AROUND:
            return self._around(AROUND[kind], table, place)
        if kind not in KINDS:
            raise InputError(f"{place}.kind is {kind!r}; choose from {', '.join((*KINDS, *AROUND))}")
        return record(KINDS[kind], table, "study", f"{place}.")  # type: ignore[no-any-return]

    def _around(self, kind: type[Any], table: dict[str, Any], place: str) -> Method:
        of = table.pop("of", None)
        inner = self.methods.get(of) if isinstance(of, str) else of
        if not isinstance(inner, dict) or inner.get("kind") in AROUND:
            raise InputError(f"{place}.of is {of!r}; name a method of the study, or write a table with its kind")
        try:
            return kind(self._method(inner, f"{place}.of"), **table)  # type: ignore[no-any-return]
        except TypeError as error:
            raise InputError(f"{place}: {error}") from error

    def optimizer(self, learning_rate: float) -> Optimizer:
        """Return the optimizer with a learning rate."""
        return Optimizer(learning_rate, self.batch, warmup=self.warmup)

    def trials(self) -> Iterator[Job]:
        """Yield the jobs that choose learning rates."""
        epochs = self.tune.epochs or self.epochs
        for seed in self.tune.seeds:
            for network, data, (name, method), rate in self._cases(self.tune.grid):
                if name not in self.tune.like:
                    yield Job(name, method, network, data, seed, self.optimizer(rate), epochs, tuning=True)

    def jobs(self, chosen: Mapping[tuple[str, str, str], float]) -> Iterator[Job]:
        """Yield the jobs of the study, seed by seed; `chosen` are learning rates by (method, network, pictures)."""
        for seed in self.seeds:
            for network, data, (name, method), _ in self._cases((0.0,)):
                rate = self.learning_rate or _rate(chosen, (self.tune.like.get(name, name), network, data))
                yield Job(name, method, network, data, seed, self.optimizer(rate), self.epochs)

    def _cases(self, rates: Sequence[float]) -> Iterator[tuple[str, str, tuple[str, Method], float]]:
        methods = self.built()
        for network in self.networks:
            for data in self.targets:
                for pair in methods.items():
                    for rate in rates:
                        yield network, data, pair, rate


def _rate(chosen: Mapping[tuple[str, str, str], float], case: tuple[str, str, str]) -> float:
    if case not in chosen:
        raise InputError(f"no learning rate of {', '.join(case)} has been chosen yet; run `effect tune` first")
    return chosen[case]


def read(name: str) -> Study:
    """Read the study `name` of `studies/`, or the one at that path.

    Raises:
        InputError: there is none, or a key is unknown, missing, or of the wrong type.
    """
    path = Path(name) if name.endswith(".toml") else STUDIES / f"{name}.toml"
    try:
        table = tomllib.loads(files.text(path, "the study"))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is no TOML: {error}") from error
    return record(Study, table, str(path), "")  # type: ignore[no-any-return]
