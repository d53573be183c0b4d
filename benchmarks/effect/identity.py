"""What identifies a record: its values in words, but for those that are its class's own defaults.

So a class may get a new value without making everything that was trained before unknown. Whoever changes a default, or
what a word does, raises `PROTOCOL`.
"""

import hashlib
import json
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

#: raised when the same words train otherwise than before: states and lines of other numbers are not gone on with
PROTOCOL = 1


def words(value: Any) -> str:
    """Return a record, a tuple of them, or a plain value in words."""
    if isinstance(value, tuple):
        return f"({', '.join(map(words, value))})"
    if not is_dataclass(value) or isinstance(value, type):
        return repr(value)
    told = [(f.name, getattr(value, f.name), f.default) for f in fields(value)]
    shown = (f"{name}={words(found)}" for name, found, usual in told if usual is MISSING or found != usual)
    return f"{type(value).__name__}({', '.join(shown)})"


def digest(*values: Any) -> str:
    """Return 16 digits that change with the values, and with `PROTOCOL`."""
    return hashlib.sha256(json.dumps([PROTOCOL, *map(words, values)]).encode()).hexdigest()[:16]
