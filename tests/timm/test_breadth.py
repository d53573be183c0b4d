"""Networks of docs/breadth.md, measured by the same code; `benchmarks/breadth.py` measures all of them."""

import pytest
import torch

import breadth

pytestmark = pytest.mark.group("timm")

#: boosted at three sites or more, nine of ten plain 1x1 convolutions accepted
BOOSTED = (
    "mobilenetv1_100", "mobilenetv2_035", "mobilenetv3_small_050", "mobilenetv4_conv_small_035", "tf_efficientnet_b0",
    "efficientnet_lite0", "mnasnet_small", "fbnetc_100", "resnet14t", "regnety_002", "ghostnet_050", "lcnet_035",
    "dla46x_c", "repghostnet_050",
)  # fmt: skip
#: some or all of their convolutions have no BatchNorm behind them, or a forward of their own
REFUSED = {
    "mixnet_s": "no BatchNorm with running statistics reads its output alone",
    "test_nfnet": "it is a ScaledStdConv2d, whose forward may do anything",
    "resnet50_gn": "no BatchNorm with running statistics reads its output alone",
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("name", BOOSTED)
def test_a_network_is_boosted_and_contracted_exactly(name: str) -> None:
    row = breadth.measure(name, "subset")
    assert (row.wrong, row.refusal) == (None, None)
    assert row.keys_equal
    assert row.cost_equal
    assert row.float64_error is not None
    assert row.float64_error <= breadth.LIMIT
    assert row.sites >= 3
    assert row.pointwise_accepted >= 0.9 * row.pointwise > 0
    assert row.macs[1] > row.macs[0]


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_merged_is_refused_with_the_reason(name: str) -> None:
    row = breadth.measure(name, "subset")
    assert row.wrong is None
    assert row.pointwise_accepted < row.pointwise
    assert [reason for reason in row.pointwise_refused if reason.startswith(REFUSED[name])]


def test_the_names_of_the_table_are_architectures_of_timm() -> None:
    known = set(breadth.load_timm().list_models())
    assert [name for name in breadth.families() if name not in known] == []
