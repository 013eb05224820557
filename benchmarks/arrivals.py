"""Requests over HTTP at given times, whatever the server does: an open loop that takes little of the processor.

One thread, kept connections, and `select` as the clock, which wakes within tens of microseconds where asyncio's is up
to a millisecond late: nothing has to spin beside a server that needs the cores.
"""

from __future__ import annotations

import re
import select
import socket
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

CONNECTIONS = 128
"""Kept connections; with so many answers outstanding, further requests wait here, and their time counts."""
STALLED_SECONDS = 30.0
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


@dataclass
class Replayed:
    """latencies_ns: from when each request was due to its whole answer, in the order of their ends.

    statuses: how often each came. late_ns: how late this process was with each request.
    """

    latencies_ns: list[int] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    late_ns: list[int] = field(default_factory=list)


class _Connection:
    """One connection, with at most one request under way."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), STALLED_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = 0
        self._read = b""

    def send(self, request: bytes, due: int) -> None:
        self.due, self._read = due, b""
        self.socket.sendall(request)

    def receive(self) -> int | None:
        """Read what is there; the status once the answer is whole.

        Raises:
            ConnectionError: the server closed the connection.
        """
        part = self.socket.recv(1 << 18)
        if not part:
            raise ConnectionError("the server closed a connection in the middle of an answer")
        self._read += part
        head, end, body = self._read.partition(b"\r\n\r\n")
        length = LENGTH.search(head + b"\r\n") if end else None
        if length is None or len(body) < int(length.group(1)):
            return None
        return int(head[9:12])


def replay(port: int, requests: Sequence[bytes], arrivals_ns: Sequence[int]) -> Replayed:
    """Send each request when it is due, and wait for all answers.

    Args:
        port: on this machine. requests: whole HTTP requests. arrivals_ns: when each is due, ascending, from the start.

    Raises:
        ConnectionError: the server closed a connection. TimeoutError: it answered nothing for half a minute.
    """
    connections = [_Connection(port) for _ in range(min(CONNECTIONS, len(requests)))]
    try:
        return _replay(connections, requests, arrivals_ns)
    finally:
        for connection in connections:
            connection.socket.close()


def _replay(connections: list[_Connection], requests: Sequence[bytes], arrivals_ns: Sequence[int]) -> Replayed:
    idle, busy, seen = list(connections), dict[socket.socket, _Connection](), Replayed()
    start = time.perf_counter_ns()
    coming = deque((start + arrival, request) for arrival, request in zip(arrivals_ns, requests, strict=True))
    while coming or busy:
        now = time.perf_counter_ns()
        while coming and idle and coming[0][0] <= now:
            due, request = coming.popleft()
            connection = idle.pop()
            connection.send(request, due)
            busy[connection.socket] = connection
            now = time.perf_counter_ns()
            seen.late_ns.append(now - due)
        wait = max(0.0, (coming[0][0] - now) / 1e9) if coming and idle else STALLED_SECONDS
        ready, _, _ = select.select(list(busy), (), (), wait)
        if not ready and wait == STALLED_SECONDS:
            raise TimeoutError(f"the server answered nothing for {STALLED_SECONDS:.0f} s")
        for found in ready:
            connection = busy[found]
            status = connection.receive()
            if status is not None:
                seen.latencies_ns.append(time.perf_counter_ns() - connection.due)
                seen.statuses[status] += 1
                idle.append(busy.pop(found))
    return seen
