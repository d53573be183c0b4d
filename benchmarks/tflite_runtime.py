"""Print how fast tflite-runtime runs files beside LiteRT: `benchmarks/tflite_runtime.py`.

tflite-runtime 2.14, the last one, is what a 32-bit Raspberry Pi has. Its x86 build has no int8 kernels of XNNPACK, so
that on a PC its int8 files look slow. One thread, a fresh process a measurement, in turn.
"""

import argparse
from pathlib import Path

from nbedge.benchmark import Case, LocalMachine, compare

SAMPLES = Path(__file__).parent.parent / "sample_models"


def main() -> None:
    """Print a table."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    print("| file | tflite-runtime / LiteRT | 95 % | blocks |\n|---|---|---|---|")
    with LocalMachine() as machine:
        for sample in ("fashion_mnist", "blood_cells"):
            for scheme in ("fp32", "int8"):
                path = SAMPLES / sample / "exports" / f"{sample}.{scheme}.tflite"
                found = compare(Case(path, "litert"), Case(path, "tflite-runtime"), machine, seconds=0.5)
                interval = f"{found.low:.2f} to {found.high:.2f}"
                print(f"| {path.name} | {found.ratio:.2f} | {interval} | {found.blocks} |", flush=True)


if __name__ == "__main__":
    main()
