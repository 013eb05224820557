"""Requests of one length, for latencies that do not hang on the texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from compress.artifacts import SPEC, TOKENIZER, link_or_copy, read_spec, write_spec
from compress.bench.targets import deployed_files
from compress.errors import RecipeError
from compress.runtime.predictor import Request
from compress.runtime.text import TextEncoder


def cut_to(folder: Path, name: str, length: int, target: Path) -> Path:
    """A copy (hard links) of a deployable folder whose model reads at most `length` tokens.

    Raises:
        RecipeError: the model reads fewer, or reads two texts apart.
    """
    spec = read_spec(folder)
    if spec.similarity is not None:
        raise RecipeError(f"--length is for models that read a request at once, but {name} reads two texts apart")
    if length > spec.max_length:
        raise RecipeError(f"--length is {length}, but {name} reads {spec.max_length} tokens at the most")
    target.mkdir(parents=True)
    for file in {*deployed_files(folder), *folder.glob("*.json")} - {folder / SPEC}:  # torch reads its config.json
        link_or_copy(file.resolve(), target / file.name)
    write_spec(target, spec.model_copy(update={"max_length": length}))
    return target


def lengthened(folder: Path, requests: Sequence[Request], length: int) -> list[Request]:
    """The requests, their texts repeated until the model of `cut_to` in `folder` reads `length` tokens of each.

    Raises:
        RecipeError: a text has no tokens to repeat.
    """
    spec = read_spec(folder)
    encoder = TextEncoder(
        (folder / TOKENIZER).read_text(encoding="utf-8"),
        max_length=length,
        separator=spec.separator,
        pad_id=spec.pad_id,
    )
    return [_lengthened(encoder, request, length, pairs=spec.two_texts) for request in requests]


def _lengthened(encoder: TextEncoder, request: Request, length: int, *, pairs: bool) -> Request:
    for times in range(1, length + 1):
        pair = None if request.text_pair is None else " ".join([request.text_pair] * times)
        longer = replace(request, text=" ".join([request.text] * times), text_pair=pair)
        ids, _, _ = encoder.encode([longer.text], [longer.text_pair or ""] if pairs else None)
        if len(ids[0]) == length:
            return longer
    raise RecipeError(f"--length is {length}, but the text {request.text[:40]!r} has no tokens that could be repeated")
