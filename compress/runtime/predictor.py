"""Text in, answer out: the one code path that is timed in the bench and shipped in the bundle. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from compress.artifacts import EMBEDDING, ONNX, SPEC, TOKENIZER, ModelSpec, Runtime, read_spec
from compress.errors import DataError, IntegrityError
from compress.runtime.answers import AnyAnswer, reading_of
from compress.runtime.engine import Engine, Model, Tensor, open_engine
from compress.runtime.text import TextEncoder
from compress.runtime.text_cache import CachingEncoder, KnownTokens

Feed = dict[str, npt.NDArray[np.int64]]


@dataclass(frozen=True)
class Request:
    """One thing to answer; `text_pair` is the second text, for models that compare two."""

    text: str
    text_pair: str | None = None
    id: str | None = None


class Predictor:
    """Answers requests with a model on the CPU; several threads may ask it at a time.

    Args:
        spec: labels, decision rule and inputs.
        tokenizer_json: content of `tokenizer.json`.
        engine: the loaded model; with one thread, tokenising keeps to the calling thread too.
        cached_texts: how many texts' tokens are kept for when they come again (`runtime/text_cache.py`).
        known: texts whose tokens are there already; only where texts are kept.

    Attributes:
        runtime: what runs the model. threads: how many it computes with.

    Raises:
        IntegrityError: spec, tokenizer and model do not belong together.
    """

    def __init__(
        self,
        spec: ModelSpec,
        tokenizer_json: str,
        engine: Engine,
        *,
        cached_texts: int = 0,
        known: KnownTokens | None = None,
    ) -> None:
        self.spec = spec
        self.runtime, self.threads = engine.runtime, engine.threads
        self._engine = engine
        self.encoder = encoder_of(spec, tokenizer_json, threads=engine.threads, cached_texts=cached_texts, known=known)
        size = self.encoder.tokenizer.get_vocab_size()
        if spec.pad_id >= size:
            raise IntegrityError(
                f"pad_id is {spec.pad_id}, but the tokenizer has {size} tokens: export the model again"
            )
        self.reading = reading_of(spec)
        wanted = [item.name for item in engine.inputs]
        if sorted(wanted) != sorted(spec.inputs):
            raise IntegrityError(
                f"the model's inputs are {wanted}, its {SPEC} says {list(spec.inputs)}: export it again"
            )

    @classmethod
    def open(
        cls,
        spec: ModelSpec,
        tokenizer_json: str,
        model: Model,
        *,
        threads: int = 1,
        runtime: Runtime | None = None,
        cached_texts: int = 0,
        known: KnownTokens | None = None,
    ) -> Predictor:
        """Load a model, a file or its bytes, and answer with it.

        Args:
            threads: threads of the runtime.
            runtime: what runs it, where that is not the spec's: OpenVINO can run an ONNX model.
            cached_texts: how many texts' tokens are kept.
            known: texts whose tokens are there already.

        Raises:
            IntegrityError: the model cannot be loaded, or its inputs are not those of the spec.
            EnvironmentProblem: its runtime is not installed, or lacks what the model needs on this processor.
            DataError: OpenVINO was asked for and does not read an operator of the ONNX model.
        """
        engine = open_engine(model, runtime=runtime or spec.runtime, arithmetic=spec.arithmetic, threads=threads)
        return cls(spec, tokenizer_json, engine, cached_texts=cached_texts, known=known)

    @classmethod
    def from_folder(cls, folder: Path, *, threads: int = 1, runtime: Runtime | None = None) -> Predictor:
        """Open a deployable folder: `tokenizer.json`, `model.json`, and the model's own files.

        Raises:
            DataError: a file of it is missing.
            IntegrityError: a file of it is damaged.
            EnvironmentProblem: its runtime is not installed, or lacks what the model needs on this processor.
        """
        spec = read_spec(folder) if (folder / SPEC).is_file() else None
        files = (ONNX,) if spec is None else spec.model_files
        missing = [name for name in (*files, TOKENIZER, SPEC) if not (folder / name).is_file()]
        if spec is None or missing:
            raise DataError(f"{folder} has no {', '.join(missing)}: it is not an exported model; export one first")
        try:
            tokenizer_json = (folder / TOKENIZER).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise IntegrityError(f"{folder / TOKENIZER} is not readable ({error}); make {folder} anew") from error
        return cls.open(spec, tokenizer_json, folder / files[0], threads=threads, runtime=runtime)

    def tensors(self) -> tuple[list[Tensor], list[Tensor]]:
        """The model's inputs and outputs."""
        return list(self._engine.inputs), list(self._engine.outputs)

    def encode(self, requests: Sequence[Request], start: int = 0) -> Feed:
        """The model's inputs, each int64 [B, T], padded to the longest request.

        Args:
            requests: B requests.
            start: how many requests came before these; errors count from there.

        Raises:
            DataError: a request has an empty text, lacks the second text, or holds half a character.
        """
        pairs = self.spec.two_texts
        for position, request in enumerate(requests, start):
            check_request(request, position, pairs=pairs)
        texts = [request.text for request in requests]
        seconds = [request.text_pair or "" for request in requests] if pairs else None
        ids, type_ids, _ = self.encoder.encode(texts, seconds)
        return self.encoder.arrays(ids, type_ids, self.spec.inputs)

    def logits_from(self, feed: Feed) -> npt.NDArray[np.float32]:
        """Run the model; float32 [B, C].

        Raises:
            IntegrityError: the model answers with another number of classes than it has labels, or with NaN
                or infinity.
        """
        logits = np.asarray(self._engine.run(feed)[0], np.float32)
        expected = (len(next(iter(feed.values()))), len(self.spec.labels))
        if logits.shape != expected:
            raise IntegrityError(
                f"the model's output has shape {list(logits.shape)}, expected is {list(expected)} "
                "(rows, labels): model and labels do not belong together; export it again"
            )
        _check_finite(logits, "output")
        return logits

    def logits(self, requests: Sequence[Request], batch_size: int = 32) -> npt.NDArray[np.float32]:
        """Logits of any number of requests, float32 [N, C]."""
        if not requests:
            return np.zeros((0, len(self.spec.labels)), np.float32)
        starts = range(0, len(requests), batch_size)
        return np.concatenate([self.logits_from(self.encode(requests[i : i + batch_size], i)) for i in starts])

    def embed(self, texts: Sequence[str], start: int = 0) -> npt.NDArray[np.float32]:
        """Embeddings of single texts, float32 [B, E] of length 1, of a model that reads texts apart.

        Args:
            texts: B texts.
            start: how many came before these; errors count from there.

        Raises:
            DataError: a text cannot be read, or the model has no embeddings.
            IntegrityError: the model answers with NaN or infinity.
        """
        if self.spec.similarity is None:
            raise DataError(
                "this model reads two texts together and has no embedding of one; a student of kind two-tower has"
            )
        for position, text in enumerate(texts, start):
            check_request(Request(text), position, pairs=False)
        ids, type_ids, _ = self.encoder.encode(texts)
        feed = self.encoder.arrays(ids, type_ids, self.spec.inputs)
        vectors = np.asarray(self._engine.run(feed, [EMBEDDING])[0], np.float32)
        _check_finite(vectors, EMBEDDING)
        return vectors

    def answer(self, requests: Sequence[Request], batch_size: int = 32) -> list[AnyAnswer]:
        """Answers in the order of the requests."""
        logits = self.logits(requests, batch_size)
        return self.reading.answers([request.id for request in requests], logits)


def encoder_of(
    spec: ModelSpec, tokenizer_json: str, *, threads: int, cached_texts: int, known: KnownTokens | None = None
) -> TextEncoder:
    """What reads texts for a model.

    Raises:
        IntegrityError: `tokenizer_json` is not a tokenizer.
    """
    sizes: dict[str, int] = {"max_length": spec.max_length, "pad_id": spec.pad_id}
    apart = spec.similarity is not None
    if cached_texts:
        return CachingEncoder(
            tokenizer_json, texts=cached_texts, separator=spec.separator, apart=apart, known=known, **sizes
        )
    return TextEncoder(tokenizer_json, separator=spec.separator, apart=apart, parallel=threads > 1, **sizes)


def _check_finite(rows: npt.NDArray[np.float32], what: str) -> None:
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        place = int(finite.argmin())
        wrong = rows[place][~np.isfinite(rows[place])][0]
        raise IntegrityError(
            f"the model's {what} is not a finite number for row {place} of a batch of {len(rows)} ({wrong}): the model "
            "is broken, make it anew"
        )


def check_request(request: Request, position: int, *, pairs: bool) -> None:
    """Refuse what no model can answer.

    Raises:
        DataError: naming the request by its id or its position, counted from 1.
    """
    name = f"request {position + 1}" + (f" (id {request.id!r})" if request.id is not None else "")
    if pairs and request.text_pair is None:
        raise DataError(f"{name} has one text, this model compares two: give text_pair")
    for field, value in (("text", request.text), ("text_pair", request.text_pair if pairs else None)):
        if value is None:
            continue
        if not value.strip():
            raise DataError(f"{name} has an empty {field}: give it some text or leave the request out")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"{name} has half a character (a lone surrogate) in {field} at {error.start}") from error
