"""The tables of `nbedge bench`: names that can be read, and parts only of what there is."""

from typing import Any

import pytest

from nbedge.cli.measured import parts, short


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a", "a"),
        ("PartitionedCall:0", "PartitionedCall:0"),
        ("m/tf.nn.relu6/Relu6;m/tf.math.add/Add;m/tf.nn.conv_1/convolution;Const_471", "tf.nn.conv_1/convolution"),
        ("Const_471", "Const_471"),
        (";", ";"),
        ("x" * 60, "…" + "x" * 39),
    ],
)
def test_of_a_joined_name_the_last_readable_part_is_shown(name: str, shown: str) -> None:
    assert short(name) == shown


def counted(**more: Any) -> dict[str, Any]:
    told = {"file": "a.tflite", "kernels": "xnnpack", "threads": 1, "runtime": "litert 2", "on": "emulated:cortex-a72"}
    judged = {"verdict": "not timed", "reason": "no clock", "instructions_per_inference": 9, "conditions": {}}
    return {**told, **judged, **more}


def test_what_was_counted_has_no_table_of_times() -> None:
    found = [part for part in parts([counted()], None) if part.rows]
    assert [part.columns[2] for part in found] == ["instructions per inference"]
    (idle,) = [part for part in parts([counted(instructions_per_inference=None)], None) if part.notes]
    assert idle.notes == ("a.tflite (xnnpack) ran in litert 2, and was not timed: no clock",)
