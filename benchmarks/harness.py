"""Print how far the figures of `nbedge bench` can be trusted: `benchmarks/harness.py`.

Blocks are recorded as `nbedge bench NEW --against OLD` takes them, with the same file on both sides: whatever differs
is the machine. Comparisons are then drawn from the recorded blocks, each with as many as the rule takes, and asked:
does the 95 % interval hold the true ratio, 1? Does `ratio:1.05` fail? And does it fail when one side is 10 % slower,
its medians multiplied by 1.1? The rates' own intervals come from drawing the recorded blocks anew.

A second table compares the median with that of a loop written by hand, in turn, each in a fresh process.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nbedge.benchmark import Case, LocalMachine, Machine, cases
from nbedge.benchmark.comparison import BLOCKS, MOST, PRECISION
from nbedge.benchmark.measuring import job_of
from nbedge.benchmark.statistics import mean_interval, student

SAMPLES = Path(__file__).parent.parent / "sample_models"
FILES = {
    name: SAMPLES / name.split(".")[0] / "exports" / name
    for name in ("fashion_mnist.int8.tflite", "blood_cells.int8.tflite", "blood_cells.fp32.onnx")
}
RECORD = Path(__file__).parent / "results" / "harness.jsonl"
LIMIT, PLANTED = 1.05, 1.10
#: comparisons that are drawn, and how often the recorded blocks are drawn anew for the intervals
DRAWN, ANEW = 2000, 200
#: a loop as one writes it: file, calls to warm up, calls in a sample, samples; prints the median in ms
LOOP = """
import sys, time, numpy as np
path, calls, samples = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if path.endswith(".onnx"):
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    dtype = {"tensor(float)": np.float32, "tensor(int8)": np.int8, "tensor(uint8)": np.uint8}[entry.type]
    x = {entry.name: np.random.default_rng(0).standard_normal(entry.shape).astype(dtype)}
    run = lambda: session.run(None, x)
else:
    from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(path, num_threads=1)
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    x = np.random.default_rng(0).integers(-100, 100, entry["shape"]).astype(entry["dtype"])
    interpreter.set_tensor(entry["index"], x)
    run = interpreter.invoke
for _ in range(50 * calls):
    run()
times = []
for _ in range(samples):
    start = time.perf_counter()
    for _ in range(calls):
        run()
    times.append((time.perf_counter() - start) / calls)
print(1000 * float(np.median(times)))
"""

Pairs = NDArray[np.float64]


def main() -> None:
    """Record if asked to, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=int, default=0, metavar="BLOCKS", help="record so many blocks a file first")
    parser.add_argument("--seconds", type=float, default=0.3, help="sampled in each process")
    parser.add_argument("--loops", type=int, default=0, metavar="ROUNDS", help="compare with a loop written by hand")
    asked = parser.parse_args()
    with LocalMachine() as machine:
        if asked.record:
            record(machine, asked.record, asked.seconds)
        print("\n".join(rates_table()))
        if asked.loops:
            print("\n" + "\n".join(loops_table(machine, asked.loops)))


def record(machine: Machine, blocks: int, seconds: float) -> None:
    """Append blocks to the record, the files in turn: name, medians of both sides in ms, in the order of the rule."""
    RECORD.parent.mkdir(exist_ok=True)
    for number in range(blocks):
        for name, path in FILES.items():
            (case,) = cases([path], (), (1,))
            order = (0, 1) if number % 2 == 0 else (1, 0)
            found = [0.0, 0.0]
            for side in order:
                found[side] = median(machine, case, seconds)
            with RECORD.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"file": name, "medians_ms": found, "seconds": seconds}) + "\n")


def median(machine: Machine, case: Case, seconds: float) -> float:
    """Return the median of one process, in ms."""
    return float(np.median(machine.run({**job_of(case, machine, seconds), "sidecar": None})["samples"]["ms"]))


def recorded() -> dict[str, Pairs]:
    """Return file -> medians (n, 2) in ms."""
    found: dict[str, list[list[float]]] = {}
    for line in RECORD.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found.setdefault(row["file"], []).append(row["medians_ms"])
    return {name: np.asarray(rows) for name, rows in found.items()}


def rates_table() -> Iterator[str]:
    """Yield the lines of the table of coverage, false alarms and misses."""
    yield "| file | blocks | block, sd | blocks taken | interval holds 1 | false alarms | misses of 10 % |"
    yield "|---|---|---|---|---|---|---|"
    for name, pairs in recorded().items():
        logs = np.log(pairs[:, 1] / pairs[:, 0])
        generator = np.random.default_rng(0)
        rates = drawn(logs, DRAWN, generator)
        again = [drawn(generator.choice(logs, len(logs)), DRAWN // 10, generator) for _ in range(ANEW)]
        cells = [f"{100 * rate:.1f} % ({low:.1f} to {high:.1f})" for rate, low, high in with_ends(rates[:3], again)]
        yield f"| {name} | {len(logs)} | {100 * logs.std():.1f} % | {rates[3]:.1f} | {' | '.join(cells)} |"


def with_ends(rates: Sequence[float], again: Sequence[Sequence[float]]) -> Iterator[tuple[float, float, float]]:
    """Yield each rate with the percentiles of 2.5 and 97.5 of those of the blocks drawn anew, in percent."""
    for place, rate in enumerate(rates):
        low, high = np.percentile([100 * other[place] for other in again], (2.5, 97.5))
        yield rate, float(low), float(high)


def drawn(logs: NDArray[np.float64], number: int, generator: np.random.Generator) -> tuple[float, float, float, float]:
    """Draw comparisons; return the shares that hold 1, raise a false alarm, and miss; and the mean of their blocks."""
    held = alarms = misses = blocks = 0
    for _ in range(number):
        some = generator.choice(logs, MOST)
        mean, margin, taken = judged(some)
        held += abs(mean) <= margin
        alarms += fails(mean, margin)
        misses += not fails(mean + np.log(PLANTED), margin)
        blocks += taken
    return held / number, alarms / number, misses / number, blocks / number


def judged(logs: NDArray[np.float64]) -> tuple[float, float, int]:
    """Return mean, margin of its interval and number of blocks, of as many as `nbedge.benchmark.compare` would take."""
    for taken in range(BLOCKS, MOST + 1):
        mean, margin = float(logs[:taken].mean()), student(taken - 1) * float(logs[:taken].std(ddof=1)) / taken**0.5
        if 2 * margin <= 2 * PRECISION * np.log(LIMIT):
            break
    return mean, margin, taken


def fails(mean: float, margin: float) -> bool:
    """Return whether `--fail-if ratio:1.05` ends with status 1: too slow, or the machine too restless to tell."""
    slower = mean > np.log(LIMIT) and mean - margin > 0
    return bool(slower or 2 * margin > 2 * PRECISION * np.log(LIMIT))


def loops_table(machine: Machine, rounds: int) -> Iterator[str]:
    """Yield the lines of the table that compares with a loop written by hand."""
    yield "| file | bench, ms | loop, ms | bench / loop | 95 % | an empty call, ns |"
    yield "|---|---|---|---|---|---|"
    for name, path in FILES.items():
        (case,) = cases([path], (), (1,))
        job = {**job_of(case, machine, 0.5), "sidecar": None}
        ours, loops, empty = [], [], []
        for _ in range(rounds):
            found = machine.run(job)
            ours.append(float(np.median(found["samples"]["ms"])))
            empty.append(1e6 * found["overhead_ms"])
            loops.append(loop(path, found["samples"]["calls"]))
        mean, low, high = np.exp(mean_interval([float(x) for x in np.log(np.divide(ours, loops))]))
        yield (
            f"| {name} | {np.median(ours):.4f} | {np.median(loops):.4f} | {mean:.3f} | {low:.3f} to {high:.3f} "
            f"| {np.median(empty):.0f} |"
        )


def loop(path: Path, calls: int) -> float:
    """Return the median in ms of the loop written by hand."""
    done = subprocess.run(
        [sys.executable, "-c", LOOP, str(path), str(calls), "500"], check=True, capture_output=True, text=True
    )
    return float(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
