"""The two npm packages of a site: fetched once by npm, checked against pinned hashes, squeezed once."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from compress.artifacts import publishing
from compress.errors import EnvironmentProblem, IntegrityError
from compress.progress import reporter

SQUEEZE = Path(__file__).with_name("site") / "squeeze.js"
OWN_QUALITY, KEPT_QUALITY = 9, 11
"""Of brotli: for files of one site, most of which are rounded weights that hardly shrink; and for what is compressed
once for all sites: half a minute makes the runtime a seventh smaller."""
FETCH_SECONDS = 1800
"""The larger package has 40 MB."""
MAX_REASON = 300


@dataclass(frozen=True)
class Package:
    """A package of the npm registry, of which a few files are taken.

    integrity: SHA-512 of its archive in base64, as npm's lock files write it. files: name in a site -> in the package.
    """

    name: str
    version: str
    integrity: str
    licence: str
    files: Mapping[str, str]

    @property
    def archive(self) -> str:
        """The file that `npm pack` writes."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


PACKAGES = (
    Package(
        "onnxruntime-web",
        "1.30.0",
        "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
        "MIT, its notice stands in lib/onnxruntime.js",
        # The build for processors alone, with all operators of onnxruntime, com.microsoft's too.
        {
            "lib/onnxruntime.js": "dist/ort.wasm.bundle.min.mjs",
            "lib/onnxruntime.wasm": "dist/ort-wasm-simd-threaded.wasm",
        },
    ),
    Package(
        "@huggingface/tokenizers",
        "0.2.0",
        "sha512-LidMHe1FpcSYH4vcSjXooda34pC0M8m1gmDOv7SQi6Iv+ib1zX7J3sHBCC9/3FPCkn2k1b55FneVqMRxrr99pg==",
        "Apache-2.0",
        {"lib/tokenizers.js": "dist/tokenizers.min.mjs", "licenses/tokenizers.txt": "LICENSE"},
    ),
)


def tool(name: str) -> str:
    """Path of `npm` or `node`.

    Raises:
        EnvironmentProblem: it is not installed.
    """
    found = shutil.which(name)
    if found is None:
        raise EnvironmentProblem(
            f"a site needs {name!r}, which is not on the path: install Node.js 20 or newer, which brings node and npm"
        )
    return found


def squeeze(files: Sequence[Path], quality: int = OWN_QUALITY) -> None:
    """Write FILE.br and FILE.gz beside each file."""
    script = SQUEEZE.read_text(encoding="utf-8")
    told([tool("node"), "--input-type=module", "-", str(quality), *map(str, files)], script)


def fetch_packages(cache: Path) -> Path:
    """The folder with the packages' files and their .br and .gz; filled on the first call.

    Args:
        cache: folder for all sites; what is kept in it depends on the pinned hashes alone.

    Raises:
        EnvironmentProblem: node or npm is missing, or npm cannot fetch them.
        IntegrityError: what npm fetched is not what was pinned.
    """
    pins = "\n".join(f"{package.name} {package.version} {package.integrity}" for package in PACKAGES)
    pins += f"{KEPT_QUALITY}\n{SQUEEZE.read_text(encoding='utf-8')}"
    kept = cache / hashlib.sha256(pins.encode()).hexdigest()[:16]
    if kept.is_dir():
        return kept
    npm = tool("npm")
    reporter.say(f"  fetching {', '.join(f'{package.name} {package.version}' for package in PACKAGES)} with npm")
    with TemporaryDirectory() as folder, publishing(kept) as made:
        for package in PACKAGES:
            _extract(package, _fetch(npm, package, Path(folder)), made)
        reporter.say("  compressing them once for all sites, about half a minute")
        squeeze(sorted(path for path in made.rglob("*") if path.is_file()), KEPT_QUALITY)
    return kept


def _fetch(npm: str, package: Package, folder: Path) -> Path:
    """The package's archive, byte for byte what was pinned."""
    wanted = f"{package.name}@{package.version}"
    command = [npm, "pack", wanted, "--ignore-scripts", "--loglevel=error", "--pack-destination", str(folder)]
    try:
        told(command)
    except EnvironmentProblem as error:
        raise EnvironmentProblem(f"{error}; check the network and npm's registry, then try again") from error
    archive = folder / package.archive
    found = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != package.integrity:
        raise IntegrityError(
            f"npm's {wanted} has the hash {found[:23]}…, pinned is {package.integrity[:23]}…: do not use that registry"
        )
    return archive


def _extract(package: Package, archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as packed:
        for name, inside in package.files.items():
            stream = packed.extractfile(f"package/{inside}")
            if stream is None:
                raise IntegrityError(f"{package.name} {package.version} has {inside} as a folder, a file is expected")
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(stream.read())


def told(command: Sequence[str], text: str = "") -> str:
    """What a command of Node.js prints.

    Raises:
        EnvironmentProblem: it fails.
    """
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            list(command),
            input=text,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=FETCH_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise EnvironmentProblem(f"{name} did not end within {FETCH_SECONDS} seconds; try again") from error
    if done.returncode:
        reason = " ".join(done.stderr.split())[:MAX_REASON]
        raise EnvironmentProblem(f"{name} {command[1]} failed with exit code {done.returncode}: {reason}")
    return done.stdout
