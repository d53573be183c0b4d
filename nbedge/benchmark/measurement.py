"""Measurement: what was measured on one file. The unit of its statistics is the process."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbedge import files
from nbedge.benchmark import stability
from nbedge.benchmark.case import Case
from nbedge.benchmark.statistics import geometric_interval, percentile

SCHEMA_VERSION = 2
#: the distribution that is kept: quantiles at so many even steps
QUANTILES = 101
#: what a process does, in order
PHASES = ("load", "first", "steady")


@dataclass(frozen=True, slots=True)
class Latency:
    """Times of a call in ms.

    Attributes:
        median_ms: geometric mean of the processes' medians.
        low_ms: lower end of its 95 % interval, Student's t on the logarithms of these medians; nan for one process.
        high_ms: upper end.
        mean_ms: of all samples.
        std_ms: of all samples.
        iqr_ms: interquartile range of all samples.
        min_ms: smallest sample.
        max_ms: largest sample.
        p90_ms: 90th percentile of all samples; None where there are too few for it, like the next two.
        p95_ms: 95th.
        p99_ms: 99th.
        samples: taken in all processes together.
        calls_per_sample: above 1, each sample is the mean of so many calls in a row: one call is too short for the
            clock. The tail (percentiles, max) is then that of these means.
        quantiles_ms: 0 to 100 % of all samples.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    mean_ms: float
    std_ms: float
    iqr_ms: float
    min_ms: float
    max_ms: float
    p90_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    samples: int
    calls_per_sample: int
    quantiles_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of the process that loads and runs a file; None where the machine does not tell.

    Attributes:
        imported_rss_bytes: resident once the runtime is imported; the next ones are over that.
        load_peak_rss_bytes: highest resident while loading.
        first_peak_rss_bytes: while the first invoke.
        steady_peak_rss_bytes: while the next ones.
        load_private_dirty_bytes: pages that the process alone has written to, after loading.
        first_private_dirty_bytes: after the first invoke.
        steady_private_dirty_bytes: after the next ones.
        arena_bytes: of tensors, as the runtime tells it; TFLite Micro alone does.
    """

    imported_rss_bytes: int | None
    load_peak_rss_bytes: int | None
    first_peak_rss_bytes: int | None
    steady_peak_rss_bytes: int | None
    load_private_dirty_bytes: int | None
    first_private_dirty_bytes: int | None
    steady_private_dirty_bytes: int | None
    arena_bytes: int | None

    @property
    def peak_rss_bytes(self) -> int | None:
        """The highest of all phases, over the imported runtime: no measure of what a microcontroller needs."""
        known = (self.load_peak_rss_bytes, self.first_peak_rss_bytes, self.steady_peak_rss_bytes)
        return max((value for value in known if value is not None), default=None)


@dataclass(frozen=True, slots=True)
class Layer:
    """What one layer of generated C executes.

    Attributes:
        index: its place in the order of execution.
        operator: as TFLite calls it.
        output: the tensor that it makes.
        macs: multiplications with an addition, as the network asks for them.
        instructions: executed in one inference.
    """

    index: int
    operator: str
    output: str
    macs: int
    instructions: int


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one file takes in one runtime.

    Attributes:
        case: the file, and how it was run.
        on: the machine, as it was asked for.
        sha256: of the file.
        size_bytes: of the file.
        runtime: name and version of what ran it.
        kernels: that really ran it: "xnnpack", "builtin", "reference", "tflm", "ort-vnni", "ort-avx2", "ort-arm", ...
        processes: fresh processes that measured it.
        init_ms: loading the file, median of the processes; None where no clock can be trusted, like all times.
        first_ms: the first invoke, likewise.
        latency: of the invoke alone: nothing is copied in or out.
        end_to_end: from a picture in memory to the number of the answer: preprocessing, copies and invoke; None
            without a sidecar that says how.
        overhead_ms: of a call that does nothing; it is part of every sample.
        memory: of the process.
        instructions: executed by one inference, where an emulator counts them.
        layers: of generated C, with their instructions; None for any other runtime, like the next ones.
        flash_bytes: code and constants of the model, without anything else that a program has.
        code_bytes: the code among them.
        stack_bytes: the most that an inference takes.
        joules: of one inference; None where the machine does not tell.
        joules_source: what told it.
        answers_sha256: of the bytes of the answers to the first input: the same in the same kernels.
        verdict: "stable", "noisy", "unusable", "unknown" or "invalid", of the median latency; "not timed" without one.
        reason: for it.
        conditions: of the machine before the first process.
        conditions_after: after the last one.
    """

    case: Case
    on: str
    sha256: str
    size_bytes: int
    runtime: str
    kernels: str
    processes: int
    init_ms: float | None
    first_ms: float | None
    latency: Latency | None
    end_to_end: Latency | None
    overhead_ms: float | None
    memory: Memory | None
    instructions: int | None
    layers: tuple[Layer, ...] | None
    flash_bytes: int | None
    code_bytes: int | None
    stack_bytes: int | None
    joules: float | None
    joules_source: str | None
    answers_sha256: str
    verdict: str
    reason: str
    conditions: Mapping[str, Any]
    conditions_after: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, units in the keys."""
        return {
            "schema_version": SCHEMA_VERSION, "file": self.case.path.name, "path": str(self.case.path),
            "sha256": self.sha256, "size_bytes": self.size_bytes, "on": self.on, "runtime": self.runtime,
            "kernels": self.kernels, "threads": self.case.threads, "processes": self.processes,
            "init_ms": self.init_ms, "first_inference_ms": self.first_ms,
            **_named("latency", self.latency), **_named("end_to_end", self.end_to_end),
            "empty_call_ms": self.overhead_ms,
            **({} if self.memory is None else {**asdict(self.memory), "peak_rss_bytes": self.memory.peak_rss_bytes}),
            "instructions_per_inference": self.instructions,
            "layers": None if self.layers is None else [asdict(layer) for layer in self.layers],
            "flash_bytes": self.flash_bytes, "code_bytes": self.code_bytes, "stack_bytes": self.stack_bytes,
            "joules_per_inference": self.joules,
            "joules_source": self.joules_source, "answers_sha256": self.answers_sha256, "verdict": self.verdict,
            "reason": self.reason, "conditions": dict(self.conditions), "conditions_after": dict(self.conditions_after),
        }  # fmt: skip


def _named(prefix: str, latency: Latency | None) -> dict[str, Any]:
    values = {} if latency is None else asdict(latency)
    return {f"{prefix}_{name}": _known(value) for name, value in values.items()}


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def summarize(case: Case, on: str, outcomes: Sequence[Mapping[str, Any]]) -> Measurement:
    """Make one record of what each process found on a file."""
    first, timed = outcomes[0], "samples" in outcomes[0]
    latency = _latency([outcome["samples"] for outcome in outcomes]) if timed else None
    whole = [outcome["end_to_end"] for outcome in outcomes if outcome.get("end_to_end")]
    verdict, reason = stability.judged(outcomes) if timed else ("not timed", "an emulator's clock says nothing")
    energy = first.get("energy") or {}
    return Measurement(
        case=case, on=on, sha256=files.sha256(case.path), size_bytes=case.path.stat().st_size,
        runtime=first["runtime"], kernels=first["kernels"], processes=len(outcomes),
        init_ms=_median(outcomes, "init_ms") if timed else None,
        first_ms=_median(outcomes, "first_ms") if timed else None,
        latency=latency, end_to_end=_latency(whole) if whole else None,
        overhead_ms=_median(outcomes, "overhead_ms") if timed else None,
        memory=_memory(outcomes), instructions=first.get("instructions"),
        layers=tuple(Layer(**layer) for layer in first["layers"]) if "layers" in first else None,
        flash_bytes=first.get("flash_bytes"), code_bytes=first.get("code_bytes"), stack_bytes=first.get("stack_bytes"),
        joules=_median([o["energy"] for o in outcomes], "joules_per_inference") if energy else None,
        joules_source=energy.get("source"), answers_sha256=first["answers_sha256"], verdict=verdict, reason=reason,
        conditions=first["conditions"], conditions_after=outcomes[-1].get("conditions_after", {}),
    )  # fmt: skip


def _latency(samples: Sequence[Mapping[str, Any]]) -> Latency:
    medians = [float(np.median(found["ms"])) for found in samples]
    pooled: NDArray[np.float64] = np.concatenate([found["ms"] for found in samples])
    number = sum(found["number"] for found in samples)
    median, low, high = geometric_interval(medians)
    p90, p95, p99 = (percentile(pooled, which, number) for which in (90, 95, 99))
    quarter, three = (float(q) for q in np.percentile(pooled, (25, 75)))
    return Latency(
        median, low, high, float(pooled.mean()), float(pooled.std()), three - quarter, float(pooled.min()),
        float(pooled.max()), p90, p95, p99, number, max(found["calls"] for found in samples),
        tuple(round(float(q), 6) for q in np.quantile(pooled, np.linspace(0, 1, QUANTILES))),
    )  # fmt: skip


def _memory(outcomes: Sequence[Mapping[str, Any]]) -> Memory | None:
    found = [outcome["memory"] for outcome in outcomes if outcome.get("memory")]
    if not found:
        arena = outcomes[0].get("arena_bytes")
        return None if arena is None else Memory(None, None, None, None, None, None, None, arena)

    def over(phase: str, key: str) -> int | None:
        pairs = [(memory[phase][key], memory["imported"][key.removeprefix("peak_")]) for memory in found]
        known = [max(0, value - base) for value, base in pairs if value is not None and base is not None]
        return int(np.median(known)) if known else None

    imported = [memory["imported"]["rss"] for memory in found if memory["imported"]["rss"] is not None]
    phases = {
        f"{phase}_{key}_bytes": over(phase, key) for phase in PHASES for key in ("peak_rss", "private_dirty")
    }  # fmt: skip
    resident = int(np.median(imported)) if imported else None
    return Memory(imported_rss_bytes=resident, arena_bytes=outcomes[0]["arena_bytes"], **phases)


def _median(outcomes: Sequence[Mapping[str, Any]], key: str) -> float:
    return float(np.median([outcome[key] for outcome in outcomes]))
