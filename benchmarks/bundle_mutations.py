"""Ways in which a bundle is damaged or forged, each made by a generator of random numbers."""

from __future__ import annotations

import io
import json
import random
import re
import stat
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.runtime.archive import pack
from compress.runtime.bundle import (
    CARD,
    GOLDEN,
    MANIFEST,
    file_entry,
    manifest_bytes,
    manifest_digest,
    open_bundle,
)
from compress.runtime.shipped import ENDS, ITEMS, SEARCHES, TOKENS, VECTORS

ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    -1,
    0,
    1,
    2**31,
    2**63,
    10**30,
    1e308,
    -0.0,
    "",
    "\0",
    "../x",
    "\x1b[2J",
    "9" * 99,
)
ODD += ([], {}, [[]], {"": {}}, ["a"] * 300, "x" * 5000, "model.onnx", "input_ids", "ä", "1.0", "0.2.0", "99.0")
NAMES: tuple[str, ...] = (
    "../evil",
    "/etc/evil",
    "a/../b",
    "..\\evil",
    "C:evil",
    ".hidden",
    "a//b",
    "dir/",
    "ä.txt",
    "x" * 300,
)
NAMES += ("README.md", "model.onnx", "manifest.json", "extra.txt")
EXTREMES = (0, 1, 20, 45, 0x7F, 0xFF, 0xFFFE, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
MARKS = (b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07")


@dataclass(frozen=True)
class Honest:
    """A real bundle to be changed."""

    raw: bytes
    members: dict[str, bytes]

    @classmethod
    def at(cls, path: Path) -> Honest:
        return cls(path.read_bytes(), dict(open_bundle(path).members))

    def with_manifest(self, manifest: Any, *, digest: bool) -> bytes:
        """Packed with another manifest, which has the right digest where it is asked for."""
        if digest and isinstance(manifest, dict):
            manifest["digest"] = manifest_digest(manifest)
        return pack({**self.members, MANIFEST: manifest_bytes(manifest)})


Mutation = Callable[[random.Random, Honest], bytes]


def flipped(rng: random.Random, honest: Honest) -> bytes:
    """Some bytes, or bits, are others."""
    content = bytearray(honest.raw)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        content[rng.randrange(len(content))] ^= rng.choice((1 << rng.randrange(8), rng.randrange(1, 256)))
    return bytes(content)


def cut(rng: random.Random, honest: Honest) -> bytes:
    """The file ends early, starts late, lacks a piece, or has one more."""
    raw = honest.raw
    first, second = sorted(rng.randrange(len(raw) + 1) for _ in range(2))
    return rng.choice(
        (
            raw[:first],
            raw[first:],
            raw[:first] + raw[second:],
            raw[:second] + raw[first:],
            raw + rng.randbytes(first % 99),
        )
    )


def spliced(rng: random.Random, honest: Honest) -> bytes:
    """A piece of it stands over another place."""
    content = bytearray(honest.raw)
    size = rng.randrange(1, 200)
    source, target = (rng.randrange(len(content) - size) for _ in range(2))
    content[target : target + size] = content[source : source + size]
    return bytes(content)


def headed(rng: random.Random, honest: Honest) -> bytes:
    """A field of a header is an extreme, or a header of zip's own kind stands where none belongs."""
    content = bytearray(honest.raw)
    mark = rng.choice(MARKS)
    places = [found.start() for found in re.finditer(re.escape(mark), honest.raw)]
    start = rng.choice(places) if places else rng.randrange(len(content) - 60)
    if not places:
        content[start : start + 4] = mark
    for _ in range(rng.randrange(1, 4)):
        width = rng.choice((1, 2, 4))
        place = min(start + rng.randrange(4, 46), len(content) - width)
        content[place : place + width] = (rng.choice(EXTREMES) & (256**width - 1)).to_bytes(width, "little")
    return bytes(content)


def rebuilt(rng: random.Random, honest: Honest) -> bytes:
    """Another archive of its members: odd names, links, members twice, compressed, with comments, in any order."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name in rng.sample(sorted(honest.members), rng.randrange(len(honest.members) + 1)):
            archive.writestr(_info(rng, name), honest.members[name])
        for _ in range(rng.choice((0, 1, 2, 3) if rng.random() < 0.99 else (300,))):
            archive.writestr(_info(rng, rng.choice(NAMES)), rng.randbytes(rng.randrange(40)))
        if rng.random() < 0.2:
            archive.comment = rng.randbytes(rng.randrange(60))
    return rng.randbytes(rng.choice((0, 0, 0, 7))) + stream.getvalue()


def _info(rng: random.Random, name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("x")
    info.filename = info.orig_filename = name
    info.external_attr = (rng.choice((stat.S_IFREG, stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR)) | 0o644) << 16
    info.create_system = rng.choice((3, 3, 0))
    info.extra = b"\x01\x00\x08\x00" + b"\xff" * 8 if rng.random() < 0.1 else b""
    return info


def claimed(rng: random.Random, honest: Honest) -> bytes:
    """Fields of the manifest are missing, odd, or of another place; the digest is often right."""
    manifest = json.loads(honest.members[MANIFEST])
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        place = _place(rng, manifest)
        key = rng.choice(list(place) if isinstance(place, dict) else range(len(place))) if place else None
        choice = rng.randrange(4)
        if key is not None and choice == 0:
            del place[key]
        elif key is not None and choice < 3:
            place[key] = _odd(rng, place[key], manifest)
        elif isinstance(place, dict):
            place[str(rng.choice(ODD))[:80]] = _odd(rng, None, manifest)
        else:
            place.append(_odd(rng, None, manifest))
    return honest.with_manifest(manifest, digest=rng.random() < 0.8)


def _place(rng: random.Random, tree: Any) -> Any:
    """An object or array of a tree of JSON."""
    while True:
        inner = [each for each in (tree.values() if isinstance(tree, dict) else tree) if isinstance(each, dict | list)]
        if not inner or rng.random() < 0.4:
            return tree
        tree = rng.choice(inner)


def _odd(rng: random.Random, value: Any, manifest: Any) -> Any:
    near: list[Any] = (
        [value + rng.choice((-1, 1))] if isinstance(value, int | float) and not isinstance(value, bool) else []
    )
    near += [value[: rng.randrange(len(value) + 1)], value + value[:9]] if isinstance(value, str) else []
    copied = json.loads(json.dumps(_place(rng, manifest)))
    odd = json.loads(json.dumps(rng.choice(ODD)))  # a value of its own, since it may be changed in turn
    return rng.choice([*near, copied, odd, odd])


def spelled(rng: random.Random, honest: Honest) -> bytes:
    """The manifest's text is changed, or is something else altogether; the archive around it is right."""
    text = honest.members[MANIFEST]
    place = rng.randrange(len(text))
    depth, width = rng.randrange(1, 3000), rng.randrange(1, 3000)
    content = rng.choice(
        (
            text[:place] + rng.randbytes(rng.randrange(1, 4)) + text[place + rng.randrange(4) :],
            text[:place],
            text[:place]
            + rng.choice((b"NaN", b"1e999", b"9" * 5000, b'"\\ud800"', b"null", b"{", b"}", b"]"))
            + text[place:],
            b'{"a": ' + b"[" * depth + b"1," * width + b"1" + b"]" * depth + b"}",
            b'{"a":' * depth + b"1" + b"}" * depth,
            text.replace(b"  ", b" ", rng.randrange(3)),
            text + text,
            rng.randbytes(width),
        )
    )
    return pack({**honest.members, MANIFEST: content})


def filled(rng: random.Random, honest: Honest) -> bytes:
    """Golden requests, items or the card are others, a member is missing or one more, all with right hashes."""
    members = {name: content for name, content in honest.members.items() if name != MANIFEST}
    told = [each for each in (ITEMS, VECTORS, TOKENS, ENDS, SEARCHES) if each in members]
    name = rng.choice((GOLDEN, GOLDEN, GOLDEN, CARD, *told))
    content = bytearray(members[name])
    place = rng.randrange(len(content))
    words: tuple[bytes, ...] = (
        b"",
        b"null",
        b"{}",
        b"[]",
        b"1",
        b'"',
        b"\n",
        b"\xff",
        b'"text": 5, ',
        b'{"request": {}}\n',
    )
    content[place : place + rng.randrange(20)] = rng.choice(
        (*words, rng.randbytes(3), b"[" * 2000, b'{"request": 1}\n')
    )
    members[name] = bytes(content)
    if rng.random() < 0.2:
        del members[rng.choice(sorted(members))]
    if rng.random() < 0.2:
        members[rng.choice(("extra.txt", "LICENSES/x", "a/b/c/d"))] = b"more"
    manifest = json.loads(honest.members[MANIFEST])
    manifest["files"] = {each: file_entry(members[each]).model_dump() for each in sorted(members)}
    manifest["digest"] = manifest_digest(manifest)
    return pack({**members, MANIFEST: manifest_bytes(manifest)})


BYTES: tuple[Mutation, ...] = (flipped, cut, spliced, headed, rebuilt)
"""Changes that leave an honest bundle or none: whoever makes them gives no right digest."""
KINDS: tuple[Mutation, ...] = (*BYTES, claimed, claimed, spelled, filled)
