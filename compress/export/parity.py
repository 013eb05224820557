"""Does a converted model still say the same?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from compress.batch import Floats, Ints
from compress.errors import KdcError
from compress.tasks.number_metrics import spearman

Request_contra = TypeVar("Request_contra", contravariant=True)


class Scorer(Protocol[Request_contra]):
    """Anything that turns requests into logits, such as runtime.predictor.Predictor."""

    def logits(self, requests: Sequence[Request_contra], /) -> Floats:
        """float32 [N, C] of N requests."""


def agreement(reference: Floats, other: Floats) -> dict[str, Any]:
    """Compare the logits of a model with those of what was made from it.

    Args:
        reference: float32 [N, C] of the parent, N ≥ 1.
        other: float32 [N, C] of the converted model, same rows.

    Returns:
        `max_logit_difference` ≥ 0 (absolute), `requests` (N), and `argmax_agreement` in 0 … 1 (share of rows with the
        same first label), or with one output `rank_correlation` in -1 … 1 (Spearman's, over all rows).

    Raises:
        KdcError: the shapes differ, there are no rows, or a logit is not finite.
    """
    if reference.shape != other.shape or not len(reference):
        raise KdcError(
            f"parity needs the same rows and labels from both models, got logits {list(reference.shape)} and "
            f"{list(other.shape)}; check that both were given the same requests"
        )
    for name, logits in (("original", reference), ("converted", other)):
        bad = np.flatnonzero(~np.isfinite(logits).all(axis=-1))
        if len(bad):
            raise KdcError(
                f"the {name} model has no finite logits for {len(bad)} of {len(logits)} requests, "
                f"first for request {int(bad[0])}; look at its weights, or export in fp32 if it was not"
            )
    if reference.shape[1] == 1:
        same = {"rank_correlation": spearman(reference[:, 0], other[:, 0])}
    else:
        same = {"argmax_agreement": float((reference.argmax(-1) == other.argmax(-1)).mean())}
    return {
        "max_logit_difference": float(np.abs(reference - other).max()),
        **same,
        "requests": len(reference),
    }


def compare(
    parent: Scorer[Request_contra], child: Scorer[Request_contra], requests: Sequence[Request_contra]
) -> dict[str, Any]:
    """`agreement` of two predictors on the same requests.

    Raises:
        KdcError: as `agreement`.
    """
    return agreement(parent.logits(requests), child.logits(requests))


def evaluated(model: Path, feed: Mapping[str, Ints]) -> Floats:
    """The first output of a float .onnx by ONNX's own reference evaluator, which shares no code with onnxruntime.

    It computes operator by operator in numpy: for small inputs. Operators outside of the standard are unknown to it.
    """
    from onnx.reference import ReferenceEvaluator

    logits: Floats = ReferenceEvaluator(str(model)).run(None, dict(feed))[0]
    return logits
