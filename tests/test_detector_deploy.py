"""A detector on its devices: boxes in a browser and in C, the same as Python's."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import browser
from browser import Page
from nbedge import artifact
from nbedge.deployment import deploy
from nbedge.deployment.packages import WebRuntimes
from nbedge.detection import Decoding, Detections, decode
from nbedge.detection.drawing import COLOURS
from nbedge.errors import InputError

pytest.importorskip("torch")
SAMPLE = Path(__file__).parent.parent / "sample_models" / "blood_smears"
EXPORTS = SAMPLE / "exports"
PICTURES = sorted((SAMPLE / "data" / "test").glob("*.jpg"))[:3]
#: shares of the picture, and of a score
CLOSE = 1e-4


def found(path: Path, picture: Path, score: float = 0.3) -> Detections:
    """Return what Python finds."""
    from nbedge.data import picture as read
    from nbedge.runtime import answer_pictures, open_file

    how = artifact.read(path).prepared()
    runner = open_file(path, "tflm") if path.name.endswith(".int8.tflite") else open_file(path)
    (boxes,) = decode(answer_pictures(runner, read(picture, how.shape)[None], how), Decoding(score=score))
    return boxes


@pytest.fixture(autouse=True)
def environments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look where `make setup-environments` puts what runs in a browser."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path(__file__).parent.parent / ".venv-environments"))


@pytest.fixture
def page() -> Iterator[Page]:
    if not WebRuntimes().ready or browser.found() is None:
        pytest.skip("make setup-environments")
    with browser.browsing() as opened:
        yield opened


@pytest.mark.group("deploy")
@pytest.mark.parametrize("name", ["fp32.onnx", "fp32.tflite", "int8-float-io.tflite"])
def test_a_page_draws_the_boxes_that_python_finds(tmp_path: Path, page: Page, name: str) -> None:
    path = EXPORTS / f"blood_smears.{name}"
    folder = deploy(path, target="web", out=tmp_path / "web", picture=PICTURES[0]).folder
    classes, some = artifact.read(path).classes, 0
    with browser.serving(folder) as address:
        page.open(address)
        page.until("document.body.dataset.state === 'ready'")
        for picture in PICTURES:
            page.evaluate("document.body.dataset.state = 'asked'")
            page.choose("#file", picture)
            page.until("['answered', 'failed'].includes(document.body.dataset.state)")
            shown: list[dict[str, Any]] = page.evaluate("globalThis.nbedge.found")
            wanted = found(path, picture)
            some += len(wanted)
            assert [one["class"] for one in shown] == [classes[number] for number in wanted.classes]
            np.testing.assert_allclose([one["box"] for one in shown], wanted.boxes, atol=CLOSE)
            np.testing.assert_allclose([one["score"] for one in shown], wanted.scores, atol=CLOSE)
            said = page.evaluate("document.getElementById('status').textContent")
            assert said.startswith("Found: " if len(wanted) else "Nothing")
            colours = [COLOURS[number % len(COLOURS)] for number in {*wanted.classes.tolist()}]
            assert all(page.evaluate(f"({PIXELS})('{colour}')") > 100 for colour in colours)
        assert page.errors == []
        assert [asked for asked in page.requests if not asked.startswith((address, "blob:", "data:"))] == []
    assert some > 3


#: how many pixels of the shown picture have a colour
PIXELS = """(colour) => { const c = document.getElementById('picture'); const [r, g, b] =
  colour.match(/[0-9a-f]{2}/g).map((part) => parseInt(part, 16));
  const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
  let n = 0; for (let i = 0; i < d.length; i += 4) n += d[i] === r && d[i + 1] === g && d[i + 2] === b;
  return n; }"""


MAIN = """
#include <stdio.h>
#include "model.h"
#include "model_boxes.h"

int main(void) {
  model_box found[100];
  while (fread(model_input(), 1, MODEL_INPUT_BYTES, stdin) == MODEL_INPUT_BYTES) {
    model_invoke();
    const int count = model_find(SCORES, BOXES, 0.3f, found, 100);
    for (int i = 0; i < count; i++) {
      printf("%s %.9g %.9g %.9g %.9g %.9g\\n", model_labels[found[i].label], found[i].score, found[i].left,
             found[i].top, found[i].right, found[i].bottom);
    }
    printf("end\\n");
  }
  return 0;
}
"""


@pytest.mark.group("c")
def test_the_boxes_of_generated_c_are_those_of_python(tmp_path: Path) -> None:
    pytest.importorskip("tflite_micro")
    if shutil.which("cc") is None:
        pytest.skip("a C compiler is needed")
    path = EXPORTS / "blood_smears.int8.tflite"
    folder = deploy(path, target="c", out=tmp_path / "c").folder
    header = (folder / "model_boxes.h").read_text()
    places = {name: re.findall(rf"{name}: +(\S+)", header)[0] for name in ("scores", "boxes")}
    text = MAIN.replace("SCORES", places["scores"]).replace("BOXES", places["boxes"])
    (tmp_path / "main.c").write_text(text)
    sources = [file for file in folder.glob("*.c") if file.name not in ("example.c", "golden.c")]
    command = ["cc", "-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{folder}", *map(str, sources),
               str(tmp_path / "main.c"), "-lm", "-o", str(tmp_path / "find")]  # fmt: skip
    subprocess.run(command, check=True)
    said = subprocess.run([tmp_path / "find"], input=fed(path), capture_output=True, check=True).stdout.decode()
    blocks = [part.splitlines() for part in said.split("end\n")[:-1]]
    classes, some = artifact.read(path).classes, 0
    for picture, lines in zip(PICTURES, blocks, strict=True):
        wanted = found(path, picture)
        some += len(wanted)
        assert [line.split()[0] for line in lines] == [classes[number] for number in wanted.classes]
        numbers = np.array([line.split()[1:] for line in lines], float).reshape(-1, 5)
        np.testing.assert_allclose(numbers[:, 0], wanted.scores, atol=CLOSE)
        np.testing.assert_allclose(numbers[:, 1:], wanted.boxes, atol=CLOSE)
    assert some > 3


def fed(path: Path) -> bytes:
    """Return the pictures as the file takes them."""
    from nbedge.data import picture as read
    from nbedge.runtime import batches, open_file

    how, entry = artifact.read(path).prepared(), open_file(path).inputs[0]
    x = how(np.stack([read(picture, how.shape) for picture in PICTURES]))
    return b"".join(part[:count].tobytes() for part, count in batches(x, entry))


@pytest.mark.group("deploy")
def test_tflite_micro_gets_the_same_source(tmp_path: Path) -> None:
    pytest.importorskip("tflite_micro")
    path = EXPORTS / "blood_smears.int8.tflite"
    folder = deploy(path, target="tflm", out=tmp_path / "tflm", name="smears").folder
    assert "smears_find(" in (folder / "smears_boxes.h").read_text()
    assert "interpreter.output(" in (folder / "smears_boxes.h").read_text()
    about = json.loads((folder / "smears.json").read_text())
    assert {spec["name"] for spec in about["outputs"]} == {"scores", "boxes"}


@pytest.mark.parametrize("target", ["android", "ios", "pi"])
def test_a_target_whose_program_tells_classes_apart_refuses_a_detector(tmp_path: Path, target: str) -> None:
    with pytest.raises(InputError, match=f"the target {target} does not; choose from c, tflm, web"):
        deploy(EXPORTS / "blood_smears.int8.tflite", target=target, out=tmp_path / target)
    assert list(tmp_path.iterdir()) == []
