"""How long a file takes and how much memory it needs, on this machine or on another one.

Needs numpy and the runtime of the file, nothing else.
"""

from nbedge.benchmark.case import RUNTIMES, TIMED, Case, cases
from nbedge.benchmark.comparison import Comparison, compare
from nbedge.benchmark.emulated import EmulatedMachine
from nbedge.benchmark.local import LocalMachine
from nbedge.benchmark.machines import place_of
from nbedge.benchmark.measurement import Latency, Layer, Measurement, Memory
from nbedge.benchmark.measuring import Machine, measure
from nbedge.benchmark.microcontroller import MicrocontrollerMachine
from nbedge.benchmark.place import Place, fitting
from nbedge.benchmark.remote import RemoteMachine
from nbedge.machine import conditions

__all__ = [
    "RUNTIMES", "TIMED", "Case", "Comparison", "EmulatedMachine", "Latency", "Layer", "LocalMachine", "Machine",
    "Measurement", "Memory", "MicrocontrollerMachine", "Place", "RemoteMachine", "cases", "compare", "conditions",
    "fitting", "measure", "place_of",
]  # fmt: skip
