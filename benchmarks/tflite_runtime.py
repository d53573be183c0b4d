"""Print how fast tflite-runtime runs files beside LiteRT: `benchmarks/tflite_runtime.py`.

tflite-runtime 2.14, the last one, is what a 32-bit Raspberry Pi has. Its x86 build has no int8 kernels of XNNPACK, so
that on a PC its int8 files look slow. One thread, a fresh process a measurement, in turn.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np

from nbedge.environments import named

SAMPLES = Path(__file__).parent.parent / "sample_models"
SCRIPT = """
import importlib, sys, time
import numpy as np
interpreter = importlib.import_module(sys.argv[1]).Interpreter(sys.argv[2], num_threads=1)
interpreter.allocate_tensors()
(entry,) = interpreter.get_input_details()
interpreter.set_tensor(entry["index"], np.zeros(entry["shape"], entry["dtype"]))
times = []
end = time.perf_counter() + 1
while time.perf_counter() < end:
    began = time.perf_counter()
    interpreter.invoke()
    times.append(time.perf_counter() - began)
print(1000 * float(np.median(times)))
"""
STUDENT_95 = 2.776
ROUNDS = 5


def main() -> None:
    """Print a table."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    pythons = {
        "ai_edge_litert.interpreter": sys.executable,
        "tflite_runtime.interpreter": str(named("tflite-runtime").python),
    }
    print("| file | LiteRT, ms | tflite-runtime, ms | ratio | 95 % |\n|---|---|---|---|---|")
    for sample in ("fashion_mnist", "blood_cells"):
        for scheme in ("fp32", "int8"):
            path = SAMPLES / sample / "exports" / f"{sample}.{scheme}.tflite"
            times = np.array(
                [[_time(python, module, path) for module, python in pythons.items()] for _ in range(ROUNDS)]
            )
            apart = np.log(times[:, 1] / times[:, 0])
            margin = STUDENT_95 * apart.std(ddof=1) / ROUNDS**0.5
            ratio, low, high = (float(np.exp(apart.mean() + sign * margin)) for sign in (0, -1, 1))
            one, other = np.median(times, 0)
            print(f"| {path.name} | {one:.4f} | {other:.4f} | {ratio:.1f} | {low:.1f} to {high:.1f} |", flush=True)


def _time(python: str, module: str, path: Path) -> float:
    done = subprocess.run([python, "-c", SCRIPT, module, str(path)], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    main()
