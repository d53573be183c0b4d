"""For your own tests: an assertion that two models are the same, and what differs if they are not."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nbedge import artifact
from nbedge.checkpoint import load_checkpoint
from nbedge.reference import ModelReference
from nbedge.runtime import Runner, open_file, suffixes
from nbedge.verification import Check, Equivalence, Families, Limits, verify

if TYPE_CHECKING:
    from torch import Tensor, nn

    Model = nn.Module | Runner | Path | str


def assert_equivalent(
    reference: "Model",
    candidate: "Model",
    inputs: "Tensor | NDArray[np.float32] | Families",
    *,
    labels: NDArray[np.int64] | None = None,
    quantized: bool | None = None,
    limits: Limits | None = None,
) -> Equivalence:
    """Assert that `candidate` is the same as `reference`, as `nbedge.verify` judges it, and return the verdict.

    A giant against its contracted model is proven site by site, whoever contracted it; any other pair is judged by its
    answers.

    Args:
        reference: what is believed: a module, a runner, the path of a checkpoint or an exported file, or a model
            reference such as `path/to/file.py:factory`.
        candidate: what is judged.
        inputs: (n, c, h, w) preprocessed; or by family, of which "real" holds real ones.
        labels: (n,) of the real inputs, for the accuracy.
        quantized: the candidate computes with integers where the reference does not, or in kernels that round
            otherwise; None: as the files say.
        limits: of the answers; the defaults are those of `nbedge.verification.Limits`.

    Raises:
        AssertionError: the verdict is not PASS; the message holds every check that did not pass.
        InputError: there is nothing to compare, or it cannot be compared.
    """
    __tracebackhide__ = True  # pytest shows the test, not this function
    before, after = (_opened(model) for model in (reference, candidate))
    if quantized is None:
        kernels = {model.kernels for model in (before, after) if isinstance(model, Runner)}
        quantized = _integer(candidate, after) and not (_integer(reference, before) and len(kernels) == 1)
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
    if path.suffix == ".safetensors":
        return load_checkpoint(path)[0]
    return open_file(path) if path.suffix in suffixes() or ":" not in str(model) else ModelReference(str(model)).build()


def _integer(named: "Model", model: "nn.Module | Runner") -> bool:
    """Return whether a model computes with integers, as its sidecar says, or else the types of its ends."""
    if not isinstance(model, Runner):
        return False
    if isinstance(named, Path | str) and artifact.sidecar(Path(named)).exists():
        return artifact.read(Path(named)).scheme.startswith("int8")
    return any(spec.scale for spec in (*model.inputs, *model.outputs))


def _line(check: Check) -> str:
    limit = "" if check.limit is None else f", limit {check.limit:g}"
    return f"  {check.verdict}  {check.name}: {check.value:.4g} {check.unit}{limit}; {check.detail}".rstrip("; ")
