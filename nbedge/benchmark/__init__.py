"""How long a file takes and how much memory it needs, on the machine that this runs on.

Needs numpy and the runtime of the file, nothing else.
"""

from nbedge.benchmark.engines import ENGINES
from nbedge.benchmark.local import measure
from nbedge.benchmark.measurement import Measurement
from nbedge.machine import conditions

__all__ = ["ENGINES", "Measurement", "conditions", "measure"]
