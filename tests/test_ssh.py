"""Devices that are reached by ssh: a real sshd, and an agent that does as it is told."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from nbedge.device.address import Address
from nbedge.device.ssh import Connection
from nbedge.errors import DeviceError, MissingDependencyError
from sshd import Sshd

pytestmark = pytest.mark.group("device")
ROOT = Path(__file__).parent.parent

#: what the real one does, and what it may suffer
AGENT = """
import json, os, signal, subprocess, sys, time
job = json.loads(sys.stdin.read())
if "deaf" in job:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("a runtime says something first", flush=True)
print(job.get("say", ""), flush=True)
if "processes" in job:
    child = subprocess.Popen(["sleep", "300"])
    with open(job["processes"] + ".part", "w") as file:
        file.write(f"{os.getpid()} {child.pid}")
    os.rename(job["processes"] + ".part", job["processes"])
if "import" in job:
    __import__(job["import"])
if "write" in job:
    with open(job["write"], "wb") as file:
        file.write(bytes(1_000_000))
time.sleep(job.get("sleep", 0))
if "signal" in job:
    os.kill(os.getpid(), job["signal"])
if "result" in job:
    print("NBEDGE-RESULT " + json.dumps(job["result"]))
sys.exit(job.get("status", 0))
"""


@pytest.fixture
def pi(server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    """The server with an empty home, known to the client; what the client makes is seen to be gone."""
    server.accept_host_key()
    monkeypatch.setenv("NBEDGE_SSH", server.client)
    # tmp_path is too long for a socket, whose path may have 104 characters
    with tempfile.TemporaryDirectory(prefix="t-") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield server
        assert list(Path(folder).iterdir()) == []
    monkeypatch.undo()
    eventually(lambda: not server.sessions)
    subprocess.run(["find", server.home, "-mindepth", "1", "-delete"], check=True)


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    path = tmp_path / "agent.pyz"
    path.write_text(AGENT)
    return path


def connection(pi: Sshd, python: str = sys.executable) -> Connection:
    return Connection(Address.parse(pi.address), python)


def eventually(holds: Any, seconds: float = 8) -> None:
    end = monotonic() + seconds
    while not holds():
        assert monotonic() < end
        sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def script(path: Path, *lines: str) -> str:
    """Write a program of the device."""
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(0o755)
    return str(path)


def identifies_as(path: Path, home: Path, **changed: Any) -> str:
    """Write an interpreter that says something else of itself than the real one, and has no packages."""
    said = {"machine": "aarch64", "bits": 64, "python": [3, 11, 2], "home": str(home), **changed}
    return script(
        path,
        "case $2 in *calcsize*)",
        f"cat <<'END'\nNBEDGE-DEVICE {json.dumps(said)}\nEND",
        "exit;; esac",
        f'exec {sys.executable} -S "$@"',
    )


def refused(pi: Sshd, python: str = sys.executable) -> str:
    with pytest.raises(DeviceError) as caught, connection(pi, python):
        pass
    return str(caught.value)


def failed(pi: Sshd, agent: Path, job: dict[str, Any], seconds: float = 20, python: str = sys.executable) -> str:
    with connection(pi, python) as device:
        there = device.put([agent])[agent]
        with pytest.raises(DeviceError) as caught:
            device.run(there, job, seconds)
    return str(caught.value)


def test_files_are_sent_once_and_only_the_cache_is_left(pi: Sshd, agent: Path, tmp_path: Path) -> None:
    model = tmp_path / "it's a model.tflite"
    model.write_bytes(bytes(range(256)) * 1000)
    with connection(pi) as device:
        places = device.put([agent, model])
        assert Path(places[model]).read_bytes() == model.read_bytes()
        assert places[model].endswith(".tflite")
        sent = {path: path.stat().st_ino for path in pi.home.rglob("*") if path.is_file()}
        assert set(map(str, sent)) == set(places.values())
        assert device.run(places[agent], {"result": {"ms": 0.5, "ß": "µ"}}, 20) == {"ms": 0.5, "ß": "µ"}
    with connection(pi) as device:
        assert device.put([model, agent]) == places
        assert {path: path.stat().st_ino for path in pi.home.rglob("*") if path.is_file()} == sent
        Path(places[model]).write_bytes(b"damaged by a bad card")
        assert Path(device.put([model])[model]).read_bytes() == model.read_bytes()
        assert [path.name for path in pi.home.iterdir()] == [".cache"]
        device.clean()
        device.clean()
        assert list(pi.home.iterdir()) == []


def test_clean_keeps_what_others_cache(pi: Sshd, agent: Path) -> None:
    other = pi.home / ".cache" / "nbedge" / "environments"
    other.mkdir(parents=True)
    with connection(pi) as device:
        device.put([agent])
        device.clean()
    assert [path.name for path in (pi.home / ".cache" / "nbedge").iterdir()] == ["environments"]
    assert other.is_dir()


def test_a_result_counts_whatever_the_exit_status_is(pi: Sshd, agent: Path) -> None:
    with connection(pi) as device:
        there = device.put([agent])[agent]
        assert device.run(there, {"result": {"a": 1}, "status": 3}, 20) == {"a": 1}


def test_a_login_shell_may_print(pi: Sshd, agent: Path) -> None:
    users = pi.folder / "passwd"
    before = users.read_text()
    (pi.home / ".bashrc").write_text("printf welcome; echo be kind >&2; cd /\n")
    users.write_text(before.replace("/bin/sh", "/bin/bash"))
    try:
        with connection(pi) as device:
            there = device.put([agent])[agent]
            assert device.run(there, {"result": {"a": 1}}, 20) == {"a": 1}
            device.clean()
    finally:
        users.write_text(before)
    assert [path.name for path in pi.home.iterdir()] == [".bashrc"]


def test_it_is_one_connection(pi: Sshd, agent: Path) -> None:
    before = (pi.folder / "log").read_text().count("Accepted publickey")
    with connection(pi) as device:
        there = device.put([agent])[agent]
        device.run(there, {"result": {}}, 20)
    assert (pi.folder / "log").read_text().count("Accepted publickey") == before + 1


def test_an_environment_is_made_once_in_the_cache(pi: Sshd, tmp_path: Path, agent: Path) -> None:
    wheel = tmp_path / "tiny_thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr("tiny_thing.py", "")
        packed.writestr("tiny_thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-thing\nVersion: 1.0\n")
        packed.writestr(
            "tiny_thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        packed.writestr("tiny_thing-1.0.dist-info/RECORD", "")
    with connection(pi) as device:
        there = device.put([agent])[agent]
        python = device.setup([str(wheel)])
        begin = monotonic()
        assert device.setup([str(wheel)]) == python
        assert monotonic() - begin < 2
        assert device.run(there, {"import": "tiny_thing", "result": {}}, 20, python) == {}
        assert [path.name for path in pi.home.iterdir()] == [".cache"]
        assert [path.name for path in (pi.home / ".cache").iterdir()] == ["nbedge"]


def test_an_environment_that_cannot_be_made_leaves_nothing(pi: Sshd, tmp_path: Path) -> None:
    without_venv = script(
        tmp_path / "python",
        'case "$*" in *venv*) echo "The environment was not created: ensurepip is not available."; exit 1;; esac',
        f'exec {sys.executable} "$@"',
    )
    with connection(pi, without_venv) as device, pytest.raises(DeviceError) as caught:
        device.setup(["numpy"])
    assert str(caught.value) == (
        f"{pi.address} cannot install numpy: its Python lacks venv; run there: sudo apt install python3-venv"
    )
    with (
        connection(pi) as device,
        pytest.raises(DeviceError, match=r"install /no/wheel.whl .*check its network"),
    ):
        device.setup(["/no/wheel.whl"])
    assert list((pi.home / ".cache" / "nbedge" / "device" / "environments").iterdir()) == []


def test_nothing_listens(pi: Sshd) -> None:
    with pytest.raises(DeviceError) as caught, Connection(Address.parse("ssh://pi@127.0.0.1:1")):
        pass
    assert str(caught.value) == (
        "ssh://pi@127.0.0.1:1 cannot be reached: nothing listens at that port; "
        "check the port, and that ssh is enabled there"
    )


def test_an_unknown_host(pi: Sshd) -> None:
    with pytest.raises(DeviceError) as caught, Connection(Address.parse("ssh://no-such-host.invalid")):
        pass
    assert str(caught.value) == (
        "ssh://no-such-host.invalid cannot be reached: no host of that name is known; "
        "check the name, or give its address"
    )


def test_a_host_that_does_not_answer(pi: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBEDGE_SSH", f"{pi.client} -o ConnectTimeout=1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(DeviceError) as caught, Connection(Address("127.0.0.1", "pi", port)):
            pass
    assert str(caught.value) == (
        f"ssh://pi@127.0.0.1:{port} cannot be reached: it does not answer; check that it is on and in this network"
    )


def test_an_unknown_host_key(pi: Sshd) -> None:
    (pi.folder / "known_hosts").unlink()
    assert refused(pi) == (
        f"{pi.address} cannot be reached: its host key is not known; "
        f"connect once by hand to accept it: ssh -p {pi.port} pi@127.0.0.1"
    )


def test_a_changed_host_key(pi: Sshd) -> None:
    other = (pi.folder / "other_key.pub").read_text()
    (pi.folder / "known_hosts").write_text(f"[127.0.0.1]:{pi.port} {other}")
    assert refused(pi) == (
        f"{pi.address} cannot be reached: its host key is not the one that is known; if it was installed anew, run: "
        f"ssh-keygen -R '[127.0.0.1]:{pi.port}'; then connect once by hand: ssh -p {pi.port} pi@127.0.0.1"
    )


def test_a_wrong_key(pi: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    config = pi.folder / "other_config"
    config.write_text((pi.folder / "config").read_text().replace("/key\n", "/other_key\n"))
    monkeypatch.setenv("NBEDGE_SSH", f"ssh -F {config}")
    assert refused(pi) == (
        f"{pi.address} cannot be reached: it does not accept your key; "
        f"put the key there: ssh-copy-id -p {pi.port} pi@127.0.0.1"
    )


def test_no_ssh_here(pi: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBEDGE_SSH", "/no/ssh")
    with pytest.raises(MissingDependencyError, match="there is no /no/ssh on this machine"), connection(pi):
        pass


def test_no_python(pi: Sshd) -> None:
    assert refused(pi, "/no/python3") == (
        f"{pi.address} has no /no/python3; install Python 3.9 or later there, or name its interpreter"
    )


def test_a_python_that_is_too_old(pi: Sshd, tmp_path: Path) -> None:
    python = identifies_as(tmp_path / "python3", pi.home, python=[3, 7, 3])
    assert refused(pi, python) == (
        f"{python} of {pi.address} is Python 3.7.3, and 3.9 is the oldest that can measure; "
        "install a later one there, or name its interpreter"
    )


@pytest.mark.parametrize(("machine", "bits"), [("armv7l", 32), ("aarch64", 32), ("armv8l", 32)])
def test_a_32_bit_system(pi: Sshd, agent: Path, tmp_path: Path, machine: str, bits: int) -> None:
    python = identifies_as(tmp_path / "python3", pi.home, machine=machine, bits=bits)
    with connection(pi, python) as device:
        assert device.device.machine == "armv7l"
    assert failed(pi, agent, {"import": "onnxruntime"}, python=python) == (
        f"{pi.address} has a 32-bit system (armv7l), for which onnxruntime has no wheels; "
        "install the 64-bit Raspberry Pi OS there, or measure a .tflite file with tflite-runtime"
    )


def test_no_runtime(pi: Sshd, agent: Path) -> None:
    said = failed(pi, agent, {"import": "no_runtime"})
    assert said == f"{sys.executable} of {pi.address} has no no_runtime; run again with --setup"


@pytest.mark.parametrize("more", [{}, {"deaf": True}])
def test_more_than_its_time_leaves_no_process(pi: Sshd, agent: Path, tmp_path: Path, more: dict[str, Any]) -> None:
    noted = tmp_path / "processes"
    said = failed(pi, agent, {"processes": str(noted), "sleep": 60, **more}, seconds=1)
    assert said == (f"the measurement on {pi.address} took more than 1 s and was ended; give it more time or less work")
    eventually(lambda: not any(map(alive, map(int, noted.read_text().split()))))


#: waits for the agent, then sends a signal to the device's side of the connection
BREAK = """
import os, sys
from pathlib import Path
from time import sleep
from sshd import Sshd
noted, pid, signal = Path(sys.argv[1]), *map(int, sys.argv[2:])
while not noted.exists():
    sleep(0.02)
for session in Sshd(Path(), 0, pid).sessions:
    os.kill(session, signal)
"""


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSTOP])
def test_a_connection_that_breaks_leaves_no_process(
    pi: Sshd, agent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: signal.Signals
) -> None:
    monkeypatch.setenv("NBEDGE_SSH", f"{pi.client} -o ServerAliveInterval=1")
    noted = tmp_path / "processes"
    breaker = subprocess.Popen(
        [sys.executable, "-c", BREAK, str(noted), str(pi.pid), str(int(sent))],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests" / "device")},
    )
    said = failed(pi, agent, {"processes": str(noted), "sleep": 60}, seconds=60)
    assert breaker.wait() == 0
    assert said == (
        f"the connection to {pi.address} was lost; "
        "check its power and network, and whether it has rebooted, then try again"
    )
    for stopped in pi.sessions:
        os.kill(stopped, signal.SIGKILL)
    eventually(lambda: not any(map(alive, map(int, noted.read_text().split()))))


CLIENT = """
import sys, tempfile
from contextlib import suppress
from pathlib import Path
from nbedge.device.address import Address
from nbedge.device.ssh import Connection
address, agent, noted, python, tempfile.tempdir = sys.argv[1:]
with suppress(KeyboardInterrupt), Connection(Address.parse(address), python) as device:
    there = device.put([Path(agent)])[Path(agent)]
    device.run(there, {"processes": noted, "sleep": 60}, 60)
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_client_that_dies_leaves_no_process(pi: Sshd, agent: Path, tmp_path: Path, sent: signal.Signals) -> None:
    noted = tmp_path / "processes"
    with tempfile.TemporaryDirectory(prefix="k") as folder:
        client = subprocess.Popen(
            [sys.executable, "-c", CLIENT, pi.address, str(agent), str(noted), sys.executable, folder]
        )
        eventually(noted.exists, 20)
        client.send_signal(sent)
        client.wait()
        eventually(lambda: not any(map(alive, map(int, noted.read_text().split()))))
        eventually(lambda: not pi.sessions)
        assert sent == signal.SIGKILL or not list(Path(folder).iterdir())


def test_an_illegal_instruction_names_the_runtime(pi: Sshd, agent: Path) -> None:
    said = failed(pi, agent, {"say": "NBEDGE-RUNTIME onnxruntime 1.21.0", "signal": signal.SIGILL})
    assert said.startswith(
        f"onnxruntime 1.21.0 on {pi.address} died of an illegal instruction: it was built for a later"
    )
    assert said.endswith("install another version there: pip install 'onnxruntime!=1.21.0'")


def test_an_illegal_instruction_names_what_is_installed(pi: Sshd, agent: Path) -> None:
    said = failed(pi, agent, {"signal": signal.SIGILL})
    assert f"numpy {__import__('numpy').__version__}" in said


def test_killed_for_memory(pi: Sshd, agent: Path) -> None:
    assert failed(pi, agent, {"signal": signal.SIGKILL}) == (
        f"the measurement on {pi.address} was killed, most likely for want of memory; "
        "close what else runs there, or measure a smaller file"
    )


def test_no_result_shows_the_last_line(pi: Sshd, agent: Path) -> None:
    assert failed(pi, agent, {"say": "NBEDGE-RESULT {", "status": 5}) == (
        f"the measurement on {pi.address} ended without a result (exit status 5); the last line there: NBEDGE-RESULT {{"
    )


def test_a_full_disk(pi: Sshd, agent: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(bytes(1_000_000))
    cache = pi.home / ".cache"
    cache.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", cache], capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        with connection(pi) as device:
            there = device.put([agent])[agent]
            with pytest.raises(DeviceError) as caught:
                device.put([model])
            with pytest.raises(DeviceError, match="cannot measure: its disk is full; make room there"):
                device.run(there, {"write": str(cache / "much")}, 20)
        assert str(caught.value) == f"{pi.address} cannot take {model}: its disk is full; make room there"
        assert [path.name for path in cache.glob("nbedge/device/files/*")] == [Path(there).name]
    finally:
        subprocess.run(["umount", cache], check=True)
