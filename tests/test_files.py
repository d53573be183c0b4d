import hashlib
import json
import math
import os
from pathlib import Path

import pytest

from nbedge import files
from nbedge.errors import InputError


def interrupt(path: Path) -> None:
    with files.appearing(path) as part:
        part.write_bytes(b"half")
        raise KeyboardInterrupt


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.bin"
    with files.appearing(path) as part:
        part.write_bytes(b"whole")
        assert not path.exists()
        assert part.suffix == ".bin"
    assert path.read_bytes() == b"whole"
    assert list(path.parent.iterdir()) == [path]


def test_an_exception_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupt(tmp_path / "file.bin")
    assert not list(tmp_path.iterdir())


def test_an_exception_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        interrupt(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        files.write_bytes(tmp_path / "file", b"")
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode


def test_json_is_written_whole_and_readable(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"größe": [1, None]})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"größe": [1, None]}
    assert "größe" in text
    assert text.endswith("}\n")


def test_what_is_no_number_is_null_for_every_reader_of_json(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"a": [math.nan, (1.5, math.inf)], "b": {"c": -math.inf}})
    found = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    assert found == {"a": [None, [1.5, None]], "b": {"c": None}}


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError):
        files.write_json(tmp_path / "a.json", {1, 2})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == "1\n"


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 1000
    (tmp_path / "a").write_bytes(content)
    assert files.sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_an_existing_file_is_refused_without_overwrite(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    files.refuse_existing(tmp_path / "b", False)
    files.refuse_existing(tmp_path / "a", True)
    with pytest.raises(InputError, match=r"/a exists already"):
        files.refuse_existing(tmp_path / "a", False)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert files.existing(tmp_path, "the folder") == tmp_path
    with pytest.raises(InputError, match=r"the weights .*/a does not exist"):
        files.existing(tmp_path / "a", "the weights")


def test_what_cannot_be_written_is_refused_beforehand(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder; choose the name of a file"):
        files.refuse_existing_file(tmp_path, overwrite=True)
    (tmp_path / "a").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        files.refuse_existing_file(tmp_path / "a", overwrite=False)
    with pytest.raises(InputError, match=r"a is no folder to write to"):
        files.refuse_existing_file(tmp_path / "a" / "b", overwrite=False)
    files.refuse_existing_file(tmp_path / "new" / "b", overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="NOT CHECKED: no folder that even root cannot write to")
def test_a_place_that_even_root_cannot_write_to_is_named() -> None:
    with pytest.raises(InputError, match=r"/proc/x\.md cannot be written"):
        files.refuse_existing_file(Path("/proc/x.md"), overwrite=False)
    with pytest.raises(OSError) as caught:  # noqa: PT011
        files.write_bytes(Path("/proc/x.md"), b"")
    assert caught.value.filename == "/proc/x.md"
