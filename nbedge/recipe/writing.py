"""From a recipe to TOML that reads back as the same recipe."""

import json
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nbedge.errors import InputError

if TYPE_CHECKING:
    from nbedge.recipe.records import Recipe


def to_toml(recipe: "Recipe") -> str:
    """Return the recipe as TOML with every default written out; `read` gives the same recipe back."""
    values = asdict(recipe)
    tables = {name: value for name, value in values.items() if isinstance(value, dict)}
    lines = [f"{name} = {literal(value)}" for name, value in values.items() if name not in tables]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {literal(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def literal(value: Any) -> str:
    """Return a plain value as TOML writes it."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {literal(v)}" for key, v in value.items()) + " }" if value else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(literal, value)) + "]"
    if isinstance(value, str):
        # TOML has JSON's escapes, but none for one half of a character, and DEL must be escaped
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float):
        return repr(value)
    raise InputError(f"{value!r} cannot be written into a recipe; give texts, numbers, true or false, lists and tables")


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else literal(name)
