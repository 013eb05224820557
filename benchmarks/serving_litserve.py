"""A bundle as an API of LitServe, which starts a process for HTTP and one for the model, with queues between them.

Annotations are types here, not strings: LitServe hands them to FastAPI. Its `fast_queue` stays off: 0.2.19 passes it on
under a name that nothing reads.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from litserve import LitAPI

from benchmarks.serving_apps import Answer, Row
from compress.runtime.predictor import Request
from compress.serve.model import Ask, load_model
from compress.serve.settings import Settings


class Api(LitAPI):
    """What LitServe asks: `setup` once in the model's process, the others for each request."""

    def __init__(self, bundle: Path) -> None:
        super().__init__(max_batch_size=1, api_path="/v1/predict")
        self.bundle = bundle

    def setup(self, device: str) -> None:
        """Load the model."""
        self.model = load_model(self.bundle, self.bundle, Settings())

    def decode_request(self, request: Row) -> Request:
        """A request as the model takes it."""
        return Request(request.text, request.text_pair, request.id)

    def predict(self, x: Request) -> Any:
        """The answer."""
        return self.model.ask(Ask.ANSWER, [x])[0]

    def encode_response(self, output: Any) -> Answer:
        """The answer as JSON, which FastAPI checks."""
        return Answer(**asdict(output))
