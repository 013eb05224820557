"""The HTTP side of one worker: routes, limits, errors as JSON."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, cast

from pydantic_core import from_json, to_json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from compress import __version__
from compress.serve.batching import Batcher, Overloaded, TooLate
from compress.serve.errors import Refused
from compress.serve.metrics import CONTENT_TYPE, BundleLabels, Metrics, exposition
from compress.serve.model import Ask, ServedModel
from compress.serve.openapi import openapi, page
from compress.serve.ranking import rank
from compress.serve.settings import Settings
from compress.serve.text_counts import TextCounts

logger = logging.getLogger("kdc.serve")

JSON = "application/json"
BUNDLE_HEADER = "x-kdc-bundle"
PATIENCE = 8
"""A body that is too large is read on up to so many times the limit, so that its sender reads the answer."""

Handler = Callable[[Request], Awaitable[Response]]


class Service:
    """What one worker knows while it serves.

    model: what new requests are answered with. refused: why the last new bundle was not taken, or None.
    draining: no longer accepting; /ready says so.
    """

    def __init__(self, model: ServedModel, settings: Settings, metrics: Metrics, refused: str | None) -> None:
        self.model, self.settings, self.metrics, self.refused = model, settings, metrics, refused
        self.draining = False
        self.texts = TextCounts()
        self.batcher = Batcher(settings, on_batch=self._on_batch, on_waiting=metrics.waiting.set)
        metrics.workers.set(1)
        self._on_bundle(model, None)

    def take(self, model: ServedModel) -> None:
        """Answer new requests with another model; those that wait keep theirs."""
        self._on_bundle(model, self.model)
        self.model, self.refused = model, None

    def _on_bundle(self, model: ServedModel, before: ServedModel | None) -> None:
        self.metrics.on_bundle(_labels(model), None if before is None else _labels(before))
        self.texts.since(model.predictor)  # what its golden requests looked up is nobody's

    def _on_batch(self, model: ServedModel, texts: int, seconds: float) -> None:
        self.metrics.on_batch(texts, seconds)
        self.metrics.on_texts(*self.texts.since(model.predictor))

    async def predict(self, http: Request) -> Response:
        """POST /v1/predict."""
        model = self.model
        requests, many = model.forms.requests(await self._json(http))
        answers = [vars(answer) for answer in await self.batcher.ask(model, Ask.ANSWER, requests)]
        return _json(200, {"answers": answers} if many else answers[0], {BUNDLE_HEADER: model.digest})

    async def rank(self, http: Request) -> Response:
        """POST /v1/rank."""
        model = self.model
        query, candidates, top = model.forms.ranking(await self._json(http))
        ranking = await rank(self.batcher, model, query, candidates)
        return _json(200, {"ranking": ranking[:top]}, {BUNDLE_HEADER: model.digest})

    async def health(self, http: Request) -> Response:
        """GET /health."""
        return _json(200, {"status": "ok", "version": __version__})

    async def ready(self, http: Request) -> Response:
        """GET /ready."""
        manifest = self.model.manifest
        told = {
            "ready": not self.draining,
            "bundle": {"name": manifest.name, "task": manifest.task, "digest": manifest.digest},
            "runtime": self.model.predictor.runtime,
            "threads": self.model.predictor.threads,
            "batch_difference": self.model.batch_difference,
            "together": self.model.together,
            "reload_refused": self.refused,
        }
        return _json(503 if self.draining else 200, told)

    async def metrics_page(self, http: Request) -> Response:
        """GET /metrics."""
        return Response(await asyncio.to_thread(exposition), headers={"content-type": CONTENT_TYPE})

    async def openapi(self, http: Request) -> Response:
        """GET /openapi.json."""
        return _json(200, openapi(self.model, self.settings))

    async def docs(self, http: Request) -> Response:
        """GET /docs."""
        return HTMLResponse(page(openapi(self.model, self.settings)))

    async def _json(self, http: Request) -> Any:
        """A request's body; whatever its number of bytes, no more than the limit is kept.

        Raises:
            Refused: it is not JSON, too large, or not there in time.
        """
        kind = http.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != JSON:
            raise Refused(415, "not_json", f"the body is of type {kind!r}: send {JSON}", "content-type")
        if http.headers.get("content-encoding", "identity") != "identity":
            raise Refused(415, "encoded", "the body is compressed: send it plain", "content-encoding")
        try:
            async with asyncio.timeout(self.settings.timeout):
                body = await self._body(http)
        except TimeoutError:
            message = f"the body was not there within {self.settings.timeout:g} s"
            raise Refused(408, "too_slow", message, "body", {"connection": "close"}) from None
        try:
            return from_json(body, allow_inf_nan=False)
        except ValueError as error:
            raise Refused(400, "bad_json", f"the body is not JSON in UTF-8: {error}", "body") from None

    async def _body(self, http: Request) -> bytes:
        parts, size, limit = [], 0, self.settings.max_bytes
        async for part in http.stream():
            size += len(part)
            if size <= limit:
                parts.append(part)
            elif size > PATIENCE * limit:
                break
        if size > limit:
            message = f"the body has more than {limit:,} bytes: send fewer requests at once"
            raise Refused(413, "too_large", message, "body", {"connection": "close"})
        return b"".join(parts)


def application(service: Service) -> Starlette:
    """The ASGI application of a worker."""
    routes = [
        ("/v1/predict", "POST", service.predict),
        ("/v1/rank", "POST", service.rank),
        ("/health", "GET", service.health),
        ("/ready", "GET", service.ready),
        ("/metrics", "GET", service.metrics_page),
        ("/openapi.json", "GET", service.openapi),
        ("/docs", "GET", service.docs),
    ]
    app = Starlette(
        routes=[
            Route(path, _endpoint(path, handler, service.metrics), methods=[method]) for path, method, handler in routes
        ],
        exception_handlers={HTTPException: _no_route},
    )
    app.router.redirect_slashes = False
    return app


def _endpoint(route: str, handler: Handler, metrics: Metrics) -> Handler:
    """A handler whose time and status are counted, and whose errors are answers."""

    async def counted(http: Request) -> Response:
        start = time.perf_counter()
        try:
            response = await handler(http)
        except Exception as error:  # whatever it is, the client gets an answer and the log the trace
            response = _error(_refusal(error))
        metrics.seconds.labels(route).observe(time.perf_counter() - start)
        metrics.requests.labels(route, str(response.status_code)).inc()
        return response

    return counted


def _labels(model: ServedModel) -> BundleLabels:
    return BundleLabels(model.digest, model.predictor.runtime, model.predictor.threads)


def _refusal(error: Exception) -> Refused:
    """How an error is told to the client. What nobody foresaw is logged, without its message: it may hold a text."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, Overloaded):
        return Refused(429, "overloaded", str(error), "server", {"retry-after": str(error.seconds)})
    if isinstance(error, TooLate):
        return Refused(504, "timeout", str(error), "server")
    if isinstance(error, ClientDisconnect):
        return Refused(400, "disconnected", "the client left before the body was there", "body")
    trace = "".join(traceback.format_tb(error.__traceback__))
    logger.error("a request failed with %s, which is a fault of the server or its bundle\n%s", type(error), trace)
    return Refused(500, "failed", "the server could not answer; its log says where", "server")


def _no_route(http: Request, error: Exception) -> Response:
    found = cast(HTTPException, error)  # what it is registered for
    code = {404: "not_found", 405: "wrong_method"}.get(found.status_code, "refused")
    message = f"{found.detail.lower()}: see /docs"
    return _error(Refused(found.status_code, code, message, http.url.path, found.headers))


def _error(refused: Refused) -> Response:
    return _json(refused.status, refused.body, refused.headers)


def _json(status: int, content: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    return Response(to_json(content), status, headers=headers, media_type=JSON)
