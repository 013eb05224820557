"""Text in, answer out: the one code path that is timed in the bench and shipped in the bundle. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from compress.artifacts import EMBEDDING, ONNX, SPEC, TOKENIZER, ModelSpec, read_spec
from compress.errors import DataError, IntegrityError
from compress.runtime.answers import AnyAnswer, reading_of
from compress.runtime.text import TextEncoder

if TYPE_CHECKING:
    import onnxruntime

PROVIDERS = ["CPUExecutionProvider"]

Feed = dict[str, npt.NDArray[np.int64]]


@dataclass(frozen=True)
class Request:
    """One thing to answer; `text_pair` is the second text, for models that compare two."""

    text: str
    text_pair: str | None = None
    id: str | None = None


@dataclass(frozen=True)
class Tensor:
    """An input or output of the model; shape entries are sizes, or names where the size is free."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Predictor:
    """Answers requests with an ONNX model on the CPU.

    Args:
        spec: labels, decision rule and inputs.
        tokenizer_json: content of `tokenizer.json`.
        model: the ONNX model, as a file or as its bytes.
        threads: threads of the runtime; with 1, tokenising keeps to the calling thread too.

    Raises:
        IntegrityError: the model cannot be loaded, or spec, tokenizer and model do not belong together.
    """

    def __init__(self, spec: ModelSpec, tokenizer_json: str, model: bytes | Path, *, threads: int = 1) -> None:
        self.spec = spec
        self.threads = threads
        self.encoder = TextEncoder(
            tokenizer_json,
            max_length=spec.max_length,
            separator=spec.separator,
            pad_id=spec.pad_id,
            apart=spec.similarity is not None,
            parallel=threads > 1,
        )
        known = self.encoder.tokenizer.get_vocab_size()
        if spec.pad_id >= known:
            raise IntegrityError(
                f"pad_id is {spec.pad_id}, but the tokenizer has {known} tokens: export the model again"
            )
        self.reading = reading_of(spec)
        self._session = open_session(model, threads)
        wanted = [item.name for item in self._session.get_inputs()]
        if sorted(wanted) != sorted(spec.inputs):
            raise IntegrityError(
                f"the model's inputs are {wanted}, its {SPEC} says {list(spec.inputs)}: export it again"
            )

    @classmethod
    def from_folder(cls, folder: Path, *, threads: int = 1) -> Predictor:
        """Open a deployable folder: `model.onnx`, `tokenizer.json`, `model.json`.

        Raises:
            DataError: a file of it is missing.
            IntegrityError: a file of it is damaged.
        """
        missing = [name for name in (ONNX, TOKENIZER, SPEC) if not (folder / name).is_file()]
        if missing:
            raise DataError(f"{folder} has no {', '.join(missing)}: it is not an exported model; export one first")
        try:
            tokenizer_json = (folder / TOKENIZER).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise IntegrityError(f"{folder / TOKENIZER} is not readable ({error}); make {folder} anew") from error
        return cls(read_spec(folder), tokenizer_json, folder / ONNX, threads=threads)

    def tensors(self) -> tuple[list[Tensor], list[Tensor]]:
        """The model's inputs and outputs."""
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        return [_tensor(item) for item in inputs], [_tensor(item) for item in outputs]

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
        logits = np.asarray(self._session.run(None, feed)[0], np.float32)
        expected = (len(next(iter(feed.values()))), len(self.spec.labels))
        if logits.shape != expected:
            raise IntegrityError(
                f"the model's output has shape {list(logits.shape)}, expected is {list(expected)} "
                "(rows, labels): model and labels do not belong together; export it again"
            )
        finite = np.isfinite(logits).all(axis=1)
        if not finite.all():
            raise IntegrityError(
                f"the model's output is not a finite number for row {int(finite.argmin())} of a batch of "
                f"{len(logits)}: {logits[finite.argmin()].tolist()}; the model is broken, make it anew"
            )
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
        """
        if self.spec.similarity is None:
            raise DataError(
                "this model reads two texts together and has no embedding of one; a student of kind two-tower has"
            )
        for position, text in enumerate(texts, start):
            check_request(Request(text), position, pairs=False)
        ids, type_ids, _ = self.encoder.encode(texts)
        feed = self.encoder.arrays(ids, type_ids, self.spec.inputs)
        return np.asarray(self._session.run([EMBEDDING], feed)[0], np.float32)

    def answer(self, requests: Sequence[Request], batch_size: int = 32) -> list[AnyAnswer]:
        """Answers in the order of the requests."""
        logits = self.logits(requests, batch_size)
        return self.reading.answers([request.id for request in requests], logits)


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


def _tensor(item: Any) -> Tensor:
    dtype = item.type.removeprefix("tensor(").removesuffix(")")
    return Tensor(item.name, {"float": "float32", "double": "float64"}.get(dtype, dtype), tuple(item.shape))


def open_session(model: bytes | Path, threads: int) -> onnxruntime.InferenceSession:
    """An ONNX model, a file or its bytes, loaded by onnxruntime on the CPU.

    Raises:
        IntegrityError: it cannot be loaded.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            str(model) if isinstance(model, Path) else model, sess_options=options, providers=PROVIDERS
        )
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        name = model if isinstance(model, Path) else ONNX
        raise IntegrityError(f"{name} cannot be loaded by onnxruntime ({str(error).strip()})") from error
    if session.get_providers() != PROVIDERS:
        raise IntegrityError(f"onnxruntime runs the model on {session.get_providers()}, {PROVIDERS} was asked for")
    return session
