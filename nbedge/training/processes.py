"""The processes that train together: how they were started, how they join, and what they tell each other."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed

from nbedge.errors import InputError
from nbedge.training.sampling import here


def layout() -> tuple[int, int]:
    """Return (processes on each machine, machines), as torchrun or Slurm has started them.

    Raises:
        InputError: the environment contradicts itself.
    """
    processes = here().world
    if processes == 1:  # alone, whatever the allocation it was started in holds
        return 1, 1
    each = _number("LOCAL_WORLD_SIZE")
    if not each:  # Slurm without torchrun
        each = processes // max(1, _number("SLURM_NNODES"))
    if processes % each:
        raise InputError(f"{processes} processes do not spread over machines of {each}; start the same number on each")
    return each, processes // each


def _number(name: str) -> int:
    return int(os.environ.get(name, "0"))


@contextmanager
def together() -> Iterator[None]:
    """Join the processes that torchrun or Slurm started beside this one, for the time of the block."""
    environment = _environment()
    if environment is None or distributed.is_initialized():
        yield
        return
    os.environ.setdefault("MASTER_ADDR", environment.main_address)
    os.environ.setdefault("MASTER_PORT", str(environment.main_port))
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(environment.local_rank())
    distributed.init_process_group(backend, rank=environment.global_rank(), world_size=environment.world_size())
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _environment() -> Any:
    """Return Lightning's view of how this process was started with others; None if it was started alone."""
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    for kind in (TorchElasticEnvironment, SLURMEnvironment):
        if kind.detect():
            found = kind()
            return found if found.world_size() > 1 else None
    return None


def told(value: Any) -> Any:
    """Return the `value` of the first process, in every process."""
    if here().world == 1:
        return value
    box = [value]
    distributed.broadcast_object_list(box, src=0)
    return box[0]


def total(value: torch.Tensor) -> torch.Tensor:
    """Return the sum of `value` over all processes."""
    if here().world > 1:
        distributed.all_reduce(value)
    return value
