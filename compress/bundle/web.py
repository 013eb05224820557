"""A bundle as a static site: onnxruntime and the tokenizer answer in the visitor's browser.

The site's own modules (`site/`) do what `compress.runtime` does. Before a site is published, node runs them on the
bundle's golden requests, with the very files that are shipped, and compares with what this machine's runtime answers.
"""

from __future__ import annotations

import html
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from string import Template
from typing import Any

from compress.artifacts import ONNX, TOKENIZER, ModelSpec, publishing
from compress.bundle.verify import read_golden
from compress.bundle.web_candidates import CANDIDATES, candidates_of, distinct, embedded
from compress.bundle.web_packages import PACKAGES, fetch_packages, squeeze, told, tool
from compress.errors import IntegrityError, RecipeError
from compress.progress import reporter
from compress.runtime.bundle import LICENSES, Bundle
from compress.runtime.predictor import Predictor, Request
from compress.runtime.text import TextEncoder

SITE = Path(__file__).with_name("site")
DESCRIPTION = "site.json"
MODULES = ("page.js", "model.js", "answers.js", "text.js")
LOADED = (
    *("index.html", "style.css", *MODULES, DESCRIPTION, TOKENIZER, ONNX),
    *(name for package in PACKAGES for name in package.files if name.startswith("lib/")),
)
"""What a browser loads to answer."""
VECTORS = "candidates.bin"
"""Loaded too where the model reads texts apart: its embeddings of the candidates."""
MAX_TRANSFERRED = 8_000_000
"""Bytes that a browser should load to answer, compressed; a larger site is written with a warning."""
CHECK = "check.js"
EXAMPLES = 8
"""Texts of the golden requests that the page offers."""
TOLERANCE = 1e-3
"""Largest difference of a probability, or of a number in standard deviations, between the site and this machine."""
HEADINGS = {
    "classification": "Labels",
    "regression": "Answer",
    "pairs": "Candidates, most likely match first",
    "two texts": "Candidates, highest score first",
}
ABOUT = {
    "classification": "Type a text; the model says which label suits it, and how sure it is.",
    "pairs": "Type a product; the model says which candidates are the same one, and how sure it is.",
    "two texts": "Type a text; the model answers for it and each of the candidates.",
    "ranking": "Type a query; the model orders the candidates by how well they suit it.",
    "regression": "Type a text; the model answers with a number.",
}


def write_site(bundle: Bundle, out: Path, *, cache: Path, catalogue: Path | None = None) -> dict[str, Any]:
    """Write a folder that any web server can serve as it is: the bundle's `model.onnx` in the visitor's browser.

    Args:
        out: the folder; an older site there is replaced.
        cache: folder in which the npm packages are kept for all sites.
        catalogue: candidates that the page offers, JSON lines or CSV with `text`; for models of two texts. When
            absent, the bundle's items, or where it has none second texts of the golden requests.

    Returns:
        path, name; model: `model.onnx` in words; transferred_bytes: {brotli, gzip, plain} of all that a browser loads
        to answer, with a warning beyond 8 MB of brotli; golden: {requests, shipped_candidates, max_difference,
        tolerance} between the site's modules and this machine, shipped_candidates being pairs that were compared by
        the embeddings that are shipped.

    Raises:
        RecipeError: `out` is something else, or the model reads one text and has no use for a catalogue.
        DataError: the catalogue cannot be read, or is too long.
        EnvironmentProblem: node or npm is missing, cannot fetch the packages, or the model does not run there.
        IntegrityError: the site would answer otherwise than this machine, or a package is not the pinned one.
    """
    if out.exists() and not (out / DESCRIPTION).is_file():
        raise RecipeError(f"-o {out} is there already and is no site of kdc; name a new folder")
    predictor = bundle.predictor(runtime="onnxruntime")
    golden, _ = read_golden(bundle)
    offered = candidates_of(bundle, golden, catalogue)
    packages = fetch_packages(cache)
    with publishing(out) as made:
        shutil.copytree(packages, made)
        description = _description(bundle, predictor, golden, offered)
        _write_own(bundle, made, description)
        if predictor.spec.similarity is not None:
            (made / VECTORS).write_bytes(embedded(predictor, offered))
        figures = _check(made, predictor, golden, description)
        squeeze([path for path in sorted(made.rglob("*")) if path.suffix not in (".br", ".gz") and not _squeezed(path)])
        sizes = _sizes(made)
    _tell_size(sizes["brotli"], len(bundle.members[ONNX]))
    return {
        "path": str(out),
        "name": bundle.manifest.name,
        "model": _model(bundle),
        "transferred_bytes": sizes,
        "golden": figures,
    }


def _squeezed(path: Path) -> bool:
    return path.is_dir() or path.with_name(path.name + ".br").is_file()


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of all that a browser loads to answer, by how the server sends it."""
    names = [*LOADED, *([VECTORS] if (folder / VECTORS).is_file() else [])]
    endings = {"brotli": ".br", "gzip": ".gz", "plain": ""}
    return {how: sum((folder / f"{name}{ending}").stat().st_size for name in names) for how, ending in endings.items()}


def _tell_size(transferred: int, model: int) -> None:
    if transferred > MAX_TRANSFERRED:
        reporter.warn(
            f"a browser loads {transferred / 1e6:.1f} MB (brotli) to answer, a page should ask for at most "
            f"{MAX_TRANSFERRED / 1e6:.1f} MB: make the model smaller, it has {model / 1e6:.1f} MB (docs/web.md, Size)"
        )


def _description(
    bundle: Bundle, predictor: Predictor, golden: Sequence[Request], candidates: Sequence[str]
) -> dict[str, Any]:
    return {
        "digest": bundle.manifest.digest,
        "spec": _spec(predictor.spec),
        "frames": _frames(predictor.encoder, golden),
        "examples": distinct([request.text for request in golden])[:EXAMPLES],
        "candidates": list(candidates),
    }


def _spec(spec: ModelSpec) -> dict[str, Any]:
    """What the site's modules read of it."""
    return spec.model_dump(mode="json", exclude={"student", "runtime", "arithmetic", "pad_id"})


def _frames(encoder: TextEncoder, golden: Sequence[Request]) -> dict[str, list[list[int]]]:
    """Ids of the special tokens before, between and after the tokens of one text and of two.

    Raises:
        IntegrityError: no golden request has a token, so that there is nothing to stand between them.
    """
    for request in golden:
        single = encoder.tokenizer.encode(request.text)
        pair = encoder.tokenizer.encode(request.text, request.text)
        if 0 in single.sequence_ids and {0, 1} <= set(pair.sequence_ids):
            return {
                "single": _around(single.ids, single.sequence_ids, 1),
                "pair": _around(pair.ids, pair.sequence_ids, 2),
            }
    raise IntegrityError("the tokenizer finds no token in any golden request; make the bundle again")


def _around(ids: Sequence[int], origins: Sequence[int | None], texts: int) -> list[list[int]]:
    frames, start = [], 0
    for text in range(texts):
        first = origins.index(text)
        frames.append(list(ids[start:first]))
        start = len(origins) - list(reversed(origins)).index(text)
    return [*frames, list(ids[start:])]


def _write_own(bundle: Bundle, folder: Path, description: Mapping[str, Any]) -> None:
    """The site's files beside the packages'."""
    manifest, members = bundle.manifest, bundle.members
    matching = manifest.task == "ranking" or manifest.spec.positive is not None
    kind = manifest.task if matching or not manifest.spec.two_texts else "two texts"
    for name in ("style.css", *MODULES):
        shutil.copyfile(SITE / name, folder / name)
    texts = {
        "name": manifest.name,
        "about": ABOUT[kind],
        "asked": "Query" if manifest.task == "ranking" else "Text",
        "heading": HEADINGS.get(kind, "Candidates, best first"),
        "model": _model(bundle),
    }
    (folder / "index.html").write_text(_filled("index.html", texts), encoding="utf-8")
    (folder / DESCRIPTION).write_text(json.dumps(description, ensure_ascii=False), encoding="utf-8")
    for name in (ONNX, TOKENIZER):
        (folder / name).write_bytes(members[name])
    for name in members:
        if name.startswith(f"{LICENSES}/"):
            (folder / "licenses" / f"model-{Path(name).name}").write_bytes(members[name])
    (folder / "licenses" / "index.html").write_text(_licences(folder / "licenses"), encoding="utf-8")


def _model(bundle: Bundle) -> str:
    size = len(bundle.members[ONNX]) / 1e6
    return f"Model: {bundle.manifest.name}, model.onnx of the bundle {bundle.manifest.digest[:12]}, {size:.1f} MB"


def _filled(name: str, texts: Mapping[str, str]) -> str:
    page = Template((SITE / name).read_text(encoding="utf-8"))
    return page.substitute({key: html.escape(text) for key, text in texts.items()})


def _licences(folder: Path) -> str:
    """Which licence each part has; that of onnxruntime-web stands in its file's first lines."""
    entries = [f"<li>{html.escape(package.name)} {package.version}: {package.licence}</li>" for package in PACKAGES]
    files = [path.name for path in sorted(folder.iterdir()) if path.suffix not in (".br", ".gz")]
    entries += [f'<li><a href="{html.escape(name)}">{html.escape(name)}</a></li>' for name in files]
    return Template((SITE / "licenses.html").read_text(encoding="utf-8")).substitute(entries="\n".join(entries))


def _check(
    folder: Path, predictor: Predictor, golden: Sequence[Request], description: Mapping[str, Any]
) -> dict[str, Any]:
    """Ask the golden requests of the site's modules, in node, and compare with this machine's answers.

    Where candidates are shipped as embeddings, the first example is compared with them by these.

    Raises:
        EnvironmentProblem: node cannot run the model.
        IntegrityError: an answer differs beyond the tolerance.
    """
    reporter.say("  asking the golden requests of the site, in node")
    shipped = description["candidates"][:CANDIDATES] if (folder / VECTORS).is_file() else []
    compared = [Request(description["examples"][0], candidate) for candidate in shipped]
    only_here = [folder / "package.json", folder / CHECK]
    only_here[0].write_text('{"type": "module"}', encoding="utf-8")
    shutil.copyfile(SITE / CHECK, only_here[1])
    asked = {"golden": list(map(asdict, golden)), "compared": list(map(asdict, compared))}
    said = json.loads(told([tool("node"), str(only_here[1])], json.dumps(asked)))
    for path in only_here:
        path.unlink()
    answers = [asdict(answer) for answer in predictor.answer([*golden, *compared], batch_size=1)]
    differences = [difference(predictor.spec, *pair) for pair in zip(said, answers, strict=True)]
    worst = max(differences)
    if worst > TOLERANCE:
        place = differences.index(worst) + 1
        which = f"golden request {place}" if place <= len(golden) else f"candidate {place - len(golden)}"
        raise IntegrityError(
            f"in the browser {which} would be answered {worst:.2g} away from "
            f"this machine's answer, {TOLERANCE:g} is allowed: the site's tokenizer or runtime does not suit this model"
        )
    figures = {"requests": len(golden), "shipped_candidates": len(compared)}
    return figures | {"max_difference": worst, "tolerance": TOLERANCE}


def difference(spec: ModelSpec, said: Mapping[str, Any], wanted: Mapping[str, Any]) -> float:
    """Largest difference of a probability, or of numbers in the unit of the model's output, of two answers."""
    if "probabilities" in wanted:
        ours, theirs = wanted["probabilities"], said["probabilities"]
        return float(max(abs(theirs[label] - value) for label, value in ours.items()))
    unit = 1.0 if spec.standard is None else spec.standard.std
    return float(abs(said["score"] - wanted["score"])) / unit
