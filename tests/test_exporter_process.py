"""Exporters in processes of their own: what goes wrong there is one sentence and a log."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from nbedge.conversion import chain, process
from nbedge.errors import ExportError, InputError, MissingDependencyError
from nbedge.exporter import Job, exporters

#: exporters that go wrong, each in its own way
PLUGIN = """
import os, resource, signal, sys, time
from dataclasses import dataclass, field
import numpy as np
from nbedge.errors import ExportError, needs

@dataclass(frozen=True)
class Exporter:
    produces: str
    how: object = None
    consumes: str = "torch"
    source: str = "fp32"
    schemes: frozenset = frozenset({"fp32"})
    backend: str = "faulty"
    options: dict = field(default_factory=dict)
    needs: dict = field(default_factory=dict)
    extra: str = "onnx"
    packages: tuple = ()
    imports: tuple = ()

    def convert(self, job):
        print("converting to", self.produces, flush=True)
        self.how(job)

    def open(self, path):
        raise AssertionError("nothing of it runs")

def fail(job):
    raise ValueError("operator Foo is unknown\\nand more")

def refuse(job):
    raise ExportError("the net has two outputs; give it one")

def miss(job):
    with needs("onnx"):
        import no_such_package

def exhaust(job):
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))
    np.ones(2**27)

def run_out(job):
    raise MemoryError

failing = Exporter("failing", fail)
refusing = Exporter("refusing", refuse)
missing = Exporter("missing", miss)
leaving = Exporter("leaving", lambda job: sys.exit("bye"))
dying = Exporter("dying", lambda job: os._exit(7))
aborting = Exporter("aborting", lambda job: os.abort())
killed = Exporter("killed", lambda job: os.kill(os.getpid(), signal.SIGKILL))
short = Exporter("short", run_out)
exhausting = Exporter("exhausting", exhaust)
sleeping = Exporter("sleeping", lambda job: time.sleep(600))
idle = Exporter("idle", lambda job: None)
writing = Exporter("writing", lambda job: job.targets["fp32"].write_bytes(job.source.read_bytes()[::-1]))
ping = Exporter("ping", consumes="pong")
pong = Exporter("pong", consumes="ping")
"""
NAMES = (
    "failing", "refusing", "missing", "leaving", "dying", "aborting", "killed", "short", "exhausting", "sleeping",
    "idle", "writing", "ping", "pong",
)  # fmt: skip


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a distribution with exporters, for this process and those that it starts."""
    site = tmp_path / "site"
    record = site / "faulty-1.0.dist-info"
    record.mkdir(parents=True)
    (site / "faulty_exporters.py").write_text(PLUGIN, encoding="utf-8")
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n", encoding="utf-8")
    lines = "\n".join(f"{name} = faulty_exporters:{name}" for name in NAMES)
    (record / "entry_points.txt").write_text(f"[nbedge.exporters]\n{lines}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(site), os.environ.get("PYTHONPATH", ""))))
    return site


@pytest.fixture
def job(tmp_path: Path) -> Job:
    workdir = tmp_path / "work"
    workdir.mkdir()
    (workdir / "source.pt2").write_bytes(b"no program")
    np.save(tmp_path / "calibration.npy", np.zeros((1, 1, 28, 28), np.float32))
    return Job(workdir / "source.pt2", {"fp32": tmp_path / "out.bin"}, tmp_path / "calibration.npy", workdir)


@pytest.mark.usefixtures("plugin")
@pytest.mark.group("export")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("failing", "the exporter failing failed: ValueError: operator Foo is unknown; see LOG"),
        ("refusing", "the net has two outputs; give it one; see LOG"),
        ("leaving", "the exporter leaving failed: SystemExit: bye; see LOG"),
        ("dying", "the exporter dying died with status 7; see LOG"),
        ("aborting", "the exporter aborting crashed with SIGABRT; see LOG"),
        ("killed", "the exporter killed was killed, as the system does when memory runs out; see LOG"),
        ("short", "the exporter short ran out of memory; see LOG"),
        ("exhausting", "the exporter exhausting ran out of memory; see LOG"),
        ("idle", "the exporter idle ended without an error but did not write OUT; see LOG"),
    ],
    ids=["failing", "refusing", "leaving", "dying", "aborting", "killed", "short", "exhausting", "idle"],
)
def test_an_exporter_that_goes_wrong_is_answered_with_its_log(job: Job, tmp_path: Path, name: str, words: str) -> None:
    log = tmp_path / "logs" / f"{name}.log"
    with pytest.raises(ExportError) as caught:
        process.run(name, exporters()[name], job, log)
    assert str(caught.value) == words.replace("LOG", str(log)).replace("OUT", str(job.targets["fp32"]))
    assert f"converting to {name}" in log.read_text(encoding="utf-8")


@pytest.mark.usefixtures("plugin")
@pytest.mark.group("export")
def test_an_exporter_that_takes_too_long_is_stopped_and_named_with_its_log(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, found = tmp_path / "log", exporters()["sleeping"]
    monkeypatch.setattr(process, "TIMEOUT_S", 1)
    with process.Worker("sleeping", found, job.workdir, log) as worker:
        worker.begin(job)
        while "converting to sleeping" not in log.read_text(encoding="utf-8"):
            time.sleep(0.05)
        with pytest.raises(ExportError) as caught:
            worker.end()
    assert str(caught.value) == f"the exporter sleeping took longer than 1 s and was stopped; see {log}"
    with pytest.raises(ProcessLookupError):
        os.kill(worker._process.pid, 0)


@pytest.mark.usefixtures("plugin")
@pytest.mark.group("export")
def test_a_missing_package_of_an_exporter_keeps_its_own_error(job: Job, tmp_path: Path) -> None:
    with pytest.raises(MissingDependencyError, match=r"pip install 'nbedge\[onnx\]'"):
        process.run("missing", exporters()["missing"], job, tmp_path / "log")


@pytest.mark.usefixtures("plugin")
@pytest.mark.group("export")
def test_an_exporter_writes_what_it_was_asked_for(job: Job, tmp_path: Path) -> None:
    process.run("writing", exporters()["writing"], job, tmp_path / "log")
    assert job.targets["fp32"].read_bytes() == b"margorp on"


@pytest.mark.group("export")
@pytest.mark.parametrize("name", ["onnx", "onnx-int8"])
def test_a_damaged_source_fails_with_a_log(job: Job, tmp_path: Path, name: str) -> None:
    targets = {"fp32" if name == "onnx" else "int8": tmp_path / "out.onnx"}
    broken = Job(job.source, targets, job.calibration, job.workdir)
    with pytest.raises(InputError, match=r"see .*/log$"):
        process.run(name, exporters()[name], broken, tmp_path / "log")
    assert "Traceback" in (tmp_path / "log").read_text(encoding="utf-8")
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.usefixtures("plugin")
def test_exporters_that_consume_each_other_are_refused() -> None:
    with pytest.raises(ExportError, match="ping, pong consume each other's files"):
        chain.steps(["ping"], ["fp32"])
