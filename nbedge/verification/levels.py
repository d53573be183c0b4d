"""Does an ONNX file give the same answers whatever ONNX Runtime's optimizer makes of it?"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nbedge.runtime import answers, of_onnx
from nbedge.runtime.onnx import USUAL, optimization_levels
from nbedge.verification.agreement import Limits, relative_error, sqnr_db
from nbedge.verification.equivalence import Check, at_least, at_most


def levels_agree(path: Path, x: NDArray[np.float32], quantized: bool, limits: Limits) -> Check:
    """Compare the answers at every level of optimization with those of the usual one, on inputs x (n, ...).

    An integer file rounds otherwise where its steps are not fused, so that it is judged as quantized files are.
    """
    found = {level: answers(of_onnx(path, level=level), x) for level in optimization_levels()}
    usual, detail = found[USUAL], f"{len(x)} inputs; {', '.join(found)}"
    pairs = [(usual[name], other[name]) for level, other in found.items() if level != USUAL for name in usual]
    if quantized:
        worst = min(sqnr_db(one, other) for one, other in pairs)
        return at_least("levels of optimization agree", worst, limits.sqnr_db, "dB", detail)
    # numpy's keeps what is no number
    worst = float(np.max([relative_error(one, other) for one, other in pairs]))
    return at_most("levels of optimization agree", worst, limits.float_error, "max|Δ|/RMS", detail)
