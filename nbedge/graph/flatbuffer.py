"""Tables of a flatbuffer, read by the numbers of their fields: for schemas whose generated reader is not installed."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: format of an offset inside the buffer
OFFSET = "<I"


@dataclass(frozen=True, slots=True)
class Table:
    """One table.

    Every method takes the number of a field as the schema counts it: a union takes two, its type and itself, and
    deprecated fields keep theirs. A field that is not set has its default. A buffer that was cut short raises
    `struct.error` or `ValueError`.

    Attributes:
        buffer: that holds it.
        place: where it begins.
    """

    buffer: bytes
    place: int

    @staticmethod
    def root(buffer: bytes) -> "Table":
        """Return the table that a buffer is."""
        return Table(buffer, struct.unpack_from(OFFSET, buffer)[0])

    def number(self, field: int, kind: str = "<I", default: int | float = 0) -> Any:
        """Return a number; `kind` is its format, as `struct` writes it."""
        place = self._place(field)
        return struct.unpack_from(kind, self.buffer, place)[0] if place else default

    def table(self, field: int) -> "Table | None":
        """Return a table, or the value of a union; None if it is not set."""
        place = self._place(field)
        return Table(self.buffer, self._behind(place)) if place else None

    def text(self, field: int) -> str:
        """Return a string."""
        return bytes(self.numbers(field, "u1")).decode()

    def numbers(self, field: int, dtype: str = "<u4") -> NDArray[Any]:
        """Return a vector of numbers."""
        length, place = self._vector(field)
        return np.frombuffer(self.buffer, dtype, length, place) if length else np.empty(0, dtype)

    def tables(self, field: int) -> Iterator["Table"]:
        """Yield the tables of a vector."""
        length, place = self._vector(field)
        for at in range(place, place + 4 * length, 4):
            yield Table(self.buffer, self._behind(at))

    def _place(self, field: int) -> int:
        """Return where a field lies; 0 if it is not set."""
        slots = self.place - struct.unpack_from("<i", self.buffer, self.place)[0]
        at = 4 + 2 * field
        if at >= struct.unpack_from("<H", self.buffer, slots)[0]:
            return 0
        offset: int = struct.unpack_from("<H", self.buffer, slots + at)[0]
        return self.place + offset if offset else 0

    def _behind(self, place: int) -> int:
        return place + int(struct.unpack_from(OFFSET, self.buffer, place)[0])

    def _vector(self, field: int) -> tuple[int, int]:
        """Return the length of a vector, and where its first element lies."""
        place = self._place(field)
        if not place:
            return 0, 0
        start = self._behind(place)
        return struct.unpack_from(OFFSET, self.buffer, start)[0], start + 4
