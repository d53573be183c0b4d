import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from nbedge import samples
from nbedge.contraction import contract
from nbedge.expansion import expand
from nbedge.linearization import PLT
from nbedge.proposal import propose
from nbedge.slopes import set_slope_, slopes_of
from nbedge.verification import verify
from nbedge.wrappers import unwrapped


@pytest.fixture
def giant() -> nn.Module:
    torch.manual_seed(0)
    model, x = samples.mobilenet_v2_tiny(width_mult=0.5), torch.randn(4, 1, 28, 28)
    giant = expand(model, propose(model, x, ratio=2)).train()
    giant(x)
    set_slope_(giant, 1.0)
    return giant.eval()


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def same(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def compiled(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")  # type: ignore[return-value]


@pytest.mark.parametrize(
    "wrap",
    [
        AveragedModel, DataParallel, compiled, lambda model: compiled(AveragedModel(model)),
        lambda model: AveragedModel(compiled(model)),
    ],
    ids=["averaged", "data parallel", "compiled", "compiled average", "average of the compiled"],
)  # fmt: skip
def test_a_wrapped_giant_is_contracted_and_verified(giant: nn.Module, wrap: Callable[[nn.Module], nn.Module]) -> None:
    wrapped, wanted = wrap(copy.deepcopy(giant)).eval(), contract(giant)
    tiny = contract(wrapped)
    assert same(tiny, wanted)
    assert type(tiny) is samples.MobileNetV2
    assert verify(wrapped, tiny, torch.randn(2, 1, 28, 28))


@pytest.mark.usefixtures("one_process")
def test_a_giant_of_distributed_training_is_trained_straightened_and_contracted(giant: nn.Module) -> None:
    wrapped, x = DistributedDataParallel(giant.train()), torch.randn(4, 1, 28, 28)
    plt = PLT(0, 2)
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.01)
    for step in range(3):
        plt.apply(wrapped, step)
        optimizer.zero_grad()
        wrapped(x).square().mean().backward()
        optimizer.step()
    assert set(slopes_of(wrapped).values()) == {1.0}
    tiny = contract(wrapped.eval())
    assert same(tiny, contract(giant))
    assert verify(wrapped, tiny, x)


@pytest.mark.usefixtures("one_process")
def test_a_giant_of_synchronised_norms_is_contracted(giant: nn.Module) -> None:
    wanted, x = contract(giant), torch.randn(2, 1, 28, 28)
    synchronised: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(giant)  # type: ignore[no-untyped-call]
    assert any(
        isinstance(part, nn.SyncBatchNorm) for part in synchronised.get_submodule("features.2.conv.0.0").modules()
    )
    tiny = contract(synchronised)
    assert same(tiny, wanted)
    assert verify(synchronised, tiny, x)
    samples.mobilenet_v2_tiny(width_mult=0.5).load_state_dict(tiny.state_dict(), strict=True)


def test_a_plain_model_is_itself(giant: nn.Module) -> None:
    assert unwrapped(giant) is giant


def test_a_schedule_compiles_nothing_again(giant: nn.Module) -> None:
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    counter, x, plt = CompileCounter(), torch.randn(2, 1, 28, 28), PLT(0, 4)
    run: Callable[[Tensor], Tensor] = torch.compile(giant, backend=counter)
    plt.apply(giant, 0)
    run(x)
    first = counter.frame_count
    for step in range(1, 6):
        plt.apply(run, step)  # type: ignore[arg-type]
        torch.testing.assert_close(run(x), giant(x))
    assert counter.frame_count == first > 0
