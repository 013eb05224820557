"""Is a bundle intact, and does this machine compute what its maker's machine computed?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from compress.artifacts import Runtime
from compress.bundle.items import check_items
from compress.bundle.sign import check_signature
from compress.errors import IntegrityError, RecipeError
from compress.runtime.answers import AnyAnswer, reading_of
from compress.runtime.bundle import GOLDEN, Bundle, Variant, open_bundle
from compress.runtime.engine import why_not_here
from compress.runtime.predictor import Predictor, Request


def verify_bundle(
    path: Path,
    *,
    key: Path | None = None,
    certificate: bool = False,
    runtime: Runtime | Literal["auto"] = "auto",
) -> dict[str, Any]:
    """Check every byte and the signature, then ask the golden requests.

    Args:
        key: a public key, whose owner must have signed it; without one nobody needs to have.
        runtime: which of the bundle's models to ask; auto asks all that can run on this machine.
        certificate: whether to return the bundle's certificate, too.

    Returns:
        bundle: the path; name; files: members besides the manifest; digest: the manifest's;
        golden: {requests, label_mismatches, max_probability_difference (0..1), tolerance}, or for numbers
        {requests, max_score_difference, tolerance}, of model.onnx, and `items`, what `check_items` found, where it
        brings items along; variants: runtime -> the same, or why it was not run, where there are any; signed_by: the
        key that it names, None where it is not signed; signature: `verified`, `not checked` (no key was given) or
        `none`; ok: True; certificate, where asked for.

    Raises:
        RecipeError: nothing is there, the key is none, it has no certificate, or no model for that runtime.
        IntegrityError: a byte is changed, the key's owner did not sign it, or a golden answer or search differs beyond
            the tolerance.
        EnvironmentProblem: it was made for a newer kdc, the named runtime cannot run here, or the extra `sign` is
            missing.
    """
    bundle = open_bundle(path)
    if key is not None:
        check_signature(bundle, key)
    if certificate and bundle.manifest.certificate is None:
        raise RecipeError(
            f"{path} is intact but has no certificate, as `kdc package RECIPE` puts into a bundle: make it again "
            "from its recipe, or leave out --certificate"
        )
    variants = [variant for variant in bundle.manifest.variants if runtime in ("auto", variant.spec.runtime)]
    if runtime not in ("auto", "onnxruntime"):
        bundle.variant(runtime)
    asked = {"golden": _check(bundle, "onnxruntime")} if runtime in ("auto", "onnxruntime") else {}
    others = {
        variant.spec.runtime: f"not run: {reason}"
        if runtime == "auto" and (reason := why_not_here(variant.spec))
        else _check(bundle, variant.spec.runtime)
        for variant in variants
    }
    signature = bundle.manifest.signature
    return {
        "bundle": str(path),
        "name": bundle.manifest.name,
        "files": len(bundle.manifest.files),
        "digest": bundle.manifest.digest,
        **asked,
        **({"variants": others} if others else {}),
        "signed_by": None if signature is None else signature.key,
        "signature": "none" if signature is None else "not checked" if key is None else "verified",
        "ok": True,
        **({"certificate": bundle.manifest.certificate} if certificate else {}),
    }


def _check(bundle: Bundle, runtime: Runtime) -> dict[str, Any]:
    items = bundle.items(runtime)
    predictor = bundle.predictor(runtime=runtime, items=items)
    found = check_golden(bundle, predictor)
    return found if items is None else found | {"items": check_items(bundle, predictor, items)}


def check_golden(bundle: Bundle, predictor: Predictor) -> dict[str, Any]:
    """Ask a bundle's golden requests of one of its predictors, each alone.

    Returns:
        {requests, label_mismatches, max_probability_difference, tolerance}, or for numbers {requests,
        max_score_difference, tolerance}.

    Raises:
        IntegrityError: they cannot be read, or an answer differs beyond the tolerance.
    """
    requests, recorded = read_golden(bundle, bundle.variant(predictor.runtime))
    answers = predictor.answer(requests, batch_size=1)
    broken, figures = predictor.reading.compare(answers, recorded)
    if broken is not None:
        told = predictor.reading.told
        raise IntegrityError(
            f"{bundle.path} is intact, but its golden request {broken + 1} of {len(answers)} is answered "
            f"{told(answers[broken])}, recorded is {told(recorded[broken])}, tolerance {figures['tolerance']:.4g}: "
            f"this processor or {predictor.runtime} computes otherwise, do not use it here"
        )
    return figures


def read_golden(bundle: Bundle, variant: Variant | None = None) -> tuple[list[Request], list[AnyAnswer]]:
    """The golden requests of a bundle, and the answers that its maker recorded for model.onnx or for a variant.

    Raises:
        IntegrityError: they cannot be read.
    """
    reading = reading_of(bundle.manifest.spec if variant is None else variant.spec)
    name = GOLDEN if variant is None else variant.members[-1]
    try:
        lines = [json.loads(line) for line in bundle.members[name].decode().split("\n") if line]
        if not lines:
            raise ValueError("it is empty")
        requests = [_request(line["request"]) for line in lines]
        return requests, [reading.recorded(line["answer"]) for line in lines]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError(f"{bundle.path} has an unreadable {name} ({error}); make it again") from error


def _request(fields: Any) -> Request:
    if not isinstance(fields, dict) or not all(value is None or isinstance(value, str) for value in fields.values()):
        raise TypeError("a request has a text, a text_pair and an id, which are strings")
    if fields.get("text") is None:
        raise TypeError("a request has no text")
    return Request(**fields)
