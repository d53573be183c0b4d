"""End to end: from a picture in memory to the number of the answer, as an application would do it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nbedge.agent.engines import Opened


def end_to_end(opened: Opened, sidecar: dict[str, Any]) -> Callable[[], int] | None:
    """Return a call that takes a picture (h, w, c) uint8 of the file's size through preprocessing, copies and invoke.

    None where the sidecar does not say how a picture becomes the input. Decoding and resizing are not in it.
    """
    preprocessing, specs = sidecar.get("preprocessing"), sidecar.get("inputs", ())
    if not preprocessing or len(specs) != 1 or len(opened.entries) != 1:
        return None
    (spec,), (name,) = specs, opened.entries
    channels, height, width = preprocessing["shape"]
    picture = np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)
    mean, std = (np.asarray(preprocessing[key], np.float32) for key in ("mean", "std"))
    scale, shift = 1 / (255 * std), -mean / std

    def call() -> int:
        opened.feed({name: encoded(picture.astype(np.float32) * scale + shift, spec)})
        opened.invoke()
        return int(np.argmax(next(iter(opened.answers().values()))))

    return call


def encoded(x: Any, spec: dict[str, Any]) -> Any:
    """Return numbers (h, w, c) float32 as the input that `spec` describes: its layout, its integers."""
    x = x[None] if spec["layout"] == "NHWC" else np.ascontiguousarray(x.transpose(2, 0, 1))[None]
    dtype = np.dtype(spec["dtype"])
    if dtype.kind == "f":
        return x.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    if spec.get("scale"):
        x = x / np.float32(spec["scale"]) + spec.get("zero_point", 0)
    return np.clip(np.rint(x), limits.min, limits.max).astype(dtype)
