"""Is a bundle intact, and does this machine compute what its maker's machine computed?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from compress.errors import IntegrityError, RecipeError
from compress.runtime.answers import AnyAnswer, reading_of
from compress.runtime.bundle import GOLDEN, Bundle, open_bundle
from compress.runtime.predictor import Predictor, Request


def verify_bundle(path: Path, *, certificate: bool = False) -> dict[str, Any]:
    """Check every byte, then ask the golden requests.

    Args:
        certificate: whether to return the bundle's certificate, too.

    Returns:
        bundle: the path; name; files: members besides the manifest; digest: the manifest's;
        golden: {requests, label_mismatches, max_probability_difference (0..1), tolerance}, or for numbers
        {requests, max_score_difference, tolerance}; ok: True; certificate, where asked for.

    Raises:
        RecipeError: nothing is there, or it has no certificate.
        IntegrityError: a byte is changed, or a golden answer differs beyond the tolerance.
        EnvironmentProblem: it was made for a newer kdc.
    """
    bundle = open_bundle(path)
    if certificate and bundle.manifest.certificate is None:
        raise RecipeError(
            f"{path} is intact but has no certificate, as `kdc package RECIPE` puts into a bundle: make it again "
            "from its recipe, or leave out --certificate"
        )
    figures = check_golden(bundle, bundle.predictor())
    return {
        "bundle": str(path),
        "name": bundle.manifest.name,
        "files": len(bundle.manifest.files),
        "digest": bundle.manifest.digest,
        "golden": figures,
        "ok": True,
        **({"certificate": bundle.manifest.certificate} if certificate else {}),
    }


def check_golden(bundle: Bundle, predictor: Predictor) -> dict[str, Any]:
    """Ask a bundle's golden requests of its predictor, each alone.

    Returns:
        {requests, label_mismatches, max_probability_difference, tolerance}, or for numbers {requests,
        max_score_difference, tolerance}.

    Raises:
        IntegrityError: they cannot be read, or an answer differs beyond the tolerance.
    """
    requests, recorded = read_golden(bundle)
    answers = predictor.answer(requests, batch_size=1)
    broken, figures = predictor.reading.compare(answers, recorded)
    if broken is not None:
        told = predictor.reading.told
        raise IntegrityError(
            f"{bundle.path} is intact, but its golden request {broken + 1} of {len(answers)} is answered "
            f"{told(answers[broken])}, recorded is {told(recorded[broken])}, tolerance {figures['tolerance']:.4g}: "
            "this processor or onnxruntime computes otherwise, do not use it here"
        )
    return figures


def read_golden(bundle: Bundle) -> tuple[list[Request], list[AnyAnswer]]:
    """The golden requests of a bundle, and the answers that its maker recorded.

    Raises:
        IntegrityError: they cannot be read.
    """
    reading = reading_of(bundle.manifest.spec)
    try:
        lines = [json.loads(line) for line in bundle.members[GOLDEN].decode().split("\n") if line]
        requests = [Request(**line["request"]) for line in lines]
        return requests, [reading.recorded(line["answer"]) for line in lines]
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{bundle.path} has an unreadable {GOLDEN} ({error}); make it again") from error
