"""uvicorn's HTTP/1.1 with one bound more, on how long a request's head may take, and answers that leave at once."""

from __future__ import annotations

import asyncio
import socket

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0
"""From a connection's first moment, or the first byte of its next request, to the end of the head."""


class BoundedProtocol(H11Protocol):
    """Closes connections whose head does not come: uvicorn waits for it for ever.

    An answer's head and body are two writes. Nagle's algorithm would hold the second until the client has acknowledged
    the first, which clients put off for 40 ms. asyncio switches it off for sockets that were made with the number of
    TCP alone; those of `socket.create_server` have 0 for it.
    """

    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Start to wait for the first head."""
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(transport)
        self._head = self.loop.call_later(HEAD_SECONDS, self.timeout_keep_alive_handler)

    def data_received(self, data: bytes) -> None:
        """Wait for the rest of a head that came in part, no longer for one that is there."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._forget_head()
        elif self._head is None and not self.transport.is_closing():
            self._head = self.loop.call_later(HEAD_SECONDS, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._forget_head()
        super().connection_lost(exc)

    def _forget_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None
