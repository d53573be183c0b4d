"""Does an ONNX file give the same answers whatever ONNX Runtime's optimizer makes of it?"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nbedge.runtime import LEVELS, answers, of_onnx
from nbedge.verification.agreement import Limits, relative_error, sqnr_db
from nbedge.verification.equivalence import Check, at_least, at_most


def levels_agree(path: Path, x: NDArray[np.float32], quantized: bool, limits: Limits) -> Check:
    """Compare the answers at every level of optimization with those of the usual one, on inputs x (n, ...).

    An integer file rounds otherwise where its steps are not fused, so that it is judged as quantized files are.
    """
    usual, *others = (answers(of_onnx(path, level=level), x) for level in LEVELS)
    pairs = [(usual[name], other[name]) for other in others for name in usual]
    detail = f"{len(x)} inputs; {', '.join(LEVELS)}"
    if quantized:
        worst = min(sqnr_db(one, other) for one, other in pairs)
        return at_least("levels of optimization agree", worst, limits.sqnr_db, "dB", detail)
    worst = max(relative_error(one, other) for one, other in pairs)
    return at_most("levels of optimization agree", worst, limits.float_error, "max|Δ|/RMS", detail)
