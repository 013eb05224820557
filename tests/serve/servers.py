"""A real `kdc serve` on a tiny bundle, in processes of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from compress.artifacts import ONNX
from compress.bundle.write import write_bundle
from tests.tiny import tiny_deployable, tiny_onnx, tiny_requests

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 120.0
"""For what always happens: a busy machine is slow."""


def tiny_bundle(path: Path, task: str = "classification", *, seed: int = 0, **given: Any) -> Path:
    """A bundle of a kind of task; another seed answers otherwise."""
    spec_changes = given.pop("spec", {})
    folder = tiny_deployable(path.with_suffix(".model"), task, **spec_changes)
    if seed:
        tiny_onnx(folder / ONNX, 3, pairs=False, seed=seed)
    golden = tiny_requests(task)
    return write_bundle(folder, path, name=path.stem, golden=golden, metrics={}, provenance={"seed": seed}, **given)


class Server:
    """A running server; its log is in `log`."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self.log = process, log
        self.port = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def said(self) -> str:
        """Its log up to now."""
        return self.log.read_text(encoding="utf-8")

    def until(self, condition: Callable[[], Any], *, alive: bool = True) -> Any:
        """Wait for something that it does."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not (found := condition()):
            assert time.monotonic() < end, self.said()
            assert not alive or self.process.poll() is None, self.said()
            time.sleep(0.02)
        return found

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        """POST JSON, or bytes as they are."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"content-type": "application/json", **options.pop("headers", {})}
        return httpx.post(self.url + path, content=content, headers=headers, timeout=PATIENCE_SECONDS, **options)

    def get(self, path: str) -> httpx.Response:
        """GET."""
        return httpx.get(self.url + path, timeout=PATIENCE_SECONDS)

    def metric(self, name: str) -> float:
        """One line of /metrics, by its name with its labels."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.get("/metrics").text, re.MULTILINE)
        return float(found.group(1)) if found else 0.0

    def workers(self) -> list[int]:
        """Process numbers of its workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process that people know."""
        self.process.send_signal(number)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_SECONDS)


@contextmanager
def serving(bundle: Path, *options: Any) -> Iterator[Server]:
    """A server once it serves; killed at the end if it has not ended by itself."""
    log = bundle.with_suffix(".log")
    server = Server(start(bundle, options, log), log)
    try:
        found = server.until(lambda: re.search(r"at http://127\.0\.0\.1:(\d+)", server.said()))
        server.port = int(found.group(1))
        yield server
    finally:
        if server.process.poll() is None:
            server.signal(signal.SIGTERM)
            try:
                server.process.wait(30)
            finally:
                server.process.kill()


def start(bundle: Path, options: Sequence[Any], log: Path) -> subprocess.Popen[bytes]:
    """A server that may not serve yet, or never; its temporary files are beside the log, in .tmp."""
    command = [sys.executable, "-m", "compress", "serve", str(bundle), "--port", "0", *map(str, options)]
    temporary = log.with_suffix(".tmp")
    temporary.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
    with log.open("wb") as stream:
        return subprocess.Popen(command, stderr=stream, cwd=ROOT, env=environment)
