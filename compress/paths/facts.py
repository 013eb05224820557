"""`kdc inspect`: what stands at a path, checked where hashes were recorded, as plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from compress.artifacts import (
    IR,
    IR_WEIGHTS,
    MANIFEST,
    ONNX,
    SPEC,
    TOKENIZER,
    Artifact,
    model_bytes,
    read_artifact,
    read_spec,
    sha256_file,
    verify_artifact,
    weights_bytes,
)
from compress.bench.bare import answers_text
from compress.errors import IntegrityError
from compress.export.graph import read_graph
from compress.extras import available, install_hint
from compress.paths.checkpoints import config_of, parameters
from compress.paths.locate import (
    RECIPE,
    SUMMARY,
    Kind,
    kind_of,
    onnx_bytes,
    read_object,
    verified,
)
from compress.recipe import digest
from compress.runtime.bundle import open_bundle
from compress.runtime.engine import Engine, open_engine
from compress.runtime.plan import read_plan
from compress.teachers.load import head_labels, positions

SUMMARY_KEYS = (
    "metric",
    "models",
    "retention",
    "distillation_gain",
    "speedup",
    "gates",
    "bundle",
    "report",
    "notes",
)


def inspect_path(path: Path) -> dict[str, Any]:
    """What a file or folder is: `kind`, `path`, sizes, hashes, metrics, where it came from.

    Recorded hashes are checked.

    Raises:
        RecipeError: nothing is there, or nothing that kdc knows.
        IntegrityError: it is damaged.
    """
    kind = kind_of(path)
    return {"kind": str(kind), "path": str(path)} | READERS[kind](path)


def _run(folder: Path) -> dict[str, Any]:
    stages: dict[str, Any] = {}
    for manifest in folder.glob(f"*/{MANIFEST}"):
        artifact = read_artifact(manifest.parent)
        if artifact is not None:
            verify_artifact(manifest.parent, artifact)
            stages[artifact.kind] = _artifact(artifact, brief=True)
    summary = folder / SUMMARY
    return {
        **_recipe(folder / RECIPE),
        "stages": stages,
        "size_bytes": sum(stage["size_bytes"] for stage in stages.values()),
        **(_summary(summary) if summary.is_file() else {"summary": "not written yet: the run has not ended"}),
    }


def _recipe(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        recipe = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path} is not readable YAML ({' '.join(str(error).split())}); run again") from error
    if not isinstance(recipe, dict):
        raise IntegrityError(f"{path} holds a {type(recipe).__name__}, expected is a recipe; run again")
    return {"name": recipe.get("name"), "recipe_digest": digest(recipe)}


def _summary(path: Path) -> dict[str, Any]:
    summary = read_object(path)
    return {key: summary[key] for key in ("name", "task", *SUMMARY_KEYS) if key in summary}


def _stage(folder: Path) -> dict[str, Any]:
    artifact = verified(folder)
    return {} if artifact is None else {"stage": artifact.kind} | _artifact(artifact, brief=False)


def _artifact(artifact: Artifact, *, brief: bool) -> dict[str, Any]:
    facts = {
        "status": artifact.status,
        "reason": artifact.reason,
        "size_bytes": artifact.size_bytes,
        "seconds": artifact.seconds,
        "sha256": artifact.sha256,
    }
    if brief:
        return facts
    return facts | {
        "files": {name: entry.size for name, entry in artifact.files.items()},
        "recipe_digest": artifact.recipe_digest,
        "parents": artifact.parents,
        # the certificate is as long as its slices are many: it stands in summary.json and in the bundle
        "metrics": {name: value for name, value in artifact.metrics.items() if name != "certificate"},
        "versions": artifact.versions,
    }


def _bundle(path: Path) -> dict[str, Any]:
    bundle = open_bundle(path)
    manifest = bundle.manifest
    return {
        "name": manifest.name,
        "digest": manifest.digest,
        "size_bytes": sum(map(len, bundle.members.values())),
        "task": manifest.task,
        "spec": manifest.spec.model_dump(mode="json"),
        "inputs": {tensor.name: f"{tensor.dtype} {list(tensor.shape)}" for tensor in manifest.inputs},
        "outputs": {tensor.name: f"{tensor.dtype} {list(tensor.shape)}" for tensor in manifest.outputs},
        "runtimes": [*(variant.spec.runtime for variant in manifest.variants), manifest.spec.runtime],
        "files": {name: entry.model_dump() for name, entry in manifest.files.items()},
        **({} if manifest.items is None else {"items": manifest.items.model_dump(exclude_none=True)}),
        "metrics": manifest.metrics,
        "certificate": manifest.certificate is not None,
        "provenance": manifest.provenance,
        "notes": list(manifest.notes),
        "runtime_minimum": manifest.runtime_minimum,
        "signed_by": None if manifest.signature is None else manifest.signature.key,
    }


def _model(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "answers_text": answers_text(folder),
        "files": {
            name: (folder / name).stat().st_size
            for name in (ONNX, IR, IR_WEIGHTS, TOKENIZER, SPEC)
            if (folder / name).is_file()
        },
    }
    if (folder / SPEC).is_file():
        facts["spec"] = read_spec(folder).model_dump(mode="json")
    of_model = _onnx(folder / ONNX) if (folder / ONNX).is_file() else _openvino(folder)
    return facts | of_model | _recorded(folder)


def _openvino(folder: Path) -> dict[str, Any]:
    facts = {
        "size_bytes": model_bytes(folder),
        "sha256": sha256_file(folder / IR),
    }
    if not available("openvino"):
        return facts | {"inputs": f"not read: {install_hint('openvino')}"}
    return facts | _signature(open_engine(folder / IR, runtime="openvino"))


def _signature(engine: Engine) -> dict[str, Any]:
    return {
        "inputs": {item.name: f"{item.dtype} {list(item.shape)}" for item in engine.inputs},
        "outputs": {item.name: f"{item.dtype} {list(item.shape)}" for item in engine.outputs},
    }


def _student(folder: Path) -> dict[str, Any]:
    spec = read_spec(folder)
    return {"parameters": parameters(folder), "spec": spec.model_dump(mode="json")} | _recorded(folder)


def _teacher(folder: Path) -> dict[str, Any]:
    count = parameters(folder)
    config = config_of(folder)
    facts = {
        "model_type": config.get("model_type"),
        "architectures": config.get("architectures"),
        "parameters": count,
        "layers": config.get("num_hidden_layers", config.get("n_layer", config.get("n_layers"))),
        "hidden": config.get("hidden_size", config.get("n_embd", config.get("dim"))),
        "positions": positions(config),
        "labels": head_labels(config),
        "size_bytes": weights_bytes(folder),
    }
    return facts | _recorded(folder)


def _recorded(folder: Path) -> dict[str, Any]:
    """The record of the run that made a model's folder, where there is one."""
    artifact = verified(folder)
    return {} if artifact is None else {"artifact": {"stage": artifact.kind} | _artifact(artifact, brief=False)}


def _onnx(path: Path) -> dict[str, Any]:
    facts = {"size_bytes": onnx_bytes(path), "sha256": sha256_file(path)}
    if available("onnx"):
        return facts | asdict(read_graph(path))
    # On a device there is onnxruntime alone, which tells the signature.
    return (
        facts
        | _signature(open_engine(path))
        | {
            "operators": "not read: pip install 'kdc[train]'",
        }
    )


def _engine(path: Path) -> dict[str, Any]:
    size = {"size_bytes": path.stat().st_size, "sha256": sha256_file(path)}
    return {name: value for name, value in asdict(read_plan(path)).items() if value} | size


READERS: dict[Kind, Callable[[Path], dict[str, Any]]] = {
    Kind.run: _run,
    Kind.stage: _stage,
    Kind.bundle: _bundle,
    Kind.model: _model,
    Kind.student: _student,
    Kind.teacher: _teacher,
    Kind.onnx: _onnx,
    Kind.engine: _engine,
    Kind.summary: _summary,
}
