"""`kdc package BUNDLE --target NAME`: a bundle in the form that something else runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from compress.artifacts import publishing, read_artifact, verify_artifact
from compress.bundle.docker import write_context
from compress.bundle.kubernetes import write_manifests
from compress.bundle.triton_server import Engine, write_repository
from compress.bundle.web import write_site
from compress.errors import RecipeError
from compress.paths.convert import package_path
from compress.paths.locate import Kind, kind_of
from compress.runtime.bundle import SUFFIX, Bundle, open_bundle

WEB = "web"
"""The target that fetches packages and takes a catalogue."""
Facts = dict[str, Any]
Write = Callable[[Bundle, Path, Path], Facts]
"""(bundle, what the user named, a new folder to fill) -> `files`, and `not_run`: what could not be tried here."""


def package_target(source: Path, target: str, out: Path, *, cache: Path, catalogue: Path | None = None) -> Facts:
    """Write a bundle for a target into a new folder, whole or not at all; an older site is replaced.

    Args:
        source: a bundle, packed or unpacked; a run with a bundle; or an exported model.
        target: a key of TARGETS, or WEB.
        cache: folder for what is fetched for sites. catalogue: candidates that a site offers; for WEB alone.

    Returns:
        target, path, bundle (the first digits of its digest), and what the target tells: files, notes, not_run.

    Raises:
        RecipeError: no such target, `out` is there already, or the source holds no bundle.
        IntegrityError: the source is damaged.
    """
    known = (WEB, *TARGETS)
    if target not in known:
        raise RecipeError(f"--target {target} is unknown, there are: {', '.join(known)}")
    if target != WEB and catalogue is not None:
        raise RecipeError(f"--catalogue has no effect with --target {target}, only with {WEB}: leave it out")
    if target == WEB:
        with TemporaryDirectory(prefix="kdc-target-") as temporary:
            bundle = open_bundle(_bundle_of(source, Path(temporary)))
            return {"target": target} | write_site(bundle, out, cache=cache, catalogue=catalogue)
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise RecipeError(f"-o {out} is there already; name a new folder")
    with TemporaryDirectory(prefix="kdc-target-") as temporary:
        bundle = open_bundle(_bundle_of(source, Path(temporary)))
        with publishing(out) as folder:
            facts = TARGETS[target](bundle, source, folder)
    return {"target": target, "path": str(out), "bundle": bundle.manifest.digest[:16]} | facts


def _bundle_of(source: Path, temporary: Path) -> Path:
    kind = kind_of(source)
    if kind is Kind.bundle:
        return source
    if kind is Kind.run:
        found = sorted(source.glob(f"bundle/*{SUFFIX}"))
        if not found:
            raise RecipeError(f"the run {source} has no bundle yet: kdc package RECIPE makes it")
        return found[0]
    packed = temporary / f"{source.resolve().name}{SUFFIX}"
    package_path(source, packed)
    return packed


def _triton_server(bundle: Bundle, source: Path, out: Path) -> Facts:
    engines, notes = _engines(source, bundle) if kind_of(source) is Kind.run else ([], [])
    files = write_repository(bundle, out, engines)
    run = "docker run --rm -p 8000:8000 -v DIR:/models IMAGE tritonserver --model-repository=/models"
    return {
        "files": files,
        "notes": [f"IMAGE: Triton Inference Server and `pip install kdc`, as the Python models are its: {run}", *notes],
        "not_run": "not run: no Triton Inference Server is here; the same Python steps and the ONNX model are tested "
        "without one",
    }


def _engines(run: Path, bundle: Bundle) -> tuple[list[Engine], list[str]]:
    """A run's engines that the server can load, and why others are left out."""
    stage = read_artifact(run / "engines")
    if stage is None:
        return [], []
    verify_artifact(run / "engines", stage)
    engines, notes = [], []
    for name, figures in stage.metrics.items():
        reason = _why_not(figures, bundle)
        if reason is None:
            engines.append(Engine(run / "engines" / figures["file"], figures["max_batch"]))
        else:
            notes.append(f"{name} is left out: {reason}")
    return engines, notes


def _why_not(figures: Mapping[str, Any], bundle: Bundle) -> str | None:
    if figures["to"] != "tensorrt":
        return "the server's TensorRT backend does not read engines of TensorRT for RTX"
    needed = bundle.manifest.spec.max_length
    if figures["profile"] != "dynamic" or figures["max_length"] < needed:
        return f"it takes up to {figures['max_length']} tokens ({figures['profile']}), the student reads {needed}"
    return None


def _kubernetes(bundle: Bundle, source: Path, out: Path) -> Facts:
    return {
        "files": write_manifests(bundle, out),
        "notes": ["the image is that of --target docker; name your registry in kustomization.yaml (newName)"],
        "not_run": "not run: no cluster is here; try `kubectl apply --dry-run=server -k DIR`",
    }


def _docker(bundle: Bundle, source: Path, out: Path) -> Facts:
    return {
        "files": write_context(bundle, out),
        "notes": ["where your package index has no kdc, put its wheel into wheels/ (pip wheel --no-deps kdc)"],
        "not_run": "not run: the image was not built; `docker build DIR` does",
    }


TARGETS: dict[str, Write] = {"triton-server": _triton_server, "kubernetes": _kubernetes, "docker": _docker}
