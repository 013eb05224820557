"""A query and candidates, or the items of the bundle, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from compress.runtime.items import logits_of
from compress.runtime.predictor import Request
from compress.serve.batching import Batcher
from compress.serve.model import Ask, ServedModel


async def rank(
    batcher: Batcher, model: ServedModel, query: Request, candidates: Sequence[Request] | None
) -> list[dict[str, Any]]:
    """Candidates by falling score; of equal ones the earlier comes first.

    The score is that of the pair: for pairs the probability of a match, for ranking the model's number. A model that
    reads texts apart embeds the query once and each candidate once, and compares the embeddings, as `kdc search` does.

    Args:
        candidates: None for the items that the bundle brings along; those that suit best, at most `model.forms.most`.

    Returns:
        {"index": position among the candidates or items, from 0, "id", "score"} for each.
    """
    if candidates is None:
        return await _shipped(batcher, model, query)
    if model.predictor.spec.similarity is not None:
        answers = await _by_embeddings(batcher, model, query, candidates)
    else:
        pairs = [replace(each, text=query.text, text_pair=each.text) for each in candidates]
        answers = await batcher.ask(model, Ask.ANSWER, pairs)
    order = sorted(range(len(answers)), key=lambda index: -answers[index].score)
    return [{"index": index, "id": answers[index].id, "score": answers[index].score} for index in order]


async def _shipped(batcher: Batcher, model: ServedModel, query: Request) -> list[dict[str, Any]]:
    items = model.items
    if items is None:
        raise ValueError("a ranking without candidates was asked of a bundle without items")
    if items.embedded is None:
        rows = zip(items.ids, items.texts, strict=True)
        return await rank(batcher, model, query, [Request(text, id=name) for name, text in rows])
    vectors = np.stack(await batcher.ask(model, Ask.EMBED, [query]))
    places, cosines = await asyncio.to_thread(items.embedded.best, vectors, model.forms.most)
    ids = [items.ids[place] for place in places[0]]
    answers = model.predictor.reading.answers(ids, logits_of(model.predictor.spec, cosines[0]))
    return [
        {"index": int(place), "id": answer.id, "score": answer.score}
        for place, answer in zip(places[0], answers, strict=True)
    ]


async def _by_embeddings(
    batcher: Batcher, model: ServedModel, query: Request, candidates: Sequence[Request]
) -> Sequence[Any]:
    vectors = np.stack(await batcher.ask(model, Ask.EMBED, [query, *candidates]))
    logits = logits_of(model.predictor.spec, vectors[1:] @ vectors[0])
    return model.predictor.reading.answers([each.id for each in candidates], logits)
