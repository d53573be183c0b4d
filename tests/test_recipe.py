"""Recipes: what is refused, with the place and the cure, and what comes back from a file as it went in."""

import tomllib
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from nbedge.errors import InputError
from nbedge.recipe import ModelSection, Recipe, TransferSection, literal, read, to_toml
from nbedge.verification import Limits

WHOLE = """
name = "small"
seed = 1
[model]
reference = "sample:mobilenet_v2_tiny"
input = [1, 28, 28]
arguments = { width_mult = 0.5 }
[data]
source = "folder:pictures"
[train]
augment = ["shift"]
"""
SAMPLES = sorted((Path(__file__).parents[1] / "sample_models").glob("*/*.toml"))


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path, old: str, new: str) -> str:
    """Return what `read` says of the whole recipe with `new` in place of `old`."""
    assert WHOLE.count(old) == 1
    path = write(folder, WHOLE.replace(old, new))
    with pytest.raises(InputError) as caught:
        read(path)
    sentence = str(caught.value)
    assert str(path) in sentence
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seed = 1", "sed = 1", "unknown key sed; did you mean seed?"),
        ("augment", "augmnt", "unknown key train.augmnt; did you mean train.augment?"),
        ("augment", "zzz", "unknown key train.zzz; known are batch_size, "),
        ("[train]", "[trian]", "unknown key trian; did you mean train?"),
        ('name = "small"', "", "the key name is missing; add it"),
        ("input = [1, 28, 28]", "", "the key model.input is missing; add it"),
        ('source = "folder:pictures"', "", "the key data.source is missing; add it"),
    ],
)
def test_a_key_that_is_unknown_or_missing_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert said in refusal(tmp_path, old, new)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seed = 1", "seed = 1.5", "seed is 1.5, expected a whole number"),
        ("seed = 1", "seed = true", "seed is true, expected a whole number"),
        ("seed = 1", 'seed = "1"', 'seed is "1", expected a whole number'),
        ('name = "small"', "name = 3", "name is 3, expected a text in quotes"),
        ("[train]", '[train]\nramp = "half"', 'train.ramp is "half", expected a number'),
        ("[train]", "[train]\nramp = false", "train.ramp is false, expected a number"),
        ("[1, 28, 28]", "[1, 28]", "model.input is [1, 28], expected a list of 3, each a whole number"),
        ("[1, 28, 28]", "28", "model.input is 28, expected a list of 3"),
        ("[1, 28, 28]", '[1, "28", 28]', 'model.input[1] is "28", expected a whole number'),
        ('["shift"]', '"shift"', 'train.augment is "shift", expected a list, each a text in quotes'),
        ('["shift"]', "[1]", "train.augment[0] is 1, expected a text in quotes"),
        ("{ width_mult = 0.5 }", "0.5", "model.arguments is 0.5, expected a table"),
        ("seed = 1", "train = 1\n[plan]", "train is 1; write a table [train]"),
        ("seed = 1", "seed = 1979-05-27", 'seed is "1979-05-27", expected a whole number'),
    ],
)
def test_a_value_of_the_wrong_type_is_shown_beside_what_was_expected(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    text = WHOLE if not new.startswith("train") else WHOLE.replace('[train]\naugment = ["shift"]', "")
    path = write(tmp_path, text.replace(old, new))
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: {said}")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seed = 1", "seed = -1", "seed is -1; give 0 or more"),
        ("seed = 1", "threads = 0", "threads is 0; give 1 or more"),
        ('"small"', '"a/b"', "name is 'a/b'; it names files"),
        ('"small"', '".."', "name is '..'; it names files"),
        ('"small"', '""', "name is ''; it names files"),
        ("[train]", "[train]\nramp = 1.0", "train.ramp is 1.0; give a share between 0 and 1"),
        ("[train]", "[train]\nramp = nan", "train.ramp is nan; give a share between 0 and 1"),
        ("[train]", "[train]\nmomentum = 1", "train.momentum is 1.0; give 0 or more, below 1"),
        ("[train]", "[train]\nbatch_size = 0", "train.batch_size is 0; give 1 or more"),
        ("[train]", "[train]\nlearning_rate = 0", "train.learning_rate is 0.0; give a number above 0"),
        ('["shift"]', '["shift", "rotate"]', "train.augment holds 'rotate'; choose from shift, flip"),
        ("[train]", "[plan]\nratio = 0\n[train]", "ratio is 0.0; give a number above 0"),
        ("[train]", "[bench]\nseconds = 0\n[train]", "bench.seconds is 0.0; give a number above 0"),
        ("[train]", "[bench]\nthreads = []\n[train]", "bench.threads: an empty list; give at least one number"),
        ("[train]", "[bench]\nthreads = [0]\n[train]", "bench.threads is 0; give 1 or more"),
        ("[train]", "[bench]\nthreads = [2, 2]\n[train]", "bench.threads: the number of threads 2 is given twice"),
        ("[train]", '[bench]\nruntimes = ["bogus"]\n[train]', "bench.runtimes: no runtime is called 'bogus'; choose"),
        (
            "[train]",
            '[bench]\nruntimes = ["torch"]\n[train]',
            "bench.runtimes: NAME.onnx runs in onnxruntime, not in t",
        ),
        ("[train]", '[bench]\nruntimes = ["litert"]\n[train]', "bench.runtimes: NAME.onnx runs in onnxruntime, not in"),
        ("[train]", '[bench]\non = "mars"\n[train]', "bench.on: cannot measure on 'mars'; give local, ssh://"),
        ("[train]", '[bench]\non = "ssh://a:b@c"\n[train]', "bench.on: "),
        (
            "[train]",
            '[bench]\non = "emulated:cortex-a53"\nthreads = [1, 2]\n[train]',
            "bench.threads: 2 threads on emulated:cortex-a53: instructions are counted of one; give 1 thread",
        ),
        (
            "[train]",
            '[bench]\nruntimes = ["onnxruntime", "tflite-micro"]\nthreads = [2]\n[train]',
            "bench.threads: tflite-micro has one thread, not 2",
        ),
        (
            "[train]",
            '[bench]\non = "emulated:cortex-a72"\nruntimes = ["onnxruntime", "tflite-micro"]\n[train]',
            "bench.runtimes: NAME.tflite cannot run in tflite-micro on emulated:cortex-a72",
        ),
        (
            "[train]",
            '[bench]\non = "emulated:cortex-m4"\n[train]',
            "bench.on: NAME.onnx cannot run in onnxruntime on emul",
        ),
        (
            "[train]",
            '[bench]\non = "emulated:cortex-m4"\n[export]\nformats = ["tflite"]\n[train]',
            "bench.on: emulated:cortex-m4 runs C of integer files, and export.quant has fp32; leave that out",
        ),
        ("[train]", '[export]\nquant = ["int9"]\n[train]', "export: unknown scheme 'int9'; choose from fp32, "),
        ("[train]", '[export]\nformats = ["tflit"]\n[train]', "in the format 'tflit'; installed are "),
        ("[train]", "[export]\nquant = []\n[train]", "there is nothing to export; name at least one format"),
        ("[1, 28, 28]", "[2, 28, 28]", "the first number is channels, 1 (grey) or 3 (RGB)"),
        ("[1, 28, 28]", "[1, 0, 28]", "each size in model.input is 0; give 1 or more"),
        ("[train]", "mean = [0.5, 0.5]\n[train]", "mean has 2 values for 1 channels; give one a channel"),
        ("[train]", "std = [0]\n[train]", "std (0.0,) must be above 0, up to 1"),
        ('"folder:pictures"', '"pictures"', "data.source is 'pictures'; write KIND:PATH"),
        ('"folder:pictures"', '"folder:"', "data.source is 'folder:'; write KIND:PATH"),
        ("0.5 }", "0.5, when = 1979-05-27 }", "cannot be written into a recipe; give texts, numbers"),
    ],
)
def test_a_value_that_no_stage_could_use_is_refused_when_the_recipe_is_read(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert said in refusal(tmp_path, old, new)


@pytest.mark.parametrize(
    "section",
    [
        '[bench]\non = "emulated:cortex-m4"\n[export]\nformats = ["tflite"]\nquant = ["int8", "int8x16"]',
        '[bench]\nruntimes = ["onnxruntime", "litert", "litert-builtin"]\nthreads = [1, 4]',
        '[bench]\nruntimes = ["litert"]\n[export]\nformats = ["tflite"]',
        '[bench]\nruntimes = ["litert"]\n[export]\nformats = []',
        '[bench]\non = "ssh://pi@raspberrypi.local"\nthreads = [1, 4]',
    ],
)
def test_what_can_be_measured_is_taken(tmp_path: Path, section: str) -> None:
    assert read(write(tmp_path, WHOLE.replace("[train]", f"{section}\n[train]"))).name == "small"


def test_a_file_that_is_no_recipe_is_refused_with_the_place(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the recipe .*nowhere.toml does not exist; check the path"):
        read(tmp_path / "nowhere.toml")
    with pytest.raises(InputError, match="is no TOML"):
        read(tmp_path)
    assert "at line 3" in refusal(tmp_path, "seed = 1", "seed = ")
    path = write(tmp_path, "")
    path.write_bytes(b'name = "\xff"')
    with pytest.raises(InputError, match="is no TOML"):
        read(path)


def test_relative_paths_start_at_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    path = write(tmp_path, WHOLE.replace("sample:mobilenet_v2_tiny", "nets/mine.py:make"))
    found = read(path)
    assert found.data.source == f"folder:{tmp_path / 'pictures'}"
    assert found.model.reference == f"{tmp_path / 'nets' / 'mine.py'}:make"
    assert read(write(tmp_path, to_toml(found))) == found  # absolute paths stay


def test_a_transfer_keeps_its_part_and_its_checkpoints_start_at_the_recipe(tmp_path: Path) -> None:
    section = '[transfer]\ngiant = "a/giant.safetensors"\ncontrol = "b.safetensors"\npart = "features"\n'
    places = str(tmp_path / "a" / "giant.safetensors"), str(tmp_path / "b.safetensors")
    assert read(write(tmp_path, WHOLE + section)).transfer == TransferSection(*places, "features")


@pytest.mark.parametrize(
    "reference", ["sample:mobilenet_v2_tiny", "timm:mobilenetv2_035", "torchvision.models:resnet18"]
)
def test_a_reference_that_is_no_file_stays(tmp_path: Path, reference: str) -> None:
    assert read(write(tmp_path, WHOLE.replace("sample:mobilenet_v2_tiny", reference))).model.reference == reference


@pytest.mark.parametrize(
    "value",
    [
        'say "no"', "back\\slash", "tab\tline\nend", "it's", "π and 🦔", "del\x7f nul\x00", "",
        True, 0, -7, 0.1, 1e-7, 1e22, float("inf"), [], [1, [2, 3]], ["a", "b\""], {}, {"a b": 1, "π": {"deep": [0.5]}},
    ],
)  # fmt: skip
def test_what_is_written_comes_back(tmp_path: Path, value: object) -> None:
    assert tomllib.loads(f"x = {literal(value)}") == {"x": value}
    recipe = read(write(tmp_path, WHOLE))
    changed = replace(recipe, model=ModelSection("sample:mobilenet_v2_tiny", (1, 28, 28), {"given": value}))
    assert read(write(tmp_path, to_toml(changed))) == changed


def test_odd_paths_come_back(tmp_path: Path) -> None:
    recipe = read(write(tmp_path, WHOLE))
    changed = replace(recipe, data=replace(recipe.data, source='folder:/home/"me"/🦔 a\\b', mean=(0.5,), std=(1e-4,)))
    assert read(write(tmp_path, to_toml(changed))) == changed


def test_what_toml_cannot_hold_is_refused_before_it_is_written() -> None:
    with pytest.raises(InputError, match="None cannot be written into a recipe"):
        literal({"pretrained": None})


def test_every_default_is_written_out(tmp_path: Path) -> None:
    written = tomllib.loads(to_toml(read(write(tmp_path, WHOLE))))
    assert written.keys() == set(Recipe.__dataclass_fields__)
    assert written["train"]["momentum"] == 0.9
    assert written["limits"] == asdict(Limits())


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_sample_recipes_are_read(path: Path) -> None:
    found = read(path)
    assert Path(found.data.source.partition(":")[2]).is_relative_to(path.parent)


def test_there_are_sample_recipes() -> None:
    assert len(SAMPLES) >= 2
