"""TFLite Metadata: what a phone's task library reads inside a file, normalisation and labels.

The table is written field by field, as the schema of TFLite Metadata numbers them (metadata_schema.fbs, version 1.5);
no kept library writes it. The labels are a file in an archive that is appended to the flatbuffer.
"""

import io
import zipfile
from typing import Any

import numpy as np

from nbedge.graph.tflite import METADATA
from nbedge.preprocessing import Preprocessing

#: identifier of the table, and least version of its reader
IDENTIFIER, LEAST = b"M001", b"1.0.0"
LABELS = "labels.txt"
#: name of the output whose numbers are one a class: of a single one, or of those of a detector
SCORES = "scores"
#: numbers of the schema
TENSOR_AXIS_LABELS, NORMALIZATION, IMAGE, FEATURE, RGB, GRAYSCALE = 2, 1, 2, 1, 1, 2
#: of every file in the archive: the same input gives the same bytes
EPOCH = (1980, 1, 1, 0, 0, 0)


def add_(model: Any, preprocessing: Preprocessing, classes: tuple[str, ...]) -> None:
    """Put the metadata into a model read from a file."""
    from ai_edge_litert import schema_py_generated as schema

    held = schema.BufferT()
    held.data = np.frombuffer(_table(preprocessing, _outputs(model), bool(classes)), np.uint8)
    model.buffers.append(held)
    entry = schema.MetadataT()
    entry.name, entry.buffer = METADATA, len(model.buffers) - 1
    model.metadata = [*(model.metadata or ()), entry]


def with_labels(content: bytes, classes: tuple[str, ...]) -> bytes:
    """Return the file with its labels behind it, one a line."""
    if not classes:
        return content
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        file.writestr(zipfile.ZipInfo(LABELS, EPOCH), "\n".join(classes))
    return content + archive.getvalue()


def _outputs(model: Any) -> list[str]:
    """Return the names of the outputs in the order of the file, as its signature calls them if there are several."""
    places = model.subgraphs[0].outputs
    if len(places) == 1:
        return [SCORES]
    signed = {entry.tensorIndex: entry.name for signature in model.signatureDefs or () for entry in signature.outputs}
    names = [signed.get(place, model.subgraphs[0].tensors[place].name) for place in places]
    return [name.decode() for name in names]


def _table(preprocessing: Preprocessing, outputs: list[str], labelled: bool) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    entry = _input(builder, preprocessing)
    exits = [_output(builder, name, labelled and name == SCORES) for name in outputs]
    graph = _object(builder, 9, {2: _vector(builder, [entry]), 3: _vector(builder, exits)})
    graphs = _vector(builder, [graph])
    name = builder.CreateString("classifier" if len(outputs) == 1 else "model")
    least = builder.CreateString(LEAST.decode())
    builder.Finish(_object(builder, 8, {0: name, 3: graphs, 7: least}), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def _input(builder: Any, preprocessing: Preprocessing) -> int:
    """Write the TensorMetadata of a picture; x = (pixel - mean) / std with pixels of 0 to 255."""
    mean, std = (np.asarray(v, np.float32) * 255 for v in (preprocessing.mean, preprocessing.std))
    numbers = _object(builder, 2, {0: builder.CreateNumpyVector(mean), 1: builder.CreateNumpyVector(std)})
    units = _vector(builder, [_union(builder, NORMALIZATION, numbers)])
    space = RGB if preprocessing.shape[0] == 3 else GRAYSCALE
    builder.StartObject(2)
    builder.PrependInt8Slot(0, space, 0)
    content = _content(builder, IMAGE, builder.EndObject())
    low, high = -mean / std, (255 - mean) / std
    stats = _object(builder, 2, {0: builder.CreateNumpyVector(high), 1: builder.CreateNumpyVector(low)})
    name = builder.CreateString("image")
    return _object(builder, 7, {0: name, 3: content, 4: units, 5: stats})


def _output(builder: Any, called: str, labelled: bool) -> int:
    files = None
    if labelled:
        name = builder.CreateString(LABELS)
        builder.StartObject(5)
        builder.PrependUOffsetTRelativeSlot(0, name, 0)
        builder.PrependInt8Slot(2, TENSOR_AXIS_LABELS, 0)
        files = _vector(builder, [builder.EndObject()])
    builder.StartObject(0)
    content = _content(builder, FEATURE, builder.EndObject())
    name = builder.CreateString(called)
    return _object(builder, 7, {0: name, 3: content, 6: files})


def _content(builder: Any, kind: int, properties: int) -> int:
    builder.StartObject(3)
    builder.PrependUint8Slot(0, kind, 0)
    builder.PrependUOffsetTRelativeSlot(1, properties, 0)
    return int(builder.EndObject())


def _union(builder: Any, kind: int, options: int) -> int:
    builder.StartObject(2)
    builder.PrependUint8Slot(0, kind, 0)
    builder.PrependUOffsetTRelativeSlot(1, options, 0)
    return int(builder.EndObject())


def _object(builder: Any, fields: int, held: dict[int, int | None]) -> int:
    builder.StartObject(fields)
    for slot, offset in held.items():
        if offset is not None:
            builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    return int(builder.EndObject())


def _vector(builder: Any, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())
