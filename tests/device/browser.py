"""A real Chromium for the tests, without a window; nothing is installed into the system.

    python tests/device/browser.py

fetches Debian's and unpacks it beside the environments, unless one is in PATH. It is driven by the protocol of its
developer tools, over two pipes: no port is open, and the tests need no package for it.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from select import select
from threading import Thread
from time import monotonic, sleep
from typing import Any

FETCHED = Path(__file__).parent.parent.parent / ".venv-environments" / "chromium"
READY = FETCHED / "ready"
NAMES = ("chromium-headless-shell", "chromium", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--mute-audio",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--remote-debugging-pipe",
)  # fmt: skip
TIMEOUT_S = 60.0


def fetch() -> None:
    """Fetch and unpack it with all that it needs: 110 MB, 530 MB unpacked."""
    from nbedge.device import userland

    shutil.rmtree(FETCHED, ignore_errors=True)
    userland.unpack_packages(("chromium-headless-shell",), userland.architecture(), FETCHED)
    READY.touch()


def found() -> tuple[str, dict[str, str]] | None:
    """Return the program and the variables that it needs; None where there is none."""
    if READY.exists():
        folders = [
            f"{FETCHED}/{place}" for place in ("usr/lib/*-linux-gnu", "lib/*-linux-gnu", "usr/lib/*-linux-gnu/*")
        ]
        libraries = [str(path) for place in folders for path in Path("/").glob(place[1:]) if path.is_dir()]
        program = FETCHED / "usr" / "lib" / "chromium" / "chromium-headless-shell"
        return str(program), {"LD_LIBRARY_PATH": ":".join(libraries)}
    program_here = next(filter(None, map(shutil.which, NAMES)), None)
    return (program_here, {}) if program_here else None


@dataclass(slots=True)
class Page:
    """A tab of a browser.

    Attributes:
        process: the browser.
        commands: the pipe that it reads.
        answers: the pipe that it writes.
        session: of the tab.
        errors: what was thrown there and not caught, and what could not be loaded.
        requests: addresses that were asked for.
    """

    process: "subprocess.Popen[bytes]"
    commands: int
    answers: int
    session: str
    errors: list[str]
    requests: list[str]
    number: int = 0
    rest: bytes = b""

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        end = monotonic() + TIMEOUT_S
        while True:
            got = self._message(end)
            self._note(got)
            if got.get("id") == self.number:
                assert "error" not in got, f"{method}: {got['error']}"
                return dict(got["result"])

    def evaluate(self, code: str) -> Any:
        """Return the value of an expression, awaited."""
        found = self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, code: str) -> None:
        """Wait until an expression is true; before a page has come there is no body to ask for."""
        end = monotonic() + TIMEOUT_S
        while not self.evaluate(f"Boolean(document.body && ({code}))"):
            assert monotonic() < end, f"{code} never became true; {self.errors}"
            sleep(0.02)

    def open(self, address: str) -> None:
        """Load a page."""
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=address)

    def choose(self, selector: str, path: Path) -> None:
        """Choose a file in an input of the page, as a hand does."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def drop(self, selector: str, path: Path) -> None:
        """Drop a file on an element of the page, as a hand does."""
        box = self.evaluate(
            f"(({{x, y}}) => [x + 5, y + 5])(document.querySelector('{selector}').getBoundingClientRect())"
        )
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=box[0], y=box[1], data=data)

    def picture(self, width: int, height: int, dark: bool = False) -> bytes:
        """Return the page as PNG."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        return b64decode(self.call("Page.captureScreenshot")["data"])

    def _message(self, end: float) -> dict[str, Any]:
        while b"\0" not in self.rest:
            ready, _, _ = select([self.answers], [], [], max(0.0, end - monotonic()))
            part = os.read(self.answers, 1 << 16) if ready else b""
            assert part, f"the browser said nothing for {TIMEOUT_S} s, or ended"
            self.rest += part
        message, _, self.rest = self.rest.partition(b"\0")
        return dict(json.loads(message))

    def _note(self, message: dict[str, Any]) -> None:
        said = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(said["exceptionDetails"]))
        if message.get("method") == "Log.entryAdded" and said["entry"]["level"] == "error":
            self.errors.append(f"{said['entry']['text']} {said['entry'].get('url', '')}")
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])


@contextmanager
def browsing() -> Iterator[Page]:
    """Run a browser with an empty profile, and give its one tab; all its processes end with the block."""
    program = found()
    assert program
    down, up = _pipe(), _pipe()
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        # the numbers that the browser wants; by their paths, since a shell takes no number of two digits
        script = f'exec "$@" 3</dev/fd/{down[0]} 4>/dev/fd/{up[1]}'
        process = subprocess.Popen(
            ["sh", "-c", script, "sh", program[0], *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            env={**os.environ, "HOME": profile, **program[1]}, pass_fds=(down[0], up[1]), start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(down[0])
        os.close(up[1])
        try:
            page = Page(process, down[1], up[0], "", [], [])
            targets = page.call("Target.getTargets")["targetInfos"]
            tab = next(target["targetId"] for target in targets if target["type"] == "page")
            page.session = page.call("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
            yield page
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            os.close(down[1])
            os.close(up[0])


def _pipe() -> tuple[int, int]:
    """Return a pipe whose numbers are none of those that the browser wants."""
    low = os.pipe()
    read, write = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in low)
    for end in low:
        os.close(end)
    return read, write


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a folder on 127.0.0.1 as a plain static server, and give its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        """Print nothing."""


if __name__ == "__main__":
    if not found():
        print(f"Fetching Chromium into {FETCHED}; this takes 15 seconds and 0.5 GB of disk", file=sys.stderr)
        fetch()
