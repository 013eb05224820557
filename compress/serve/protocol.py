"""uvicorn's HTTP/1.1 with bounds on a request's head, on its time and its size; an answer leaves in one write."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 10.0
"""From a connection's first moment, or the first byte of its next request, to the end of the head."""
HEAD_BYTES = 1 << 16
"""Of a head that comes in several reads; one read has at most four times as many."""


class BoundedProtocol(HttpToolsProtocol):
    """Closes connections whose head does not come, or does not end: uvicorn waits for it for ever, and keeps it all."""

    _waiting: asyncio.TimerHandle | None = None
    _came = False
    _bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Start to wait for the first head."""
        super().connection_made(Joined(transport, self.loop))
        self._wait()

    def on_headers_complete(self) -> None:
        """A head is there."""
        self._came = True
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Wait for the rest of a head that came in part, no longer for one that is there."""
        self._came = False
        super().data_received(data)
        if self._came:
            self._forget()
        elif (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing():
            self._bytes += len(data)
            if self._bytes > HEAD_BYTES:
                self.send_400_response(f"The head has more than {HEAD_BYTES:,} bytes.")
            elif self._waiting is None:
                self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._forget()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(HEAD_SECONDS, self.timeout_keep_alive_handler)

    def _forget(self) -> None:
        self._bytes = 0
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


class Joined(asyncio.Transport):
    """What is written in one step of the event loop leaves together.

    uvicorn writes an answer's head and its body apart, and each write to a socket costs more than all else it does.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._to, self._loop = transport, loop
        self._parts: list[bytes | bytearray | memoryview] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write at the end of this step."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        """Close after what was written has left."""
        self._flush()
        self._to.close()

    def is_closing(self) -> bool:
        """As the transport says."""
        return self._to.is_closing()

    def pause_reading(self) -> None:
        """Read no more for now."""
        self._to.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._to.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As the transport says."""
        return self._to.get_extra_info(name, default)

    def _flush(self) -> None:
        if self._parts:
            parts, self._parts = self._parts, []
            self._to.write(b"".join(parts))
