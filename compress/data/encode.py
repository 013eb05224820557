"""Examples to token rows, with the same encoder that the device uses.

Tokens are written to a file as they are made, and read a row at a time; of each row, where it stands is in memory.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload
from weakref import finalize

import numpy as np

from compress.batch import Encoded, Examples, Ints, TokenRow
from compress.runtime.text import TextEncoder
from compress.texts import ROWS_A_PIECE

TOKEN = np.dtype(np.int32)


def encode_examples(encoder: TextEncoder, examples: Examples, folder: Path | None = None) -> Encoded:
    """Tokenise a split once; long rows are cut to the encoder's length and counted.

    folder: where the file of tokens stands, 4 bytes each; None for the system's folder of temporary files. The file has
    no name: it is gone when the result is, or the process.
    """
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    lengths, firsts, truncated = [], [], 0
    with tempfile.TemporaryFile(dir=folder) as file:
        for texts, pairs in _pieces(examples):
            ids, type_ids, cut = encoder.encode(texts, pairs)
            file.writelines(row.tobytes() for row in ids)
            lengths.append(np.fromiter(map(len, ids), np.int64, len(ids)))
            if pairs is not None:
                firsts.append(np.fromiter((len(row) - int(row.sum()) for row in type_ids), TOKEN, len(ids)))
            truncated += cut
        file.flush()
        opened = os.dup(file.fileno())
    counts = np.concatenate([np.zeros(0, np.int64), *lengths])
    return Encoded(
        ids=_Tokens(opened, counts),
        type_ids=_TypeIds(counts, np.concatenate(firsts) if firsts else counts),
        lengths=counts,
        pad_id=encoder.pad_id,
        truncated=truncated,
    )


def _pieces(examples: Examples) -> Iterator[tuple[Sequence[str], Sequence[str] | None]]:
    for start in range(0, len(examples), ROWS_A_PIECE):
        piece = slice(start, start + ROWS_A_PIECE)
        yield examples.texts[piece], None if examples.pairs is None else examples.pairs[piece]


class _Rows(Sequence[TokenRow]):
    """Rows of some length each, made when they are asked for."""

    def __init__(self, lengths: Ints) -> None:
        self.lengths = lengths

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, at: int) -> TokenRow: ...

    @overload
    def __getitem__(self, at: slice) -> list[TokenRow]: ...

    def __getitem__(self, at: int | slice) -> TokenRow | list[TokenRow]:
        if isinstance(at, slice):
            return [self.row(number) for number in range(*at.indices(len(self)))]
        return self.row(range(len(self))[at])

    def row(self, number: int) -> TokenRow:
        """One row, from 0."""
        raise TypeError("a subclass defines row")


class _Tokens(_Rows):
    """Token ids in an open file, row after row; it is closed when they are no longer used."""

    def __init__(self, file: int, lengths: Ints) -> None:
        super().__init__(lengths)
        self.file, self.ends = file, np.cumsum(lengths)
        finalize(self, os.close, file)

    def row(self, number: int) -> TokenRow:
        count = int(self.lengths[number])
        start = int(self.ends[number]) - count
        return np.frombuffer(os.pread(self.file, TOKEN.itemsize * count, TOKEN.itemsize * start), TOKEN)


class _TypeIds(_Rows):
    """0 for the tokens of a row's first text, which are `firsts` many, then 1."""

    def __init__(self, lengths: Ints, firsts: Ints) -> None:
        super().__init__(lengths)
        self.firsts = firsts

    def row(self, number: int) -> TokenRow:
        found = np.zeros(int(self.lengths[number]), TOKEN)
        found[int(self.firsts[number]) :] = 1
        return found
