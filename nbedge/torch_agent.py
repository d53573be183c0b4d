"""The agent with one runtime more: a checkpoint in torch, which takes nbedge itself to open."""

from pathlib import Path
from typing import Any

from nbedge.agent.__main__ import main
from nbedge.agent.engines import ENGINES, Opened


class Torch:
    """A checkpoint in torch, on the CPU, without gradients."""

    def __init__(self) -> None:
        """Import torch."""
        import torch

        self._torch = torch
        self.runtime = f"torch {torch.__version__}"

    def open(self, path: str, threads: int) -> Opened:
        """Load the checkpoint; its input is one picture as it was preprocessed."""
        from nbedge.checkpoint import load_checkpoint

        torch = self._torch
        torch.set_num_threads(threads)
        model, about = load_checkpoint(Path(path))
        model.eval()
        held: dict[str, Any] = {}

        def feed(arrays: dict[str, Any]) -> None:
            held["x"] = torch.from_numpy(arrays["input"])

        def invoke() -> None:
            with torch.inference_mode():
                held["y"] = model(held["x"])

        return Opened(
            {"input": ((1, *about.preprocessing.shape), "float32")}, feed, invoke,
            lambda: {"output": held["y"].numpy()}, "torch",
        )  # fmt: skip


if __name__ == "__main__":
    main({**ENGINES, "torch": Torch})
