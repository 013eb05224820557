"""Steps of Triton Inference Server's Python backend: text to tokens, logits to answers, as `Predictor` does them.

`kdc package --target triton-server` writes a repository whose `model.py` files name these classes, so the server's
image needs `pip install kdc`. `triton_python_backend_utils` is the server's own module and is there alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.artifacts import TOKENIZER, ModelSpec, read_spec
from compress.errors import KdcError
from compress.runtime.answers import Answer, reading_of
from compress.runtime.predictor import Request, check_request, encoder_of
from compress.runtime.text_cache import CACHED_TEXTS

TEXT, TEXT_PAIR, LABEL, SCORE, PROBABILITIES = "TEXT", "TEXT_PAIR", "LABEL", "SCORE", "PROBABILITIES"
"""Names of the repository's tensors."""
LENGTHS = 16
"""Tokens are padded to a multiple of this: the server puts only requests of one shape into a batch."""

Arrays = dict[str, npt.NDArray[Any]]


class Tokens:
    """TEXT (and TEXT_PAIR), bytes [B, 1] in UTF-8, to the model's inputs, int64 [B, T]."""

    def initialize(self, arguments: Mapping[str, str]) -> None:
        """Read tokenizer.json and model.json from the model's version folder."""
        self.spec, folder = _spec_of(arguments)
        content = (folder / TOKENIZER).read_text(encoding="utf-8")
        self._encoder = encoder_of(self.spec, content, threads=1, cached_texts=CACHED_TEXTS)

    def execute(self, requests: list[Any]) -> list[Any]:
        """A response for each request; one that cannot be read is refused alone."""
        names = [TEXT, TEXT_PAIR] if self.spec.two_texts else [TEXT]
        return [_answered(request, names, self._tokens) for request in requests]

    def _tokens(self, given: Arrays) -> Arrays:
        columns = [[text.decode("utf-8").strip() for text in given[name].ravel()] for name in given]
        rows = [Request(*texts) for texts in zip(*columns, strict=True)]
        for position, row in enumerate(rows):
            check_request(row, position, pairs=self.spec.two_texts)
        ids, type_ids, _ = self._encoder.encode(columns[0], columns[1] if self.spec.two_texts else None)
        feed = self._encoder.arrays(ids, type_ids, self.spec.inputs)
        longest = next(iter(feed.values())).shape[1]
        more = min(-(-longest // LENGTHS) * LENGTHS, self.spec.max_length) - longest
        fill = {"input_ids": self.spec.pad_id}
        return {
            name: np.pad(array, ((0, 0), (0, more)), constant_values=fill.get(name, 0)) for name, array in feed.items()
        }


class Answers:
    """Logits, float32 [B, C], to SCORE, float64 [B, 1], and for labels LABEL, bytes [B, 1], PROBABILITIES [B, C]."""

    def initialize(self, arguments: Mapping[str, str]) -> None:
        """Read model.json from the model's version folder."""
        self.spec, _ = _spec_of(arguments)
        self._reading = reading_of(self.spec)

    def execute(self, requests: list[Any]) -> list[Any]:
        """A response for each request."""
        return [_answered(request, ["logits"], self._answers) for request in requests]

    def _answers(self, given: Arrays) -> Arrays:
        logits = given["logits"].astype(np.float32)
        said = self._reading.answers([None] * len(logits), logits)
        found: Arrays = {SCORE: np.array([[answer.score] for answer in said], np.float64)}
        if said and isinstance(said[0], Answer):
            found[LABEL] = np.array([[answer.label.encode()] for answer in said], np.object_)
            found[PROBABILITIES] = np.array([list(answer.probabilities.values()) for answer in said], np.float64)
        return found


def _spec_of(arguments: Mapping[str, str]) -> tuple[ModelSpec, Path]:
    folder = Path(arguments["model_repository"], arguments["model_version"])
    return read_spec(folder), folder


def _answered(request: Any, names: list[str], answer: Callable[[Arrays], Arrays]) -> Any:
    import triton_python_backend_utils as utils

    try:
        given = {name: utils.get_input_tensor_by_name(request, name).as_numpy() for name in names}
        outputs = [utils.Tensor(name, array) for name, array in answer(given).items()]
    except (KdcError, UnicodeDecodeError) as error:
        return utils.InferenceResponse(error=utils.TritonError(str(error)))
    return utils.InferenceResponse(output_tensors=outputs)
