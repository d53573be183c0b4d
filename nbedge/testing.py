"""For your own tests: an assertion that two models are the same, and what differs if they are not."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nbedge.checkpoint import load_checkpoint
from nbedge.runtime import Runner, open_file
from nbedge.verification import Check, Equivalence, Families, Limits, verify

if TYPE_CHECKING:
    from torch import Tensor, nn

    Model = nn.Module | Runner | Path | str


def assert_equivalent(
    reference: "Model",
    candidate: "Model",
    inputs: "Tensor | Families",
    *,
    labels: NDArray[np.int64] | None = None,
    quantized: bool = False,
    limits: Limits | None = None,
) -> Equivalence:
    """Assert that `candidate` is the same as `reference`, as `nbedge.verify` judges it, and return the verdict.

    A giant against its contracted model is proven site by site, whoever contracted it; any other pair is judged by its
    answers.

    Args:
        reference: what is believed: a module, a runner, or the path of a checkpoint or an exported file.
        candidate: what is judged.
        inputs: (n, c, h, w) preprocessed; or by family, of which "real" holds real ones.
        labels: (n,) of the real inputs, for the accuracy.
        quantized: the candidate computes with integers where the reference does not.
        limits: of the answers; the defaults are those of `nbedge.verification.Limits`.

    Raises:
        AssertionError: the verdict is not PASS; the message holds every check that did not pass.
        InputError: there is nothing to compare, or it cannot be compared.
    """
    __tracebackhide__ = True  # pytest shows the test, not this function
    before, after = (_opened(model) for model in (reference, candidate))
    judged = verify(before, after, inputs, labels=labels, quantized=quantized, limits=limits)
    if not judged:
        wrong = judged.failures()
        lines = [f"not equivalent: {len(wrong)} of {len(judged.checks)} checks did not pass", *map(_line, wrong)]
        raise AssertionError("\n".join(lines))
    return judged


def _opened(model: "Model") -> "nn.Module | Runner":
    if not isinstance(model, Path | str):
        return model
    path = Path(model)
    return load_checkpoint(path)[0] if path.suffix == ".safetensors" else open_file(path)


def _line(check: Check) -> str:
    limit = "" if check.limit is None else f", limit {check.limit:g}"
    return f"  {check.verdict}  {check.name}: {check.value:.4g} {check.unit}{limit}; {check.detail}".rstrip("; ")
