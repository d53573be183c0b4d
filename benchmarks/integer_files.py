"""Measure integer files, ours and the peers', and write what was found into docs/results.md.

`benchmarks/integer_files.py --cifar10 FOLDER`, after `nbedge doctor --install litert`: every tool gets the same network
and the same calibration pictures.
Accuracy is that on the test pictures, in ONNX Runtime or LiteRT with XNNPACK. Latency is that of one thread, a fresh
process a file, the files of a network in turn. Seconds are those of whole processes from the torch network to the file,
the tools in turn: torch's ONNX exporter included for the peers that start from ONNX, the verification for ours. Each
file becomes a line of results/integer_files.jsonl, of which the newest of its kind counts; with `--rounds 0` nothing is
measured.
"""

import argparse
import json
import os
import pickle
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import numpy as np
import torch
from numpy.typing import NDArray

import integer_files_page
from integer_files_page import Row
from nbedge.benchmark import Measurement, measure
from nbedge.runtime import answer, of_module, open_file
from nbedge.verification.agreement import sqnr_db
from peers import scripts
from peers.nets import Net, nets

#: which test pictures a file answers rightly
Right = NDArray[np.bool_]
#: validation pictures that ours are judged on
HELD = 500


def main() -> None:
    """Measure, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="exports of each tool, in turn")
    parser.add_argument("--latencies", type=int, default=5, help="processes that time each file, in turn")
    parser.add_argument(
        "--cifar10", type=Path, help="folder of CIFAR-10 pictures, train/CLASS/*.jpg and test/CLASS/*.jpg"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/peers"), help="where its networks are trained")
    asked = parser.parse_args()
    if asked.rounds:
        with integer_files_page.RESULTS.open("a", encoding="utf-8") as record:
            for net in nets(asked.cifar10, asked.runs):
                for row in rows(net, asked.rounds, asked.latencies):
                    print(row, flush=True)
                    record.write(json.dumps(row) + "\n")
                    record.flush()
    integer_files_page.write()


def rows(net: Net, rounds: int, latencies: int) -> Iterator[Row]:
    """Yield what each tool gives, ours first."""
    x, labels = net.preprocessing(net.test.images[:]), net.test.labels
    wanted = answer(of_module(net.model, x.shape[1:]), x)
    with tempfile.TemporaryDirectory() as folder:
        files, seconds = made(net, Path(folder), rounds)
        kept = {tool: path for tool, path in files.items() if path.exists()}
        answers = {tool: answer(open_file(path), x) for tool, path in kept.items()}
        times = timed(kept, latencies)
        sizes = {tool: path.stat().st_size for tool, path in kept.items()}
    right = {tool: y.argmax(1) == labels for tool, y in answers.items()}
    for tool, path in files.items():
        row: Row = {"net": net.name, "tool": tool, "format": path.suffix[1:], "seconds": seconds[tool]}
        if tool in kept:
            row |= {
                "pictures": len(x), "loss": paired(wanted.argmax(1) == labels, right[tool]),
                "sqnr_db": round(sqnr_db(wanted, answers[tool]), 3), "bytes": sizes[tool],
                "latencies_ms": [_median(m) for m in times[tool]], "peak_rss_bytes": _memory(times[tool]),
                "behind": {other: paired(right[other], right[tool]) for other in right if other != tool},
            }  # fmt: skip
        yield row


def paired(before: Right, after: Right) -> dict[str, float]:
    """Return how many points of accuracy are lost, and the margin of its 95 % interval (McNemar's)."""
    lost = before.astype(int) - after
    return {"points": round(100 * lost.mean(), 4), "margin": round(196 * lost.std() / len(lost) ** 0.5, 4)}


def timed(files: Mapping[str, Path], rounds: int) -> dict[str, list[Measurement]]:
    """Return a measurement of each round of each file, the files in turn."""
    held: dict[str, list[Measurement]] = defaultdict(list)
    for _ in range(rounds):
        for tool, measured in zip(files, measure(list(files.values()), processes=1, seconds=0.3), strict=True):
            held[tool].append(measured)
    return held


def _median(measured: Measurement) -> float:
    assert measured.latency is not None
    return round(measured.latency.median_ms, 6)


def _memory(measured: list[Measurement]) -> float:
    return float(np.median([m.memory.peak_rss_bytes for m in measured if m.memory and m.memory.peak_rss_bytes]))


def made(net: Net, folder: Path, rounds: int) -> tuple[dict[str, Path], dict[str, list[float]]]:
    """Return the integer file of each tool, absent where it was refused, and its seconds, round by round."""
    pictures, held = net.preprocessing(net.calibration.images[:]), net.validation.spread(HELD)
    inputs = {
        "model": net.model, "preprocess": net.preprocessing, "classes": net.classes, "calibration": pictures,
        "check_on": net.preprocessing(held.images[:]), "labels": held.labels,
    }  # fmt: skip
    net_file = folder / "net.pickle"
    net_file.write_bytes(pickle.dumps(inputs))
    layouts = {"nchw": pictures, "nhwc": np.ascontiguousarray(pictures.transpose(0, 2, 3, 1))}
    for layout, inputs_of_it in layouts.items():
        np.save(folder / f"{layout}.npy", inputs_of_it)
    sources = {"onnx": folder / "net.onnx", "torch": folder / "net.pt2"}
    example = torch.zeros(1, *net.preprocessing.shape)
    torch.export.save(torch.export.export(net.model.eval(), (example,)), sources["torch"])
    files: dict[str, Path] = {}
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for tool, own in scripts.OURS.items():
            files[tool] = folder / tool / f"net.int8.{own.format}"
            seconds[tool].append(scripts.timed(scripts.EXPORT, net_file, folder / tool, own.format, own.backend))
        before = {"onnx": scripts.timed(scripts.TO_ONNX, net_file, sources["onnx"]), "torch": 0.0}
        for number, (tool, peer) in enumerate(scripts.PEERS.items()):
            files[tool] = folder / f"{number}.{peer.format}"
            words = (sources[peer.source], folder / f"{peer.layout}.npy", files[tool])
            seconds[tool].append(before[peer.source] + scripts.timed(peer.script, *words, python=peer.python))
    return files, seconds


if __name__ == "__main__":
    main()
