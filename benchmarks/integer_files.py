"""Print accuracy, latency, memory and export time of integer files, ours and the peers': `benchmarks/integer_files.py`.

Every tool gets the same network and the same calibration pictures. Accuracy is that on the test pictures, in ONNX
Runtime or LiteRT with XNNPACK; the loss is paired with the float network, its interval is McNemar's. Latency is that of
one thread, a fresh process a file, the files of a network in turn; the ratio to ours of the same format is the mean of
the rounds, with Student's interval. Seconds are those of whole processes from the torch network to the file, torch's
ONNX exporter included for the peers, the verification for ours.
"""

import argparse
import os
import pickle
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import numpy as np
import torch
from numpy.typing import NDArray

from nbedge.benchmark import Measurement, measure
from nbedge.conversion import export
from nbedge.runtime import answer, of_module, open_file
from nbedge.verification.agreement import sqnr_db
from peers import scripts
from peers.nets import Net, nets

Array = NDArray[np.float32]
#: name -> (format, backend)
OURS = {
    "nbedge, ONNX": ("onnx", ""),
    "nbedge, TFLite": ("tflite", ""),
    "nbedge, TFLite by litert": ("tflite", "litert"),
}
#: validation pictures that ours are judged on
HELD = 500
NORMAL_95 = 1.96
#: Student's quantile for 5 rounds
STUDENT_95 = 2.776


@dataclass(frozen=True, slots=True)
class Times:
    """Latency in ms, its ratio to ours with the margin of its logarithm, and peak memory in bytes."""

    latency: float
    ratio: float
    margin: float
    memory: float


@dataclass(frozen=True, slots=True)
class Row:
    """One tool on one network: `loss` and `margin` in points, `sqnr` in dB, None where no file was kept."""

    tool: str
    loss: float | None
    margin: float | None
    sqnr: float | None
    times: Times | None
    seconds: float

    def cells(self) -> list[str]:
        """Return the cells of its row."""
        if self.loss is None or self.times is None:
            return [self.tool, "not kept", *[""] * 6, f"{self.seconds:.1f}"]
        t = self.times
        low, high = (t.ratio * np.exp(sign * t.margin) for sign in (-1, 1))
        return [
            self.tool, f"{self.loss:.2f}", f"± {self.margin:.2f}", f"{self.sqnr:.1f}", f"{t.latency:.3f}",
            f"{t.ratio:.2f}", f"{low:.2f} to {high:.2f}", f"{t.memory / 1000:.0f}", f"{self.seconds:.1f}",
        ]  # fmt: skip


def main() -> None:
    """Print a table a network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="exports of each tool, interleaved")
    parser.add_argument("--latencies", type=int, default=5, help="processes that time each file, interleaved")
    parser.add_argument(
        "--cifar10", type=Path, help="folder of CIFAR-10 pictures, train/CLASS/*.jpg and test/CLASS/*.jpg"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/peers"), help="where its networks are trained")
    asked = parser.parse_args()
    heads = ("file", "top-1 loss, points", "95 %", "SQNR, dB", "latency, ms", "ratio to ours", "95 %",
             "peak memory, kB", "export, s")  # fmt: skip
    for net in nets(asked.cifar10, asked.runs):
        print(f"\n**{net.name}**\n\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
        for row in rows(net, asked.rounds, asked.latencies):
            print(f"| {' | '.join(row.cells())} |", flush=True)


def rows(net: Net, rounds: int, latencies: int) -> Iterator[Row]:
    """Yield what each tool gives, ours first."""
    x = net.preprocessing(net.test.images[:])
    wanted = answer(of_module(net.model, x.shape[1:]), x)
    with tempfile.TemporaryDirectory() as folder:
        files, seconds = made(net, Path(folder), rounds)
        times = timed({tool: path for tool, path in files.items() if path is not None}, latencies)
        for tool, path in files.items():
            spent = float(np.median(seconds[tool]))
            if path is None:
                yield Row(tool, None, None, None, None, spent)
                continue
            found = answer(open_file(path), x)
            yield Row(tool, *_loss(wanted, found, net.test.labels), sqnr_db(wanted, found), times[tool], spent)


def timed(files: Mapping[str, Path], rounds: int) -> dict[str, Times]:
    """Return the latencies of files, taken in turn, and their ratios to ours of the same format."""
    held: dict[str, list[Measurement]] = defaultdict(list)
    for _ in range(rounds):
        for tool, measured in zip(files, measure(list(files.values()), processes=1, seconds=0.3), strict=True):
            held[tool].append(measured)
    ours = {path.suffix: tool for tool, path in reversed(list(files.items())) if tool in OURS}
    found = {}
    for tool, path in files.items():
        own = np.log([_median(m) for m in held[tool]])
        apart = own - np.log([_median(m) for m in held[ours[path.suffix]]]) if path.suffix in ours else own * np.nan
        margin = STUDENT_95 * float(apart.std(ddof=1)) / len(apart) ** 0.5
        memory = float(np.median([m.memory.peak_rss_bytes or np.nan for m in held[tool] if m.memory]))
        found[tool] = Times(float(np.exp(np.median(own))), float(np.exp(apart.mean())), margin, memory)
    return found


def _median(measured: Measurement) -> float:
    assert measured.latency is not None
    return measured.latency.median_ms


def _loss(wanted: Array, found: Array, labels: NDArray[np.int64]) -> tuple[float, float]:
    before, after = (y.argmax(1) == labels for y in (wanted, found))
    changed = (before.astype(int) - after).astype(float)
    return 100 * float(changed.mean()), 100 * NORMAL_95 * float(changed.std()) / len(labels) ** 0.5


def made(net: Net, folder: Path, rounds: int) -> tuple[dict[str, Path | None], dict[str, list[float]]]:
    """Return the integer file of each tool, and the seconds that it took in each round."""
    source, net_file = folder / "net.onnx", folder / "net.pickle"
    pictures, held = net.preprocessing(net.calibration.images[:]), net.validation.spread(HELD)
    inputs = {
        "model": net.model, "preprocess": net.preprocessing, "classes": net.classes, "calibration": pictures,
        "check_on": net.preprocessing(held.images[:]), "labels": held.labels,
    }  # fmt: skip
    net_file.write_bytes(pickle.dumps(inputs))
    np.save(folder / "nchw.npy", pictures)
    np.save(folder / "nhwc.npy", np.ascontiguousarray(pictures.transpose(0, 2, 3, 1)))
    files: dict[str, Path | None] = {}
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for tool, (kind, backend) in OURS.items():
            if backend and not scripts.litert_is_here():
                continue
            seconds[tool].append(scripts.timed(scripts.OURS, net_file, folder / tool, kind, backend))
            written = folder / tool / f"net.int8.{kind}"
            files[tool] = written if written.exists() else None
        onnx_seconds = scripts.timed(scripts.TO_ONNX, net_file, source)
        for tool, (_, given, kind) in scripts.PEERS.items():
            layout = "nchw" if kind == "onnx" else "nhwc"
            target = folder / f"{tool.split()[0]}.{kind}".replace("'", "")
            first = source if given == "onnx" else _float_tflite(net, folder)
            seconds[tool].append(onnx_seconds + scripts.run(tool, first, folder / f"{layout}.npy", target))
            files[tool] = target
    return files, seconds


def _float_tflite(net: Net, folder: Path) -> Path:
    """Return a float TFLite file, for the quantizer that starts from one; making it is not among its seconds."""
    path = folder / "net.fp32.tflite"
    if not path.exists():
        shape = net.preprocessing.shape
        export(
            net.model, torch.zeros(1, *shape), formats=["tflite"], quant=["fp32"], preprocess=net.preprocessing,
            calibration=net.preprocessing(net.calibration.images[:]), out=folder, classes=net.classes, name="net",
        )  # fmt: skip
    return path


if __name__ == "__main__":
    main()
