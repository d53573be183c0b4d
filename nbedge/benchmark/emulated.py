"""An emulated Raspberry Pi: it counts the instructions of an inference. Its clock says nothing, so no time is taken."""

import json
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbedge.benchmark.archive import write_agent
from nbedge.benchmark.local import last_line, result_of
from nbedge.benchmark.place import EMULATED
from nbedge.device.emulated import EmulatedPi
from nbedge.errors import DeviceError

#: invokes of two runs: their difference holds no start of Python and no loading of the file.
#: What the start takes differs by 0.01 % from run to run, so that of 200 invokes of a small network by 0.1 % (measured)
FEW, MANY = 10, 210
TIMEOUT_S = 1800


class EmulatedMachine:
    """A Raspberry Pi's processor by qemu, `emulated:CPU`."""

    seconds = 0.0
    timed = False
    compiles = False
    runtimes = EMULATED

    def __init__(self, cpu: str, site: Path | None = None) -> None:
        """Take one of `nbedge.device.emulated.CPUS`, and if wished a folder with other runtimes.

        Raises:
            InputError: there is no such CPU.
            MissingDependencyError: the emulated Raspberry Pi is not made.
        """
        EmulatedPi().python(cpu)
        self.name, self._cpu, self._site = f"emulated:{cpu}", cpu, site
        self._folder = tempfile.TemporaryDirectory(prefix="nbedge-bench-")
        self._agent = write_agent(Path(self._folder.name) / "agent.pyz")

    def __enter__(self) -> "EmulatedMachine":
        return self

    def __exit__(self, *_exception: object) -> None:
        self._folder.cleanup()

    def run(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Count the instructions of an inference.

        Raises:
            DeviceError: the runtime does not run on this processor.
            InputError: the file could not be run.
            MissingDependencyError: its runtime is not there.
        """
        # the first start may compile modules of Python
        few = min(self._counted(job, FEW)[0] for _ in range(2))
        many, found = self._counted(job, MANY)
        return {**found, "instructions": round((many - few) / (MANY - FEW))}

    def _counted(self, job: Mapping[str, Any], invokes: int) -> tuple[int, dict[str, Any]]:
        counted = Path(self._folder.name) / "instructions"
        command, variables = EmulatedPi().python(self._cpu, counted, self._site)
        done = subprocess.run(
            [*command, str(self._agent)], input=json.dumps({**job, "invokes": invokes}), env=variables,
            capture_output=True, encoding="utf-8", errors="replace", timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
        if done.returncode == -signal.SIGILL:
            raise DeviceError(
                f"{job['runtime']} dies with an illegal instruction on {self._cpu}: its build is for newer processors; "
                "use another version of it there"
            )
        cure = "the emulated Raspberry Pi has LiteRT (litert) and ONNX Runtime (onnxruntime); choose one of them"
        found = result_of(done.stdout, job, f"exit status {done.returncode}: {last_line(done.stderr)}", cure)
        return int(counted.read_text(encoding="ascii")), found
