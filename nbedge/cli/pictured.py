"""What `nbedge bench --data` adds: a real picture as the input of each file, and its accuracy."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nbedge.benchmark.baseline import Rows
from nbedge.errors import needs


@contextmanager
def real_inputs(data: str | None, paths: Sequence[Path]) -> Iterator[Mapping[Path, Path]]:
    """Yield file -> .npz with one test picture of the data, as the file takes it; nothing without data."""
    if data is None:
        yield {}
        return
    with TemporaryDirectory(prefix="nbedge-bench-") as folder:
        yield _written(data, paths, Path(folder))


def _written(data: str, paths: Sequence[Path], folder: Path) -> dict[Path, Path]:
    import numpy as np

    found = {}
    for number, path in enumerate(paths):
        subject, source = _opened(path, data)
        picture = subject.prepared()(source.test.images[:1])
        arrays = {"input": picture} if path.suffix == ".safetensors" else _as_taken(subject.model, picture)
        found[path] = folder / f"{number}.npz"
        np.savez(found[path], **arrays)
    return found


def _as_taken(runner: Any, x: Any) -> dict[str, Any]:
    from nbedge.runtime import quantize

    (spec,) = runner.inputs
    laid = x.transpose(0, 2, 3, 1) if spec.layout == "NHWC" else x
    return {spec.name: quantize(laid, spec)}


def with_accuracy(rows: Rows, paths: Sequence[Path], data: str) -> list[dict[str, Any]]:
    """Return the rows with the score of their files on the test pictures: `top1`, or `map` for detectors."""
    from nbedge.cli.evaluate import answers
    from nbedge.task import task_of

    found, key = {}, ""
    for path in paths:
        subject, source = _opened(path, data)
        task = task_of(source.task)
        key = task.key
        found[str(path)] = task.score(answers(subject, source.test.images), source.test.labels)
    return [{**row, key: found[row["path"]]} for row in rows]


def _opened(path: Path, data: str) -> tuple[Any, Any]:
    from nbedge.cli.subject import ModelOptions, open_subject

    with needs("train"):
        from nbedge.data import read
    from nbedge.subject import refuse_other_data

    subject = open_subject(str(path), ModelOptions())
    source = read(data, subject.pictured())
    refuse_other_data(subject, source.task, source.classes, data)
    return subject, source
