"""Headless Chromium on a site that is served here, driven over a pipe (Chrome DevTools Protocol)."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--remote-debugging-pipe"),
    *("--disable-dev-shm-usage", "--no-first-run", "--disable-component-update", "--disable-sync"),
)
READS, WRITES = 3, 4
"""The descriptors on which Chromium listens and answers."""
ENCODINGS = (("br", ".br"), ("gzip", ".gz"))
STEP_SECONDS = 0.05
LIMIT_SECONDS = 240
"""A browser that is still there is ended."""


def chromium() -> str | None:
    """Path of Chromium or Chrome, or None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Server(ThreadingHTTPServer):
    """Serves a folder with its pre-compressed files; `sent` is what each path cost, in bytes without headers."""

    def __init__(self, folder: Path) -> None:
        self.sent: dict[str, int] = {}
        super().__init__(("127.0.0.1", 0), partial(_Files, directory=str(folder)))

    @property
    def url(self) -> str:
        """Where the site's first page is."""
        return f"http://127.0.0.1:{self.server_port}/index.html"


class _Files(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        plain = Path(self.translate_path(self.path))
        accepted = self.headers.get("Accept-Encoding", "")
        found = [
            (name, ending) for name, ending in ENCODINGS if name in accepted and Path(f"{plain}{ending}").is_file()
        ]
        if not plain.is_file():
            self._record(0)
            self.send_error(404)
            return
        content = Path(f"{plain}{found[0][1]}" if found else plain).read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(plain))
        if found:
            self.send_header("Content-Encoding", found[0][0])
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self._record(len(content))

    def _record(self, size: int) -> None:
        assert isinstance(self.server, Server)  # noqa: S101  # tells the type
        self.server.sent[self.path] = size

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: `sent` says what was asked for."""


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Serve a folder on a free port of this machine."""
    server = Server(folder)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Page:
    """One page of a browser."""

    def __init__(self, process: subprocess.Popen[bytes], reads: int, writes: int) -> None:
        self._process, self._reads, self._writes = process, reads, writes
        self._buffer, self._count, self._session = b"", 0, ""
        self._loaded = False
        self.problems: list[str] = []
        """What the page wrote to its console as errors, and exceptions that it did not catch."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, seconds: float = 60, **params: Any) -> Any:
        """Send a command and wait for its result."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writes, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + seconds
        while True:
            said = self._next(end, method)
            if said.get("id") == self._count:
                if "error" in said:
                    raise RuntimeError(f"{method}: {said['error']['message']}")
                return said["result"]
            self._note(said)

    def _next(self, end: float, method: str) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._reads], [], [], max(end - time.monotonic(), 0))
            piece = os.read(self._reads, 1 << 20) if ready else b""
            if not piece:
                raise RuntimeError(f"Chromium did not answer {method}; its exit code is {self._process.poll()}")
            self._buffer += piece
        message, self._buffer = self._buffer.split(b"\0", 1)
        found: dict[str, Any] = json.loads(message)
        return found

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        if event.get("method") == "Page.loadEventFired":
            self._loaded = True
        if event.get("method") == "Runtime.exceptionThrown":
            self.problems.append(str(params["exceptionDetails"].get("exception", params["exceptionDetails"])))
        if event.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    def evaluate(self, script: str, seconds: float = 60) -> Any:
        """The value of a JavaScript expression; of a promise, what it resolves to."""
        told = self.call("Runtime.evaluate", seconds, expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in told:
            raise RuntimeError(told["exceptionDetails"]["exception"].get("description", "the script failed"))
        return told["result"].get("value")

    def open(self, url: str) -> None:
        """Load a page with its scripts; what is asked of a page before that may never be answered."""
        self._loaded = False
        self.call("Page.navigate", url=url)
        end = time.monotonic() + 60
        while not self._loaded:
            self._note(self._next(end, "Page.navigate"))

    def until(self, script: str, seconds: float = 60) -> Any:
        """Wait until an expression is true, and return it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self.evaluate(script)
            if found:
                return found
            time.sleep(STEP_SECONDS)
        raise RuntimeError(f"{script} was not true within {seconds:g} s; problems: {self.problems}")

    def press(self, key: str, text: str = "") -> None:
        """Press and release a key, such as Tab or Enter."""
        for kind in ("keyDown", "keyUp"):
            code = {"Enter": 13, "Tab": 9}.get(key, 0)
            self.call("Input.dispatchKeyEvent", type=kind, key=key, text=text, windowsVirtualKeyCode=code)

    def screenshot(self, file: Path, *, width: int, height: int, scheme: str) -> None:
        """Write a PNG as a window of that size (CSS pixels) shows it, in a light or dark scheme."""
        self.resize(width, height)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=False)["data"]))

    def resize(self, width: int, height: int) -> None:
        """Give the window a size in CSS pixels; narrow ones are phones."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)


@contextmanager
def browsing(program: str) -> Iterator[Page]:
    """Start Chromium with an empty profile, and end it."""
    ours_in, theirs_out = os.pipe()
    theirs_in, ours_out = os.pipe()
    # Above 3 and 4, so that neither is overwritten while both are put there.
    high = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs_in, theirs_out)]

    script = f'exec "$0" "$@" {READS}<&{high[0]} {WRITES}>&{high[1]}'
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            ["/bin/bash", "-c", script, program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=high,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        watch = threading.Timer(LIMIT_SECONDS, process.kill)  # whoever waits for an answer then reads the end
        watch.start()
        for end in (theirs_in, theirs_out, *high):
            os.close(end)
        try:
            page = Page(process, ours_in, ours_out)
            yield page
            page._session = ""
            page.call("Browser.close")
            process.wait(20)
        finally:
            watch.cancel()
            process.kill()
            process.wait()
            os.close(ours_in)
            os.close(ours_out)
