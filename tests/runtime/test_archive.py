"""Archives have one form; files that claim more than they hold are refused before they cost anything."""

from __future__ import annotations

import io
import json
import os
import stat
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.errors import IntegrityError, RecipeError
from compress.runtime.archive import CENTRAL, END, MAX_MEMBERS, MalformedArchive, is_safe_name, pack, unpack
from compress.runtime.bundle import MANIFEST, MAX_MANIFEST_BYTES, open_bundle

names = st.sampled_from(["a", "A", "a-", "a.b", "a/b", "a0", "_", "LICENSES/MIT.txt", "model.onnx", "z" * 250])
REST = {"model.onnx": b"", "tokenizer.json": b"", "golden.jsonl": b"", "README.md": b""}


def by_zipfile(members: dict[str, bytes]) -> bytes:
    """The same members, packed by Python's library."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, members[name])
    return stream.getvalue()


@given(st.dictionaries(names, st.binary(max_size=200), max_size=8))
def test_packing_gives_the_bytes_of_zipfile_and_comes_back(members: dict[str, bytes]) -> None:
    packed = pack(members)
    assert packed == by_zipfile(members)
    assert unpack(io.BytesIO(packed), len(packed)) == members


def peak_of(path: Path, message: str) -> int:
    """Bytes at most that refusing a file takes."""
    tracemalloc.start()
    try:
        with pytest.raises(IntegrityError, match=message):
            open_bundle(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_directory_of_very_many_entries_is_not_read(tmp_path: Path) -> None:
    """zipfile would make an object of each of these 200,000 entries; zip64 says where they are."""
    entry = CENTRAL.pack(b"PK\x01\x02", 788, 20, 0, 0, 0, 33, 0, 0, 0, 1, 0, 0, 0, 0, stat.S_IFREG << 16, 0) + b"a"
    directory = entry * 200_000
    zip64 = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 200_000, 200_000, len(directory), 0)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, len(directory), 1)
    bomb = tmp_path / "bomb.kdc"
    for count, length in ((1, 47), (200, len(directory)), (0xFFFF, 0xFFFFFFFF)):
        end = END.pack(b"PK\5\6", 0, 0, count, count, length, 0, 0)
        bomb.write_bytes(directory + zip64 + locator + end)
        assert peak_of(bomb, "members|does not fit") < 200_000
        bomb.write_bytes(directory + end)
        assert peak_of(bomb, "members|does not fit") < 200_000


def test_members_that_lie_over_each_other_are_not_read(tmp_path: Path) -> None:
    """250 members of a megabyte each in a file of one megabyte."""
    packed = pack({f"f{number:03}": b"\0" * (2**20 if number == 0 else 0) for number in range(250)})
    length, offset = END.unpack(packed[-END.size :])[5:7]
    directory = bytearray(packed[offset : offset + length])
    for start in range(0, length, CENTRAL.size + 4):
        directory[start + 20 : start + 28] = struct.pack("<2I", 2**20, 2**20)
        directory[start + 42 : start + 46] = struct.pack("<I", 0)
    bomb = tmp_path / "bomb.kdc"
    bomb.write_bytes(packed[:offset] + directory + packed[-END.size :])
    assert peak_of(bomb, r"claims 1,048,576 bytes, there are") < 400_000


def test_too_many_members_are_counted_only(tmp_path: Path) -> None:
    (tmp_path / "many.kdc").write_bytes(pack({f"f{number}": b"" for number in range(MAX_MEMBERS + 1)}))
    assert peak_of(tmp_path / "many.kdc", f"it has {MAX_MEMBERS + 1} members") < 200_000


def test_a_manifest_that_grows_when_it_is_written_again_is_bounded(tmp_path: Path) -> None:
    """Indented, each of these numbers would take 1,600 bytes: half a gigabyte of 600 kilobytes."""
    content = b'{"a": ' + b"[" * 800 + b"1," * 300_000 + b"1" + b"]" * 800 + b"}"
    path = tmp_path / "wide.kdc"
    path.write_bytes(pack({**REST, MANIFEST: content}))
    assert peak_of(path, r"manifest\.json was changed") < 20 * len(content)


@pytest.mark.parametrize("packed", [True, False])
def test_an_oversized_manifest_is_not_parsed(tmp_path: Path, packed: bool) -> None:
    members, path = {**REST, MANIFEST: b" " * (MAX_MANIFEST_BYTES + 1)}, tmp_path / "large.kdc"
    if packed:
        path.write_bytes(pack(members))
    else:
        path.mkdir()
        for name, content in members.items():
            (path / name).write_bytes(content)
    with pytest.raises(IntegrityError, match=r"manifest\.json has 8,388,609 bytes, 8,388,608 are allowed"):
        open_bundle(path)


def test_an_unpacked_bundle_of_many_files_or_folders_is_only_counted(tmp_path: Path) -> None:
    deep = tmp_path / "deep"
    (deep / "/".join(["a"] * 200)).mkdir(parents=True)
    with pytest.raises(IntegrityError, match="more than 64 folders"):
        open_bundle(deep)
    wide = tmp_path / "wide"
    wide.mkdir()
    for number in range(MAX_MEMBERS + 1):
        (wide / str(number)).touch()
    with pytest.raises(IntegrityError, match="more than 256 members"):
        open_bundle(wide)


def test_what_is_neither_file_nor_folder_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.kdc")
    with pytest.raises(RecipeError, match="neither a file nor a folder"):
        open_bundle(tmp_path / "pipe.kdc")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "folder" / "model.onnx")
    with pytest.raises(IntegrityError, match=r"'model\.onnx' is a link or not a plain file"):
        open_bundle(tmp_path / "folder")


def test_a_message_is_one_line_that_writes_nothing_on_a_terminal(tmp_path: Path) -> None:
    """What somebody wrote into a bundle is quoted, not obeyed."""
    from compress.runtime.bundle import manifest_bytes, manifest_digest

    for key in ("\x1b[2Jgone\nkdc: all is well", "x" * 100_000):
        manifest = {"schema_version": 1, "runtime_minimum": "0.1.0", key: 1}
        manifest["digest"] = manifest_digest(manifest)
        path = tmp_path / "odd.kdc"
        path.write_bytes(pack({**REST, MANIFEST: manifest_bytes(manifest)}))
        with pytest.raises(IntegrityError) as refused:
            open_bundle(path)
        assert str(refused.value).isprintable()
        assert len(str(refused.value)) < 600 + len(str(path))


def test_a_foreign_schema_is_named(tmp_path: Path) -> None:
    from compress.runtime.bundle import manifest_bytes, manifest_digest

    for version in (2, "1", None, [1]):
        manifest = {"schema_version": version, "runtime_minimum": "0.1.0", "surprise": 1}
        manifest["digest"] = manifest_digest(manifest)
        (tmp_path / "foreign.kdc").write_bytes(pack({**REST, MANIFEST: manifest_bytes(manifest)}))
        with pytest.raises(IntegrityError, match=r"schema_version is .*, kdc \S+ reads 1"):
            open_bundle(tmp_path / "foreign.kdc")


def test_a_line_break_or_a_length_does_not_pass_as_a_name() -> None:
    assert is_safe_name("LICENSES/MIT.txt")
    for name in ("a\n", "", "a/", "/a", "a/../b", ".a", "a" * 256):
        assert not is_safe_name(name)


def swapped(members: dict[str, bytes]) -> bytes:
    """Two members in the other order, each header right."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members, reverse=True):
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, members[name])
    return stream.getvalue()


def commented(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO(by_zipfile(members))
    with zipfile.ZipFile(stream, "a") as archive:
        archive.comment = b"hidden"
    return stream.getvalue()


@pytest.mark.parametrize("other", [swapped, commented, lambda members: b"#!/bin/sh\n" + by_zipfile(members)])
def test_other_archives_of_the_same_members_are_refused(other: Callable[[dict[str, bytes]], bytes]) -> None:
    content = other({"a": b"1", "b": json.dumps([2]).encode()})
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None  # an ordinary zip
    with pytest.raises(MalformedArchive):
        unpack(io.BytesIO(content), len(content))
