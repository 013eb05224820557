"""Requests that are not answered, as clients see them: {"error": {"code", "message", "where"}}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Refused(Exception):
    """A request that is answered with an error.

    status: of HTTP. code: a word for programs. where: the field, header or path that is wrong.
    """

    def __init__(
        self, status: int, code: str, message: str, where: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.where = status, code, message, where
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """What the client reads."""
        return {"error": {"code": self.code, "message": self.message, "where": self.where}}
