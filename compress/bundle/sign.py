"""Who vouches for a bundle: Ed25519 keys (RFC 8032) in PEM files, signing and checking.

The signature is over the manifest's digest, which covers every member by its hash. Ed25519 needs no randomness to sign,
so a signed bundle is reproducible byte for byte, too.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compress.artifacts import is_disk_full
from compress.errors import EnvironmentProblem, IntegrityError, RecipeError
from compress.extras import require
from compress.progress import reporter
from compress.runtime.bundle import Bundle, Signature, signed_message

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PRIVATE, PUBLIC = ".key", ".pub"
MAX_KEY_BYTES = 65536
"""Read of a key file at the most; a key has about a hundred bytes."""


@dataclass(frozen=True)
class Signer:
    """A private key, ready to sign."""

    key: str
    """SHA-256 (hex) of the public key's 32 bytes."""
    private: Ed25519PrivateKey

    def sign(self, digest: str) -> Signature:
        """The signature of a manifest's digest; the same digest gives the same signature."""
        return Signature.of(self.key, self.private.sign(signed_message(digest)).hex())


def make_keys(out: Path) -> dict[str, str]:
    """Make a pair of keys: NAME.key (PEM, PKCS8, unencrypted, mode 0600) and NAME.pub (PEM).

    Returns:
        private, public: the paths; key: SHA-256 (hex) of the public key.

    Raises:
        RecipeError: one of the files is there already.
        EnvironmentProblem: the extra `sign` is not installed, or the disk is full: neither file is left.
    """
    _needs_cryptography("kdc keygen")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private, public = (out.with_name(out.name + suffix) for suffix in (PRIVATE, PUBLIC))
    for path in (private, public):
        if path.exists() or path.is_symlink():
            raise RecipeError(f"{path} is there already, and a lost key cannot be made again: name other files with -o")
    made = Ed25519PrivateKey.generate()
    out.parent.mkdir(parents=True, exist_ok=True)
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    _create(private, made.private_bytes(pem, pkcs8, serialization.NoEncryption()), 0o600)
    try:
        _create(public, made.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo), 0o644)
    except EnvironmentProblem:
        private.unlink()
        raise
    return {"private": str(private), "public": str(public), "key": _fingerprint(made.public_key())}


def load_signer(path: Path) -> Signer:
    """The private key in a PEM file.

    Raises:
        RecipeError: there is no file, or it holds something else than an unencrypted Ed25519 private key.
        EnvironmentProblem: the extra `sign` is not installed.
    """
    _needs_cryptography("signing a bundle")
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = _read_key(path)
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _no_key(path, "private", PRIVATE) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(path, "private", PRIVATE)
    if path.stat().st_mode & 0o077:
        reporter.warn(f"{path} can be read by others than its owner, who could sign in your name: chmod 600 {path}")
    return Signer(_fingerprint(key.public_key()), key)


def check_signature(bundle: Bundle, public: Path) -> str:
    """Check that the owner of a public key vouches for an opened bundle.

    Returns:
        SHA-256 (hex) of the public key.

    Raises:
        IntegrityError: it is not signed, or by another key, or the signature is of something else.
        RecipeError: the file holds no Ed25519 public key.
        EnvironmentProblem: the extra `sign` is not installed.
    """
    key = _load_public(public)
    from cryptography.exceptions import InvalidSignature

    signature, asked = bundle.manifest.signature, _fingerprint(key)
    if signature is None:
        raise IntegrityError(
            f"{bundle.path} is intact but not signed, and {public} was given: do not trust it, get a signed one, or "
            "make one with kdc package --sign"
        )
    if signature.key != asked:
        raise IntegrityError(
            f"{bundle.path} is signed by the key {signature.key[:16]}, {public} is {asked[:16]}: do not trust it, or "
            "give the right key"
        )
    try:
        key.verify(bytes.fromhex(signature.value), signed_message(bundle.manifest.digest))
    except InvalidSignature as error:
        raise IntegrityError(
            f"{bundle.path} has a signature that the key {asked[:16]} of {public} did not make: do not trust it, get "
            "it again"
        ) from error
    return asked


def _load_public(path: Path) -> Ed25519PublicKey:
    _needs_cryptography("checking a signature")
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    content = _read_key(path)
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _no_key(path, "public", PUBLIC) from error
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key(path, "public", PUBLIC)
    return key


def _needs_cryptography(why: str) -> None:
    require("cryptography", extra="sign", why=why)


def _fingerprint(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def _read_key(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_KEY_BYTES)
    except OSError as error:
        raise RecipeError(
            f"the key {path} cannot be read ({error.strerror}); kdc keygen -o NAME makes a pair"
        ) from error


def _no_key(path: Path, half: str, suffix: str) -> RecipeError:
    kind = f"{'unencrypted ' if half == 'private' else ''}Ed25519 {half} key"
    return RecipeError(f"{path} holds no {kind} in PEM form; give the NAME{suffix} that kdc keygen wrote")


def _create(path: Path, content: bytes, mode: int) -> None:
    """Write a new file that nobody but those meant can read at any moment."""
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
            stream.write(content)
    except OSError as error:
        if not is_disk_full(error):
            raise
        path.unlink(missing_ok=True)  # half a key would stand in the way of the next one
        raise EnvironmentProblem(
            f"the disk is full: {path} could not be written; free some space and try again"
        ) from error
