"""Options: what can be set of an export beside formats and schemes."""

from collections.abc import Mapping
from dataclasses import dataclass

from nbedge.artifact import RUNGS
from nbedge.errors import ExportError

#: what the input of the files is
INPUTS: Mapping[str, str] = {"float": "float32", "uint8-image": "uint8"}
#: what the output is
HEADS = ("logits", "softmax")


@dataclass(frozen=True, slots=True)
class Options:
    """How files are made; what is empty is left to the exporters.

    Attributes:
        backend: tools, the first choice first ("onnx2tf", "litert"). The files of the first are kept; those of the
            others are made to be compared with them.
        opset: of ONNX operators.
        batch: "1", or "dynamic" for any number of inputs at once.
        method: of calibration, as a quantizer calls it ("minmax", "entropy", "percentile").
        operators: of an integer ONNX file: "qdq" or "qoperator".
        target: what the files are meant for; each is told to the exporters that know it.
        input_type: "float" for preprocessed values, "uint8-image" for the pixels of a picture, normalised in the file.
        head: "logits", or "softmax" for probabilities.
        budget: largest loss of top-1 accuracy of an integer file, in percentage points.
        rungs: of the accuracy ladder that may be climbed to meet it, in this order.
    """

    backend: tuple[str, ...] = ()
    opset: str = ""
    batch: str = ""
    method: str = ""
    operators: str = ""
    target: tuple[str, ...] = ()
    input_type: str = "float"
    head: str = "logits"
    budget: float = 1.0
    rungs: tuple[str, ...] = RUNGS

    def __post_init__(self) -> None:
        """Refuse what no exporter is asked about."""
        for name, value, known in (("input_type", self.input_type, INPUTS), ("head", self.head, HEADS)):
            if value not in known:
                raise ExportError(f"unknown {name} {value!r}; choose from {', '.join(known)}")
        if not self.budget >= 0:
            raise ExportError(f"the budget is {self.budget} points; give 0 or more")
        unknown = [rung for rung in self.rungs if rung not in RUNGS]
        if unknown:
            raise ExportError(f"the accuracy ladder has no rung {unknown[0]!r}; choose from {', '.join(RUNGS)}")

    def settings(self) -> dict[str, str]:
        """Return what is set, by the names that exporters give their options; targets are told one by one."""
        chosen = {"opset": self.opset, "batch": self.batch, "method": self.method, "operators": self.operators}
        if self.input_type != "float":
            chosen["input"] = INPUTS[self.input_type]
        if self.head != "logits":
            chosen["head"] = self.head
        return {name: value for name, value in chosen.items() if value}
