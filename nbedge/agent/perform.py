"""One job: load a file, invoke it, and say what that took."""

from __future__ import annotations

import gc
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from nbedge import machine
from nbedge.agent import energy, memory, timing
from nbedge.agent.engines import ENGINES, Engine, Opened
from nbedge.agent.inputs import inputs
from nbedge.agent.pictures import end_to_end

#: share of the seconds that the end-to-end figure gets, beside those of the invoke alone
END_TO_END = 0.25
#: calls after which a runtime has taken what it takes
STEADY = 20


def perform(job: dict[str, Any], engines: dict[str, Callable[[], Engine]] = ENGINES) -> dict[str, Any]:
    """Do a job; times in ms, memory in bytes.

    Keys of the job: `file`, `runtime`, `threads`; `seconds` and `least` samples; and if wished `affinity` (numbers of
    cores), `inputs` (.npz), `sidecar` (.json), and `invokes`: so many of them and no clock, for a counter of
    instructions outside. In an emulator nothing is timed.

    Raises:
        MissingRuntimeError: the runtime is not installed.
        UnfitInputError: the inputs do not fit the file.
    """
    if job.get("affinity"):
        os.sched_setaffinity(0, job["affinity"])
    before = machine.conditions()
    engine = engines[job["runtime"]]()
    phases = {"imported": _phase(lambda: None)}
    gc.collect()
    gc.disable()
    began = perf_counter_ns()
    opened, phases["load"] = _loaded(engine, job)
    init_ms = (perf_counter_ns() - began) / 1e6
    first: list[float] = []
    phases["first"] = _phase(lambda: first.append(timing.time_calls(opened.invoke, 1)))
    found = {"runtime": engine.runtime, "kernels": opened.kernels, "arena_bytes": opened.arena_bytes,
             "answers_sha256": _digest(opened.answers()), "init_ms": init_ms, "first_ms": first[0]}  # fmt: skip
    if job.get("invokes") or before["emulated"]:  # there is no clock to trust
        for _ in range(job.get("invokes", 0)):
            opened.invoke()
        return {**found, "conditions": before}
    return {**found, **_timed(opened, job, phases), "memory": phases, "conditions": before,
            "conditions_after": machine.conditions()}  # fmt: skip


def _loaded(engine: Engine, job: dict[str, Any]) -> tuple[Opened, dict[str, int | None]]:
    held: list[Opened] = []

    def load() -> None:
        opened = engine.open(job["file"], job["threads"])
        opened.feed(inputs(opened.entries, job.get("inputs")))
        held.append(opened)

    phase = _phase(load)
    return held[0], phase


def _timed(opened: Opened, job: dict[str, Any], phases: dict[str, Any]) -> dict[str, Any]:
    seconds, least = job["seconds"], job["least"]
    # the samples themselves take memory: what the runs need is looked at before
    phases["steady"] = _phase(lambda: timing.time_calls(opened.invoke, STEADY))
    overhead = timing.overhead_ms()
    samples = timing.samples(opened.invoke, seconds, least)
    joules = energy.measured(opened.invoke)
    whole = None
    if job.get("sidecar"):
        whole = end_to_end(opened, json.loads(Path(job["sidecar"]).read_text(encoding="utf-8")))
    return {
        "overhead_ms": overhead, "samples": asdict(samples), "energy": joules,
        "end_to_end": asdict(timing.samples(whole, END_TO_END * seconds, least)) if whole else None,
    }  # fmt: skip


def _phase(call: Callable[[], object]) -> dict[str, int | None]:
    began = memory.begin_phase()
    call()
    return memory.end_phase(began)


def _digest(answers: dict[str, Any]) -> str:
    """Return the sha256 of the bytes of all answers, in their order."""
    digest = hashlib.sha256()
    for array in answers.values():
        digest.update(array.tobytes())
    return digest.hexdigest()
