"""nbedge deploy: the folders run where they are for, and answer what Python answers."""

import io
import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import browser
import nbedge
from browser import Page
from nbedge import artifact, files
from nbedge.deployment import TARGETS, Deployment, deploy
from nbedge.deployment.packages import LITERT, ONNX, Package, WebRuntimes
from nbedge.deployment.record import RECORD
from nbedge.deployment.targets import OPTIONS
from nbedge.device.emulated import EmulatedPi
from nbedge.errors import InputError, MissingDependencyError

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "sample_models"
CELLS, FASHION = SAMPLES / "blood_cells", SAMPLES / "fashion_mnist"
INT8, FP32 = CELLS / "exports" / "blood_cells.int8.tflite", CELLS / "exports" / "blood_cells.fp32.tflite"
PICTURE = CELLS / "data" / "test" / "white" / "0000.jpg"
#: float kernels add up in their own order
FLOAT_TOLERANCE = 1e-4


@pytest.fixture(autouse=True)
def made_by_make_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(ROOT / ".venv-environments"))


@pytest.fixture(scope="module")
def float_io(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export an int8 file and its variant of float input and output, and return the latter."""
    for package in ("torch", "tensorflow", "onnx2tf"):
        pytest.importorskip(package)
    out = tmp_path_factory.mktemp("exports")
    command = ["export", str(CELLS / "contracted.safetensors"), "--format", "tflite", "--name", "blood_cells"]
    options = ["--quant", "int8,int8-float-io", "--calib", f"folder:{CELLS / 'data'}", "--out", str(out)]
    assert run(*command, *options).returncode == 0
    return out / "blood_cells.int8-float-io.tflite"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Write pictures of other sizes than the network's: larger, smaller, noise, a JPEG that a camera has turned."""
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path_factory.mktemp("pictures")
    cell = image.open(CELLS / "data" / "test" / "red" / "0003.jpg")
    turned = image.Exif()
    turned[0x112] = 6
    cell.resize((431, 377), image.Resampling.BICUBIC).save(folder / "large.png")
    cell.resize((43, 130), image.Resampling.BICUBIC).save(folder / "narrow.png")
    cell.resize((640, 480), image.Resampling.BICUBIC).save(folder / "turned.jpg", quality=80, exif=turned)
    noise = np.random.default_rng(0).integers(0, 256, (217, 331, 3), np.uint8)
    image.fromarray(noise).save(folder / "noise.png")
    shutil.copy(PICTURE, folder / "cell.jpg")
    return sorted(folder.iterdir())


def run(*words: str, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "nbedge", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def needs_web() -> None:
    if not WebRuntimes().ready:
        pytest.skip("make setup-environments")


def pythons(path: Path, picture: Path) -> NDArray[np.float32]:
    """Return what Python answers: the outputs of a file to a picture."""
    pytest.importorskip("torch")
    from nbedge.data import picture as read
    from nbedge.runtime import open_file
    from nbedge.runtime.runner import answer

    how = artifact.read(path).prepared()
    return np.asarray(answer(open_file(path), how(read(picture, how.shape)[None]))[0])


# the web


@pytest.fixture
def page() -> Iterator[Page]:
    """Run a browser."""
    needs_web()
    if browser.found() is None:
        pytest.skip("make setup-environments")
    with browser.browsing() as opened:
        yield opened


def answers(page: Page, picture: Path, drop: bool) -> NDArray[np.float32]:
    """Give the page a picture, as a hand does, and return the outputs that it shows."""
    page.evaluate("document.body.dataset.state = 'asked'")
    if drop:
        page.drop("#zone", picture)
    else:
        page.choose("#file", picture)
    page.until("['answered', 'failed'].includes(document.body.dataset.state)")
    assert page.evaluate("document.body.dataset.state") == "answered", page.errors
    return np.asarray(page.evaluate("globalThis.nbedge.outputs"), np.float32)


def rows(page: Page) -> list[str]:
    """Return the classes that the page shows, the first one first."""
    code = "[...document.querySelectorAll('#answers .name')].map((row) => row.textContent)"
    return list(page.evaluate(code))


def compare(page: Page, folder: Path, file: Path, pictures: list[Path], tolerance: float) -> None:
    """Let the page answer pictures, and compare with Python; nothing of another host is asked for."""
    classes = artifact.read(file).classes
    with browser.serving(folder) as address:
        page.open(address)
        page.until("document.body.dataset.state === 'ready'")
        for number, picture in enumerate(pictures):
            wanted = pythons(file, picture)
            found = answers(page, picture, drop=number % 2 == 1)
            np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance, err_msg=picture.name)
            order = np.argsort(-wanted, kind="stable")[:5]
            assert rows(page) == [classes[i] for i in order], picture.name
            assert float(page.evaluate("globalThis.nbedge.latency_ms")) > 0
            assert "in this browser" in page.evaluate("document.getElementById('runs').textContent")
        assert page.errors == []
        assert [asked for asked in page.requests if not asked.startswith((address, "blob:", "data:"))] == []


@pytest.mark.group("deploy")
def test_an_int8_page_of_litert_answers_bit_for_bit(
    tmp_path: Path, page: Page, pictures: list[Path], float_io: Path
) -> None:
    made = deploy(float_io.with_name("blood_cells.int8.tflite"), target="web", out=tmp_path / "web")
    assert made.uses == float_io.name
    compare(page, made.folder, float_io, pictures, tolerance=0)


@pytest.mark.group("deploy")
def test_an_int8_page_of_onnx_answers_bit_for_bit(tmp_path: Path, page: Page, pictures: list[Path]) -> None:
    from nbedge.machine import onnxruntime_kernels

    if onnxruntime_kernels() not in ("ort-vnni", "ort-arm"):
        pytest.skip("the int8 kernels of this processor saturate")
    file = FASHION / "exports" / "fashion_mnist.int8.onnx"
    compare(page, deploy(file, target="web", out=tmp_path / "web").folder, file, pictures, tolerance=0)


@pytest.mark.group("deploy")
@pytest.mark.parametrize("file", ["fashion_mnist.fp32.tflite", "fashion_mnist.fp32.onnx"])
def test_a_float_page_agrees(tmp_path: Path, page: Page, pictures: list[Path], file: str) -> None:
    path = FASHION / "exports" / file
    compare(page, deploy(path, target="web", out=tmp_path / "web").folder, path, pictures, FLOAT_TOLERANCE)


@pytest.mark.group("deploy")
def test_a_page_resizes_to_the_same_pixels(tmp_path: Path, page: Page) -> None:
    image = pytest.importorskip("PIL.Image")
    made = deploy(FP32, target="web", out=tmp_path / "web")
    rng = np.random.default_rng(0)
    with browser.serving(made.folder) as address:
        page.open(address)
        page.until("document.body.dataset.state === 'ready'")
        for _ in range(30):
            height, width, wanted_height, wanted_width = (int(size) for size in rng.integers(1, 90, 4))
            pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
            given = {"width": width, "height": height, "channels": 3, "data": pixels.ravel().tolist()}
            call = f"resize({json.dumps(given)}, {wanted_width}, {wanted_height})"
            found = page.evaluate(f"import('./preprocessing.js').then(({{resize}}) => Array.from({call}.data))")
            resized = image.fromarray(pixels).resize((wanted_width, wanted_height), image.Resampling.BILINEAR)
            np.testing.assert_array_equal(found, np.asarray(resized).ravel(), str((width, height)))


@pytest.mark.group("deploy")
def test_the_camera_the_example_and_a_broken_picture(tmp_path: Path, page: Page) -> None:
    made = deploy(FP32, target="web", out=tmp_path / "web", picture=PICTURE)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with browser.serving(made.folder) as address:
        page.open(address)
        page.until("document.body.dataset.state === 'ready'")
        page.evaluate("document.getElementById('sample').click()")
        page.until("document.body.dataset.state === 'answered'")
        said = json.loads((made.folder / "model.json").read_text(encoding="utf-8"))["picture"]["outputs"]
        np.testing.assert_allclose(page.evaluate("globalThis.nbedge.outputs"), said, atol=FLOAT_TOLERANCE)
        page.evaluate("globalThis.nbedge = null; document.getElementById('camera').click()")
        page.until("globalThis.nbedge !== null")
        assert page.evaluate("document.getElementById('camera').textContent") == "Stop the camera"
        page.evaluate("document.getElementById('camera').click()")
        page.choose("#file", tmp_path / "broken.png")
        page.until("document.body.dataset.state === 'failed'")
        assert "cannot be read" in page.evaluate("document.getElementById('status').textContent")
        shown = page.picture(1000, 640)
    image = pytest.importorskip("PIL.Image").open(io.BytesIO(shown))
    assert image.size == (1000, 640)
    assert len(image.convert("RGB").getcolors(1 << 20)) > 50


def test_a_web_page_holds_its_runtime_with_its_licence(tmp_path: Path) -> None:
    needs_web()
    made = deploy(FP32, target="web", out=tmp_path / "web")
    for package in LITERT:
        text = (made.folder / "vendor" / package.folder / "LICENSE").read_text(encoding="utf-8")
        assert text.startswith(f"{package.pinned}: Apache-2.0")
    assert not (made.folder / "vendor" / ONNX[0].folder).exists()
    everyone = [path for path in made.folder.rglob("*") if path.is_file() and not path.stat().st_mode & 0o004]
    assert everyone == []


def test_the_web_refuses_integer_ends_and_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        deploy(INT8, target="web", out=tmp_path / "web")
    assert str(refused.value).startswith(f"LiteRT.js takes no input or output of int8, which {INT8} has; run: nbedge ")
    source = f"{json.loads((CELLS / 'choice.json').read_text(encoding='utf-8'))['chosen']}.safetensors"
    assert (CELLS / source).exists()
    assert f"export {source} --format tflite --quant int8-float-io --calib DATA" in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_web_runtimes_that_are_missing_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(MissingDependencyError, match="run: nbedge doctor --install web"):
        deploy(FP32, target="web", out=tmp_path / "web")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match=r"npm is not here; install Node\.js"):
        WebRuntimes().make()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("program", "said"),
    [("exit 1", "npm could not fetch @litertjs/core@2.5.3"), ("echo x > other.tgz", "npm fetched another @litertjs")],
)
def test_npm_that_fails_or_is_fooled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, said: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "npm").write_text(f"#!/bin/sh\n{program}\n")
    (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(MissingDependencyError, match=said):
        WebRuntimes().make()
    assert not WebRuntimes().ready


def test_packages_are_pinned() -> None:
    assert all(isinstance(package, Package) and len(package.integrity) == 88 for package in (*LITERT, *ONNX))


# a Raspberry Pi


def test_the_program_of_a_pi_prepares_pictures_as_nbedge_does(tmp_path: Path, pictures: list[Path]) -> None:
    made = deploy(INT8, target="pi", out=tmp_path / "pi", picture=PICTURE)
    for picture in pictures:
        done = program(made.folder, str(picture), "--json")
        np.testing.assert_array_equal(np.asarray(done["outputs"], np.float32), pythons(INT8, picture), picture.name)
    command = [sys.executable, "run.py", "--check"]
    checked = subprocess.run(command, cwd=made.folder, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout) == (0, "largest difference 0; the first class is white\n")


@pytest.mark.parametrize("seed", range(3))
def test_the_program_of_a_pi_resizes_to_the_same_pixels(tmp_path: Path, seed: int) -> None:
    image = pytest.importorskip("PIL.Image")
    made = deploy(INT8, target="pi", out=tmp_path / "pi")
    run_py = runpy.run_path(str(made.folder / "run.py"))
    rng = np.random.default_rng(seed)
    for _ in range(60):
        height, width, wanted_height, wanted_width = (int(size) for size in rng.integers(1, 300, 4))
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        picture = image.fromarray(pixels)
        wanted = np.asarray(picture.resize((wanted_width, wanted_height), image.Resampling.BILINEAR))
        np.testing.assert_array_equal(run_py["resized"](pixels, wanted_height, wanted_width), wanted)
        np.testing.assert_array_equal(run_py["with_channels"](pixels, 1)[:, :, 0], np.asarray(picture.convert("L")))


def program(folder: Path, *words: str) -> dict[str, Any]:
    """Run run.py here, where nothing of nbedge is found."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "run.py", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.group("deploy")
@pytest.mark.parametrize("file", ["blood_cells.int8.tflite", "blood_cells.int8.onnx"])
def test_the_program_of_a_pi_answers_there_as_here(tmp_path: Path, pictures: list[Path], file: str) -> None:
    pi = EmulatedPi()
    if not pi.ready:
        pytest.skip("make setup-environments")
    path = CELLS / "exports" / file
    made = deploy(path, target="pi", out=tmp_path / "pi")
    image = pytest.importorskip("PIL.Image")
    image.open(pictures[0]).convert("RGB").save(tmp_path / "picture.ppm")  # no Pillow there
    command, variables = pi.python("cortex-a72")
    words = [str(made.folder / "run.py"), str(tmp_path / "picture.ppm"), "--json"]
    done = subprocess.run([*command, *words], env=variables, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = np.asarray(json.loads(done.stdout)["outputs"], np.float32)
    from nbedge.machine import onnxruntime_kernels

    exact = path.suffix == ".tflite" or onnxruntime_kernels() in ("ort-vnni", "ort-arm")
    wanted = pythons(path, tmp_path / "picture.ppm")
    assert found.argmax() == wanted.argmax()
    assert not exact or np.array_equal(found, wanted)


# phones


@pytest.mark.parametrize(("target", "source"), [("android", "Classifier.kt"), ("ios", "Classifier.swift")])
def test_a_phone_gets_the_files_and_a_class_that_says_what_it_is(tmp_path: Path, target: str, source: str) -> None:
    made = deploy([INT8, FP32], target=target, out=tmp_path / target, name="cells", picture=PICTURE)
    wanted = {"cells.int8.tflite", "cells.fp32.tflite", "labels.txt", "model.json", "README.md", "picture.jpg", source}
    assert set(made.contents) == wanted
    assert "NOT COMPILED HERE" in (made.folder / source).read_text(encoding="utf-8")
    about = (made.folder / "README.md").read_text(encoding="utf-8")
    assert "**not compiled here**" in about
    assert "{{" not in about
    assert files.sha256(made.folder / "cells.int8.tflite") == files.sha256(INT8)


def test_model_json_says_what_a_program_needs(tmp_path: Path) -> None:
    made = deploy([INT8, FP32], target="android", out=tmp_path / "app", picture=PICTURE)
    said = json.loads((made.folder / "model.json").read_text(encoding="utf-8"))
    known = artifact.read(INT8)
    assert said["classes"] == (made.folder / "labels.txt").read_text(encoding="utf-8").split()
    first, second = said["files"]
    assert (first["file"], second["file"]) == ("blood_cells.int8.tflite", "blood_cells.fp32.tflite")
    assert first["inputs"][0]["scale"] == known.inputs[0].scale
    assert first["inputs"][0]["layout"] == "NHWC"
    assert first["preprocessing"] == json.loads(json.dumps(known.prepared().to_dict()))
    assert (first["sha256"], first["head"], first["kernels"]) == (known.sha256, "logits", "XNNPACK")
    assert "same integers" in first["contract"]
    assert "not bit for bit" in second["contract"]
    np.testing.assert_array_equal(np.asarray(said["picture"]["outputs"], np.float32), pythons(INT8, PICTURE))


@pytest.mark.group("deploy")
def test_the_float_variant_beside_comes_along(tmp_path: Path, float_io: Path) -> None:
    made = deploy(float_io.with_name("blood_cells.int8.tflite"), target="ios", out=tmp_path / "app")
    assert {"blood_cells.int8.tflite", "blood_cells.int8-float-io.tflite"} <= set(made.contents)
    assert made.uses == "blood_cells.int8.tflite"


# what is refused, and what is kept


def test_from_python_a_frozen_record_comes_back(tmp_path: Path) -> None:
    made = nbedge.deploy(INT8, target="pi", out=tmp_path / "pi")
    assert isinstance(made, Deployment)
    with pytest.raises(FrozenInstanceError):
        made.name = "other"  # type: ignore[misc]
    assert made.size_bytes == sum((made.folder / name).stat().st_size for name in made.contents)
    assert json.loads((made.folder / RECORD).read_text(encoding="utf-8"))["contents"] == made.contents


def test_the_command_says_what_it_wrote(tmp_path: Path) -> None:
    done = run("deploy", str(INT8), "--target", "pi", "-o", str(tmp_path / "pi"), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["uses"] == "blood_cells.int8.tflite"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([str(INT8), "--target", "watch"], "no target is called 'watch'; choose from android, c, ios, pi, tflm, web"),
        (["bare.tflite", "--target", "pi"], "bare.tflite has no bare.tflite.json beside it"),
        (["none.tflite", "--target", "pi"], "the file none.tflite does not exist"),
        ([str(CELLS / "contracted.safetensors"), "--target", "pi"], "does not run .safetensors; nbedge export writes"),
        (["model.pte", "--target", "android"], "the target android does not run .pte; give .tflite"),
        ([str(CELLS / "exports" / "blood_cells.fp32.onnx"), "--target", "ios"], "does not run .onnx; give .tflite"),
        ([str(INT8), "--target", "web"], "LiteRT.js takes no input or output of int8"),
        ([str(INT8), "--target", "pi", "--name", "a/b"], "--name 'a/b' is no file name"),
        ([str(INT8), "--target", "pi", "--name", ""], "--name '' is no file name"),
        ([str(INT8), "--target", "pi", "--name", ".."], "--name '..' is no file name"),
        ([str(INT8), "--target", "pi", "--picture", "none.png"], "the picture none.png does not exist"),
        ([str(INT8), "--target", "pi", "--picture", "bare.tflite"], "none that every browser shows"),
        ([str(INT8), "--target", "pi", "--picture", "broken.png"], "broken.png is broken"),
        ([str(INT8), str(INT8), "--target", "pi"], "two files are of the scheme 'int8'"),
        ([str(INT8), str(FASHION / "exports" / "fashion_mnist.fp32.tflite"), "--target", "pi"], "another network"),
        ([str(INT8)], "Missing option '--target'"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(tmp_path: Path, words: list[str], said: str) -> None:
    for name in ("bare.tflite", "model.pte", "broken.png"):
        (tmp_path / name).write_bytes(b"nothing")
    before = sorted(tmp_path.iterdir())
    done = run("deploy", *words, "--out", "made", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in " ".join(done.stderr.split())
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_is_replaced_only_if_nbedge_wrote_all_of_it(tmp_path: Path) -> None:
    out = tmp_path / "pi"
    deploy(INT8, target="pi", out=out)
    with pytest.raises(InputError, match="exists already; choose another name or pass --overwrite"):
        deploy(INT8, target="pi", out=out)
    assert deploy(FP32, target="pi", out=out, overwrite=True).uses == "blood_cells.fp32.tflite"
    assert not (out / INT8.name).exists()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes.txt was not written by nbedge, and --overwrite would delete it"):
        deploy(INT8, target="pi", out=out, overwrite=True)
    (out / "notes.txt").unlink()
    (out / "run.py").write_text("changed")
    with pytest.raises(InputError, match=r"run.py was changed since"):
        deploy(INT8, target="pi", out=out, overwrite=True)
    assert (out / "run.py").read_text() == "changed"


def test_a_folder_of_somebody_else_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.txt").write_text("mine")
    with pytest.raises(InputError, match="was not written by nbedge deploy and is not replaced"):
        deploy(INT8, target="pi", out=tmp_path / "photos", overwrite=True)
    with pytest.raises(InputError, match="was not written by nbedge deploy and is not replaced"):
        deploy(INT8, target="pi", out=tmp_path / "photos" / "one.txt", overwrite=True)
    assert (tmp_path / "photos" / "one.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert deploy(INT8, target="pi", out=tmp_path / "empty", overwrite=True).contents


def test_every_target_says_what_it_is_for() -> None:
    assert list(TARGETS) == ["android", "c", "ios", "pi", "tflm", "web"]
    assert all(target.used_for and set(target.options) <= set(OPTIONS) for target in TARGETS.values())
