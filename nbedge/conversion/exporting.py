"""export(): a trained model to files in the formats and schemes asked for, each verified against its source."""

import functools
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nbedge import files
from nbedge.artifact import SCHEMES
from nbedge.conversion.asked import Asked
from nbedge.conversion.chain import Step, planned, require, steps_again
from nbedge.conversion.ladder import Ladder, Made, State
from nbedge.conversion.options import Options
from nbedge.conversion.places import Places, file_name
from nbedge.conversion.remedies import Remedies
from nbedge.conversion.workshop import Exported, Progress, Workshop, within_ladder
from nbedge.errors import ExportError, GateError, InputError, first_line
from nbedge.evaluation import named
from nbedge.preprocessing import Preprocessing
from nbedge.task import CLASSIFICATION, task_of
from nbedge.tracing import evaluating
from nbedge.verification import Limits, families

#: pictures that a file is judged on, at most: as inputs at 3x224x224 they take 1.2 GB
CHECKED = 2_000
#: pictures that quantization-aware tuning learns from, at most
LEARNT = 2_000

Inputs = Tensor | NDArray[np.float32] | Iterable[Tensor | NDArray[np.float32]]


def export(
    model: nn.Module,
    example_input: Tensor | NDArray[np.float32],
    *,
    calibration: Inputs,
    preprocess: Preprocessing | None,
    classes: Sequence[str],
    out: Path | str,
    formats: Iterable[str] = ("onnx", "tflite"),
    quant: Iterable[str] = ("fp32", "int8"),
    check_on: Inputs | None = None,
    learn_from: Inputs | None = None,
    labels: NDArray[Any] | None = None,
    task: str = "classification",
    name: str = "model",
    derived_from: str = "model",
    options: Options | None = None,
    limits: Limits | None = None,
    overwrite: bool = False,
    progress: Progress = lambda _text: None,
) -> list[Exported]:
    """Write `out/NAME.SCHEME.FORMAT` with its sidecar for every format and scheme.

    A file is kept only if it computes with the types that its scheme names and gives the answers of what it was made
    from: the model for the first file of a chain, that file for the next ones, the float32 file of its own format for a
    quantized one. So the error of a conversion and that of a quantization are two figures.

    Args:
        model: any module of one input; it is exported in eval mode and left as it is. Its outputs are one tensor, or
            a dict or tuple of them; a dict names those of the files.
        example_input: (1, c, h, w), or (1, ...); files take a batch of 1, unless `options.batch` is "dynamic".
        calibration: preprocessed inputs (n, c, h, w) float32, or batches of them: what quantizers see.
        preprocess: how a picture became such an input; the sidecars keep it. None where inputs are no pictures.
        classes: names of the outputs, in order.
        out: folder.
        formats: "onnx", "tflite", or what a plug-in adds.
        quant: scheme names, see `nbedge.artifact.SCHEMES`.
        check_on: inputs for the comparison, best disjoint from `calibration`, which serves if there are none.
        learn_from: inputs that quantization-aware tuning learns from, should it come to that; batches are read only
            then. None: `calibration`.
        labels: (n, ...) of `check_on`, for the accuracy.
        task: what the outputs mean, "classification" or "detection"; "": something else, of which numbers alone are
            compared.
        name: of the files.
        derived_from: what the first file's sidecar names as its origin.
        options: how the files are made: backend, opset, batch, calibration method, target, input and head; and how
            much accuracy an integer file may lose before the accuracy ladder is climbed.
        limits: of the comparison; in place of its `accuracy_loss` stands the budget.
        overwrite: replace files of the same name.
        progress: told what is being done.

    Raises:
        ExportError: nothing makes what was asked for, or a converter failed.
        GateError: a file did not pass; it is not kept.
        InputError: a file is there already, or there are no inputs.
    """
    formats, quant = ([names] if isinstance(names, str) else list(names) for names in (formats, quant))
    out, options, example_input = Path(out), options or Options(), torch.as_tensor(example_input)
    if Path(name).name != name:
        raise InputError(f"{name!r} is no name of a file; give letters, numbers and signs other than '/'")
    chain, again = planned(formats, quant, options)
    for step in (*chain, *again):
        require(step.exporter)
    for step in chain:
        for scheme in sorted(step.kept):
            files.refuse_existing(out / file_name(name, scheme, step.exporter.produces), overwrite)
    _refuse_unfit(model, example_input, preprocess, task, len(classes), options.head)
    shape = tuple(example_input.shape[1:])
    seen = stacked(calibration, "calibration", shape)
    if any(SCHEMES[scheme][1].startswith("int") for scheme in quant) and not np.ptp(seen):
        raise InputError(f"every number of the calibration inputs is {seen.flat[0]:g}; give real ones")
    held = seen if check_on is None else stacked(check_on, "check_on", shape)
    limits = replace(limits or Limits(), accuracy_loss=options.budget)
    with tempfile.TemporaryDirectory(prefix="nbedge-export-") as folder, _all_or_none(chain):

        def workshop(treated: nn.Module, remedies: frozenset[str]) -> Workshop:
            asked = Asked(treated, preprocess, seen, held).with_head(options.head).with_input(options.input_type)
            place = Path(tempfile.mkdtemp(dir=folder))
            return Workshop(
                asked, families(shape, asked.preprocessing, asked.held), tuple(classes), labels,
                Places(place, name), out, derived_from, limits, task, floats if remedies else {},
            )  # fmt: skip

        floats: dict[str, Path] = {}
        work = workshop(model, frozenset())
        made = [Made(State(), exported, work) for exported in work.make_all(chain, progress)]
        floats |= work.float_files(chain)
        learn = functools.cache(lambda: seen if learn_from is None else stacked(learn_from, "learn_from", shape))
        remedies = Remedies(model, seen, held, learn, derived_from, limits)
        ladder = Ladder(work, remedies, workshop, options, progress)
        made = [ladder.climb(m.exported) if within_ladder(m.exported.artifact.scheme) else m for m in made]
        for one in made:
            one.work.refuse(one.exported, ladder.log(one.exported))
        for backend in options.backend[1:]:
            made = [_compared(one, backend, options, progress) for one in made]
        return [work.keep(one.exported) for one in made]


@contextmanager
def _all_or_none(chain: Sequence[Step]) -> Iterator[None]:
    """Say of a file that fails what becomes of the others."""
    try:
        yield
    except (ExportError, GateError) as error:
        if sum(len(step.kept) for step in chain) > 1:
            error.args = (f"{error}; none of the files is kept: export the others apart from it",)
        raise


def _compared(made: Made, backend: str, options: Options, progress: Progress) -> Made:
    """Return a file with one edge more, if another backend can make it too: of the same network."""
    artifact, work = made.exported.artifact, made.work
    again = steps_again(backend, artifact.format, artifact.scheme, options)
    if not again:
        return made
    elsewhere = replace(work, places=replace(work.places, folder=work.places.folder / backend))
    (other,) = elsewhere.make_all(again, progress)
    return replace(made, exported=work.agreeing(made.exported, other, backend))


def _refuse_unfit(
    model: nn.Module, example_input: Tensor, preprocess: Preprocessing | None, task: str, classes: int, head: str
) -> None:  # fmt: skip
    if preprocess is not None and tuple(example_input.shape[1:]) != preprocess.shape:
        wanted = ", ".join(map(str, ("1", *preprocess.shape)))
        raise InputError(
            f"example_input is {tuple(example_input.shape)}, the pictures are ({wanted}); give one of those"
        )
    _refuse_no_numbers(model)
    with evaluating(model), torch.inference_mode():
        found = named(model(example_input))
    wrong = task_of(task).unfit(found, classes) if task else ""
    if head == "softmax" and task_of(task) is not CLASSIFICATION:
        raise InputError(f"the head softmax is of classes, and the model does {task}; leave it out")
    if wrong:
        raise InputError(f"the model {wrong}")
    _refuse_fixed_batch(model, example_input)


def _refuse_fixed_batch(model: nn.Module, example_input: Tensor) -> None:
    try:
        with evaluating(model), torch.inference_mode():
            counts = {len(y) for y in named(model(torch.cat([example_input[:1]] * 2))).values()}
    except (RuntimeError, ValueError, IndexError) as error:
        raise InputError(
            f"the model takes no 2 inputs at once ({first_line(error)}), which its files are judged with; "
            "write -1 for the batch where its forward reshapes"
        ) from error
    if counts != {2}:
        raise InputError("the model gives other than 2 answers to 2 inputs; keep the batch in front in its forward")


def _refuse_no_numbers(model: nn.Module) -> None:
    """Refuse weights that are no numbers: no file could be told from a wrong one."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{name} holds numbers that are not finite; train again, or load other weights")


def stacked(inputs: Inputs, what: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return inputs, or batches of them, as one array (n, *shape).

    Raises:
        InputError: there are none, they have another shape, or are no finite numbers; `what` names them.
    """
    batches = [inputs] if isinstance(inputs, Tensor | np.ndarray) else list(inputs)
    arrays = [np.asarray(batch, np.float32) for batch in batches]
    if not sum(map(len, arrays)):
        raise InputError(f"export needs inputs as {what}; there are none: give at least one")
    strange = next((array.shape for array in arrays if array.shape[1:] != shape), None)
    if strange is not None:
        wanted = ", ".join(map(str, ("n", *shape)))
        raise InputError(f"the inputs as {what} are {strange}, the model takes ({wanted}); give inputs of its shape")
    found = np.concatenate(arrays)
    if not np.isfinite(found).all():
        number = int((~np.isfinite(found)).reshape(len(found), -1).any(1).argmax())
        raise InputError(f"input {number} of those as {what} holds numbers that are not finite; leave such inputs out")
    return found
