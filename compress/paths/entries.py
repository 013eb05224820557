"""What `kdc bench` times: the models at the paths that were given, each with a name that tells it apart."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from compress.artifacts import ONNX, SPEC, TOKENIZER, link_or_copy, read_artifact
from compress.bench.bare import answers_text
from compress.bench.targets import EAGER, ENGINES, open_model, own_target, why_not
from compress.errors import DataError, RecipeError
from compress.paths.lengths import cut_to
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
from compress.runtime.bundle import open_bundle
from compress.runtime.plan import SUFFIX as ENGINE

STUDENT = "student"
"""Of a run's models the one that its engines are built from."""


@dataclass(frozen=True)
class Entry:
    """One model to time.

    where: parts of a name, of which the last is given, and as many before it as tell it apart. folder: holds
    the model. weights: files of weights under other names. timed_on: of the targets that were named, those that it is
    timed on; None for all. certificate: what its run has certified of it.
    """

    where: tuple[str, ...]
    folder: Path
    weights: tuple[Path, ...] = ()
    timed_on: tuple[str, ...] | None = None
    certificate: Mapping[str, Any] | None = field(default=None, compare=False)

    @property
    def from_text(self) -> bool:
        """Whether it is timed end to end from text."""
        return answers_text(self.folder)

    @property
    def own_target(self) -> str:
        """What it is for."""
        return own_target(self.folder)


def read_entries(artifacts: Sequence[Path], temporary: Path, targets: Sequence[str] | None) -> dict[str, Entry]:
    """The models of all artifacts by name, each opened once, so that what is damaged is told before the long work.

    Args:
        temporary: a folder for what must be unpacked. targets: those named, of which torch's take folders of trained
            weights, too, and TensorRT's the engines of a folder or run, as None does.

    Raises:
        RecipeError: a path that is no artifact.
        IntegrityError: an artifact is damaged.
    """
    entries = [
        entry for number, path in enumerate(artifacts) for entry in _entries(path, temporary / str(number), targets)
    ]
    return dict(zip(distinct([entry.where for entry in entries]), entries, strict=True))


def cut_entries(entries: Mapping[str, Entry], length: int, temporary: Path) -> dict[str, Entry]:
    """The models, each reading so many tokens at the most.

    Raises:
        RecipeError: one of them cannot.
    """
    bare = next((name for name, entry in entries.items() if not entry.from_text), None)
    if bare is not None:
        raise RecipeError(
            f"--length needs texts, but {bare} has no {TOKENIZER} and {SPEC}, which say how it reads them; "
            "leave one of the two out"
        )
    return {
        name: replace(entry, folder=cut_to(entry.folder, name, length, temporary / str(place)), certificate=None)
        for place, (name, entry) in enumerate(entries.items())
    }


def _entries(path: Path, temporary: Path, targets: Sequence[str] | None) -> list[Entry]:
    kind = kind_of(path)
    if kind in (Kind.student, Kind.teacher) and not set(EAGER).isdisjoint(targets or ()):
        verified(path)
        return [Entry(path.resolve().parts, path)]
    if kind is Kind.engine:
        return [_engine(path, temporary)]
    models = _models(path, kind, temporary)
    if targets is None:
        return [*models, *(_engine(engine, temporary) for engine in _engines_of(path, kind))]
    if set(ENGINES).isdisjoint(targets):
        return models
    built = [_engine(engine, temporary) for engine in _engines_of(path, kind)]
    built = [replace(entry, timed_on=(entry.own_target,)) for entry in built if entry.own_target in targets]
    others = tuple(target for target in targets if target not in {entry.own_target for entry in built})
    # Where there are engines of a model they stand for it, in the place of a row that says there is none.
    sources = [entry for entry in models if kind is Kind.model or entry.where[-1] == STUDENT]
    return [*(replace(entry, timed_on=others) if entry in sources else entry for entry in models), *built]


def _engines_of(path: Path, kind: Kind) -> list[Path]:
    """Engines that stand beside a model, or that a run built from its student."""
    folders = {Kind.model: path, Kind.run: path / "engines"}
    return sorted(folders[kind].glob(f"*{ENGINE}")) if kind in folders else []


def _engine(path: Path, temporary: Path) -> Entry:
    """An engine in a folder of its own, with what says how its model reads text, where that is known."""
    verified(path.parent)
    folder = temporary / "engines" / path.stem
    folder.mkdir(parents=True)
    link_or_copy(path.resolve(), folder / path.name)
    beside = (path.parent, path.parent.parent / RUN_MODELS[STUDENT])
    model = next((candidate for candidate in beside if answers_text(candidate)), None)
    if model is not None:
        for name in (TOKENIZER, SPEC):
            shutil.copyfile(model / name, folder / name)
    return _entry(path.resolve().parts, folder)


def _models(path: Path, kind: Kind, temporary: Path) -> list[Entry]:
    """The exported models of an artifact."""
    parts = path.resolve().parts
    if kind is Kind.run:
        models = {name: path / folder for name, folder in RUN_MODELS.items()}
    elif kind is Kind.stage:
        models = {folder.name: folder for folder in sorted(path.iterdir()) if folder.is_dir()}
    else:
        with speaking_of(path, temporary):
            entry = _entry(parts, model_folder(path, temporary))
        if kind is Kind.bundle:
            others = variant_folders(path, temporary / "variants")
            named = {f"{path.name} ({runtime})": folder for runtime, folder in others.items()}
            found = [*(_entry((*parts[:-1], name), folder) for name, folder in named.items()), entry]
            # What a run ships, and has certified, is the model for another runtime where it has one.
            return [replace(found[0], certificate=open_bundle(path).manifest.certificate), *found[1:]]
        if kind is not Kind.onnx or path.name == ONNX:
            return [entry]
        return [replace(entry, weights=tuple(sorted(external_weights(path))))]
    found = [
        _entry((*parts, name), model_folder(folder, temporary / name))
        for name, folder in models.items()
        if folder.is_dir() and kind_of(folder) is Kind.model
    ]
    if not found:
        raise RecipeError(f"the {kind} {path} holds no exported model; run `kdc quantize RECIPE` first")
    return found


def _entry(where: tuple[str, ...], folder: Path) -> Entry:
    target = own_target(folder)
    if why_not(folder, target) is None:
        with suppress(DataError):  # the row of what cannot be run says why
            open_model(folder, 1, target)
    made = read_artifact(folder)
    return Entry(where, folder, certificate=None if made is None else made.metrics.get("certificate"))


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
