"""Is a bundle intact, and does this machine compute what its maker's machine computed?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compress.errors import IntegrityError
from compress.runtime.bundle import GOLDEN, Bundle, open_bundle
from compress.runtime.predictor import Answer, Request

TOLERANCE = 0.02
"""Largest difference of a probability. int8 kernels differ between processors: some add products of 8-bit
numbers in 16 bits and saturate, some in 32 bits. A label may differ only where the recorded answer was this
near to a threshold or a tie."""


def verify_bundle(path: Path) -> dict[str, Any]:
    """Check every byte, then ask the golden requests.

    Returns:
        bundle: the path; name; files: members besides the manifest; digest: the manifest's;
        golden: {requests, label_mismatches, max_probability_difference (0..1), tolerance}; ok: True.

    Raises:
        RecipeError: nothing is there.
        IntegrityError: a byte is changed, or a golden answer differs beyond TOLERANCE.
        EnvironmentProblem: it was made for a newer kdc.
    """
    bundle = open_bundle(path)
    requests, recorded = read_golden(bundle)
    answers = bundle.predictor().answer(requests, batch_size=1)
    return {
        "bundle": str(path),
        "name": bundle.manifest.name,
        "files": len(bundle.manifest.files),
        "digest": bundle.manifest.digest,
        "golden": _compare(bundle, answers, recorded),
        "ok": True,
    }


def _compare(bundle: Bundle, answers: Sequence[Answer], recorded: Sequence[Answer]) -> dict[str, Any]:
    worst, mismatches = 0.0, 0
    for number, (answer, golden) in enumerate(zip(answers, recorded, strict=True), 1):
        difference = _difference(answer, golden)
        differs = answer.label != golden.label
        if difference > TOLERANCE or (differs and not _near(bundle, golden, answer.label)):
            raise IntegrityError(
                f"{bundle.path} is intact, but its golden request {number} of {len(answers)} is answered "
                f"{_told(answer)}, recorded is {_told(golden)}, tolerance {TOLERANCE}: this processor or "
                "onnxruntime computes otherwise, do not use it here"
            )
        worst, mismatches = max(worst, difference), mismatches + differs
    return {
        "requests": len(answers),
        "label_mismatches": mismatches,
        "max_probability_difference": worst,
        "tolerance": TOLERANCE,
    }


def read_golden(bundle: Bundle) -> tuple[list[Request], list[Answer]]:
    """The golden requests of a bundle, and the answers that its maker recorded.

    Raises:
        IntegrityError: they cannot be read.
    """
    try:
        lines = [json.loads(line) for line in bundle.members[GOLDEN].decode().split("\n") if line]
        return [Request(**line["request"]) for line in lines], [Answer(**line["answer"]) for line in lines]
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{bundle.path} has an unreadable {GOLDEN} ({error}); make it again") from error


def _difference(answer: Answer, golden: Answer) -> float:
    if answer.probabilities.keys() != golden.probabilities.keys():
        return 1.0
    return max(abs(value - golden.probabilities[label]) for label, value in answer.probabilities.items())


def _near(bundle: Bundle, golden: Answer, label: str) -> bool:
    """True when the recorded answer is within the tolerance of the threshold, or of a tie with `label`."""
    spec = bundle.manifest.spec
    if spec.positive is not None and spec.threshold is not None:
        return abs(golden.probabilities[spec.positive] - spec.threshold) <= TOLERANCE
    return golden.probabilities[golden.label] - golden.probabilities[label] <= 2 * TOLERANCE


def _told(answer: Answer) -> str:
    return f"{answer.label!r} with score {answer.score:.4f}"
