"""The accuracy ladder: each rung alone recovers what a network has lost, and a climb stops where the budget is met."""

import copy
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import fx, nn

from nbedge import artifact
from nbedge.artifact import RUNGS
from nbedge.conversion import Exported, Options, export
from nbedge.conversion.ladder import Made, State
from nbedge.conversion.remedies import Remedies
from nbedge.conversion.workshop import Workshop
from nbedge.errors import ExportError, GateError
from nbedge.quantization import Grid, corrected, equalized, folded, layers_of, rounded, settled, tuned
from nbedge.runtime import answer, of_module, open_file
from nbedge.verification import Check, Equivalence, Limits, Verdict
from nbedge.verification.agreement import sqnr_db
from peers import scripts
from peers.nets import Net, nets

pytest.importorskip("onnx2tf")
HELD = 500


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A named network and its pictures, preprocessed."""

    net: Net

    @property
    def seen(self) -> NDArray[np.float32]:
        return self.net.preprocessing(self.net.calibration.images[:])

    @property
    def held(self) -> NDArray[np.float32]:
        return self.net.preprocessing(self.net.validation.images[:HELD])

    def exported(
        self, out: Path, format: str, scheme: str, options: Options, model: nn.Module | None = None
    ) -> Exported:
        (made,) = export(
            model or self.net.model, torch.zeros(1, *self.net.preprocessing.shape), formats=[format], quant=[scheme],
            calibration=self.seen, preprocess=self.net.preprocessing, classes=self.net.classes, out=out,
            check_on=self.held, labels=self.net.validation.labels[:HELD], name="net", options=options,
        )  # fmt: skip
        return made

    def sqnr(self, path: Path) -> float:
        """Return how far the answers of a file are from the untouched network's, in dB."""
        wanted = answer(of_module(self.net.model, self.net.preprocessing.shape), self.held)
        return sqnr_db(wanted, answer(open_file(path), self.held))


@pytest.fixture(scope="module")
def cases() -> Mapping[str, Case]:
    return {net.name: Case(net) for net in nets() if net.name.startswith("fashion")}


#: no rung but the first
PLAIN = Options(budget=100, rungs=())
GRID = Grid(bits=16)
Remedy = Callable[[fx.GraphModule, torch.Tensor], nn.Module]


@pytest.mark.group("export")
@pytest.mark.parametrize(
    ("name", "scheme", "remedy"),
    [
        ("contracted", "int8x16", lambda net, x: corrected(net, x, GRID)),
        ("contracted", "int8x16", lambda net, x: rounded(net, x, GRID)),
        ("contracted", "int8x16", lambda net, x: tuned(net, x, GRID)),
        ("spread", "int8x16", lambda net, x: equalized(net, x).module),
    ],
    ids=["bias-correction", "rounding", "tuning", "equalization"],
)
def test_a_remedy_alone_recovers_2_db(
    cases: Mapping[str, Case], tmp_path: Path, name: str, scheme: str, remedy: Remedy
) -> None:
    case = cases[f"fashion_mnist, {name}"]
    treated = remedy(folded(case.net.model, case.net.preprocessing.shape), torch.from_numpy(case.seen))
    before = case.exported(tmp_path / "plain", "onnx", scheme, PLAIN).artifact.path
    after = case.exported(tmp_path / "treated", "onnx", scheme, PLAIN, treated).artifact.path
    assert case.sqnr(after) >= case.sqnr(before) + 2


@pytest.mark.group("export")
@pytest.mark.parametrize(
    ("name", "rung"),
    [
        ("outlier", "bias-correction"),
        ("contracted", "rounding"),
        ("outlier", "tuning"),
        ("spread", "equalization"),
    ],
)
def test_a_rung_that_is_asked_for_alone_recovers_2_db(
    cases: Mapping[str, Case], tmp_path: Path, name: str, rung: str
) -> None:
    case = cases[f"fashion_mnist, {name}"]
    (made,) = export(  # without labels: any answer that differs is over the budget
        case.net.model, torch.zeros(1, 1, 28, 28), formats=["onnx"], quant=["int8"], calibration=case.seen,
        preprocess=case.net.preprocessing, classes=case.net.classes, out=tmp_path, check_on=case.held, name="net",
        options=Options(budget=0, rungs=(rung,)), limits=Limits(flips=20),
    )  # fmt: skip
    said = artifact.read(made.artifact.path)
    first, second = said.ladder["attempts"]
    assert (said.remedies, said.ladder["rung"], second["rung"], second["kept"]) == ((rung,), rung, rung, True)
    assert second["sqnr_db"] >= first["sqnr_db"] + 2
    assert case.sqnr(said.path) == pytest.approx(second["sqnr_db"], abs=0.5)  # it is that file which was kept


@pytest.mark.group("export")
def test_a_scale_for_each_channel_alone_recovers_2_db(cases: Mapping[str, Case], tmp_path: Path) -> None:
    case = cases["fashion_mnist, control"]
    made = case.exported(tmp_path, "onnx", "int8", PLAIN).artifact.path
    source = case.exported(tmp_path, "onnx", "fp32", PLAIN).artifact.path
    np.save(tmp_path / "seen.npy", case.seen)
    scripts.timed(scripts.ONNXRUNTIME, source, tmp_path / "seen.npy", tmp_path / "one.onnx")
    assert case.sqnr(made) >= case.sqnr(tmp_path / "one.onnx") + 2


@pytest.mark.group("export")
def test_another_method_alone_recovers_half_a_point(cases: Mapping[str, Case], tmp_path: Path) -> None:
    made = cases["fashion_mnist, spread"].exported(tmp_path, "tflite", "int8", Options(rungs=("method",)))
    first, second = made.artifact.ladder["attempts"]
    assert (second["rung"], second["detail"], second["kept"]) == ("method", "moving-average", True)
    assert second["loss"] <= first["loss"] - 0.5
    assert "ai-edge-quantizer" in made.artifact.tools


@pytest.mark.group("export")
@pytest.mark.parametrize(
    ("format", "target", "kind"),
    [("onnx", "x86-vnni", "float"), ("tflite", "litert", "float"), ("tflite", "tflm", "int16")],
)
def test_more_bits_for_the_worst_layers_alone_recover_2_db(
    cases: Mapping[str, Case], tmp_path: Path, format: str, target: str, kind: str
) -> None:
    case, options = cases["fashion_mnist, outlier"], Options(rungs=("precision",), target=(target,), budget=3)
    made = case.exported(tmp_path, format, "int8", options).artifact
    first, *others = made.ladder["attempts"]
    assert made.ladder["met"]
    assert max(other["sqnr_db"] for other in others if other["kept"]) >= first["sqnr_db"] + 2
    assert all(kind in other["detail"] for other in others)
    assert made.exempt
    assert artifact.read(made.path).exempt == made.exempt


@pytest.mark.group("export")
def test_a_climb_stops_where_the_budget_is_met(cases: Mapping[str, Case], tmp_path: Path) -> None:
    made = cases["fashion_mnist, spread"].exported(tmp_path, "onnx", "int8", Options())
    ladder = artifact.read(made.artifact.path).ladder
    assert (ladder["budget"], ladder["met"], ladder["rung"]) == (1.0, True, "equalization")
    assert ladder["attempts"][-1]["loss"] <= 1 < ladder["attempts"][0]["loss"]
    assert [a["rung"] for a in ladder["attempts"]][-1] == "equalization"  # the rungs above were not tried
    before, after = ([layer[key] for layer in ladder["layers"]] for key in ("before_db", "after_db"))
    assert len(before) == len(layers_of(folded(cases["fashion_mnist, spread"].net.model, (1, 28, 28))))
    assert np.mean(after) > np.mean(before) + 5
    assert any(layer["layer"].startswith("features.") for layer in ladder["layers"])
    assert made.artifact.remedies == ("equalization",)
    assert any("equalized" in edge.candidate for edge in made.edges)  # that the float network is the same was verified
    assert json.loads((tmp_path / "logs" / "net.int8.onnx.ladder.json").read_text())["rung"] == "equalization"


def with_a_dead_channel(model: nn.Module, answer: float | None = None) -> nn.Module:
    """Return a network whose first depthwise layer reads a 0 with weights that no integer kernel takes.

    `answer` is what the BatchNorm behind makes of it; None: as it was trained.
    """
    found = copy.deepcopy(model)
    modules = list(found.modules())
    depthwise = next(m for m in modules if isinstance(m, nn.Conv2d) and m.groups > 1)
    before = [m for m in modules[: modules.index(depthwise)] if isinstance(m, nn.BatchNorm2d)][-1]
    before.weight.data[0], before.bias.data[0] = 0, -1
    depthwise.weight.data[0] = 1e6
    if answer is not None:
        behind = next(m for m in modules[modules.index(depthwise) :] if isinstance(m, nn.BatchNorm2d))
        behind.bias.data[0], behind.running_mean[0] = answer, 0  # type: ignore[index]
    return found


@pytest.mark.group("export")
def test_weights_of_dead_channels_go_where_no_kernel_takes_them(cases: Mapping[str, Case], tmp_path: Path) -> None:
    case = cases["fashion_mnist, control"]
    dead = with_a_dead_channel(case.net.model)
    exported = case.exported(tmp_path, "tflite", "int8", Options(), dead)
    ladder = exported.artifact.ladder
    assert ladder["met"]
    first, second = ladder["attempts"]
    assert (first["loss"], first["sqnr_db"], first["passed"]) == (None, None, False)
    assert second["detail"] == "weights of constant channels removed: 1"
    assert exported.artifact.remedies == ("constant-channels",)
    assert any("constant channels" in edge.candidate for edge in exported.edges)
    wanted = answer(of_module(dead, case.net.preprocessing.shape), case.held)
    assert sqnr_db(wanted, answer(open_file(exported.artifact.path), case.held)) > 20


@pytest.mark.group("export")
def test_weights_of_dead_channels_alone_cost_2_db_where_a_kernel_takes_them(
    cases: Mapping[str, Case], tmp_path: Path
) -> None:
    case = cases["fashion_mnist, control"]
    dead = with_a_dead_channel(case.net.model, answer=1.0)  # a bias of less than one step of such weights
    made = case.exported(tmp_path, "onnx", "int8", Options(rungs=("constant-channels",)), dead).artifact
    first, second = made.ladder["attempts"]
    assert (made.remedies, made.ladder["met"]) == (("constant-channels",), True)
    assert second["sqnr_db"] >= first["sqnr_db"] + 2


@pytest.mark.group("export")
def test_a_file_that_cannot_be_loaded_is_not_kept(cases: Mapping[str, Case], tmp_path: Path) -> None:
    case = cases["fashion_mnist, control"]
    dead = with_a_dead_channel(case.net.model)
    with pytest.raises(GateError, match=r"net.int8.tflite is not kept: it was written, but cannot be run \("):
        case.exported(tmp_path, "tflite", "int8", Options(rungs=("bias-correction",)), dead)
    assert not list(tmp_path.glob("net.*"))


def test_too_few_inputs_do_not_tell_what_is_constant(cases: Mapping[str, Case]) -> None:
    case = cases["fashion_mnist, control"]
    alike = np.repeat(case.seen[:1], 50, axis=0)
    assert settled(folded(case.net.model, (1, 28, 28)), torch.from_numpy(alike)).channels > 10  # all behind the pooling
    remedies = Remedies(case.net.model, alike, case.held, lambda: alike, "net", Limits())
    with pytest.raises(ExportError, match="1 different calibration inputs do not tell which channels are constant"):
        remedies.treated({"constant-channels"}, Grid())


def test_the_loss_of_several_outputs_is_the_worst_of_them() -> None:
    checks = tuple(
        Check(f"answers that differ, {name}", Verdict.PASS, value, 100) for name, value in (("a", 1), ("b", 4))
    )
    edges = (Equivalence("one", "other", "", (Check("answers that differ", Verdict.PASS, 9), *checks)),)
    file = artifact.Artifact(Path("x.onnx"), "onnx", "int8", (), (), None, (), "")
    assert Made(State(), Exported(file, edges), cast(Workshop, None)).loss == 4
    assert math.isnan(Made(State(), Exported(file, ()), cast(Workshop, None)).loss)


def test_only_what_is_constant_loses_its_weights(cases: Mapping[str, Case]) -> None:
    case = cases["fashion_mnist, control"]
    x = torch.from_numpy(case.seen)
    network = folded(with_a_dead_channel(case.net.model), (1, 28, 28))
    found = settled(network, x)
    assert found.channels == 1
    changed = [
        (new.weight != old.weight).flatten(1).any(1).nonzero().flatten().tolist()
        for old, new in zip(layers_of(network), layers_of(found.module), strict=True)
    ]
    assert [channels for channels in changed if channels] == [[0]]
    torch.testing.assert_close(found.module(x), network(x))
    assert settled(found.module, x).channels == 0


@pytest.mark.group("export")
def test_without_labels_the_budget_is_a_share_of_changed_answers(cases: Mapping[str, Case], tmp_path: Path) -> None:
    case = cases["fashion_mnist, spread"]
    (made,) = export(
        case.net.model, torch.zeros(1, 1, 28, 28), formats=["onnx"], quant=["int8"], calibration=case.seen,
        preprocess=case.net.preprocessing, classes=case.net.classes, out=tmp_path, check_on=case.held, name="net",
        options=Options(budget=4, rungs=("equalization",)),
    )  # fmt: skip
    first, second = made.artifact.ladder["attempts"]
    assert first["loss"] > 4 > second["loss"] > 0
    assert made.artifact.verdicts[0]["reference"] == "model"  # that the equalized network answers as before


@pytest.mark.group("export")
def test_a_file_over_the_budget_is_not_kept(cases: Mapping[str, Case], tmp_path: Path) -> None:
    options = Options(budget=0.2, rungs=("precision",))
    with pytest.raises(GateError, match=r"net.int8.onnx is not kept: answers that differ"):
        cases["fashion_mnist, outlier"].exported(tmp_path, "onnx", "int8", options)
    assert not list(tmp_path.glob("net.*"))
    tried = json.loads((tmp_path / "logs" / "net.int8.onnx.ladder.json").read_text())["attempts"]
    assert "no target was named" in tried[-1]["detail"]


def test_a_network_whose_batch_is_fixed_is_refused() -> None:
    class Fixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape(2, 1, 784).sum(2)

    with pytest.raises(ExportError, match="cannot trace the model for any number of inputs"):
        folded(Fixed(), (1, 28, 28))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"budget": -1.0}, "the budget is -1.0 points; give 0 or more"),
     ({"rungs": ("adaround",)}, "the accuracy ladder has no rung 'adaround'; choose from constant-channels, method")],
)  # fmt: skip
def test_options_of_the_ladder_are_checked(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ExportError, match=said):
        Options(**wrong)  # type: ignore[arg-type]


def test_rungs_are_in_the_order_of_the_guide() -> None:
    guide = (Path(__file__).parent.parent / "docs" / "command-line.md").read_text(encoding="utf-8")
    places = [guide.index(f"| `{rung}` |") for rung in RUNGS]
    assert places == sorted(places)
