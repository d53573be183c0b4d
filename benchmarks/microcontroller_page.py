"""The section of docs/results.md that shows what `microcontroller.py` has measured."""
import json
from pathlib import Path
from typing import Any
RESULTS = Path(__file__).parent / "results" / "microcontroller.jsonl"
Row = dict[str, Any]
NBEDGE = "nbedge"
def write(): pass
