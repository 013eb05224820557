"""Of many logits the K largest, and what the others are worth together.

S are the teacher's K largest classes of a row, and r(z) = log Σ_{j ∉ S} exp z_j. A row is kept as the K + 1 numbers
(z_S, r(z)); the student's logits are put into the same form by the teacher's S, and the soft loss compares the two as
if they were all there is: KL(softmax((z_S, r)_t / T) || softmax((z_S, r)_s / T))·T². At T = 1 that is the KL between
the probabilities of the K classes and of "any other". Temperature comes after the others are put together, because
what they weigh at another T cannot be told from r. It is zero where the student agrees with the teacher; with
K = C − 1 it is the loss over all classes; and putting classes together never makes a KL at T = 1 larger.
"""

from __future__ import annotations

import torch
from torch import Tensor


def largest(logits: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """The form in which a row is kept, [B, K + 1], of logits [B, C], K < C; and its classes int64 [B, K]."""
    classes = logits.topk(top_k, -1).indices
    return merge_rest(logits, classes), classes


def merge_rest(logits: Tensor, classes: Tensor) -> Tensor:
    """Logits [B, C] of the given classes int64 [B, K], K < C, then the log-sum-exp of the others: [B, K + 1]."""
    rest = logits.scatter(1, classes, -torch.inf).logsumexp(1, keepdim=True)
    return torch.cat([logits.gather(1, classes), rest], 1)
