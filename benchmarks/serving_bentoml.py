"""A bundle as a service of BentoML, which starts a worker under a supervisor: `bentoml serve … --arg bundle=PATH`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import bentoml

from benchmarks.serving_apps import Answer, Row
from compress.runtime.predictor import Request
from compress.serve.model import Ask, load_model
from compress.serve.settings import Settings

GIVEN = bentoml.use_arguments()


@bentoml.service(workers=1, threads=1, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Served:
    """What BentoML asks."""

    def __init__(self) -> None:
        bundle = Path(GIVEN.bundle)
        self.model = load_model(bundle, bundle, Settings())

    @bentoml.api(route="/v1/predict")
    def predict(self, row: Row, /) -> Answer:
        """The answer to one row, which is the whole body as it has no name."""
        answers = self.model.ask(Ask.ANSWER, [Request(row.text, row.text_pair, row.id)])
        return Answer(**asdict(answers[0]))
