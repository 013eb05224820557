"""Which files a table consists of, and how their bytes are opened: plain, `.gz`, or a member of a zip."""

from __future__ import annotations

import difflib
import glob
import gzip
import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Literal, cast

from compress.artifacts import sha256_file
from compress.errors import DataError, RecipeError
from compress.recipe import TableSource

Format = Literal["csv", "tsv", "jsonl", "parquet"]

ENDINGS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "jsonl",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
ZIP = "zip://"
SHOWN_NAMES = 20


@dataclass(frozen=True)
class DataFile:
    """A file of a table, or a member of a zip archive."""

    path: Path
    member: str | None = None

    @property
    def name(self) -> str:
        """How messages call it: the path, with `::member` inside an archive."""
        return str(self.path) if self.member is None else f"{self.path}::{self.member}"

    @property
    def zipped(self) -> bool:
        """True when the innermost file is gzip-compressed."""
        return (self.member or self.path.name).lower().endswith(".gz")

    @property
    def ending(self) -> str:
        """The ending that tells the format, in lower case and without `.gz`."""
        inner = PurePosixPath((self.member or self.path.name).lower())
        return PurePosixPath(inner.stem).suffix if self.zipped else inner.suffix

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The decompressed bytes.

        Raises:
            DataError: the file cannot be read, or the archive is damaged or encrypted.
        """
        try:
            if self.member is None:
                with self.path.open("rb") as file, _unzipped(file, self.zipped) as plain:
                    yield plain
            else:
                with (
                    zipfile.ZipFile(self.path) as archive,
                    archive.open(self.member) as stream,
                    _unzipped(stream, self.zipped) as plain,
                ):
                    yield plain
        except (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise DataError(f"{self.name} is damaged and cannot be unpacked ({error}): copy it anew") from error
        except (
            OSError,
            RuntimeError,
            NotImplementedError,
        ) as error:  # the last two: encryption, odd compression
            raise DataError(f"{self.name} cannot be read: {error}") from error


@contextmanager
def _unzipped(stream: IO[bytes], zipped: bool) -> Iterator[IO[bytes]]:
    if not zipped:
        yield stream
        return
    with gzip.GzipFile(fileobj=stream) as plain:
        yield cast(IO[bytes], plain)


def nearest(name: str, known: Sequence[str]) -> str:
    """`; did you mean 'x'?` where a known name is close, else nothing."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    lower = [other for other in known if other.lower() == name.lower()]
    return f"; did you mean {(lower or close)[0]!r}?" if lower or close else ""


def listing(names: Sequence[str]) -> str:
    """Names for a message, cut where there are too many to read."""
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(repr(name) for name in names[:SHOWN_NAMES]) + more


def find_files(source: TableSource, root: Path, key: str) -> list[DataFile]:
    """The files of a source with `path`, in order; globs sorted by name.

    Args:
        root: folder that relative paths start from.
        key: the source's place in the recipe, for messages, such as `data.train`.

    Raises:
        RecipeError: a `zip://` path that is not of the form `zip://member::file.zip`.
        DataError: a missing file or archive member, a folder, a glob without a match.
    """
    paths = [source.path] if isinstance(source.path, str) else (source.path or [])
    if not paths:
        raise RecipeError(f"{key}.path is an empty list: name at least one file")
    return [file for path in paths for file in _expand(path, root, f"{key}.path")]


def _expand(text: str, root: Path, key: str) -> list[DataFile]:
    if text.startswith(ZIP):
        return [_member(text, root, key)]
    path = root / text
    if path.is_file():
        return [_no_archive(path, key)]
    if path.is_dir():
        raise DataError(f"{path} is a folder ({key}): name a file or a glob such as {text.rstrip('/')}/*.csv")
    if glob.has_magic(text):
        found = [root / name for name in sorted(glob.glob(text, root_dir=root, recursive=True))]
        files = [_no_archive(match, key) for match in found if match.is_file()]
        if not files:
            raise DataError(f"no file matches the glob {path} ({key}): check the pattern and the folder")
        return files
    raise DataError(f"{path} does not exist ({key}){_near_file(path)}")


def _near_file(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; there is no folder {path.parent} either: check data.root"
    return nearest(path.name, sorted(other.name for other in path.parent.iterdir()))


def _no_archive(path: Path, key: str) -> DataFile:
    if path.suffix.lower() != ".zip":
        return DataFile(path)
    raise DataError(
        f"{path} is an archive ({key}): name one of its members as zip://member::{path.name}; "
        f"it holds {listing(_members(path))}"
    )


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [info.filename for info in archive.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{path} is not a readable zip archive: {error}") from error


def _member(text: str, root: Path, key: str) -> DataFile:
    member, separator, archive = text.removeprefix(ZIP).partition("::")
    if not separator or not member or not archive:
        raise RecipeError(f"{key} is {text!r}, but an archive member is written zip://member::file.zip")
    path = root / archive
    if not path.is_file():
        raise DataError(f"{path} does not exist ({key}){_near_file(path)}")
    known = _members(path)
    if member not in known:
        raise DataError(f"{path} has no member {member!r} ({key}); it holds {listing(known)}{nearest(member, known)}")
    return DataFile(path, member)


def format_of(file: DataFile, source: TableSource, train: TableSource, train_endings: set[str], key: str) -> Format:
    """The format of a file: as the source says, as `train` says for the same ending, or by the ending.

    Raises:
        DataError: nothing tells the format.
    """
    if source.format is not None:
        return source.format
    if train.format is not None and (file.ending in train_endings or file.ending not in ENDINGS):
        return train.format
    if file.ending in ENDINGS:
        return ENDINGS[file.ending]
    raise DataError(
        f"{file.name} has the ending {file.ending!r}, which does not tell its format: "
        f"set {key}.format to csv, tsv, jsonl or parquet"
    )


def digest_content(files: Sequence[DataFile]) -> str:
    """SHA-256 (hex) over the content of files and the members meant, whatever their paths."""
    parts = "".join(f"{sha256_file(file.path)}\0{file.member or ''}\n" for file in files)
    return hashlib.sha256(parts.encode()).hexdigest()
