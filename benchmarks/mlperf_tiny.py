"""Print what the integer models of MLPerf Tiny take here and on an emulated Raspberry Pi: `benchmarks/mlperf_tiny.py`.

FOLDER holds kws_ref_model.tflite, pretrainedResnet_quant.tflite, vww_96_int8.tflite and ad01_int8.tflite, as
github.com/mlcommons/tiny has them. Latencies are of one thread; the instructions are of LiteRT with XNNPACK.
"""

import argparse
from pathlib import Path

from nbedge.benchmark import Measurement, measure
from nbedge.device.emulated import CPUS

MODELS = {
    "keyword spotting": "kws_ref_model.tflite", "image classification": "pretrainedResnet_quant.tflite",
    "visual wake words": "vww_96_int8.tflite", "anomaly detection": "ad01_int8.tflite",
}  # fmt: skip
RUNTIMES = ("litert", "litert-builtin", "tflite-micro")


def main() -> None:
    """Print a table a machine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    files = [parser.parse_args().folder / name for name in MODELS.values()]
    print("| model | size, kB | XNNPACK, ms | 95 % | builtin, ms | TFLite Micro, ms | its arena, kB | private, kB |")
    print("|---|---|---|---|---|---|---|---|")
    here = measure(files, runtimes=RUNTIMES)
    for place, model in enumerate(MODELS):
        print(_row(model, *here[place * len(RUNTIMES) : (place + 1) * len(RUNTIMES)]))
    print(f"\n| model | {' | '.join(CPUS)} | answers |\n|---|{'---|' * len(CPUS)}---|")
    there = [measure(files, runtimes=RUNTIMES[:1], on=f"emulated:{cpu}") for cpu in CPUS]
    for place, model in enumerate(MODELS):
        counts = [found[place].instructions or 0 for found in there]
        same = {found[place].answers_sha256 for found in (*there, here[:: len(RUNTIMES)])}
        cells = [model, *(f"{count:,}".replace(",", " ") for count in counts), "equal" if len(same) == 1 else "differ"]
        print(f"| {' | '.join(cells)} |")


def _row(model: str, usual: Measurement, builtin: Measurement, micro: Measurement) -> str:
    times = [found.latency for found in (usual, builtin, micro)]
    assert all(times)
    assert usual.memory
    assert micro.memory
    one, two, three = (time for time in times if time)
    cells = (
        model, f"{usual.size_bytes / 1000:.1f}", f"{one.median_ms:.4f}", f"{one.low_ms:.4f} to {one.high_ms:.4f}",
        f"{two.median_ms:.4f}", f"{three.median_ms:.3f}", f"{(micro.memory.arena_bytes or 0) / 1000:.1f}",
        f"{(usual.memory.steady_private_dirty_bytes or 0) / 1000:.0f}",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
