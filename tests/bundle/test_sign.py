"""A signature holds for one bundle and one key, and costs the device nothing."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from compress.bundle import sign
from compress.bundle.sign import load_signer, make_keys
from compress.bundle.write import write_bundle
from compress.errors import EnvironmentProblem, IntegrityError
from compress.runtime import bundle as reader
from compress.runtime.archive import pack
from compress.runtime.bundle import MANIFEST, manifest_bytes, manifest_digest, open_bundle
from tests.full_disk import full_beyond
from tests.test_layers import PACKAGE
from tests.tiny import tiny_deployable, tiny_requests
from tests.tiny_project import kdc, kdc_json


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """NAME of a pair of keys."""
    make_keys(tmp_path / "owner")
    return tmp_path / "owner"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_deployable(tmp_path / "deployable")


def packed(model: Path, out: Path, *more: object) -> Path:
    kdc_json("package", model, "-o", out, *more)
    return out


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def rewritten(bundle: Path, change: Callable[[dict[str, Any]], object], *, digest: bool = True) -> None:
    """The same bundle with another manifest."""
    with zipfile.ZipFile(bundle) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members[MANIFEST])
    change(manifest)
    if digest:
        manifest["digest"] = manifest_digest(manifest)
    bundle.write_bytes(pack({**members, MANIFEST: manifest_bytes(manifest)}))


# ---------------------------------------------------------------- keys


def test_keygen_makes_a_pair_that_belongs_together(tmp_path: Path) -> None:
    made = kdc_json("keygen", "-o", tmp_path / "new" / "owner")
    private, public = Path(made["private"]), Path(made["public"])
    assert (private.name, public.name) == ("owner.key", "owner.pub")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert private.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")  # PKCS8
    key = load_pem_public_key(public.read_bytes())
    assert isinstance(key, Ed25519PublicKey)
    assert key == load_pem_private_key(private.read_bytes(), None).public_key()
    assert load_signer(private).key == made["key"]


@pytest.mark.parametrize("suffix", [".key", ".pub"])
def test_keygen_overwrites_nothing(tmp_path: Path, suffix: str) -> None:
    there = tmp_path / f"owner{suffix}"
    there.write_text("precious")
    refused = kdc("keygen", "-o", tmp_path / "owner", "--json")
    assert refused.exit_code == 2
    assert "is there already" in json.loads(refused.stdout)["error"]
    assert [path.name for path in tmp_path.iterdir()] == [there.name]
    assert there.read_text() == "precious"


@pytest.mark.parametrize("half", [".key", ".pub"])
def test_a_full_disk_leaves_no_half_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half: str) -> None:
    create = sign._create

    def filled(path: Path, content: bytes, mode: int) -> None:
        with full_beyond(50) if path.suffix == half else nullcontext():
            create(path, content, mode)

    monkeypatch.setattr(sign, "_create", filled)
    refused = kdc("keygen", "-o", tmp_path / "owner")
    assert refused.exit_code == 4
    assert f"the disk is full: {tmp_path / 'owner'}{half} could not be written" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_such_key_is_refused(model: Path, keys: Path, tmp_path: Path) -> None:
    secret = load_pem_private_key(beside(keys, ".key").read_bytes(), None)
    locked, other = BestAvailableEncryption(b"word"), generate_private_key(65537, 2048)
    (tmp_path / "locked.key").write_bytes(secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
    (tmp_path / "rsa.key").write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "noise.key").write_bytes(b"\0\xff" * 50)
    for key in ("locked.key", "rsa.key", "noise.key", "owner.pub"):
        refused = kdc("package", model, "-o", tmp_path / "a.kdc", "--sign", tmp_path / key)
        assert refused.exit_code == 2, key
        assert f"{key} holds no unencrypted Ed25519 private key" in refused.stderr
    refused = kdc("package", model, "-o", tmp_path / "a.kdc", "--sign", tmp_path / "none.key")
    assert (refused.exit_code, "No such file" in refused.stderr) == (2, True)
    assert not (tmp_path / "a.kdc").exists()
    bundle = packed(model, tmp_path / "b.kdc", "--sign", beside(keys, ".key"))
    for key in ("owner.key", "noise.key"):
        refused = kdc("verify", bundle, "--key", tmp_path / key)
        assert (refused.exit_code, "holds no Ed25519 public key" in refused.stderr) == (2, True)


def test_a_private_key_that_others_can_read_is_told(model: Path, keys: Path, tmp_path: Path) -> None:
    os.chmod(beside(keys, ".key"), 0o644)
    said = kdc("package", model, "-o", tmp_path / "a.kdc", "--sign", beside(keys, ".key"))
    assert said.exit_code == 0
    assert "chmod 600" in said.stderr


# ---------------------------------------------------------------- signing and checking


def test_the_owner_of_the_key_is_told_from_all_others(model: Path, keys: Path, tmp_path: Path) -> None:
    make_keys(tmp_path / "stranger")
    bundle = packed(model, tmp_path / "a.kdc", "--sign", beside(keys, ".key"))
    signed_by = load_signer(beside(keys, ".key")).key
    found = kdc_json("verify", bundle, "--key", beside(keys, ".pub"))
    assert (found["signature"], found["signed_by"], found["ok"]) == ("verified", signed_by, True)
    found = kdc_json("verify", bundle)
    assert (found["signature"], found["signed_by"]) == ("not checked", signed_by)
    refused = kdc("verify", bundle, "--key", tmp_path / "stranger.pub")
    assert (refused.exit_code, "is signed by the key" in refused.stderr) == (6, True)
    plain = packed(model, tmp_path / "plain.kdc")
    assert kdc_json("verify", plain)["signature"] == "none"
    refused = kdc("verify", plain, "--key", beside(keys, ".pub"), "--json")
    assert refused.exit_code == 6
    assert "is intact but not signed" in json.loads(refused.stdout)["error"]


def test_a_changed_bundle_is_not_vouched_for(model: Path, keys: Path, tmp_path: Path) -> None:
    """Neither one with a changed byte, nor one that somebody changed and gave a right digest."""
    bundle = packed(model, tmp_path / "a.kdc", "--sign", beside(keys, ".key"))
    honest = bundle.read_bytes()
    for position in range(0, len(honest), len(honest) // 40):
        bundle.write_bytes(honest[:position] + bytes([honest[position] ^ 4]) + honest[position + 1 :])
        assert kdc("verify", bundle, "--key", beside(keys, ".pub")).exit_code == 6
    bundle.write_bytes(honest)
    rewritten(bundle, lambda manifest: manifest.update(notes=["trust me"]))
    assert open_bundle(bundle).manifest.notes == ("trust me",)
    refused = kdc("verify", bundle, "--key", beside(keys, ".pub"))
    assert (refused.exit_code, "did not make: do not trust it" in refused.stderr) == (6, True)


def test_a_signature_of_another_bundle_does_not_fit(model: Path, keys: Path, tmp_path: Path) -> None:
    key = beside(keys, ".key")
    first, second = packed(model, tmp_path / "a.kdc", "--sign", key), packed(model, tmp_path / "b.kdc", "--sign", key)
    signature = open_bundle(first).manifest.signature
    assert signature is not None
    rewritten(second, lambda manifest: manifest.update(signature=signature.model_dump()))
    assert kdc("verify", second, "--key", beside(keys, ".pub")).exit_code == 6


@pytest.mark.parametrize("field", ["key", "value", "check", "algorithm"])
def test_a_damaged_signature_is_found_without_a_key(model: Path, keys: Path, tmp_path: Path, field: str) -> None:
    bundle = packed(model, tmp_path / "a.kdc", "--sign", beside(keys, ".key"))

    def damage(manifest: dict[str, Any]) -> None:
        text = manifest["signature"][field]
        manifest["signature"][field] = ("0" if text[0] != "0" else "1") + text[1:]

    rewritten(bundle, damage, digest=False)
    with pytest.raises(IntegrityError, match="not valid at signature"):
        open_bundle(bundle)


def test_the_same_model_and_key_give_the_same_bytes(model: Path, keys: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "shop.kdc", tmp_path / "b" / "shop.kdc"
    for more in ([], ["--sign", beside(keys, ".key")]):
        assert packed(model, first, *more).read_bytes() == packed(model, second, *more).read_bytes()


def test_a_device_without_cryptography_answers(model: Path, keys: Path, tmp_path: Path) -> None:
    """A signed bundle is opened by the base installation; who asks about a signature is told what is missing."""
    bundle = packed(model, tmp_path / "a.kdc", "--sign", beside(keys, ".key"))
    hide = "import sys; sys.modules['cryptography'] = None; from compress.cli import main; main()"

    def without(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", hide, *map(str, arguments)]
        asked = '{"text": "red shoe"}\n'
        return subprocess.run(
            command, input=asked, capture_output=True, text=True, cwd=PACKAGE.parent, check=False, timeout=120
        )

    answered = without("predict", bundle)
    assert (answered.returncode, "label" in json.loads(answered.stdout)) == (0, True), answered.stderr
    assert without("verify", bundle).returncode == 0
    refused = without("verify", bundle, "--key", beside(keys, ".pub"))
    assert refused.returncode == 4
    assert "pip install 'kdc[sign]'" in refused.stderr


# ---------------------------------------------------------------- older and newer kdc


def test_an_older_kdc_asks_for_an_upgrade_where_it_would_see_damage(
    model: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kdc 0.1.0 knows neither signatures nor certificates; it compares `runtime_minimum` before it reads fields."""
    golden, signer = tiny_requests(), load_signer(beside(keys, ".key"))
    common: dict[str, Any] = {"name": "t", "golden": golden, "metrics": {}, "provenance": {}}
    plain = write_bundle(model, tmp_path / "plain.kdc", **common)
    signed = write_bundle(model, tmp_path / "signed.kdc", **common, signer=signer)
    certified = write_bundle(model, tmp_path / "certified.kdc", **common, certificate={"rows": 3})
    minimum = [open_bundle(path).manifest.runtime_minimum for path in (plain, signed, certified)]
    assert minimum == ["0.1.0", "0.2.0", "0.2.0"]
    monkeypatch.setattr(reader, "__version__", "0.1.0")
    assert open_bundle(plain).manifest.signature is None
    for path in (signed, certified):
        with pytest.raises(EnvironmentProblem, match=r"needs kdc 0\.2\.0 or newer, installed is 0\.1\.0"):
            open_bundle(path)


def test_a_bundle_from_before_there_were_signatures_opens(model: Path, tmp_path: Path) -> None:
    """Those with a certificate said that kdc 0.1.0 opens them."""
    old = packed(model, tmp_path / "old.kdc")
    rewritten(old, lambda manifest: manifest.update(certificate={"rows": 3}, runtime_minimum="0.1.0"))
    assert open_bundle(old).manifest.certificate == {"rows": 3}
