"""A lean HTTP/1.1 client for load: kept connections, no library between the clock and the socket."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

RESET = (ConnectionError, asyncio.IncompleteReadError)


@dataclass(frozen=True)
class Reply:
    """A response: its status, headers in lower case, and body."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def post(path: str, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    """The bytes of a POST request with JSON."""
    lines = {"host": "127.0.0.1", "content-type": "application/json", "content-length": str(len(body))}
    told = "".join(f"{name}: {value}\r\n" for name, value in (lines | (headers or {})).items())
    return f"POST {path} HTTP/1.1\r\n{told}\r\n".encode() + body


def get(path: str) -> bytes:
    """The bytes of a GET request."""
    return f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode()


class Connection:
    """One connection, for one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.used = 0

    @classmethod
    async def open(cls, port: int) -> Connection:
        """Connect to this machine."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 22))

    async def ask(self, request: bytes) -> Reply:
        """Send a request, read its response.

        Raises:
            ConnectionError, IncompleteReadError: the server closed the connection.
        """
        self.used += 1
        self.writer.write(request)
        await self.writer.drain()
        return await self.reply()

    async def reply(self) -> Reply:
        """Read one response."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await self.reader.readexactly(int(headers["content-length"]))
        return Reply(int(head[0].split()[1]), headers, body)

    def close(self) -> None:
        """Let it go."""
        self.writer.close()


class Pool:
    """Kept connections to one port; as many as there are requests at once."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._idle: list[Connection] = []

    async def ask(self, request: bytes) -> Reply:
        """One request. One that meets a kept connection which the server has closed is sent again, on a new one.

        Raises:
            ConnectionError, IncompleteReadError: a new connection was closed, or none could be made.
        """
        while self._idle:
            kept = self._idle.pop()
            with suppress(*RESET):
                return await self._on(kept, request)
        return await self._on(await Connection.open(self.port), request)

    async def _on(self, connection: Connection, request: bytes) -> Reply:
        try:
            reply = await connection.ask(request)
        except BaseException:  # a cancelled request too leaves its connection in the middle of an answer
            connection.close()
            raise
        if reply.headers.get("connection") == "close":
            connection.close()
        else:
            self._idle.append(connection)
        return reply

    def close(self) -> None:
        """Let all connections go."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()


@dataclass
class Figures:
    """What a load saw: milliseconds of each answer, and how many had another status than 200 or none at all."""

    milliseconds: list[float] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def count(self, status: str) -> None:
        """One more of this status."""
        self.statuses[status] = self.statuses.get(status, 0) + 1

    def summary(self) -> dict[str, Any]:
        """Answers per second and quantiles in milliseconds."""
        told: dict[str, Any] = {
            "per_second": round(len(self.milliseconds) / self.seconds, 1),
            "statuses": self.statuses,
        }
        if self.milliseconds:
            p50, p99 = np.percentile(self.milliseconds, (50, 99))
            told |= {"p50_ms": round(float(p50), 3), "p99_ms": round(float(p99), 3)}
        return told


async def closed_loop(port: int, requests: Sequence[bytes], connections: int, seconds: float) -> Figures:
    """Each of so many connections asks again as soon as it is answered: the most that the server can do."""
    figures, pool = Figures(), Pool(port)
    start = time.perf_counter()

    async def one(offset: int) -> None:
        number = offset
        while time.perf_counter() < start + seconds:
            began = time.perf_counter()
            reply = await pool.ask(requests[number % len(requests)])
            figures.count(str(reply.status))
            if reply.status == 200:
                figures.milliseconds.append(1000 * (time.perf_counter() - began))
            number += connections

    await asyncio.gather(*(one(offset) for offset in range(connections)))
    figures.seconds = time.perf_counter() - start
    pool.close()
    return figures
