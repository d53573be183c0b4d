"""Sets of pictures that Hugging Face `datasets` reads: from its hub, or from a folder on the disk."""

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np

from nbedge.data.pictures import Pictures
from nbedge.data.records import Source, fingerprint
from nbedge.data.stream import PictureStream, collected, readable
from nbedge.errors import InputError, needs

LOG = logging.getLogger(__name__)
VALIDATION, TEST = ("validation", "valid", "val", "dev"), ("test",)
#: share of a set without any other part that becomes the test, as for folders
TEST_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Opened:
    """A set that is open for streaming.

    Attributes:
        parts: by name.
        rows: how many each has, where the set says it.
        fingerprint: changes with the pictures.
    """

    parts: Mapping[str, Any]
    rows: Mapping[str, int]
    fingerprint: str


def read_hub(text: str, shape: tuple[int, int, int]) -> Source:
    """Read NAME, OWNER/NAME, OWNER/NAME/CONFIG or a folder, perhaps with ?image=COLUMN&label=COLUMN.

    The training part stays a stream; the others are read.

    Raises:
        InputError: the set cannot be read, or has no training part, or not one column each of pictures and labels.
        MissingDependencyError: `datasets` is not installed.
    """
    place, _, query = text.partition("?")
    origin, opened = f"hf:{place}", _opened(place)
    if "train" not in opened.parts:
        raise InputError(f"{origin} has the parts {', '.join(opened.parts)}; one called train is needed")
    columns = _columns(opened.parts["train"].features or {}, dict(parse_qsl(query)), origin)
    train, classes = _stream(opened, columns, shape, origin)
    held = [part for names in (VALIDATION, TEST) if (part := _part(opened, names, train)) is not None]
    if not held:
        test, rest = train.split(round(len(train) * TEST_SHARE), np.random.default_rng(0))
        return Source(rest, test, classes, opened.fingerprint)
    return Source(train, held[-1], classes, opened.fingerprint, held[0] if len(held) == 2 else None)


def _opened(place: str) -> Opened:
    with needs("hf"):
        import datasets
    path = Path(place)
    try:
        if (path / "dataset_dict.json").is_file():
            return _saved(path, datasets.load_from_disk(place))
        name, config = (place, None) if path.exists() else _named(place)
        builder = datasets.load_dataset_builder(name, config)
        parts = builder.as_streaming_dataset()
    except Exception as error:  # a wrong name, a folder without pictures, no network: each raises its own kind
        raise InputError(
            f"hf:{place} cannot be read ({error}); give OWNER/NAME, OWNER/NAME/CONFIG or a folder"
        ) from error
    counts = {name: split.num_examples for name, split in (builder.info.splits or {}).items() if split.num_examples}
    return Opened(parts, counts, _identity(path, builder))


def _named(place: str) -> tuple[str, str | None]:
    owner, *rest = place.split("/", 2)
    return ("/".join((owner, rest[0])), rest[1]) if len(rest) == 2 else (place, None)


def _saved(path: Path, parts: Mapping[str, Any]) -> Opened:
    """Open what `save_to_disk` wrote."""
    streams = {name: part.to_iterable_dataset(max(1, len(part) // 1000)) for name, part in parts.items()}
    return Opened(streams, {name: len(part) for name, part in parts.items()}, fingerprint(_files(path)))


def _identity(path: Path, builder: Any) -> str:
    if path.exists():
        return fingerprint(_files(path))
    listed = sorted(str(file) for files in (builder.config.data_files or {}).values() for file in files)
    said = (builder.repo_id, builder.config.name, str(builder.config.version), builder.hash, *listed)
    return hashlib.sha256("\n".join(map(str, said)).encode()).hexdigest()


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _columns(features: Mapping[str, Any], asked: Mapping[str, str], origin: str) -> tuple[str, str]:
    """Return the columns of pictures and of labels; ClassLabel goes before whole numbers."""
    from datasets import ClassLabel, Image

    images = [name for name, kind in features.items() if isinstance(kind, Image)]
    labels = [name for name, kind in features.items() if isinstance(kind, ClassLabel)]
    numbers = [name for name, kind in features.items() if str(getattr(kind, "dtype", "")).startswith(("int", "uint"))]
    if asked.get("label") in numbers:
        labels = numbers
    about = f"{origin} has the columns {', '.join(features) or 'of no known type'}"
    return (
        _one(images, asked.get("image"), f"{about}; one of pictures (Image) is needed", "image"),
        _one(labels or numbers, asked.get("label"), f"{about}; one of labels (ClassLabel, int) is needed", "label"),
    )


def _one(found: list[str], asked: str | None, rule: str, key: str) -> str:
    if asked is not None and asked not in found:
        raise InputError(f"{rule}, and {asked!r} is none; choose from {', '.join(found) or 'another set'}")
    if asked is None and len(found) > 1:
        raise InputError(f"{rule}, and there are {', '.join(found)}; append ?{key}={found[0]} or another")
    if not found:
        raise InputError(f"{rule}, and there is none; choose another set, or add the column")
    return asked or found[0]


def _stream(
    opened: Opened, columns: tuple[str, str], shape: tuple[int, int, int], origin: str
) -> tuple[PictureStream, tuple[str, ...]]:
    """Return the training stream and the names of the classes; where the set does not say them, count the labels."""
    part = opened.parts["train"]
    names, said = getattr(part.features[columns[1]], "names", None), opened.rows.get("train")
    if names is None or said is None:
        LOG.warning("%s does not say how many training pictures or classes it has; counting them", origin)
        counts = Counter(row[columns[1]] for row in readable(part.select_columns([columns[1]]), origin))
        said = counts.total()
        names = names if names is not None else sorted(number for number in counts if number is not None)
    numbers = dict(zip(names if isinstance(names[0], int) else range(len(names)), range(len(names)), strict=True))
    return PictureStream(origin, _raw(part, columns), columns, numbers, shape, said), tuple(map(str, names))


def _raw(part: Any, columns: tuple[str, str]) -> Any:
    from datasets import Image

    return part.select_columns(list(columns)).cast_column(columns[0], Image(decode=False))


def _part(opened: Opened, names: tuple[str, ...], train: PictureStream) -> Pictures | None:
    """Read the first part that has one of `names`; sets whose test labels are kept secret have none."""
    name = next((name for name in names if name in opened.parts), None)
    if name is None:
        return None
    label = train.columns[1]
    first = next(readable(opened.parts[name].select_columns([label]), train.origin), None)
    if first is None or first[label] in (-1, None):
        return None
    rows = train.examples(_raw(opened.parts[name], train.columns))
    return collected(tuple(rows), train.size, f"{train.origin}, part {name}")
