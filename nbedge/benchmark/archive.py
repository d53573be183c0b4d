"""The agent as one file, which any Python from 3.9 on runs: here, in another environment, on a device."""

import zipfile
from importlib.resources import files as sources
from importlib.resources.abc import Traversable
from pathlib import Path

#: what the archive runs
MAIN = "from nbedge.agent.__main__ import main\n\nmain()\n"


def write_agent(path: Path) -> Path:
    """Write the agent to `path` and return it; the same sources give the same bytes."""
    root = sources("nbedge")
    held = {"__main__.py": MAIN, "nbedge/__init__.py": "", "nbedge/machine.py": _text(root / "machine.py")}
    for module in (root / "agent").iterdir():
        if module.name.endswith(".py"):
            held[f"nbedge/agent/{module.name}"] = _text(module)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(held):
            archive.writestr(zipfile.ZipInfo(name), held[name], zipfile.ZIP_DEFLATED)
    return path


def _text(source: Traversable) -> str:
    return source.read_text(encoding="utf-8")
