import inspect
import re

import pytest

from nbedge import errors
from nbedge.errors import MissingDependencyError, NbedgeError, needs

STATUS = {
    "NbedgeError": 2, "GateError": 1, "InputError": 2, "PlanError": 2, "ContractionError": 2, "CheckpointError": 2,
    "DivergenceError": 2, "ExportError": 2, "MissingDependencyError": 3, "DeviceError": 4,
}  # fmt: skip


def test_each_error_has_its_exit_status() -> None:
    kinds = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, Exception)]
    assert {kind.__name__: kind.exit_status for kind in kinds if issubclass(kind, NbedgeError)} == STATUS
    assert len(kinds) == len(STATUS)


def test_the_page_at_the_top_lists_each_error() -> None:
    assert set(re.findall(r"\w+Error\b", errors.__doc__ or "")) == STATUS.keys()


def test_a_missing_package_is_answered_with_the_command() -> None:
    with pytest.raises(MissingDependencyError, match=r"'no_such_package'.*pip install 'nbedge\[onnx\]'"), needs("onnx"):
        import no_such_package  # type: ignore[import-not-found]  # noqa: F401


def test_other_errors_pass_through() -> None:
    with pytest.raises(KeyError), needs("onnx"):
        raise KeyError("x")
    with needs("onnx"):
        import json  # noqa: F401
