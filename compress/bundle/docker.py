"""A bundle as the context of a small container image that runs `kdc serve`, without root."""

from __future__ import annotations

from pathlib import Path

from compress import __version__
from compress.runtime.archive import pack
from compress.runtime.bundle import SUFFIX, Bundle

USER = 10001
"""Number of the user that the server runs as; a number, since Kubernetes cannot tell a name's."""
PORT = 8000
WHEELS = "wheels"
"""Folder of the context whose wheels are installed before the index is asked."""

DOCKERFILE = """\
# docker build -t {name}:{tag} . && docker run --rm --read-only --tmpfs /tmp -p {port}:{port} {name}:{tag}
FROM python:3.12-slim AS build
COPY {wheels} /wheels
RUN python -m venv /venv \\
    && /venv/bin/pip install --no-cache-dir --no-compile --find-links /wheels 'kdc[{extras}]=={version}' \\
    && /venv/bin/pip uninstall --yes pip

FROM python:3.12-slim
RUN useradd --uid {user} --no-create-home --shell /usr/sbin/nologin kdc
COPY --from=build /venv /venv
COPY {bundle} /bundle/{bundle}
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER {user}:{user}
EXPOSE {port}
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \\
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:{port}/ready', timeout=2)"]
ENTRYPOINT ["kdc", "serve", "/bundle/{bundle}", "--host", "0.0.0.0", "--port", "{port}"]
"""
IGNORE = """\
*
!{bundle}
!{wheels}
"""


def write_context(bundle: Bundle, out: Path) -> list[str]:
    """Write Dockerfile, .dockerignore, the bundle and an empty `wheels/` into a new folder; returns their names."""
    manifest = bundle.manifest
    name = image_name(manifest.name)
    file = f"{name}{SUFFIX}"
    variants = {variant.spec.runtime for variant in manifest.variants}
    filled = {
        "name": name,
        "tag": image_tag(bundle),
        "port": PORT,
        "extras": ",".join(["serve", *sorted(variants)]),
        "version": __version__,
        "user": USER,
        "bundle": file,
        "wheels": WHEELS,
    }
    (out / WHEELS).mkdir(parents=True)
    (out / WHEELS / ".gitkeep").touch()
    (out / "Dockerfile").write_text(DOCKERFILE.format(**filled), encoding="utf-8")
    (out / ".dockerignore").write_text(IGNORE.format(**filled), encoding="utf-8")
    (out / file).write_bytes(pack(bundle.members))
    return ["Dockerfile", ".dockerignore", file, f"{WHEELS}/"]


def image_name(name: str) -> str:
    """A bundle's name as one of images and of objects in Kubernetes (RFC 1035 label): a letter, then a-z, 0-9 and -."""
    spelled = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name.lower())
    spelled = spelled[:59].strip("-")
    return spelled if spelled[:1].isalpha() else f"kdc-{spelled}".strip("-")


def image_tag(bundle: Bundle) -> str:
    """Tag of the image with this bundle, by its digest; the prefix keeps YAML from reading digits as a number."""
    return f"kdc-{bundle.manifest.digest[:16]}"
