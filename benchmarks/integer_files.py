"""Print accuracy and export time of integer files, ours and the peers': `benchmarks/integer_files.py`.

Every tool gets the same network, ONNX or TFLite file, and the same calibration pictures. Accuracy is that on the test
pictures, in ONNX Runtime or LiteRT with XNNPACK; the loss is paired with the float network, its interval is
McNemar's. Seconds are those of whole processes in interleaved rounds; ours hold the export to ONNX and the
verification, to the peers' the seconds of torch's own ONNX exporter are added.
"""

import argparse
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import numpy as np
import torch
from numpy.typing import NDArray

from nbedge.conversion import Exported, Options, export
from nbedge.errors import NbedgeError
from nbedge.runtime import answer, of_module, open_file
from nbedge.verification.agreement import sqnr_db
from peers import scripts
from peers.nets import Net, nets

Array = NDArray[np.float32]
#: name -> (format, options of our exporters)
OURS = {
    "nbedge, ONNX": ("onnx", Options()),
    "nbedge, TFLite": ("tflite", Options()),
    "nbedge, TFLite by litert": ("tflite", Options(backend=("litert",))),
}
NORMAL_95 = 1.96


@dataclass(frozen=True, slots=True)
class Row:
    """One tool on one network: `loss` and `margin` in points, `sqnr` in dB, None where no file was kept."""

    tool: str
    loss: float | None
    margin: float | None
    sqnr: float | None
    seconds: float


def main() -> None:
    """Print a table a network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="exports of each tool, interleaved")
    rounds = parser.parse_args().rounds
    for net in nets():
        print(f"\n**{net.name}**\n\n| file | top-1 loss, points | 95 % | SQNR, dB | export, s |\n|---|---|---|---|---|")
        for row in rows(net, rounds):
            figures = ["not kept", "", ""]
            if row.loss is not None and row.margin is not None and row.sqnr is not None:
                figures = [f"{row.loss:.2f}", f"± {row.margin:.2f}", f"{row.sqnr:.1f}"]
            print(f"| {row.tool} | {' | '.join(figures)} | {row.seconds:.1f} |", flush=True)


def rows(net: Net, rounds: int) -> Iterator[Row]:
    """Yield what each tool gives, ours first."""
    x = net.preprocessing(net.test.images[:])
    wanted = answer(of_module(net.model, x.shape[1:]), x)
    with tempfile.TemporaryDirectory() as folder:
        files, seconds = made(net, Path(folder), rounds)
        for tool, path in files.items():
            spent = float(np.median(seconds[tool]))
            if path is None:
                yield Row(tool, None, None, None, spent)
                continue
            found = answer(open_file(path), x)
            yield Row(tool, *_loss(wanted, found, net.test.labels), sqnr_db(wanted, found), spent)


def _loss(wanted: Array, found: Array, labels: NDArray[np.int64]) -> tuple[float, float]:
    before, after = (y.argmax(1) == labels for y in (wanted, found))
    changed = (before.astype(int) - after).astype(float)
    return 100 * float(changed.mean()), 100 * NORMAL_95 * float(changed.std()) / len(labels) ** 0.5


def made(net: Net, folder: Path, rounds: int) -> tuple[dict[str, Path | None], dict[str, list[float]]]:
    """Return the integer file of each tool, and the seconds that it took in each round."""
    sources = {f"fp32.{kind}": folder / f"net.fp32.{kind}" for kind in ("onnx", "tflite")}
    _export(net, folder, "fp32", Options(), ("onnx", "tflite"))
    pictures = net.preprocessing(net.calibration.images[:])
    np.save(folder / "nchw.npy", pictures)
    np.save(folder / "nhwc.npy", np.ascontiguousarray(pictures.transpose(0, 2, 3, 1)))
    files: dict[str, Path | None] = {}
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for tool, (kind, options) in OURS.items():
            if "litert" in options.backend and not scripts.litert_is_here():
                continue
            began = time.perf_counter()
            files[tool] = _export(net, folder / tool, "int8", options, (kind,))
            seconds[tool].append(time.perf_counter() - began)
        began = time.perf_counter()
        program = torch.onnx.export(net.model, (torch.zeros(1, *pictures.shape[1:]),), dynamo=True, verbose=False)
        assert program is not None
        onnx_seconds = time.perf_counter() - began
        for tool, (_, source, kind) in scripts.PEERS.items():
            layout = "nchw" if kind == "onnx" else "nhwc"
            target = folder / f"{tool.split()[0]}.{kind}".replace("'", "")
            spent = scripts.run(tool, sources[f"fp32.{source}"], folder / f"{layout}.npy", target)
            files[tool] = target
            seconds[tool].append(spent + onnx_seconds)
    return files, seconds


def _export(net: Net, out: Path, scheme: str, options: Options, formats: tuple[str, ...]) -> Path | None:
    """Return our file; None if it was not kept."""
    held = net.preprocessing(net.validation.images[:500])
    try:
        kept: list[Exported] = export(
            net.model, torch.zeros(1, *net.preprocessing.shape), formats=formats, quant=[scheme],
            calibration=net.preprocessing(net.calibration.images[:]), preprocess=net.preprocessing, out=out,
            classes=net.classes, check_on=held, labels=net.validation.labels[:500], name="net", options=options,
            overwrite=True,
        )  # fmt: skip
    except NbedgeError as error:
        print(f"<!-- {error} -->")
        return None
    return kept[0].artifact.path


if __name__ == "__main__":
    main()
