"""The emulated Raspberry Pi: the runtimes of a Pi start there and compute, bit for bit, what they compute here."""

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nbedge.data import open_data
from nbedge.device import userland
from nbedge.device.emulated import BOARDS, CPUS, SITE, EmulatedPi
from nbedge.errors import InputError, MissingDependencyError
from nbedge.runtime import open_file

pytest.importorskip("ai_edge_litert")
pytest.importorskip("onnxruntime")
ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "sample_models" / "fashion_mnist"
