"""How students over token embeddings start: vectors of the teacher for their tokens, and how often these stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compress.batch import Ints
from compress.progress import bar, reporter
from compress.students.vocabulary import StudentTokens, template
from compress.text_model import TransformerClassifier

READ_TOGETHER = 512
"""Tokens that the teacher reads at once, each in a row of its own."""
SIF = 1e-3
"""a of a / (a + p), within the range of the paper."""


@dataclass(frozen=True)
class Origin:
    """What a student is made for, and what it may start from.

    teacher: None when the teacher is a file of scores; layer_map is () then. texts: what it will learn from.
    """

    teacher: TransformerClassifier | None
    layer_map: tuple[int, ...]
    tokens: StudentTokens
    texts: Sequence[str]
    labels: tuple[str, ...]
    positive: str | None
    pairs: bool
    max_length: int


def contextual_vectors(teacher: TransformerClassifier, tokens: StudentTokens, layer: int) -> Tensor:
    """Each token that the teacher knows alone through it, N of V: token means of the states of `layer`, [N, H].

    The token stands between those that the tokenizer puts around every text ([CLS] token [SEP]), as in model2vec
    (https://github.com/MinishLab/model2vec): what a trained model makes of a token tells more than its embedding.
    """
    known = torch.from_numpy(tokens.teacher_ids[tokens.teacher_ids >= 0])
    around = (tokens.teacher_ids[side] for side in template(tokens.tokenizer_json))
    before, after = (torch.from_numpy(side[side >= 0]) for side in around)
    device = next(teacher.parameters()).device
    teacher.eval()
    pieces = []
    with bar("each token through the teacher", len(known), "tokens") as shown, torch.inference_mode():
        for start in range(0, len(known), READ_TOGETHER):
            some = known[start : start + READ_TOGETHER]
            size = len(some)
            rows = torch.cat([before.repeat(size, 1), some.unsqueeze(1), after.repeat(size, 1)], 1)
            given = {"input_ids": rows, "attention_mask": torch.ones_like(rows)}
            inputs = [given.get(name, torch.zeros_like(rows)).to(device) for name in teacher.input_names]
            pieces.append(teacher(*inputs, hidden=(layer,))[1][:, 0].float().cpu())
            shown.advance(size)
    return torch.cat(pieces)


def principal(rows: Tensor, width: int) -> Tensor:
    """Rows [N, H] less their mean, in at most `width` principal directions: [N, min(width, H)]."""
    rows = rows - rows.mean(0)
    if width < rows.shape[1]:
        _, _, basis = torch.linalg.svd(rows, full_matrices=False)
        rows = rows @ basis[:width].T
    return rows


def take_vectors(embedding: nn.Embedding, vectors: Tensor, tokens: StudentTokens, std: float) -> None:
    """Give the tokens that the teacher knows its vectors [N, H], reduced by PCA and scaled to a standard deviation.

    Too few to span the width, they are left out with a warning.
    """
    if len(vectors) <= embedding.embedding_dim:
        reporter.warn(
            f"student.init: teacher: only {len(vectors)} of its tokens are the teacher's, too few for a width of "
            f"{embedding.embedding_dim}; the embeddings are drawn at random"
        )
        return
    reduced = principal(vectors, embedding.embedding_dim)
    known = torch.from_numpy((tokens.teacher_ids >= 0).nonzero()[0])
    embedding.weight.data[known, : reduced.shape[1]] = reduced * (std / reduced.std())


def sif_log_weights(counts: Ints) -> Tensor:
    """log a / (a + p) with p a token's share of all: counts [V] -> float32 [V]; frequent tokens weigh little.

    Smooth inverse frequency (https://openreview.net/forum?id=SyK00v5xx).
    """
    share = torch.from_numpy(counts / max(int(counts.sum()), 1))
    return -torch.log1p(share / SIF).float()
