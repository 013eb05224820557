"""A registry: a folder in which bundles are kept by name, with versions that never change and tags that move.

    REGISTRY/registry.json                 says that this is one, and of which format
    REGISTRY/NAME/index.json               versions, and all that ever happened to tags, in order
    REGISTRY/NAME/versions/SHA256.kdc      a bundle, named by the SHA-256 of its bytes; read only
    REGISTRY/NAME/.lock                    held by who writes

A version is the SHA-256 of the bundle's file, so nobody can put another content in its place unnoticed. Where tags
point follows from the index alone, and the index changes by one rename: whoever reads needs no lock, and a process that
is killed has either moved a tag or not. A bundle is there before the index names it. The folder must be on a file
system with `flock` and atomic renames.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from compress.artifacts import publishing, sweep_temporaries
from compress.bundle.sign import check_signature
from compress.errors import IntegrityError, RecipeError
from compress.locks import LOCK, hold
from compress.runtime.archive import pack
from compress.runtime.bundle import SUFFIX, Bundle, open_bundle

MARKER, INDEX, VERSIONS = "registry.json", "index.json", "versions"
MARK = b'{"kdc_registry": 1}\n'
CANDIDATE, PRODUCTION = "candidate", "production"
"""The tag that a push moves, and the one that a pull takes, where no other is named."""
SHORTEST = 8
"""Hex digits that name a version at the least."""
SHOWN = 12
"""Hex digits by which versions are told to people."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_TAG = re.compile(r"[a-z][a-z0-9-]{0,39}")
_VERSION = re.compile(rf"[0-9a-f]{{{SHORTEST},64}}")


class Version(BaseModel):
    """What the index says of one version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str
    """Of the manifest, as `kdc verify` prints it."""
    size_bytes: int
    signed_by: str | None
    """SHA-256 (hex) of the key that the bundle names; whether it is right is checked with --key."""
    pushed: str
    """Time (UTC, ISO 8601)."""


class Event(BaseModel):
    """A tag was moved."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: Literal["push", "promote", "rollback"]
    tag: str
    version: str
    """Where the tag points from then on."""
    time: str
    """UTC, ISO 8601."""


class Index(BaseModel):
    """`index.json` of one name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    versions: dict[str, Version] = {}
    events: tuple[Event, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Index:
        """What stands in it becomes paths, and its events must be ones that can have happened."""
        if strange := [version for version in self.versions if not re.fullmatch(r"[0-9a-f]{64}", version)]:
            raise ValueError(f"{strange[0][:80]!r} is no version")
        pasts: dict[str, list[str]] = {}
        for event in self.events:
            past = pasts.setdefault(event.tag, [])
            back = event.action == "rollback" and past[-2:-1] != [event.version]
            if event.version not in self.versions or not is_tag(event.tag) or back:
                raise ValueError(f"{event.action} of {event.tag[:80]!r} to {event.version[:80]!r} cannot have happened")
            _move(past, event)
        return self

    def pasts(self) -> dict[str, list[str]]:
        """Tag -> the versions that it can be rolled back to, oldest first, and at the end the one that it points to."""
        found: dict[str, list[str]] = {}
        for event in self.events:
            _move(found.setdefault(event.tag, []), event)
        return found

    def tags(self) -> dict[str, str]:
        """Tag -> the version that it points to."""
        return {tag: past[-1] for tag, past in sorted(self.pasts().items())}


def _move(past: list[str], event: Event) -> None:
    if event.action == "rollback":
        past.pop()
    elif past[-1:] != [event.version]:
        past.append(event.version)


def is_tag(word: str) -> bool:
    """True for a word of small letters, digits and `-` that cannot be taken for a version."""
    return _TAG.fullmatch(word) is not None and _VERSION.fullmatch(word) is None


def push(bundle: Path, registry: Path, *, tag: str = CANDIDATE, key: Path | None = None) -> dict[str, Any]:
    """Put a bundle into a registry, under the name in its manifest, and let a tag point to it.

    The folder is made into a registry where it is not there or empty. A bundle that is there already is kept as it is.

    Returns:
        name, version, tag, new (False where this version was there), previous (where the tag pointed, or None).

    Raises:
        RecipeError: no bundle, tag or registry is there, or the bundle's name cannot be that of a folder.
        IntegrityError: the bundle is damaged, or not signed by the owner of `key`.
    """
    _check_tag(tag)
    opened = _trusted(bundle, key)
    content = pack(opened.members)
    version, name = hashlib.sha256(content).hexdigest(), opened.manifest.name
    if not _NAME.fullmatch(name):
        raise RecipeError(
            f"the bundle's name is {name!r}, but a registry takes letters, digits, `.`, `_`, `-`: rename it"
        )
    _found_registry(registry)
    with _writing(registry, name) as folder:
        index = _read_index(registry, name) if (folder / INDEX).exists() else Index()
        there = version in index.versions
        if not there or not _is_intact(folder, version):
            _publish(folder / VERSIONS / f"{version}{SUFFIX}", content, read_only=True)
        signature = opened.manifest.signature
        about = Version(
            digest=opened.manifest.digest,
            size_bytes=len(content),
            signed_by=None if signature is None else signature.key,
            pushed=_now(),
        )
        versions = {version: about} | index.versions
        _write_index(folder, _moved(index.model_copy(update={"versions": versions}), "push", tag, version))
    return {"name": name, "version": version, "tag": tag, "new": not there, "previous": index.tags().get(tag)}


def pull(registry: Path, wanted: str, out: Path, *, key: Path | None = None) -> dict[str, Any]:
    """Copy a bundle out of a registry; all of it is checked before it is published as `out`.

    Args:
        wanted: NAME (its tag `production`), NAME@TAG or NAME@VERSION.
        key: a public key, whose owner must have signed it.

    Returns:
        path, name, version, size_bytes, signed_by.

    Raises:
        RecipeError: no registry, name, tag or version is there, an @ has nothing behind it, or `out` does not end
            in .kdc.
        IntegrityError: the bundle is damaged, is another one than the version says, or not signed by the key's owner.
    """
    if out.suffix != SUFFIX or out.is_dir():
        raise RecipeError(f"-o {out} is no name of a bundle; give NAME{SUFFIX}")
    name, at, reference = wanted.partition("@")
    if at and not reference:
        raise RecipeError(
            f"{wanted} names no tag or version after the @; give NAME@TAG or NAME@VERSION, or {name} alone"
        )
    version = _resolved(_read_index(registry, name), name, reference or PRODUCTION)
    opened, content = _kept(registry, name, version, key)
    _publish(out, content)
    signature = opened.manifest.signature
    return {
        "path": str(out),
        "name": name,
        "version": version,
        "size_bytes": len(content),
        "signed_by": None if signature is None else signature.key,
    }


def promote(registry: Path, name: str, version: str, *, tag: str, key: Path | None = None) -> dict[str, Any]:
    """Let a tag point to a version, which is checked before.

    Args:
        version: hex digits that begin one version's SHA-256 alone, or another tag.

    Returns:
        name, tag, version, previous (where the tag pointed, or None).

    Raises:
        RecipeError, IntegrityError: as `pull`.
    """
    _check_tag(tag)
    _read_index(registry, name)
    with _writing(registry, name) as folder:
        index = _read_index(registry, name)
        meant = _resolved(index, name, version)
        _kept(registry, name, meant, key)
        if index.tags().get(tag) != meant:
            _write_index(folder, _moved(index, "promote", tag, meant))
    return {"name": name, "tag": tag, "version": meant, "previous": index.tags().get(tag)}


def rollback(registry: Path, name: str, *, tag: str, key: Path | None = None) -> dict[str, Any]:
    """Let a tag point to the version that it pointed to before; again goes back further.

    Returns:
        name, tag, version (where it points now), previous (where it pointed).

    Raises:
        RecipeError: there is no such tag, or nothing before.
        IntegrityError: the version before is damaged, or not signed by the owner of `key`.
    """
    _read_index(registry, name)
    with _writing(registry, name) as folder:
        index = _read_index(registry, name)
        past = index.pasts().get(tag)
        if past is None:
            raise _unknown(index, name, tag)
        if len(past) < 2:
            raise RecipeError(
                f"{name}@{tag} points to {past[-1][:SHOWN]} and pointed to none before it: promote a version"
            )
        _kept(registry, name, past[-2], key)
        _write_index(folder, _moved(index, "rollback", tag, past[-2]))
    return {"name": name, "tag": tag, "version": past[-2], "previous": past[-1]}


def listed(registry: Path, name: str | None = None) -> list[dict[str, Any]]:
    """All names of a registry, or one: name, tags (tag -> version), versions and events as the index has them.

    Raises:
        RecipeError: no registry or name is there.
        IntegrityError: an index cannot be read.
    """
    _check_registry(registry)
    names = [name] if name is not None else sorted(path.parent.name for path in registry.glob(f"*/{INDEX}"))
    found = []
    for each in names:
        index = _read_index(registry, each)
        found.append({"name": each, "tags": index.tags()} | index.model_dump(mode="json", exclude={"format"}))
    return found


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _moved(index: Index, action: Literal["push", "promote", "rollback"], tag: str, version: str) -> Index:
    event = Event(action=action, tag=tag, version=version, time=_now())
    return index.model_copy(update={"events": (*index.events, event)})


def _trusted(bundle: Path, key: Path | None) -> Bundle:
    opened = open_bundle(bundle)
    if key is not None:
        check_signature(opened, key)
    return opened


def _kept(registry: Path, name: str, version: str, key: Path | None) -> tuple[Bundle, bytes]:
    """A version's bundle and its bytes, checked.

    Raises:
        IntegrityError: it is damaged, missing, of another name, or not signed by the key's owner.
    """
    path = registry / name / VERSIONS / f"{version}{SUFFIX}"
    if not path.is_file():
        raise IntegrityError(f"{path} is missing, though the index of {name} names it: push the bundle again")
    opened = _trusted(path, key)
    content = pack(opened.members)
    actual = hashlib.sha256(content).hexdigest()
    if actual != version:
        raise IntegrityError(
            f"{path} is another bundle, its sha256 is {actual[:SHOWN]}: delete it, and push the right one"
        )
    if opened.manifest.name != name:
        raise IntegrityError(f"{path} is the bundle of {opened.manifest.name!r}, kept as {name!r}: do not use it")
    return opened, content


def _is_intact(folder: Path, version: str) -> bool:
    path = folder / VERSIONS / f"{version}{SUFFIX}"
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == version


def _resolved(index: Index, name: str, reference: str) -> str:
    """The whole SHA-256 of what a tag, or the beginning of a version, means."""
    tags = index.tags()
    if reference in tags:
        return tags[reference]
    found = [version for version in index.versions if version.startswith(reference)]
    if not _VERSION.fullmatch(reference) or not found:
        raise _unknown(index, name, reference)
    if len(found) > 1:
        raise RecipeError(
            f"{len(found)} versions of {name} begin with {reference}: give more digits of the one you mean"
        )
    return found[0]


def _unknown(index: Index, name: str, reference: str) -> RecipeError:
    tags = ", ".join(f"{tag} ({version[:SHOWN]})" for tag, version in index.tags().items())
    newest = ", ".join(version[:SHOWN] for version in list(index.versions)[:5])
    return RecipeError(
        f"{name} has no tag or version {reference!r}; its tags are {tags}, its versions {newest}"
        f"{' …' if len(index.versions) > 5 else ''} (at least {SHORTEST} digits)"
    )


def _check_tag(tag: str) -> None:
    if not is_tag(tag):
        raise RecipeError(f"--tag is {tag!r}; a tag is a word of small letters, digits and `-`, and not like a version")


def _check_registry(registry: Path) -> None:
    if not (registry / MARKER).is_file():
        raise RecipeError(f"{registry} is no registry (it has no {MARKER}): kdc push NAME{SUFFIX} {registry} makes one")
    if (registry / MARKER).read_bytes() != MARK:
        raise IntegrityError(
            f"{registry / MARKER} is not of a registry that this kdc knows: upgrade it, or take another"
        )


def _found_registry(registry: Path) -> None:
    """Make a folder that is not there, or empty, into a registry."""
    registry.mkdir(parents=True, exist_ok=True)
    if not (registry / MARKER).is_file():
        others = [path.name for path in registry.iterdir() if not path.name.startswith(".")]
        # several processes may come first: what they write is the same
        if others and not (registry / MARKER).is_file():
            raise RecipeError(f"{registry} holds {others[0]!r} and is no registry: name an empty folder, or a new one")
        _publish(registry / MARKER, MARK)
    _check_registry(registry)


@contextmanager
def _writing(registry: Path, name: str) -> Iterator[Path]:
    """The folder of a name, for who alone may write to it; what a killed process left half written is gone."""
    folder = registry / name
    (folder / VERSIONS).mkdir(parents=True, exist_ok=True)
    with hold(folder / LOCK, f"{name} in {registry}"):
        for each in (folder, folder / VERSIONS):
            sweep_temporaries(each)
        yield folder


def _read_index(registry: Path, name: str) -> Index:
    _check_registry(registry)
    path = registry / name / INDEX
    if not _NAME.fullmatch(name) or not path.is_file():
        known = ", ".join(sorted(each.parent.name for each in registry.glob(f"*/{INDEX}"))) or "none"
        raise RecipeError(f"{registry} has no bundles named {name!r}; it has {known}")
    try:
        return Index.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise IntegrityError(f"{path} is not a readable index ({first['msg']}): restore it from a backup") from error


def _write_index(folder: Path, index: Index) -> None:
    _publish(folder / INDEX, (index.model_dump_json(indent=2) + "\n").encode())


def _publish(path: Path, content: bytes, *, read_only: bool = False) -> None:
    """Write a file by rename, on disk before it has its name."""
    with publishing(path) as temporary:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if read_only:
            temporary.chmod(0o444)
