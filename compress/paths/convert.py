"""`kdc export` and `kdc package` on models instead of a recipe."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import TypeAdapter

from compress.artifacts import CACHE, IR, ONNX, Artifact, publishing, read_artifact
from compress.bundle.access import check_access
from compress.bundle.licenses import read_licenses
from compress.bundle.sign import load_signer
from compress.bundle.verify import read_golden
from compress.bundle.write import write_bundle
from compress.errors import RecipeError
from compress.export.engines import TIMINGS
from compress.paths.checkpoints import exported_checkpoint
from compress.paths.engines import engine_sections, engines_of_folder
from compress.paths.locate import (
    RUN_MODELS,
    SUMMARY,
    Kind,
    kind_of,
    model_folder,
    narrowed,
    read_object,
    refuse_target,
    speaking_of,
    verified,
)
from compress.paths.quantize import calibration_requests
from compress.progress import reporter
from compress.recipe import Data, Quantize
from compress.runtime.bundle import SUFFIX, Bundle, open_bundle
from compress.runtime.predictor import Request

PARENTS = ("teacher", "student")
"""Stages whose hashes stand in a bundle."""
OWNERS = ("teacher", "data")
"""Whose licences a bundle carries."""


@dataclass(frozen=True)
class Recorded:
    """What a run recorded of a model that is packed, as `write_bundle` takes it; of any other model nothing."""

    metrics: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    certificate: dict[str, Any] | None = None
    candidates: Sequence[dict[str, Any]] = ()
    notes: Sequence[str] = ()
    bench: dict[str, Any] | None = None
    golden: Sequence[Request] = ()
    """Rows of its test data, as the run's own bundle asks them."""
    data: Data | None = None
    """The section of its recipe."""


def export_path(
    model: Path,
    out: Path,
    *,
    to: Sequence[str],
    gpus: Sequence[str] = (),
    precision: str = "fp16",
    max_batch: int | None = None,
    max_length: int | None = None,
    calibration: Path | None = None,
    runs: Path | None = None,
) -> dict[str, Any]:
    """Export a model to other formats.

    Args:
        model: student folder, Hugging Face model folder, run (its student); for engines also exported models
            and any float .onnx.
        out: a folder; gets model.onnx, tokenizer.json and model.json for `onnx`, and NAME.engine for engines.
        to: onnx, tensorrt, tensorrt-rtx. gpus: for tensorrt-rtx, such as sm89. precision: of engines.
        max_batch, max_length: largest batch and longest input of engines; 64 and the model's own when absent.
        calibration: requests, which set the ranges of int8 and fp8 and show what changed.
        runs: folder of runs, in whose cache `tensorrt` keeps how fast kernels were.

    Returns:
        path, onnx (size_bytes, and for a student its parity with torch), engines (name -> figures), notes.

    Raises:
        RecipeError: a path, format, GPU or precision that does not fit.
        EnvironmentProblem: a package or device is missing.
        IntegrityError: the model is damaged.
        GateError: the exported model says something else than torch.
    """
    sections = engine_sections(to, gpus, precision=precision, max_batch=max_batch, max_length=max_length)
    if calibration is not None and not sections:
        raise RecipeError("--calibration has no effect without an engine; leave it out, or add --to tensorrt-rtx")
    meant = narrowed(model)
    kind = kind_of(meant)
    checkpoint = kind in (Kind.student, Kind.teacher)
    if "onnx" in to and not checkpoint:
        raise RecipeError(f"{meant} is ONNX already; name another format, for example --to tensorrt-rtx --gpu sm89")
    if "onnx" in to:
        refuse_target(out, meant)
    elif out.is_file():
        raise RecipeError(f"-o {out} is a file, but engines go into a folder; name another path")
    found: dict[str, Any] = {"path": str(out), "onnx": None, "engines": {}, "notes": []}
    with TemporaryDirectory(prefix="kdc-export-") as temporary, speaking_of(meant, Path(temporary) / "onnx"):
        source = Path(temporary) / "onnx"
        if checkpoint:
            found["onnx"] = exported_checkpoint(meant, source)
            found["notes"] += found["onnx"].pop("notes")
        else:
            source = model_folder(meant, source)
        target = source if "onnx" in to else out
        requests = calibration_requests(calibration, source, meant, Quantize().calibration, "take --precision fp16")
        timings = None if runs is None else runs / CACHE / TIMINGS
        found["engines"] = engines_of_folder(source, target, sections, Path(temporary) / "work", requests, timings)
        if "onnx" in to:
            with publishing(out) as finished:
                shutil.copytree(source, finished)
    return found


def package_path(
    artifact: Path,
    out: Path,
    *,
    sign: Path | None = None,
    items: Path | None = None,
    licenses: Sequence[str] = (),
) -> dict[str, Any]:
    """Pack an exported model, or the quantized one of a run, into a bundle; same artifact and key, same bytes.

    Where the run has packed this very model, its golden requests, measures and provenance are those of that bundle: the
    test data that they come from is not in the run.

    Args:
        sign: private key, PEM.
        items: JSON lines or CSV of items that the bundle brings along, as `bundle.items` of a recipe.
        licenses: WHOSE=FILE, WHOSE being teacher or data; packed as `bundle.licenses` of a recipe.

    Returns:
        path, name, size_bytes, items (how many, or None), licenses (names of their files), metrics (those that the run
        measured), signed_by (the key's SHA-256, or None).

    Raises:
        RecipeError: the path is no exported model, `out` does not end in .kdc, the key is none, a licence is not
            WHOSE=FILE, or the model cannot put items in order.
        DataError: the folder lacks tokenizer.json or model.json, or an item or licence cannot be read.
        IntegrityError: the model, or the bundle of its run, is damaged.
    """
    kind = kind_of(artifact)
    folder = artifact / RUN_MODELS["shipped"] if kind is Kind.run else artifact
    if out.suffix != SUFFIX or out.is_dir():
        raise RecipeError(f"-o {out} is no name of a bundle; give NAME{SUFFIX}")
    if not any((folder / name).is_file() for name in (ONNX, IR)) or kind is Kind.bundle:
        raise RecipeError(
            f"the {kind} {artifact} cannot be packed; give an {Kind.model} or the `quantized` folder of a run"
        )
    signer = None if sign is None else load_signer(sign)
    texts, whose = named_licenses(licenses)
    own = verified(folder)
    facts = Recorded() if own is None else _recorded(folder, own, items=items, licenses=licenses)
    data = facts.data
    with publishing(out) as made:
        write_bundle(
            folder,
            made,
            name=out.stem,
            golden=facts.golden,
            metrics=facts.metrics,
            provenance=facts.provenance | ({"licenses": whose} if whose else {}),
            certificate=facts.certificate,
            candidates=facts.candidates,
            columns={} if data is None else data.joined_columns,
            notes=facts.notes,
            licenses=texts,
            datasets=() if data is None else data.hubs,
            bench=facts.bench,
            items=items,
            signer=signer,
        )
        check_access(made, {} if data is None else data.privileged_columns)
        shipped = open_bundle(made).manifest.items
    return {
        "path": str(out),
        "name": out.stem,
        "size_bytes": out.stat().st_size,
        "items": None if shipped is None else shipped.count,
        "licenses": sorted(texts),
        "metrics": facts.metrics,
        "signed_by": None if signer is None else signer.key,
    }


def _recorded(folder: Path, own: Artifact, *, items: Path | None, licenses: Sequence[str]) -> Recorded:
    """What the run of a stage says of its model; a gate that was not met is a warning and a note."""
    notes, data = _said_by_run(folder, items=items, licenses=licenses)
    if own.status == "failed":
        reporter.warn(f"{folder} did not meet a gate: {own.reason}")
        notes.append(f"A gate of its recipe was not met: {own.reason}.")
    parents = {stage: own.parents[stage] for stage in PARENTS if stage in own.parents}
    measured = {"shipped": own.metrics["quality"]} if own.metrics.get("quality") else {}
    made_from = {
        "recipe_digest": own.recipe_digest,
        "parents": parents | {own.kind: own.sha256},
        "versions": own.versions,
    }
    packed = _packed_by_run(folder, own)
    bench = _of_this_model(folder, own, "bench")
    return Recorded(
        metrics=measured if packed is None else packed.manifest.metrics,
        provenance=made_from if packed is None else packed.manifest.provenance,
        certificate=own.metrics.get("certificate"),
        candidates=own.metrics.get("candidates", []),
        notes=notes,
        bench=None if bench is None else bench.metrics,
        golden=() if packed is None else read_golden(packed)[0],
        data=data,
    )


def _of_this_model(folder: Path, own: Artifact, stage: str) -> Artifact | None:
    """What a later stage of the run says, where it was made of this very model."""
    found = read_artifact(folder.resolve().parent / stage)
    return found if found is not None and found.parents.get(own.kind) == own.sha256 else None


def _packed_by_run(folder: Path, own: Artifact) -> Bundle | None:
    """The run's own bundle of this very model."""
    stage = _of_this_model(folder, own, "bundle")
    return None if stage is None else open_bundle(folder.resolve().parent / "bundle" / stage.metrics["bundle"])


def _said_by_run(stage: Path, *, items: Path | None, licenses: Sequence[str]) -> tuple[list[str], Data | None]:
    """What must stand beside the run's figures (simulated data, for example), and the section of its data."""
    path = Path(stage.resolve().parent) / SUMMARY
    if not path.is_file():
        return [], None
    summary = read_object(path)
    data: Data = TypeAdapter(Data).validate_python(summary["recipe"]["data"])
    packed = summary["recipe"].get("bundle", {})
    if packed.get("items") and items is None:
        reporter.warn(f"the run's recipe packs the items of {packed['items']}: without --items FILE there are none")
    if packed.get("licenses") and not licenses:
        reporter.warn(f"the run's recipe packs {', '.join(packed['licenses'])}: without --license there are none")
    return [str(note) for note in summary.get("notes", [])], data


def named_licenses(given: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Licences that options name as WHOSE=FILE.

    Returns:
        File name -> text; teacher or data -> names of its files.

    Raises:
        RecipeError: one is not of this form.
        DataError: a file cannot be read as text, or another one has its name.
    """
    named = []
    for option in given:
        whose, _, file = option.partition("=")
        if whose not in OWNERS or not file:
            raise RecipeError(f"--license {option} is not of the form {' or '.join(f'{each}=FILE' for each in OWNERS)}")
        named.append((whose, Path(file)))
    # one file may be the licence of both
    texts = read_licenses({path: f"--license {whose}={path}" for whose, path in named}.items())
    whose_files = {
        owner: ", ".join(sorted({path.name for whose, path in named if whose == owner}))
        for owner in OWNERS
        if any(whose == owner for whose, _ in named)
    }
    return texts, whose_files
