"""A bundle opens only if all of it is what its maker wrote."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compress import __version__
from compress.bundle.write import write_bundle
from compress.errors import EnvironmentProblem, IntegrityError, RecipeError
from compress.runtime import members as module
from compress.runtime.archive import pack
from compress.runtime.bundle import MANIFEST, manifest_bytes, manifest_digest, open_bundle
from compress.runtime.predictor import Predictor
from tests.tiny import tiny_deployable, tiny_requests


@pytest.fixture(scope="module")
def deployable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_deployable(tmp_path_factory.mktemp("deployable"))


@pytest.fixture(scope="module")
def packed(deployable: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundle") / "tiny.kdc"
    return write_bundle(
        deployable,
        out,
        name="tiny",
        golden=tiny_requests(),
        metrics={"macro_f1": 0.9},
        provenance={"recipe": "0" * 64},
        licenses={"MIT.txt": "free"},
    )


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def refuse(tmp_path: Path, content: bytes, message: str | None = None) -> None:
    path = tmp_path / "bad.kdc"
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=message):
        open_bundle(path)


def with_manifest(members: dict[str, bytes], change: Callable[[dict[str, Any]], object]) -> bytes:
    """A bundle whose maker wrote another manifest: all digests are right."""
    manifest = json.loads(members[MANIFEST])
    change(manifest)
    manifest["digest"] = manifest_digest(manifest)
    return pack({**members, MANIFEST: manifest_bytes(manifest)})


def test_it_answers_as_the_folder_that_it_was_made_from(packed: Path, deployable: Path) -> None:
    answers = open_bundle(packed).predictor().answer(tiny_requests())
    assert answers == Predictor.from_folder(deployable).answer(tiny_requests())


def test_it_is_an_ordinary_zip_and_opens_unpacked(packed: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(tmp_path / "unpacked")
    unpacked, whole = open_bundle(tmp_path / "unpacked"), open_bundle(packed)
    assert unpacked.manifest == whole.manifest
    assert unpacked.predictor().answer(tiny_requests()) == whole.predictor().answer(tiny_requests())


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_is_found(packed: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(packed.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    refuse(tmp_path, bytes(content))


def test_any_changed_byte_of_the_zip_structure_is_found(packed: Path, tmp_path: Path) -> None:
    content = packed.read_bytes()
    directory = content.index(b"PK\x01\x02")
    for position in [*range(0, 64), *range(directory, len(content))]:
        for change in (0x01, 0xFF):
            changed = content[:position] + bytes([content[position] ^ change]) + content[position + 1 :]
            refuse(tmp_path, changed)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_of_an_unpacked_bundle_is_found(packed: Path, tmp_path: Path, data: st.DataObject) -> None:
    folder = tmp_path / "unpacked"
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(folder)
        name = data.draw(st.sampled_from(sorted(archive.namelist())))
    content = bytearray((folder / name).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (folder / name).write_bytes(content)
    with pytest.raises(IntegrityError):
        open_bundle(folder)


@pytest.mark.parametrize("cut", [1, 100, 10_000])
def test_a_cut_or_lengthened_file_is_found(packed: Path, tmp_path: Path, cut: int) -> None:
    content = packed.read_bytes()
    refuse(tmp_path, content[:-cut])
    refuse(tmp_path, content + b"\0" * cut)
    refuse(tmp_path, b"\0" * cut + content)


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip at all", b"PK\x05\x06" + b"\0" * 18])
def test_what_is_not_a_bundle_is_refused(tmp_path: Path, content: bytes) -> None:
    refuse(tmp_path, content, "not an intact bundle")


def test_nothing_there_is_a_wrong_command_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such bundle"):
        open_bundle(tmp_path / "none.kdc")


def test_a_folder_without_a_manifest_is_not_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"no manifest\.json"):
        open_bundle(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "a/../../evil",
        "/etc/evil",
        "..\\evil",
        "C:evil",
        "a//b",
        ".hidden",
        "a/./b",
        "ä.txt",
        "dir/",
        "a\0b",
    ],
)
def test_a_member_that_would_leave_its_folder_is_refused(packed: Path, tmp_path: Path, name: str) -> None:
    stream = io.BytesIO(packed.read_bytes())
    with zipfile.ZipFile(stream, "a") as archive:
        info = zipfile.ZipInfo("x")
        info.filename = info.orig_filename = name
        info.external_attr = (stat.S_IFREG | 0o644) << 16
        archive.writestr(info, b"")
    refuse(tmp_path, stream.getvalue(), "member name")


def test_a_link_in_the_archive_is_refused(packed: Path, tmp_path: Path) -> None:
    stream = io.BytesIO(packed.read_bytes())
    with zipfile.ZipFile(stream, "a") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    refuse(tmp_path, stream.getvalue(), "a link")


def test_a_link_in_the_folder_is_refused(packed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "unpacked"
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(folder)
    (folder / "model.onnx").rename(tmp_path / "elsewhere.onnx")
    os.symlink(tmp_path / "elsewhere.onnx", folder / "model.onnx")
    with pytest.raises(IntegrityError, match=r"'model\.onnx' is a link"):
        open_bundle(folder)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice_is_refused(packed: Path, tmp_path: Path) -> None:
    stream = io.BytesIO(packed.read_bytes())
    with zipfile.ZipFile(stream, "a") as archive:
        info = zipfile.ZipInfo("README.md")
        info.external_attr = (stat.S_IFREG | 0o644) << 16
        archive.writestr(info, b"another")
    refuse(tmp_path, stream.getvalue(), "there twice")


def test_a_zip_bomb_is_refused_before_it_is_read(packed: Path, tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.onnx", b"\0" * 10_000_000)
    refuse(tmp_path, stream.getvalue(), "compressed")


def test_too_many_members_are_refused(packed: Path, tmp_path: Path) -> None:
    many = {f"file{number}": b"" for number in range(module.MAX_MEMBERS + 1)}
    refuse(tmp_path, pack(many), "members")


def test_too_many_bytes_are_refused(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    with pytest.raises(IntegrityError, match="100 are allowed"):
        open_bundle(packed)


def test_a_folder_has_the_same_bounds(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "unpacked"
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(folder)
    honest = module._measured
    monkeypatch.setattr(module, "_measured", lambda path: ((name, size - 1) for name, size in honest(path)))
    with pytest.raises(IntegrityError, match=r"the size of 'LICENSES/MIT\.txt' changed while it was read"):
        open_bundle(folder)
    monkeypatch.undo()
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    with pytest.raises(IntegrityError, match="100 are allowed"):
        open_bundle(folder)
    monkeypatch.undo()
    deep = folder.joinpath(*["d"] * module.MAX_FOLDERS)
    deep.mkdir(parents=True)
    with pytest.raises(IntegrityError, match=f"more than {module.MAX_FOLDERS} folders"):
        open_bundle(folder)
    for number in range(module.MAX_MEMBERS):
        (folder / f"f{number}").touch()
    shutil.rmtree(folder / "d")
    with pytest.raises(IntegrityError, match=f"more than {module.MAX_MEMBERS} members"):
        open_bundle(folder)


def test_members_and_manifest_must_agree(packed: Path, tmp_path: Path) -> None:
    members = members_of(packed)
    refuse(tmp_path, pack({**members, "extra.txt": b""}), r"'extra\.txt' is not in manifest\.json")
    del members["golden.jsonl"]
    refuse(tmp_path, pack(members), r"'golden\.jsonl' is missing")
    refuse(tmp_path, with_manifest(members, lambda m: m["files"].pop("golden.jsonl")), "is missing")


def test_an_honest_digest_does_not_excuse_a_wrong_manifest(packed: Path, tmp_path: Path) -> None:
    members = members_of(packed)
    refuse(tmp_path, with_manifest(members, lambda m: m.pop("spec")), "not valid at spec")
    refuse(tmp_path, with_manifest(members, lambda m: m.update(surprise=1)), "not valid at surprise")
    refuse(tmp_path, pack({**members, MANIFEST: b"[" * 100_000}), "not readable JSON")
    refuse(tmp_path, pack({**members, MANIFEST: b"[]\n"}), "was changed")


def test_a_bundle_from_the_future_says_how_to_open_it(packed: Path, tmp_path: Path) -> None:
    path = tmp_path / "future.kdc"
    path.write_bytes(with_manifest(members_of(packed), lambda m: m.update(runtime_minimum="99.1", surprise=1)))
    with pytest.raises(EnvironmentProblem, match=r"needs kdc 99\.1.*pip install --upgrade 'kdc>=99\.1'"):
        open_bundle(path)
    path.write_bytes(with_manifest(members_of(packed), lambda m: m.update(runtime_minimum=__version__)))
    assert open_bundle(path).manifest.runtime_minimum == __version__


def test_the_manifest_tells_what_goes_in_and_what_comes_out(packed: Path) -> None:
    manifest = open_bundle(packed).manifest
    assert [(item.name, item.dtype) for item in manifest.inputs] == [
        ("input_ids", "int64"),
        ("attention_mask", "int64"),
    ]
    assert [(item.name, item.dtype, item.shape) for item in manifest.outputs] == [("logits", "float32", ("batch", 3))]
    assert manifest.signature is None
    assert {"model.onnx", "tokenizer.json", "golden.jsonl", "README.md", "LICENSES/MIT.txt"} == set(manifest.files)
