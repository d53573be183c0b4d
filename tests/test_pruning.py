"""Pruning: the size that was asked for, checkpoints that open again, masks that hold, files that pass."""

import contextlib
import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nbedge import Preprocessing, expand, load_checkpoint, propose, prune_channels, prune_weights
from nbedge import save_checkpoint as save
from nbedge.checkpoint import Checkpoint, read_metadata
from nbedge.cli import main
from nbedge.data import load
from nbedge.errors import CheckpointError, InputError, MissingDependencyError
from nbedge.narrowing import Width, narrowed, widths
from nbedge.pruning import SPREADS, emptied, nonzero, settle_
from nbedge.reference import ModelReference
from nbedge.samples import mobilenet_v2_tiny
from nbedge.tracing import cost
from nbedge.training import TrainSettings, train

X = torch.zeros(1, 1, 28, 28)
REFERENCE = ModelReference("sample:mobilenet_v2_tiny", {"num_classes": 2})
ABOUT = Checkpoint("control", REFERENCE, Preprocessing((1, 28, 28), (0.5,), (0.5,)), ("0", "1"))
ENVIRONMENT = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}


class Gated(nn.Module):
    """What timm's networks are made of: squeeze-excite, a grouped convolution, a concatenation, a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish())
        self.reduce, self.excite = nn.Conv2d(16, 8, 1), nn.Conv2d(8, 16, 1)
        self.grouped = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=4, bias=False), nn.BatchNorm2d(16))
        self.join, self.head = nn.Conv2d(32, 24, 1), nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        gate = self.excite(torch.relu(self.reduce(y.mean((2, 3), keepdim=True))))
        y = y * torch.sigmoid(gate)
        z = y + self.grouped(y)
        result: Tensor = self.head(torch.relu(self.join(torch.cat([y, z], 1))).mean((2, 3)))
        return result


class Odd(Gated):
    """Gated, with one thing that cannot be pruned."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.norm = kind, nn.GroupNorm(4, 16)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        if self.kind == "norm":
            y = self.norm(y)
        if self.kind == "view":
            y = y.view(-1, 16, 4, 4)
        if self.kind == "number":
            y = y * torch.ones(16, 1, 1)
        result: Any = self.head(self.join(torch.cat([y, y], 1)).mean((2, 3)))
        return (result, y) if self.kind == "tuple" else result  # type: ignore[return-value]


def wide(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return REFERENCE.build().eval()


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def answers(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        result: Tensor = model.eval()(x)
        return result


# structured


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("share", [0.9, 0.37, 0.1])
def test_macs_are_at_most_the_target_and_near_it(spread: str, share: float) -> None:
    model = wide()
    target = int(share * cost(model, X).macs)
    pruned = prune_channels(model, X, target, spread=spread, multiple=1)
    assert 0.9 * target < cost(pruned, X).macs <= target
    y = answers(pruned, noise(3, 1, 28, 28))
    assert y.shape == (3, 2)
    assert y.isfinite().all()


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("multiple", [2, 4, 8])
def test_widths_are_multiples(spread: str, multiple: int) -> None:
    model = wide()
    pruned = prune_channels(model, X, 200_000, spread=spread, multiple=multiple)
    assert 150_000 < cost(pruned, X).macs <= 200_000
    assert all(width.outputs % multiple == 0 for width in widths(model, pruned) if width.layer != "classifier.1")


def test_the_wide_model_is_left_as_it_is() -> None:
    model = wide().train()
    before = copy.deepcopy(model.state_dict())
    pruned = prune_channels(model, X, 100_000)
    assert model.training
    assert pruned.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_sums_and_depthwise_layers_stay_in_step() -> None:
    pruned: Any = prune_channels(wide(), X, 100_000)
    for block in pruned.features[1:-1]:
        layers = [m for m in block.modules() if isinstance(m, nn.Conv2d)]
        assert not block.use_res_connect or layers[0].in_channels == layers[-1].out_channels
        assert all(m.groups == m.in_channels == m.out_channels for m in layers if m.kernel_size == (3, 3))


@pytest.mark.parametrize("spread", SPREADS)
def test_gates_groups_and_concatenations(spread: str) -> None:
    torch.manual_seed(0)
    model, x = Gated().eval(), torch.zeros(2, 3, 8, 8)
    target = cost(model, x).macs // 2
    pruned: Any = prune_channels(model, x, target, spread=spread, multiple=1)
    assert cost(pruned, x).macs <= target
    assert pruned.grouped[0].in_channels % pruned.grouped[0].groups == 0
    assert answers(pruned, noise(2, 3, 8, 8)).isfinite().all()


def test_small_channels_go_first() -> None:
    model: Any = wide()
    with torch.no_grad():
        for layer in (model.features[-1][0], model.features[-1][1], model.classifier[1]):
            layer.weight[..., ::2] = 0 if layer is model.classifier[1] else layer.weight[..., ::2]
        model.features[-1][0].weight[::2] = 0
        model.features[-1][1].weight[::2] = 0
    pruned: Any = prune_channels(model, X, int(0.8 * cost(model, X).macs))
    assert pruned.features[-1][0].out_channels < 64
    kept = {tuple(row.flatten().tolist()) for row in pruned.classifier[1].weight.T if row.any()}
    assert kept == {tuple(row.flatten().tolist()) for row in model.classifier[1].weight.T if row.any()}


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("norm", "pruning changes norm.weight, which belongs to no convolution"),
        ("view", "torch-pruning cannot trace or prune Odd"),
        ("number", "torch-pruning cannot trace or prune Odd"),
        ("tuple", "Odd answers with a tuple"),
    ],
)
def test_what_cannot_be_pruned_is_refused(kind: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        prune_channels(Odd(kind), torch.zeros(1, 3, 8, 8), 10_000, multiple=1)


def test_targets_out_of_reach_are_refused() -> None:
    model = wide()
    with pytest.raises(InputError, match=r"has 476352 multiply-accumulates, no more than the 476352 .* wider model"):
        prune_channels(model, X, cost(model, X).macs)
    with pytest.raises(InputError, match=r"ends at \d+ multiply-accumulates, above 100; ask for more or"):
        prune_channels(model, X, 100)
    with pytest.raises(InputError, match="spread is 'wild'; choose from uniform, global"):
        prune_channels(model, X, 1000, spread="wild")
    with pytest.raises(InputError, match="multiple is 0; give 1 or more"):
        prune_channels(model, X, 1000, multiple=0)
    with pytest.raises(InputError, match="has 14954 parameters, no more than the 14954"):
        prune_weights(model, 14_954)
    with pytest.raises(InputError, match=r"\d+ parameters of the model are biases, .* 100 cannot be reached"):
        prune_weights(model, 100)


def test_a_giant_is_refused() -> None:
    giant = expand(wide(), propose(wide(), X))
    with pytest.raises(InputError, match="is a giant, which is contracted and not pruned"):
        prune_channels(giant, X, 1000)
    with pytest.raises(InputError, match="is a giant, which is contracted and not pruned"):
        prune_weights(giant, 5000)


def test_without_torch_pruning_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(MissingDependencyError, match=r"torch_pruning' is not installed; run: pip .*'nbedge\[prune\]'"):
        prune_channels(wide(), X, 100_000)


# checkpoints


def test_a_pruned_model_survives_its_checkpoint_bit_for_bit(tmp_path: Path) -> None:
    pruned, x = prune_channels(wide(), X, 100_000), noise(4, 1, 28, 28)
    pruned.train()(x)
    about = replace(ABOUT, stage="pruned", widths=widths(REFERENCE.build(), pruned))
    save(tmp_path / "a.safetensors", pruned, about)
    again, found = load_checkpoint(tmp_path / "a.safetensors")
    assert torch.equal(answers(again, x), answers(pruned, x))
    assert (found.stage, found.widths) == ("pruned", about.widths)
    assert cost(again, X) == cost(pruned, X)
    again.train()(x).sum().backward()
    assert all(parameter.grad is not None for parameter in again.parameters())


def test_a_pruned_model_can_be_expanded_and_pruned_again(tmp_path: Path) -> None:
    pruned = prune_channels(wide(), X, 200_000)
    plan = propose(pruned, X)
    giant = expand(pruned, plan).eval()
    about = replace(ABOUT, stage="giant", plan=plan, widths=widths(REFERENCE.build(), pruned))
    save(tmp_path / "a.safetensors", giant, about)
    again, _ = load_checkpoint(tmp_path / "a.safetensors")
    assert torch.equal(answers(again, noise(2, 1, 28, 28)), answers(giant, noise(2, 1, 28, 28)))
    assert cost(prune_channels(pruned, X, 100_000), X).macs <= 100_000


def test_a_checkpoint_without_widths_keeps_its_bytes() -> None:
    assert "widths" not in ABOUT.to_dict()
    assert Checkpoint.from_dict(ABOUT.to_dict()) == ABOUT


@pytest.mark.parametrize(
    ("width", "said"),
    [
        ({"layer": "features.0.1", "inputs": 9, "outputs": 9, "groups": 1}, "cannot be narrowed to 9 to 9 in 1"),
        ({"layer": "features.0.0", "inputs": 1, "outputs": 0, "groups": 1}, "cannot be narrowed to 1 to 0 in 1"),
        ({"layer": "features.0.0", "inputs": 1, "outputs": 4, "groups": 2}, "cannot be narrowed to 1 to 4 in 2"),
        ({"layer": "features.0.2", "inputs": 1, "outputs": 4, "groups": 1}, "no convolution, .* 'features.0.2'"),
        ({"layer": "features.0.0", "inputs": 1, "outputs": "4", "groups": 1}, "damaged record"),
        ({"layer": "features.0.0", "inputs": 1, "outputs": 4}, "damaged record|no nbedge checkpoint"),
        ({"layer": "features.0.0", "inputs": 1, "outputs": 4, "groups": 1}, "belongs to another model"),
        (3, "damaged record"),
    ],
)
def test_widths_that_cannot_be_are_refused(tmp_path: Path, width: Any, said: str) -> None:
    path = tmp_path / "a.safetensors"
    save(path, wide(), ABOUT)
    save_file(load_file(path), path, {"nbedge": json.dumps({**ABOUT.to_dict(), "stage": "pruned", "widths": [width]})})
    with pytest.raises(CheckpointError, match=said):
        load_checkpoint(path)


def test_narrowing_leaves_what_is_not_named() -> None:
    model = nn.Sequential(nn.Conv1d(4, 8, 3), nn.BatchNorm1d(8), nn.Flatten(), nn.Linear(8, 3))
    model[0].weight.requires_grad_(False)
    sizes = (Width("0", 4, 6), Width("1", 6, 6), Width("3", 6, 3))
    small: Any = narrowed(model, sizes)
    assert answers(small, noise(2, 4, 3)).shape == (2, 3)
    assert not small[0].weight.requires_grad
    assert "running_mean" in dict(small[1].named_buffers())
    assert widths(model, small) == sizes
    assert model[3].in_features == 8


# magnitude


def test_the_smallest_weights_are_masked_and_counted() -> None:
    model = wide().requires_grad_(False)
    masked = prune_weights(model, 6282)
    settle_(masked)
    norms = sum(p.numel() for n, p in model.named_parameters() if p.ndim < 2)
    kept = {n: p for n, p in masked.named_parameters() if p.ndim > 1}
    assert sum(int(p.count_nonzero()) for p in kept.values()) == 6282 - norms
    before = {n: p.abs() for n, p in model.named_parameters() if n in kept}
    small = max(float(torch.where(kept[n] == 0, p, -1).max()) for n, p in before.items())
    large = min(float(torch.where(kept[n] != 0, p, torch.inf).min()) for n, p in before.items())
    assert 0 < small <= large
    assert masked.state_dict().keys() == model.state_dict().keys()
    assert cost(masked, X) == cost(model, X)


@pytest.mark.group("train")
def test_masked_weights_stay_0_through_tuning(tmp_path: Path) -> None:
    model = mobilenet_v2_tiny(num_classes=4)
    masked = prune_weights(model, 6000)
    masks = {name: mask.clone() for name, mask in masked.named_buffers() if name.endswith("_mask")}
    splits = load("generated:4", (1, 28, 28), calibration=1)
    train(masked, splits, ABOUT.preprocessing, TrainSettings(4, 0.05), epochs=3)
    settle_(masked)
    state = masked.state_dict()
    for name, mask in masks.items():
        weight = state[name.removesuffix("_mask")]
        assert not weight[mask == 0].any()
        assert not weight[mask == 0].signbit().any()
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, state[name])]
    assert len(changed) > len(masks)  # it was really trained
    four = ModelReference(REFERENCE.text, {"num_classes": 4})
    save(tmp_path / "a.safetensors", masked, replace(ABOUT, stage="pruned", model=four))
    again, _ = load_checkpoint(tmp_path / "a.safetensors")
    assert nonzero(again) == nonzero(masked)
    assert torch.equal(answers(again, noise(2, 1, 28, 28)), answers(masked, noise(2, 1, 28, 28)))


def test_layers_without_weights_are_named() -> None:
    model: Any = wide()
    with torch.no_grad():
        model.features[3].conv[2].weight *= 1e-9
        model.classifier[1].weight *= 100  # so small at first that all of it would go
    assert emptied(prune_weights(model, 9000)) == ("features.3.conv.2",)
    assert emptied(prune_weights(wide(), 14_900)) == ()


# the command line


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wide and a tiny checkpoint, another class, and pictures that can be told apart."""
    folder = tmp_path_factory.mktemp("here")
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 2
    images = (rng.integers(0, 100, (120, 28, 28, 1)) + 120 * labels[:, None, None, None]).astype(np.uint8)
    np.savez(folder / "data.npz", train_images=images, train_labels=labels, test_images=images[:40],
             test_labels=labels[:40], classes=np.array(["0", "1"]))  # fmt: skip
    save(folder / "wide.safetensors", wide(), ABOUT)
    tiny = ModelReference(REFERENCE.text, {"num_classes": 2, "width_mult": 0.5})
    save(folder / "tiny.safetensors", tiny.build(), replace(ABOUT, model=tiny))
    plan = propose(wide(), X)
    save(folder / "giant.safetensors", expand(wide(), plan), replace(ABOUT, stage="giant", plan=plan))
    large = replace(ABOUT, preprocessing=Preprocessing((1, 32, 32), (0.5,), (0.5,)))
    save(folder / "large.safetensors", wide(), large)
    (folder / "odd.py").write_text(ODD)
    return folder


ODD = """
import torch
from torch import nn

class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 8, 3), nn.Linear(8, 2)

    def forward(self, x):
        return self.head((self.conv(x) * torch.ones(8, 1, 1)).mean((2, 3)))
"""


def call(folder: Path, line: str, before: str = "pass") -> "subprocess.CompletedProcess[str]":
    program = f"import sys; {before}; from nbedge.cli import main; sys.argv = ['nbedge', *{line.split()!r}]; main()"
    return subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )


PRUNE = "prune wide.safetensors --data npz:data.npz --batch-size 16 --epochs 1"
Verb = Callable[[str], dict[str, Any]]
Refuses = Callable[[str, str], None]


@pytest.fixture
def verb(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Verb:
    """Run a command with --json in this process, since the start of many takes a minute, and return its object."""
    monkeypatch.chdir(here)

    def run(line: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["nbedge", *line.split(), "--json"])
        with contextlib.suppress(SystemExit):  # verify leaves with its verdict
            main()
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return run


@pytest.mark.group("cli")
def test_channels_are_pruned_tuned_and_written(here: Path, verb: Verb) -> None:
    done = call(here, f"{PRUNE} --method structured --like tiny.safetensors --out channels.safetensors --json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["stage"] == "pruned"
    assert found["after"]["macs"] <= 174_132 < found["before"]["macs"]
    assert read_metadata(here / "channels.safetensors").widths
    verb(f"{PRUNE.replace('wide', 'channels')} --method structured --macs 90000 --out twice.safetensors")
    assert cost(load_checkpoint(here / "twice.safetensors")[0], X).macs <= 90_000
    shown = verb("evaluate channels.safetensors twice.safetensors --data npz:data.npz")
    assert [row["pictures"] for row in shown["rows"]] == [40, 40]


@pytest.mark.group("export")
@pytest.mark.parametrize(("method", "target"), [("structured", "--macs 170000"), ("magnitude", "--parameters 6282")])
def test_files_of_a_pruned_model_pass(here: Path, verb: Verb, method: str, target: str) -> None:
    name = f"{method}.safetensors"
    made = verb(f"{PRUNE} --method {method} {target} --out {name}")
    assert made["after"]["macs" if method == "structured" else "nonzero"] <= int(target.split()[1])
    files = verb(f"export {name} --calib npz:data.npz --format onnx --out {method}")["files"]
    assert [file["verification"]["verdict"] for file in files] == ["PASS", "PASS"]
    chain = verb(f"verify {name} {method}/{method}.fp32.onnx {method}/{method}.int8.onnx --data npz:data.npz")
    assert chain["verdict"] == "PASS"


@pytest.mark.group("cli")
def test_without_torch_pruning_the_verb_ends_with_status_3(here: Path) -> None:
    missing = "sys.modules['torch_pruning'] = None"
    done = call(here, f"{PRUNE} --method structured --macs 9000 --out no.safetensors", missing)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(
        "nbedge: the package 'torch_pruning' is not installed; run: pip install 'nbedge[prune]"
    )
    assert not (here / "no.safetensors").exists()


@pytest.fixture
def refuses(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refuses:
    """Run a command that must end with status 2 and one sentence."""
    monkeypatch.chdir(here)

    def refuse(line: str, said: str) -> None:
        names = {path.name for path in here.iterdir()}
        monkeypatch.setattr(sys, "argv", ["nbedge", *line.split()])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert (ended.value.code, out) == (2, "")
        (sentence,) = err.splitlines()
        assert sentence.startswith("nbedge: ")
        assert said in sentence
        assert {path.name for path in here.iterdir()} - names <= {"__pycache__"}

    return refuse


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--method structured", "either with --like MODEL or with --macs N"),
        ("--method magnitude", "either with --like MODEL or with --parameters N"),
        ("--method structured --macs 9000 --like tiny.safetensors", "either with --like MODEL or with --macs N"),
        ("--method structured --parameters 9000", "--parameters has no effect here: structured pruning is told --macs"),
        ("--method magnitude --macs 9000", "--macs has no effect here: magnitude pruning is told --parameters"),
        ("--method magnitude --parameters 9000 --spread global", "--spread has no effect here"),
        ("--method magnitude --parameters 9000 --multiple 8", "--multiple has no effect here"),
        ("--method structured --macs 900000", "has 476352 multiply-accumulates, no more than the 900000"),
        ("--method magnitude --parameters 900000", "has 14954 parameters, no more than the 900000"),
        ("--method structured --macs 7", "multiply-accumulates, above 7; ask for more"),
        ("--method magnitude --parameters 7", "biases, BatchNorms and the like, which stay: 7 cannot be reached"),
        ("--method structured --like wide.safetensors", "no more than the 476352 that it is to be pruned to"),
        ("--method structured --like large.safetensors", "takes inputs of shape (1, 32, 32)"),
        ("--method structured --like no.safetensors", "no.safetensors does not exist"),
        ("--method structured --macs 9000 --out no.onnx", "call it NAME.safetensors"),
        ("--method structured --macs 9000 --out tiny.safetensors", "tiny.safetensors"),
        ("--method structured --macs 90000 --batch-size 1000", "batch_size is 1000"),
    ],
)
def test_bad_input_gets_one_sentence_and_writes_nothing(line: str, said: str, refuses: Refuses) -> None:
    refuses(f"{PRUNE} {line}" if "--out" in line else f"{PRUNE} {line} --out no.safetensors", said)


def test_models_that_cannot_be_pruned_get_one_sentence(refuses: Refuses) -> None:
    rest = "--data npz:data.npz --method structured --macs 900 --out no.safetensors"
    odd = "prune odd.py:Odd --input 1x28x28 --mean 0.5 --std 0.5"
    refuses(f"{odd} {rest}", "torch-pruning cannot trace or prune Odd")
    refuses(f"prune giant.safetensors {rest}", "is a giant, which is contracted and not pruned")
    refuses(f"prune wide.onnx {rest}", "wide.onnx")
