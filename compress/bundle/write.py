"""From a deployable folder to a bundle: golden answers, model card, manifest, archive."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from compress.artifacts import ONNX, PORTABLE, SPEC, TOKENIZER, publishing, read_spec
from compress.bundle.card import model_card
from compress.bundle.items import pack_items
from compress.bundle.sign import Signer
from compress.errors import RecipeError
from compress.runtime.answers import AnyAnswer
from compress.runtime.archive import is_safe_name, pack
from compress.runtime.bundle import (
    BENCH,
    CARD,
    GOLDEN,
    LICENSES,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    Manifest,
    Variant,
    file_entry,
    manifest_bytes,
    manifest_digest,
    runtime_minimum,
)
from compress.runtime.predictor import Predictor, Request
from compress.runtime.shipped import ItemsEntry

MAX_GOLDEN = 32
"""Golden requests in a bundle at the most; of more, evenly spaced ones are taken."""
STOCK_GOLDEN = (
    Request("running shoes for men, red, size 42", "Men's Running Shoe Red EU 42"),
    Request("usb-c charger 65w", "65 W GaN charger, 2x USB-C, white"),
    Request("espresso machine with grinder", "Stainless steel kettle 1.7 l"),
    Request("12 AA batteries", "Alkaline batteries AA LR6, pack of 12"),
)
"""Asked when there is no data at hand: any text shows whether a machine computes the same answer."""


def write_bundle(  # noqa: PLR0913  # one parameter a part of the manifest
    deployable: Path,
    out: Path,
    *,
    name: str,
    golden: Sequence[Request] = (),
    metrics: Mapping[str, Any],
    provenance: Mapping[str, Any],
    certificate: Mapping[str, Any] | None = None,
    candidates: Sequence[Mapping[str, Any]] = (),
    columns: Mapping[str, Sequence[str]] | None = None,
    notes: Sequence[str] = (),
    licenses: Mapping[str, str] | None = None,
    datasets: Sequence[str] = (),
    bench: Mapping[str, Any] | None = None,
    items: Path | None = None,
    signer: Signer | None = None,
) -> Path:
    """Write `out` (NAME.kdc) from a deployable folder; same input, same bytes.

    Args:
        deployable: the exported folder: model, `tokenizer.json` and `model.json`. Where the model is not for
            onnxruntime, the same student for onnxruntime stands in its folder `portable`; both go in.
        out: the file to publish; an older one is replaced.
        name: name of the model, as the model card gives it.
        golden: requests whose answers go in, for `kdc verify`; without any, STOCK_GOLDEN.
        metrics: measure -> number, or model -> measure -> number; plain data.
        provenance: what it was made from (digests, parents, versions); plain data without times.
        certificate: what `compress.certificate` says of it; plain data.
        candidates: rows of `compress.quantize.choice`, where the model was chosen among several.
        columns: field -> columns that training joined into it; rows may have these instead.
        notes: sentences that belong beside the figures.
        licenses: file name -> text, for the members below LICENSES/.
        datasets: ids on a hub of what it learned from.
        bench: what was timed, `latency` and `device`; plain data. It is packed as it is given: the same bench gives the
            same bytes, another one is another bundle.
        items: JSON lines or CSV of items to rank, with `id` and `text`; embedded or tokenised by the model packed here.
        signer: whose key signs it; the same key gives the same bytes.

    Raises:
        DataError: the folder is not an exported model, or a golden request or an item cannot be used.
        IntegrityError: the model is damaged or does not fit its labels.
        RecipeError: a licence's file name is not a plain name, the weights stand beside the model, a model for another
            runtime has no portable one, the model cannot put items in order, or the manifest would be too large to be
            opened.
        EnvironmentProblem: the disk is full.
    """
    shipped, deployable = deployable, _portable(deployable)
    beside = sorted(path.name for path in deployable.glob(f"{ONNX}*") if path.name != ONNX)
    if beside:
        raise RecipeError(
            f"{deployable} keeps weights beside its model ({', '.join(beside)}): a model beyond 2 GB cannot be packed; "
            "quantize it, or take a smaller student"
        )
    predictor = Predictor.from_folder(deployable)
    other = None if shipped == deployable else Predictor.from_folder(shipped)
    chosen = _spaced(golden) if golden else _stock(two_texts=predictor.spec.two_texts)
    answers = predictor.answer(chosen, batch_size=1)
    entry, packed = _items(items, predictor, other, columns or {}, chosen)
    card = model_card(
        name,
        predictor.spec,
        metrics=metrics,
        bench=bench,
        certificate=certificate,
        provenance=provenance,
        columns=columns or {},
        notes=notes,
        licenses=sorted(licenses or {}),
        datasets=datasets,
        example=(chosen[0], answers[0]),
        variants=[] if other is None else [other.spec.runtime],
        items=None if entry is None else entry.count,
    )
    variant, more = (None, {}) if other is None else _variant(shipped, other, chosen)
    members = {
        ONNX: (deployable / ONNX).read_bytes(),
        TOKENIZER: (deployable / TOKENIZER).read_bytes(),
        GOLDEN: _golden(predictor, chosen, answers),
        CARD: card.encode(),
        **more,
        **packed,
        **({} if bench is None else {BENCH: manifest_bytes(bench)}),
        **_license_members(licenses or {}),
    }
    inputs, outputs = predictor.tensors()
    manifest = Manifest(
        name=name,
        task=predictor.spec.task,
        spec=predictor.spec,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        columns={name: tuple(joined) for name, joined in (columns or {}).items()},
        files={member: file_entry(content) for member, content in sorted(members.items())},
        metrics=dict(metrics),
        certificate=None if certificate is None else dict(certificate),
        candidates=tuple(map(dict, candidates)),
        variants=() if variant is None else (variant,),
        items=entry,
        provenance=dict(provenance),
        notes=tuple(notes),
    ).model_dump(mode="json")
    archive = pack({**members, MANIFEST: _finished(manifest, signer)})
    with publishing(out) as temporary:
        temporary.write_bytes(archive)
    return out


def _portable(deployable: Path) -> Path:
    """The folder of the model for onnxruntime."""
    runtime = read_spec(deployable).runtime if (deployable / SPEC).is_file() else "onnxruntime"
    if runtime == "onnxruntime":
        return deployable
    if not (deployable / PORTABLE / ONNX).is_file():
        raise RecipeError(
            f"{deployable} is for {runtime} alone, and a bundle must run where there is onnxruntime: put the same "
            f"student for onnxruntime into {deployable / PORTABLE}, as `kdc quantize RECIPE` does"
        )
    return deployable / PORTABLE


def _items(
    path: Path | None,
    predictor: Predictor,
    other: Predictor | None,
    columns: Mapping[str, Sequence[str]],
    chosen: Sequence[Request],
) -> tuple[ItemsEntry | None, dict[str, bytes]]:
    """The items and their members; golden searches ask the first texts of golden requests."""
    if path is None:
        return None, {}
    predictors = {"": predictor} if other is None else {"": predictor, other.spec.runtime: other}
    return pack_items(path, predictors, columns, [request.text for request in chosen])


def _variant(shipped: Path, predictor: Predictor, chosen: Sequence[Request]) -> tuple[Variant, dict[str, bytes]]:
    """The model for another runtime, and its members."""
    variant = Variant(folder=predictor.spec.runtime, spec=predictor.spec)
    golden = _golden(predictor, chosen, predictor.answer(chosen, batch_size=1))
    contents = [*((shipped / name).read_bytes() for name in predictor.spec.model_files), golden]
    return variant, dict(zip(variant.members, contents, strict=True))


def _golden(predictor: Predictor, chosen: Sequence[Request], answers: Sequence[AnyAnswer]) -> bytes:
    return "".join(map(_golden_line, chosen, map(predictor.reading.rounded, answers))).encode()


def _finished(manifest: dict[str, Any], signer: Signer | None) -> bytes:
    """The manifest with what follows from its content: the oldest kdc that opens it, digest, signature."""
    signed = {} if signer is None else {"signature": {"key": signer.key}}
    manifest["runtime_minimum"] = runtime_minimum(manifest | signed)
    manifest["digest"] = manifest_digest(manifest)
    if signer is not None:
        manifest["signature"] = signer.sign(manifest["digest"]).model_dump(mode="json")
    content = manifest_bytes(manifest)
    if len(content) > MAX_MANIFEST_BYTES:
        raise RecipeError(
            f"{MANIFEST} would have {len(content):,} bytes, {MAX_MANIFEST_BYTES:,} are allowed: fewer or shorter labels"
        )
    return content


def _spaced(golden: Sequence[Request]) -> list[Request]:
    if len(golden) <= MAX_GOLDEN:
        return list(golden)
    return [golden[i * len(golden) // MAX_GOLDEN] for i in range(MAX_GOLDEN)]


def _stock(*, two_texts: bool) -> list[Request]:
    return [request if two_texts else replace(request, text_pair=None) for request in STOCK_GOLDEN]


def _golden_line(request: Request, answer: AnyAnswer) -> str:
    return json.dumps({"request": asdict(request), "answer": asdict(answer)}, ensure_ascii=False) + "\n"


def _license_members(licenses: Mapping[str, str]) -> dict[str, bytes]:
    for file_name in licenses:
        if not is_safe_name(file_name) or "/" in file_name:
            raise RecipeError(f"the licence file name {file_name!r} is not a plain name such as 'Apache-2.0.txt'")
    return {f"{LICENSES}/{file_name}": text.encode() for file_name, text in licenses.items()}
