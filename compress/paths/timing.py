"""`kdc bench` on artifacts: each is opened as it would be deployed, all take turns on the same requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import ValidationError

from compress.artifacts import ONNX, read_spec
from compress.bench.bare import SEQUENCE, answers_text
from compress.bench.machine import describe
from compress.bench.measure import Contender, run_bench
from compress.bench.results import BenchResult
from compress.bench.targets import ONNXRUNTIME, TORCH, open_model, own_target, why_not
from compress.bundle.verify import read_golden
from compress.bundle.write import STOCK_GOLDEN
from compress.errors import DataError, RecipeError
from compress.paths.locate import (
    RUN_MODELS,
    Kind,
    external_weights,
    kind_of,
    model_folder,
    speaking_of,
    variant_folders,
    verified,
)
from compress.progress import reporter
from compress.recipe import Bench
from compress.runtime.bundle import SUFFIX, open_bundle
from compress.runtime.fields import Fields
from compress.runtime.predictor import Request
from compress.runtime.requests import RENAME, read_requests

GENERATED = f"timed on generated inputs ({SEQUENCE} tokens a row), without a tokenizer: not end to end from text"
OPTION_OF = {"targets": "--target", "scenarios": "--scenario", "threads": "--threads"}


@dataclass(frozen=True)
class Entry:
    """One model to time.

    where: parts of a name, of which the last is given, and as many before it as tell it apart. folder: holds
    the model. refused: why it cannot be timed, or None. more_bytes: of weights under other names.
    """

    where: tuple[str, ...]
    folder: Path
    refused: str | None = None
    more_bytes: int = 0

    @property
    def from_text(self) -> bool:
        """Whether it is timed end to end from text."""
        return answers_text(self.folder)


def bench_paths(
    artifacts: Sequence[Path],
    *,
    targets: Sequence[str] | None,
    scenarios: Sequence[str],
    threads: Sequence[int],
    requests: Path | None,
) -> list[dict[str, Any]]:
    """Time artifacts side by side.

    Args:
        artifacts: exported models, runs (all their models), bundles, .onnx files; for torch-cpu folders of trained
            weights. One without tokenizer.json
            and model.json beside it is timed on generated inputs, which its row's `notes` say.
        targets: names of runtimes; None times each model on the one that it is for. scenarios: as in the recipe.
        threads: one measurement each.
        requests: texts to ask; without them a bundle's golden requests, or stock ones.

    Returns:
        A row (see BenchResult) for each of threads, scenario, target and model, with `notes` added: sentences.

    Raises:
        RecipeError: a path that is no artifact, or an unknown target or scenario.
        DataError: the requests cannot be used.
        IntegrityError: an artifact is damaged.
    """
    bench = _section(targets or [ONNXRUNTIME], scenarios, threads)
    with TemporaryDirectory(prefix="kdc-bench-") as temporary:
        entries = [
            entry
            for number, path in enumerate(artifacts)
            for entry in _entries(path, Path(temporary) / str(number), trained=TORCH in (targets or ()))
        ]
        own = {entry.folder: own_target(entry.folder) for entry in entries}
        if targets is None:
            bench = bench.model_copy(update={"targets": tuple(dict.fromkeys(own.values()))})
        pairs = any(entry.from_text and read_spec(entry.folder).two_texts for entry in entries)
        asked = _requests(requests, artifacts, pairs=pairs)
        for warning in describe()["warnings"]:
            reporter.warn(warning)
        named = dict(zip(distinct([entry.where for entry in entries]), entries, strict=True))
        contenders = {
            name: Contender(name, entry.folder, targets=None if targets else (own[entry.folder],))
            for name, entry in named.items()
        }
        return _time(named, contenders, asked, bench)


def _section(targets: Sequence[str], scenarios: Sequence[str], threads: Sequence[int]) -> Bench:
    raw = {"targets": list(targets), "scenarios": list(scenarios), "threads": list(threads)}
    try:
        return Bench.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise RecipeError(
            f"{OPTION_OF[str(first['loc'][0])]} is {first['input']!r}: {first['msg'].replace('Input', 'it')}"
        ) from error


def _entries(path: Path, temporary: Path, *, trained: bool) -> list[Entry]:
    kind = kind_of(path)
    parts = path.resolve().parts
    if trained and kind in (Kind.student, Kind.teacher):
        verified(path)
        return [Entry(parts, path)]
    if kind is Kind.run:
        models = {name: path / folder for name, folder in RUN_MODELS.items()}
    elif kind is Kind.stage:
        models = {folder.name: folder for folder in sorted(path.iterdir()) if folder.is_dir()}
    else:
        with speaking_of(path, temporary):
            entry = _entry(parts, model_folder(path, temporary))
        if kind is Kind.bundle:
            others = variant_folders(path, temporary / "variants")
            return [*(_entry((*parts, name), folder) for name, folder in others.items()), entry]
        if kind is not Kind.onnx or path.name == ONNX:
            return [entry]
        return [replace(entry, more_bytes=sum(file.stat().st_size for file in external_weights(path)))]
    found = [
        _entry((*parts, name), model_folder(folder, temporary / name))
        for name, folder in models.items()
        if folder.is_dir() and kind_of(folder) is Kind.model
    ]
    if not found:
        raise RecipeError(f"the {kind} {path} holds no exported model; run `kdc quantize RECIPE` first")
    return found


def _entry(where: tuple[str, ...], folder: Path) -> Entry:
    """Open a model once, so that what is damaged is told before the long work."""
    target = own_target(folder)
    if why_not(folder, target) is not None:  # which its rows will say
        return Entry(where, folder)
    try:
        open_model(folder, 1, target)
    except DataError as error:
        return Entry(where, folder, str(error).replace(str(folder / ONNX), "the model"))
    return Entry(where, folder)


def distinct(paths: Sequence[tuple[str, ...]]) -> list[str]:
    """The shortest ends of paths that tell them apart; the same path twice gets a number."""
    names = []
    for number, path in enumerate(paths):
        others = {other for other in paths if other != path}
        depth = 1
        while depth < len(path) and any(other[-depth:] == path[-depth:] for other in others):
            depth += 1
        before = list(paths[:number]).count(path)
        names.append("/".join(path[-depth:]) + (f" ({before + 1})" if before else ""))
    return names


def _requests(path: Path | None, artifacts: Sequence[Path], *, pairs: bool) -> list[Request]:
    """The given requests; else the first golden ones that every model can answer, else stock ones."""
    if path is not None:
        return list(read_requests(path, fields=Fields(pairs=pairs, remedy=RENAME)))
    for artifact in artifacts:
        bundles = [artifact] if kind_of(artifact) is Kind.bundle else sorted(artifact.glob(f"bundle/*{SUFFIX}"))
        for bundle in bundles:
            golden, _ = read_golden(open_bundle(bundle))
            if not pairs or all(request.text_pair is not None for request in golden):
                reporter.say(f"  asking the {len(golden)} golden requests of {bundle}")
                return golden
    reporter.say(f"  asking {len(STOCK_GOLDEN)} stock requests; --requests FILE times your own")
    return list(STOCK_GOLDEN)


def _time(
    entries: dict[str, Entry], contenders: dict[str, Contender], asked: Sequence[Request], bench: Bench
) -> list[dict[str, Any]]:
    able = [contenders[name] for name, entry in entries.items() if entry.refused is None]
    results = run_bench(able, asked, bench)
    rows = [_row(result, entries[result.artifact]) for result in results]
    refused = {name: entry.refused for name, entry in entries.items() if entry.refused is not None}
    for (name, reason), threads, scenario in product(refused.items(), bench.threads, bench.scenarios):
        batch = bench.batch_size if scenario == "offline" else 1
        absent = BenchResult.not_run(name, scenario, threads=threads, batch=batch, reason=reason)
        rows.append(absent.model_dump() | {"notes": []})
    for name, entry in entries.items():
        if entry.refused is None and not entry.from_text:
            reporter.warn(f"{name} was {GENERATED}")
    return rows


def _row(result: BenchResult, entry: Entry) -> dict[str, Any]:
    row = result.model_dump()
    if result.size_bytes is not None:
        row["size_bytes"] = result.size_bytes + entry.more_bytes
    if entry.from_text:
        return row | {"notes": []}
    return row | {"tokenizer_ms": None, "notes": [GENERATED]}
