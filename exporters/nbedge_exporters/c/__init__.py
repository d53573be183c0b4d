"""C for microcontrollers, from an integer TFLite file: C99 that needs nothing and gives TFLite Micro's bytes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nbedge.device.cores import CORES
from nbedge.exporter import Job
from nbedge.runtime import Runner


@dataclass(frozen=True, slots=True)
class CExporter:
    """Writes a folder of C: of `targets` the path of its NAME.c."""

    consumes: str = "tflite"
    produces: str = "c"
    source: str = "own"
    schemes: frozenset[str] = frozenset({"int8", "int8-float-io"})
    backend: str = "nbedge"
    options: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"core": ("cortex-m4", *CORES)})
    needs: Mapping[str, str] = field(default_factory=lambda: {"batch": "1"})
    extra: str = "micro"
    packages: tuple[str, ...] = ("tflite-micro", "ai-edge-litert")
    imports: tuple[str, ...] = ("tflite_micro.runtime",)

    def convert(self, job: Job) -> None:
        """Write the folder; every row of `job.calibration` becomes a golden vector.

        Raises:
            ExportError: the file cannot become C.
            MissingDependencyError: tflite-micro, which gives the golden answers, is not installed.
        """
        from nbedge_exporters.c.folder import write_folder

        for target in job.targets.values():
            write_folder(job, target)

    def open(self, path: Path) -> Runner:
        """Compile the folder of a NAME.c for this machine, and run it.

        Raises:
            InputError: the folder is not what `convert` wrote.
            MissingDependencyError: there is no C compiler.
        """
        from nbedge_exporters.c.running import of_c

        return of_c(path)


exporter = CExporter()
