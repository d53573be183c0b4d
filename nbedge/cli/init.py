"""`nbedge init`: a commented recipe to start from."""

from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import click

from nbedge import files
from nbedge.cli.screen import Screen, with_screen
from nbedge.cli.subject import ModelOptions, model_options, pictured, tried
from nbedge.errors import InputError, needs

if TYPE_CHECKING:
    import torch
    from torch import nn

    from nbedge.data import Splits

RECIPE = Template("""\
# Written by nbedge init --recipe $kind. Run it: nbedge run $file
name = "$name"
seed = 0
threads = 1               # of training; the same number gives the same bytes, on one kind of processor

[model]
reference = $model
input = $shape            # channels, height, width
arguments = $arguments
norm_bias = $bias           # what BatchNorms in front of activations start with: $why

[data]
source = $data    # a relative path starts at this file
validation = 0.1          # share of the training pictures held back for choices
calibration = $calibration         # training pictures held back for quantizers
$normalisation
$phases
batch_size = $batch
learning_rate = $rate       # tune it for the control first: it is worth more than any trick
augment = ["shift", "flip"]   # leave "flip" out where left and right differ

[baselines]
train = []                # such as "two-phase", "linear", "branches" (docs): the best of all is exported

[export]
formats = ["onnx", "tflite"]
quant = ["fp32", "int8"]

[bench]
processes = 5
seconds = 2.0

[limits]
float_error = 1e-4        # largest max|difference| / RMS of a float file
sqnr_db = 15.0            # least signal-to-quantization-noise ratio of an integer file
accuracy_loss = 1.0       # largest loss of an integer file, in percentage points
""")
#: pictures for quantizers, at most, and as a share of few
CALIBRATION, SHARE = 200, 8
#: the sections that say how giant and tuning are trained; each value with its reason
KINDS = {
    "quick": Template("""\
[plan]
every = 2                 # expand every second site ($sites sites were found)
ratio = 4                 # hidden channels per input channel: two thirds of the published ratio, and of its cost

[gate]
lead = -100               # points that the giant must lead the control by: none, a quick run goes all the way
plt_loss = 100

[train]
giant_epochs = 4          # enough to see whether everything works, too short for the giant to overtake the control
plt_epochs = 4            # tuning, in which the slopes rise from 0 to 1
ramp = 0.5                # over this share of it: fewer steps would be a jump"""),
    "standard": Template("""\
[plan]
choose = "name:*"         # every layer that takes branches ($sites were found)
block = "branches"        # linear from the start: nothing is lost by contraction, and it gained most (docs/results.md)
ratio = 1                 # branches of each kernel, beside 1x1 and identity; 3 gain little more in twice the time

[gate]
lead = -100               # no giant is judged on its way: behind the last epoch it is the contracted model already
plt_loss = 100

[train]
schedule = "one-cycle"    # one cosine, as the control has; there is nothing to make linear, so no restart is needed
giant_epochs = 30         # of both phases together as many as the control gets
plt_epochs = 30"""),
    "netbooster": Template("""\
[plan]
every = 2                 # expand every second site ($sites sites were found), as published
ratio = 6                 # hidden channels per input channel, as published

[gate]
lead = -3.5               # points that the giant must lead the control by, which had twice the epochs, and
plt_loss = 1              # points it may lose while it becomes linear: 82 % of the gaining runs of the study passed

[train]
giant_epochs = 30         # shorter ones did not pay (docs/results.md), and the control gains from length too
plt_epochs = 30           # tuning, in which the slopes rise from 0 to 1
ramp = 0.25               # over this share of it; the rest, trained at slope 1, regains what the ramp has cost"""),
    "transfer": Template("""\
[transfer]                # behind many other pictures, with few labels, a giant kept half of its lead (docs/results.md)
giant = "giant.safetensors"       # of a run on the data that come first: write its path here
control = "control.safetensors"   # of the same run, for comparison

[train]
plt_epochs = 30           # tuning on the new pictures, in which the slopes rise from 0 to 1
ramp = 0.25               # over this share of it"""),
}


@click.command(name="init")
@click.argument("model_name", metavar="MODEL")
@click.option(
    "--data",
    required=True,
    metavar="DATA",
    help="folder:PATH, npz:PATH, fashion-mnist:PATH, hf:NAME; voc:PATH or coco:PATH for boxes.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("recipe.toml"), show_default=True, help="The recipe."
)
@click.option(
    "--recipe",
    "kind",
    type=click.Choice(list(KINDS)),
    default="standard",
    show_default=True,
    help="quick: does it work? standard: from scratch, by branches. netbooster: from scratch, by blocks that PLT makes "
    "linear. transfer: from a giant that was trained on other pictures.",
)
@click.option("--overwrite", is_flag=True, help="Replace the recipe.")
@model_options
@with_screen
def command(
    screen: Screen, options: ModelOptions, model_name: str, data: str, out: Path, kind: str, overwrite: bool
) -> None:  # fmt: skip
    """Look at MODEL (a reference) and DATA, and write a recipe that fits them."""
    files.refuse_existing(out, overwrite)
    if options.shape is None:
        raise InputError("init needs to know the size of the pictures; pass --input, for example --input 3x96x96")
    with needs("train"):
        from nbedge.data import anchored, read, split
    shape = pictured(options.shape)
    source = read(data, shape)
    splits = split(source, data)
    arguments, sites, bias = _fitting(model_name, options, shape, splits, kind)
    why = "1, separable blocks without shortcuts" if bias else "0, with shortcuts, dense layers or no BatchNorms"
    calibration = min(CALIBRATION, max(1, (len(splits.train) + len(splits.calibration)) // SHARE))
    pictures = len(split(source, data, calibration=calibration).train)
    batch, rate = _batch_and_rate(splits.task, pictures)
    text = RECIPE.substitute(
        kind=kind, phases=KINDS[kind].substitute(sites=sites), bias=bias, why=why, file=out.name,
        name=_word(model_name), model=_inline(_anchored(model_name)), shape=list(options.shape),
        arguments=_inline(arguments), data=_inline(anchored(data, Path.cwd())), calibration=calibration,
        batch=batch, rate=rate, normalisation=_normalisation(options),
    )  # fmt: skip
    files.write_bytes(out, text.encode())
    screen.say(f"{out}: {len(splits.classes)} classes, {pictures} training pictures, {sites} sites")
    screen.result({"recipe": str(out), "classes": list(splits.classes), "sites": sites})


def _batch_and_rate(task: str, pictures: int) -> tuple[int, float]:
    """Return those that trained the samples."""
    if task == "detection":
        return min(16, pictures), 0.1
    batch = 256 if pictures >= 5000 else min(64, pictures)
    return batch, round(0.4 * batch / 256, 2)


def _fitting(
    text: str, options: ModelOptions, shape: tuple[int, int, int], splits: "Splits", kind: str
) -> tuple[dict[str, Any], int, float]:
    """Return the arguments with which the model gives what the data asks for, its sites, and the bias of its norms."""
    import torch

    from nbedge.evaluation import named
    from nbedge.initialization import usual_bias
    from nbedge.reference import ModelReference
    from nbedge.task import task_of

    classes = len(splits.classes)
    arguments = {"num_classes": classes, **options.arguments}
    try:
        model = ModelReference(text, arguments).build().eval()
    except InputError:  # a factory need not have that argument
        arguments = dict(options.arguments)
        model = ModelReference(text, arguments).build().eval()
    wrong = task_of(splits.task).unfit(named(tried(model, text, shape)), classes)
    if wrong:
        raise InputError(f"{text} {wrong} (the data has {classes} classes); set the outputs with --model-args")
    example = torch.zeros(1, *shape)
    return arguments, _sites(model, example, kind), usual_bias(model, example)


def _sites(model: "nn.Module", example: "torch.Tensor", kind: str) -> int:
    from nbedge.selection import usual_candidates
    from nbedge.survey import Wish, survey

    if kind != "standard":
        return len(usual_candidates(survey(model, example).candidates))
    sites = len(survey(model, example, Wish("branches")).candidates)
    if not sites:
        raise InputError(
            "the model has no convolution that takes the branches of the standard recipe; pass --recipe netbooster"
        )
    return sites


def _anchored(text: str) -> str:
    file, _, factory = text.rpartition(":")
    return f"{Path(file).resolve()}:{factory}" if file.endswith(".py") else text


def _word(text: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in Path(text.rpartition(":")[2]).stem)


def _inline(values: Any) -> str:
    from nbedge.recipe import literal

    return literal(values)


def _normalisation(options: ModelOptions) -> str:
    if options.mean and options.std:
        return f"mean = {list(options.mean)}\nstd = {list(options.std)}\n"
    return "# mean and std are measured on the training pictures; write them here to fix them\n"
