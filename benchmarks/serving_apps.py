"""The engines that `benchmarks.serving` compares: the same model behind each, one worker, one thread.

Frameworks and servers share `kdc serve`'s queue, whose batches a model has that answers texts sooner together. LitServe
and BentoML bring queues and processes of their own: one worker, one text a call, the same checks of a request, no log
of requests and no metrics.
A process of its own: `python -m benchmarks.serving_apps ENGINE BUNDLE PORT`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import from_json
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.common import ROOT
from compress.runtime.predictor import Request
from compress.serve.batching import Batcher
from compress.serve.model import Ask, load_model
from compress.serve.settings import Settings

Text = Annotated[str, Field(min_length=1, max_length=32_768, pattern=r"\S")]


class Row(BaseModel):
    """One request."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: Text
    text_pair: Text | None = None
    id: str | None = None


class Answer(BaseModel):
    """One answer."""

    id: str | None
    score: float
    label: str | None = None
    probabilities: dict[str, float] | None = None


class Asking:
    """A bundle and its batches."""

    def __init__(self, bundle: Path) -> None:
        settings = Settings()
        self.model = load_model(bundle, bundle, settings)
        self.batcher = Batcher(settings, on_batch=lambda model, texts, seconds: None, on_waiting=lambda texts: None)

    async def answer(self, row: Row) -> dict[str, Any]:
        """The answer to one row."""
        answers = await self.batcher.ask(self.model, Ask.ANSWER, [Request(row.text, row.text_pair, row.id)])
        return asdict(answers[0])

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """Batches are made for as long as the application runs."""
        task = asyncio.create_task(self.batcher.run())
        yield
        task.cancel()


def starlette_app(asking: Asking) -> Any:
    """A route that parses and checks by itself."""

    async def predict(request: HttpRequest) -> Response:
        row = Row.model_validate(from_json(await request.body(), allow_inf_nan=False))
        content = json.dumps(await asking.answer(row), ensure_ascii=False)
        return Response(content, media_type="application/json")

    return Starlette(routes=[Route("/v1/predict", predict, methods=["POST"])], lifespan=asking.lifespan)


def fastapi_app(asking: Asking) -> Any:
    """FastAPI as its tutorial has it: models of the body and of the answer."""
    from fastapi import FastAPI

    app = FastAPI(lifespan=asking.lifespan)

    @app.post("/v1/predict", response_model=Answer)
    async def predict(row: Row) -> dict[str, Any]:
        return await asking.answer(row)

    return app


APPS = {"starlette": starlette_app, "fastapi": fastapi_app}


def serve_uvicorn(app: Any, port: int) -> None:
    """uvicorn in this process."""
    import uvicorn

    uvicorn.run(app, port=port, log_level="warning", access_log=False)


def serve_granian(app: Any, port: int) -> None:
    """granian with one worker, in this process."""
    from granian.constants import Interfaces
    from granian.server.embed import Server

    asyncio.run(Server(app, port=port, interface=Interfaces.ASGI, websockets=False, log_enabled=False).serve())


SERVERS = {"uvicorn": serve_uvicorn, "granian": serve_granian}


def serve_litserve(bundle: Path, port: int) -> None:
    """LitServe as its documentation starts it."""
    from litserve import LitServer

    from benchmarks.serving_litserve import Api

    first = os.getpid()

    def interrupt(*_: object) -> None:
        if os.getpid() == first:  # its process for HTTP, a fork, ends by uvicorn's own handler
            raise KeyboardInterrupt

    # It ends its processes at Ctrl-C; at SIGTERM it would leave them behind.
    signal.signal(signal.SIGTERM, interrupt)
    server = LitServer(Api(bundle), accelerator="cpu", workers_per_device=1)
    quiet = {"log_level": "warning", "access_log": False, "generate_client_file": False}
    server.run("127.0.0.1", port, num_api_servers=1, **quiet)


def serve_bentoml(bundle: Path, port: int) -> None:
    """`bentoml serve`, which writes nothing into the user's folder and reports nothing to its makers."""
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"BENTOML_HOME": home, "TMPDIR": home, "BENTOML_DO_NOT_TRACK": "True"}
        from bentoml_cli.cli import cli

        service = [
            "benchmarks.serving_bentoml:Served",
            "--working-dir",
            str(ROOT),
            "--arg",
            f"bundle={bundle.resolve()}",
        ]
        cli(["serve", "--quiet", *service, "--host", "127.0.0.1", "--port", str(port)])


def combined(framework: str, server: str) -> Callable[[Path, int], None]:
    """An engine of an application and what serves it."""
    return lambda bundle, port: SERVERS[server](APPS[framework](Asking(bundle)), port)


ENGINES = {
    **{f"{framework}+{server}": combined(framework, server) for framework in APPS for server in SERVERS},
    "litserve": serve_litserve,
    "bentoml": serve_bentoml,
}


def main() -> None:
    """Parse, serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("port", type=int)
    arguments = parser.parse_args()
    ENGINES[arguments.engine](arguments.bundle, arguments.port)


if __name__ == "__main__":
    main()
