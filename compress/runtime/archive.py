"""The one archive of some members: a zip of plain stored files, sorted, without times, owners, comments or extras.

All that lies between the members follows from them. So packing has one result, and reading needs no tolerance: a header
that is not what packing writes is damage. Python's `zipfile` reads such files too, but looks for the directory, follows
zip64 records and makes an object of each entry before anybody could count them, so that a small file can claim memory
without bound. Here what is read is bounded by the file's real size, in one pass without seeking among members.
"""

from __future__ import annotations

import re
import stat
import struct
import zlib
from collections.abc import Mapping
from typing import BinaryIO, NamedTuple

MAX_MEMBERS = 256
MAX_NAME = 255
"""Bytes of a member's name."""

LOCAL, CENTRAL, END = struct.Struct("<4s5H3I2H"), struct.Struct("<4s6H3I5H2I"), struct.Struct("<4s4H2IH")
LOCAL_MARK, CENTRAL_MARK, END_MARK = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
UNIX_2_0 = 3 << 8 | 20
"""Made on Unix, by version 2.0 of the format."""
NEEDED, FLAGS, STORED, TIME, DATE = 20, 0, 0, 0, 33
"""Fields that all members share; 33 is 1980-01-01, the first day of zip."""
MODE = (stat.S_IFREG | 0o644) << 16

_SAFE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")


class MalformedArchive(ValueError):
    """Bytes that no members are packed into; the message completes "it is damaged: …"."""


class _Entry(NamedTuple):
    """What the directory says of a member, and where packing would put it."""

    name: bytes
    crc: int
    size: int
    offset: int

    def local(self) -> bytes:
        sizes = (self.crc, self.size, self.size, len(self.name), 0)
        return LOCAL.pack(LOCAL_MARK, NEEDED, FLAGS, STORED, TIME, DATE, *sizes) + self.name

    def central(self) -> bytes:
        sizes = (self.crc, self.size, self.size, len(self.name), 0, 0, 0, 0)
        fixed = (UNIX_2_0, NEEDED, FLAGS, STORED, TIME, DATE)
        return CENTRAL.pack(CENTRAL_MARK, *fixed, *sizes, MODE, self.offset) + self.name

    @property
    def end(self) -> int:
        return self.offset + LOCAL.size + len(self.name) + self.size


def is_safe_name(name: str) -> bool:
    """True for plain relative POSIX paths in ASCII: no `..`, leading dot, slash, backslash or drive."""
    return len(name) <= MAX_NAME and _SAFE_NAME.fullmatch(name) is not None


def pack(members: Mapping[str, bytes]) -> bytes:
    """The one archive of these members."""
    entries: list[_Entry] = []
    for name in sorted(members):
        content = members[name]
        offset = entries[-1].end if entries else 0
        entries.append(_Entry(name.encode(), zlib.crc32(content), len(content), offset))
    contents = [part for entry in entries for part in (entry.local(), members[entry.name.decode()])]
    directory = b"".join(entry.central() for entry in entries)
    return b"".join([*contents, directory, _end(len(entries), len(directory), entries[-1].end if entries else 0)])


def unpack(stream: BinaryIO, size: int) -> dict[str, bytes]:
    """The members of an archive of `size` bytes; all of it is compared with what packing them gives.

    Raises:
        MalformedArchive: it is not that, byte for byte.
    """
    entries = _directory(stream, size)
    stream.seek(0)
    return {entry.name.decode(): _content(stream, entry) for entry in entries}


def _end(count: int, length: int, offset: int) -> bytes:
    return END.pack(END_MARK, 0, 0, count, count, length, offset, 0)


def _directory(stream: BinaryIO, size: int) -> list[_Entry]:
    stream.seek(max(size - END.size, 0))
    tail = stream.read(END.size)
    if len(tail) < END.size or not tail.startswith(END_MARK):
        raise MalformedArchive("it is not a readable zip, or something follows it")
    count, length, offset = END.unpack(tail)[4:7]
    if count > MAX_MEMBERS:
        raise MalformedArchive(f"it has {count} members, {MAX_MEMBERS} are allowed")
    if length > MAX_MEMBERS * (CENTRAL.size + MAX_NAME) or offset + length + END.size != size:
        raise MalformedArchive(f"its directory of {length:,} bytes at {offset:,} does not fit its {size:,} bytes")
    if tail != _end(count, length, offset):
        raise MalformedArchive("the end of its directory is not what bundles have")
    stream.seek(offset)
    return _entries(stream.read(length), count, offset)


def _entries(directory: bytes, count: int, room: int) -> list[_Entry]:
    """Every member that the directory names, refused before anything is read where an honest one never is so.

    room: bytes before the directory.
    """
    entries: list[_Entry] = []
    position = 0
    for _ in range(count):
        previous = entries[-1] if entries else _Entry(b"", 0, 0, -LOCAL.size)
        entry, written = _entry(directory[position : position + CENTRAL.size + MAX_NAME + 1], previous.end, room)
        if entry.name in {known.name for known in entries}:
            raise MalformedArchive(f"the member {entry.name.decode()!r} is there twice")
        if written != entry.central() or entry.name <= previous.name:
            raise MalformedArchive(f"the directory's entry of {entry.name.decode()!r} is not what bundles have")
        entries.append(entry)
        position += len(written)
    if position != len(directory) or (entries[-1].end if entries else 0) != room:
        raise MalformedArchive("there is something between its members and its directory's end")
    return entries


def _entry(directory: bytes, offset: int, room: int) -> tuple[_Entry, bytes]:
    """The first entry of the rest of a directory, and its bytes."""
    if len(directory) < CENTRAL.size or not directory.startswith(CENTRAL_MARK):
        raise MalformedArchive("its directory is cut or not readable")
    (_, _, _, _, method, _, _, crc, packed, size, length, *_, mode, _) = CENTRAL.unpack_from(directory)
    written = directory[: CENTRAL.size + length]
    name = written[CENTRAL.size :]
    shown = repr(name.decode("utf-8", "backslashreplace"))
    if len(name) != length or not is_safe_name(name.decode("latin-1")):
        raise MalformedArchive(f"the member name {shown} is not allowed")
    if method != STORED or packed != size:
        raise MalformedArchive(f"the member {shown} is compressed, bundles are stored")
    if not stat.S_ISREG(mode >> 16):
        raise MalformedArchive(f"the member {shown} is a link or not a plain file")
    entry = _Entry(name, crc, size, offset)
    if entry.end > room:
        raise MalformedArchive(f"the member {shown} claims {size:,} bytes, there are {max(room - offset, 0):,}")
    return entry, written


def _content(stream: BinaryIO, entry: _Entry) -> bytes:
    expected = entry.local()
    header = stream.read(len(expected))
    content = stream.read(entry.size)
    if header != expected or len(content) != entry.size or zlib.crc32(content) != entry.crc:
        raise MalformedArchive(f"the bytes of the member {entry.name.decode()!r} are not those that were packed")
    return content
