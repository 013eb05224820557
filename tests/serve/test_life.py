"""A server's life: limits, slow clients, new bundles, killed workers, its end; nothing is lost or answered wrongly."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.http_load import Pool, post
from compress.bundle import write as writer
from compress.runtime.answers import Answer
from compress.runtime.bundle import open_bundle
from compress.runtime.predictor import Request
from compress.serve.settings import METRICS_FOLDER
from compress.serve.succession import askable
from tests.serve.servers import PATIENCE_SECONDS, Server, serving, start, tiny_bundle
from tests.tiny_project import kdc

TEXTS = ("red running shoes", "usb charger 65 w", "coffee machine", "blue kettle")


def answers_of(bundle: Path) -> dict[str, Any]:
    """The answer to each text, by a model in this process."""
    predictor = open_bundle(bundle).predictor()
    return {text: predictor.answer([Request(text)])[0].probabilities for text in TEXTS}


async def ask_until(port: int, stop: asyncio.Event) -> list[tuple[str, dict[str, Any], str]]:
    """Ask one text after the other; text, answer and bundle of each."""
    pool, seen = Pool(port), []
    while not stop.is_set():
        text = TEXTS[len(seen) % len(TEXTS)]
        reply = await pool.ask(post("/v1/predict", json.dumps({"text": text}).encode()))
        assert reply.status == 200, reply
        seen.append((text, reply.json()["probabilities"], reply.headers["x-kdc-bundle"]))
    pool.close()
    return seen


async def asked_during(server: Server, event: Any) -> list[tuple[str, dict[str, Any], str]]:
    """What four clients are answered while something happens, and for a moment before and after it."""
    stop = asyncio.Event()
    clients = [asyncio.create_task(ask_until(server.port, stop)) for _ in range(4)]
    await asyncio.sleep(0.3)
    await asyncio.to_thread(event)
    await asyncio.sleep(0.3)
    stop.set()
    return [each for client in clients for each in await client]


def test_a_new_bundle_comes_in_and_a_bad_one_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = tiny_bundle(tmp_path / "served.kdc")
    other = tiny_bundle(tmp_path / "other.kdc", seed=1)
    numbers = tiny_bundle(tmp_path / "numbers.kdc", "regression")
    digests = {open_bundle(path).manifest.digest[:16]: answers_of(path) for path in (served, other)}
    honest = writer._golden_line
    monkeypatch.setattr(writer, "_golden_line", lambda request, answer: honest(request, lie(answer)))
    lying = tiny_bundle(tmp_path / "lying.kdc", seed=1)
    old, new = digests
    with serving(served, "--workers", 2, "--max-batch", 1) as server:

        def reload(source: Path, until: str) -> None:
            seen = server.said().count(until)
            os.replace(source, served)
            server.signal(signal.SIGHUP)
            server.until(lambda: server.said().count(until) > seen)

        seen = asyncio.run(asked_during(server, lambda: reload(other, "before it")))
        assert {bundle for _, _, bundle in seen} == {old, new}
        assert all(answer == digests[bundle][text] for text, answer, bundle in seen)
        assert server.get("/ready").json()["bundle"]["digest"].startswith(new)

        seen = asyncio.run(asked_during(server, lambda: reload(lying, "is refused")))
        assert {bundle for _, _, bundle in seen} == {new}
        assert all(answer == digests[new][text] for text, answer, _ in seen)
        assert "golden request 1" in server.get("/ready").json()["reload_refused"]
        damaged = tmp_path / "damaged.kdc"
        damaged.write_bytes(served.read_bytes()[:-9])
        reload(damaged, "is refused")
        assert "not an intact bundle" in server.get("/ready").json()["reload_refused"]
        reload(numbers, "is refused")
        server.until(lambda: "is for regression, and classification" in server.get("/ready").json()["reload_refused"])
        assert server.said().count("the new bundle is named other, the one before it served") == 1
        assert server.metric('kdc_reloads_total{outcome="done"}') == 1
        assert server.metric('kdc_reloads_total{outcome="refused"}') == 3
        assert server.metric(f'kdc_bundle_workers{{digest="{new}",runtime="onnxruntime",threads="1"}}') == 2

        # A worker that is replaced now has the bundle that is served, not what lies at its source.
        os.kill(server.workers()[0], signal.SIGKILL)
        server.until(lambda: server.metric("kdc_workers") == 2 and server.metric("kdc_workers_replaced_total") == 1)
        seen = asyncio.run(asked_during(server, lambda: None))
        assert {bundle for _, _, bundle in seen} == {new}
        assert server.stop() == 0
    assert not list(served.with_suffix(".tmp").glob("kdc-serve-*"))


def test_a_new_bundle_must_answer_what_the_old_one_answers(tmp_path: Path) -> None:
    items = tmp_path / "items.csv"
    items.write_text("id,text\n1,coffee machine\n2,red shoes\n")
    served = tiny_bundle(tmp_path / "served.kdc", "pairs", items=items)
    without = tiny_bundle(tmp_path / "without.kdc", "pairs")
    items.write_text("id,text\n1,coffee machine\n3,blue kettle\n")
    more = tiny_bundle(tmp_path / "more.kdc", "pairs", items=items, columns={"text": ["title", "brand"]})
    with serving(served) as server:
        for source, outcome, found in ((without, "is refused", {"1", "2"}), (more, "before it", {"1", "3"})):
            os.replace(source, served)
            server.signal(signal.SIGHUP)
            server.until(lambda said=outcome: said in server.said())
            ranking = server.post("/v1/rank", {"query": "red running shoes"}).json()["ranking"]
            assert {each["id"] for each in ranking} == found
        assert "a query alone, ranked over items that the bundle brings along: make it so" in server.said()
        assert server.stop() == 0


def test_what_may_be_asked_of_a_bundle(tmp_path: Path) -> None:
    """Columns are asked by their names, all together: one more is another request."""
    bundles = {
        "one": tiny_bundle(tmp_path / "one.kdc", "regression"),
        "two": tiny_bundle(tmp_path / "two.kdc", "pairs", columns={"text": ["title", "brand"]}),
    }
    asked = {name: askable(open_bundle(path).manifest, 256) for name, path in bundles.items()}
    assert asked["one"] == {"requests of one text"}
    assert asked["two"] == {"requests of two texts", "text as title and brand", "candidates to rank"}


def lie(answer: Answer) -> Answer:
    """Another label than the model's."""
    first, second, *_ = answer.probabilities
    turned = answer.probabilities | {first: answer.probabilities[second], second: answer.probabilities[first]}
    label = max(turned, key=lambda name: turned[name])
    return Answer(answer.id, label, turned[label], turned)


def test_a_stopping_server_answers_what_it_has(tmp_path: Path) -> None:
    """The text waits a second for others; SIGTERM comes meanwhile."""
    with serving(tiny_bundle(tmp_path / "served.kdc"), "--max-wait-ms", 1000) as server, ThreadPoolExecutor() as pool:
        waiting = pool.submit(server.post, "/v1/predict", {"text": TEXTS[0]})
        server.until(lambda: server.metric("kdc_waiting_texts") == 1)
        assert server.stop() == 0
        assert waiting.result().json()["probabilities"] == answers_of(tmp_path / "served.kdc")[TEXTS[0]]
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", server.port), 5)


def test_connections_are_shared_out_among_workers_that_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that keeps its connections asks all workers; what comes to one that hangs is taken by the other.

    Their port is theirs: another server with several workers does not get a share of it.
    """
    monkeypatch.setenv(METRICS_FOLDER, "")  # so that what the command below sets is taken back
    with serving(tiny_bundle(tmp_path / "served.kdc"), "--workers", 2) as server, ExitStack() as stack:
        for _ in range(64):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), PATIENCE_SECONDS))
        server.until(lambda: sum(kept_by(server).values()) == 64)
        assert min(kept_by(server).values()) > 8  # by chance once in 10 billion
        os.kill(server.workers()[0], signal.SIGSTOP)
        try:
            assert [server.get("/health").status_code for _ in range(16)] == [200] * 16
        finally:
            os.kill(server.workers()[0], signal.SIGCONT)
        other = kdc("serve", tmp_path / "served.kdc", "--port", server.port, "--workers", 2)
        assert (other.exit_code, "it is in use" in other.stderr) == (4, True)


def kept_by(server: Server) -> dict[int, int]:
    """How many connections to the server each of its workers holds."""
    found = {}
    for pid in server.workers():
        held = psutil.Process(pid).net_connections("tcp")
        found[pid] = sum(each.status == "ESTABLISHED" and each.laddr.port == server.port for each in held)
    return found


def test_a_full_queue_and_time_limits_are_told(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "served.kdc")
    options = ("--max-wait-ms", 1000, "--queue", 4, "--max-rows", 4, "--timeout", 0.5)
    with serving(bundle, *options) as server, ThreadPoolExecutor() as pool:
        waiting = pool.submit(server.post, "/v1/predict", {"requests": [{"text": "shoe"}] * 4})
        server.until(lambda: server.metric("kdc_waiting_texts") == 4)
        full = server.post("/v1/predict", {"text": "shoe"})
        assert (full.status_code, full.json()["error"]["code"]) == (429, "overloaded")
        assert int(full.headers["retry-after"]) >= 1
        late = waiting.result()
        assert (late.status_code, late.json()["error"]["code"]) == (504, "timeout")
        assert server.metric("kdc_waiting_texts") == 0

        with socket.create_connection(("127.0.0.1", server.port), 30) as slow:
            slow.sendall(post("/v1/predict", b'{"text": "shoe"}')[:-5])
            assert slow.recv(1000).startswith(b"HTTP/1.1 408")
        assert server.get("/health").status_code == 200


def test_a_connection_whose_head_does_not_come_is_closed(tmp_path: Path) -> None:
    with (
        serving(tiny_bundle(tmp_path / "served.kdc")) as server,
        socket.create_connection(("127.0.0.1", server.port), PATIENCE_SECONDS) as silent,
        socket.create_connection(("127.0.0.1", server.port), PATIENCE_SECONDS) as slow,
        socket.create_connection(("127.0.0.1", server.port), PATIENCE_SECONDS) as kept,
        socket.create_connection(("127.0.0.1", server.port), PATIENCE_SECONDS) as blank,
    ):
        for each in (kept, blank):
            each.sendall(b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n")
            assert each.recv(1 << 16).startswith(b"HTTP/1.1 200")
        start = time.monotonic()
        slow.sendall(b"GET /health HTTP/1.1\r\nhost:")
        kept.sendall(b"GET /health HTTP/1.1\r\nhost:")
        blank.sendall(b"\r\n")
        for each in (silent, slow, kept, blank):
            assert each.recv(10) == b""
        assert time.monotonic() - start > 5
        assert server.get("/health").status_code == 200


def test_a_head_without_end_is_refused(tmp_path: Path) -> None:
    with (
        serving(tiny_bundle(tmp_path / "served.kdc")) as server,
        socket.create_connection(("127.0.0.1", server.port), PATIENCE_SECONDS) as endless,
    ):
        endless.sendall(b"GET /health HTTP/1.1\r\n")
        with suppress(ConnectionError):  # it may be closed while this still sends
            for number in range(1000):
                endless.sendall(b"x-%d: %s\r\n" % (number, b"a" * 8192))
                if select.select([endless], (), (), 0)[0]:
                    break
            assert endless.recv(1 << 12).startswith(b"HTTP/1.1 400")
        assert number < 999
        assert server.get("/health").status_code == 200


def test_signals_to_a_worker_are_ignored(tmp_path: Path) -> None:
    """Ctrl-C reaches all processes of a terminal: the supervisor alone decides. uvicorn would take both signals."""
    with serving(tiny_bundle(tmp_path / "served.kdc")) as server:
        [worker] = server.workers()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(worker, number)
        time.sleep(0.5)  # uvicorn looks ten times a second whether it shall end
        assert server.get("/health").status_code == 200
        assert server.workers() == [worker]
        assert server.stop() == 0


def test_answers_leave_at_once_on_a_kept_connection(tmp_path: Path) -> None:
    """Were the body held until the head is acknowledged, each answer but the first few would take 40 ms."""
    with (
        serving(tiny_bundle(tmp_path / "served.kdc")) as server,
        socket.create_connection(("127.0.0.1", server.port), PATIENCE_SECONDS) as kept,
    ):
        kept.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        taken = []
        for _ in range(60):
            start = time.monotonic()
            kept.sendall(post("/v1/predict", b'{"text": "shoe"}'))
            answer = b""
            while not answer.endswith(b"}}"):
                answer += kept.recv(1 << 16)
            taken.append(time.monotonic() - start)
        assert min(taken[30:]) < 0.03


def test_workers_end_with_their_supervisor(tmp_path: Path) -> None:
    with serving(tiny_bundle(tmp_path / "served.kdc")) as server:
        [worker] = server.workers()
        server.process.kill()
        server.until(lambda: not Path(f"/proc/{worker}").exists(), alive=False)


def test_what_cannot_be_served_ends_with_its_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tiny_bundle(tmp_path / "served.kdc")
    monkeypatch.setenv(METRICS_FOLDER, "")  # so that what these commands set is taken back
    with socket.create_server(("127.0.0.1", 0)) as taken:
        used = kdc("serve", bundle, "--port", taken.getsockname()[1])
    assert used.exit_code == 4
    assert "it is in use" in used.stderr
    damaged = tmp_path / "damaged.kdc"
    damaged.write_bytes(bundle.read_bytes() + b"x")
    assert kdc("serve", damaged).exit_code == 6
    assert kdc("serve", tmp_path / "nothing.kdc").exit_code == 2
    assert kdc("serve", bundle, "--queue", 3, "--max-rows", 4).exit_code == 2
    other = start(bundle, ("--runtime", "openvino"), tmp_path / "other.log")
    assert other.wait(PATIENCE_SECONDS) == 2
    assert f"{bundle} has no model for openvino, it has one for onnxruntime" in (tmp_path / "other.log").read_text()
    honest = writer._golden_line
    monkeypatch.setattr(writer, "_golden_line", lambda request, answer: honest(request, lie(answer)))
    process = start(tiny_bundle(tmp_path / "lying.kdc"), (), tmp_path / "lying.log")
    assert process.wait(PATIENCE_SECONDS) == 6
    assert "golden request 1" in (tmp_path / "lying.log").read_text(encoding="utf-8")
