"""`nbedge init`: a commented recipe to start from."""

from pathlib import Path
from string import Template
from typing import Any

import click

from nbedge import files
from nbedge.cli.screen import Screen, with_screen
from nbedge.cli.subject import ModelOptions, model_options, pictured, tried
from nbedge.errors import InputError, needs

RECIPE = Template("""\
# Written by nbedge init. Run it: nbedge run $file
name = "$name"
seed = 0
threads = 1               # of training; the same number gives the same bytes, on one kind of processor

[model]
reference = $model
input = $shape            # channels, height, width
arguments = $arguments

[data]
source = $data    # a relative path starts at this file
validation = 0.1          # share of the training pictures held back for choices
calibration = 200         # training pictures held back for quantizers
$normalisation
[plan]
every = 2                 # expand every second site ($sites sites were found)
ratio = 6                 # hidden channels per input channel

[train]
giant_epochs = 20         # of the giant; boosting needs many steps before it pays
plt_epochs = 20           # tuning, in which the slopes rise from 0 to 1
ramp = 0.25               # over this share of it; the rest is trained at slope 1
batch_size = $batch
learning_rate = $rate       # tune it for the control first: it is worth more than any trick
augment = ["shift", "flip"]   # leave "flip" out where left and right differ

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


@click.command(name="init")
@click.argument("model_name", metavar="MODEL")
@click.option("--data", required=True, metavar="DATA", help="folder:PATH, npz:PATH, fashion-mnist:PATH or hf:NAME.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("recipe.toml"), show_default=True, help="The recipe."
)
@click.option("--overwrite", is_flag=True, help="Replace the recipe.")
@model_options
@with_screen
def command(screen: Screen, options: ModelOptions, model_name: str, data: str, out: Path, overwrite: bool) -> None:
    """Look at MODEL (a reference) and DATA, and write a recipe that fits them."""
    files.refuse_existing(out, overwrite)
    if options.shape is None:
        raise InputError("init needs to know the size of the pictures; pass --input, for example --input 3x96x96")
    with needs("train"):
        from nbedge.data import anchored, load
    shape = pictured(options.shape)
    splits = load(data, shape)
    arguments, sites = _fitting(model_name, options, shape, len(splits.classes))
    batch = 256 if len(splits.train) >= 5000 else min(64, len(splits.train))
    text = RECIPE.substitute(
        file=out.name, name=_word(model_name), model=_inline(_anchored(model_name)), shape=list(options.shape),
        arguments=_inline(arguments), data=_inline(anchored(data, Path.cwd())), sites=sites, batch=batch,
        rate=round(0.4 * batch / 256, 2), normalisation=_normalisation(options),
    )  # fmt: skip
    files.write_bytes(out, text.encode())
    screen.say(f"{out}: {len(splits.classes)} classes, {len(splits.train)} training pictures, {sites} sites")
    screen.result({"recipe": str(out), "classes": list(splits.classes), "sites": sites})


def _fitting(text: str, options: ModelOptions, shape: tuple[int, int, int], classes: int) -> tuple[dict[str, Any], int]:
    """Return the arguments with which the model gives one output a class, and how many sites it has."""
    import torch

    from nbedge.reference import ModelReference
    from nbedge.selection import usual_candidates
    from nbedge.survey import survey

    arguments = {"num_classes": classes, **options.arguments}
    try:
        model = ModelReference(text, arguments).build().eval()
    except InputError:  # a factory need not have that argument
        arguments = dict(options.arguments)
        model = ModelReference(text, arguments).build().eval()
    answer = tried(model, text, shape)
    if not isinstance(answer, torch.Tensor) or answer.shape != (1, classes):
        found = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
        raise InputError(
            f"{text} gives {found} for one picture, and the data has {classes} classes: (1, {classes}) is expected; "
            "set the outputs with --model-args"
        )
    return arguments, len(usual_candidates(survey(model, torch.zeros(1, *shape)).candidates))


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
