"""Text to token ids, the same way in training, in the bench and on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

from compress.errors import IntegrityError, RecipeError

TokenRow = npt.NDArray[np.int32]

ROWS_AT_ONCE = 4096
"""Rows that are tokenised together; what the tokenizer makes of a row is many times larger than its ids."""
INPUT_NAMES = ("input_ids", "attention_mask", "token_type_ids")
"""Names that a model's inputs may have; each is int64 [batch, sequence]."""


class TextEncoder:
    """Tokenises one text or two, truncates the longer first, tells the first text (0) from the second (1).

    Args:
        tokenizer_json: content of a `tokenizer.json`; its own padding and truncation are replaced.
        max_length: tokens in a row at the most, special tokens included.
        separator: appended to the first text of a pair, where the tokenizer has no separator token itself.
        pad_id: token that fills short rows.
        apart: tokenise each text of a pair by itself, with its own special tokens, in half of max_length.
        parallel: let the tokenizer use all processors for many rows; else it keeps to the calling thread.

    Raises:
        IntegrityError: `tokenizer_json` is not a tokenizer.
        RecipeError: `max_length` leaves no room for text beside the special tokens.
    """

    def __init__(
        self,
        tokenizer_json: str,
        *,
        max_length: int,
        separator: str = "",
        pad_id: int = 0,
        apart: bool = False,
        parallel: bool = True,
    ) -> None:
        try:
            self.tokenizer = Tokenizer.from_str(tokenizer_json)
        except Exception as error:  # the Rust binding raises bare Exception for every parse failure
            raise IntegrityError(f"the tokenizer is not a readable tokenizer.json ({error}); make it anew") from error
        special = self.tokenizer.num_special_tokens_to_add(not apart) * (2 if apart else 1)
        if max_length < special + 2:
            raise RecipeError(
                f"max_length is {max_length}, but {special} special tokens and a token of each of two texts "
                f"need {special + 2}: raise max_length"
            )
        self.max_length, self.separator, self.pad_id, self.parallel = max_length, separator, pad_id, parallel
        self.apart = apart
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(max_length // 2 if apart else max_length, strategy="longest_first")

    def encode(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None
    ) -> tuple[list[TokenRow], list[TokenRow], int]:
        """Tokenise rows.

        Returns:
            ids: one int32 [T_i] array a row, special tokens included, T_i <= max_length.
            type_ids: alike; 0 up to the first token of the second text, 1 from there on.
            truncated: how many rows lost tokens.
        """
        if self.apart and pairs is not None:
            return self._encode_apart(texts, pairs)
        rows: list[str] | list[tuple[str, str]]
        if pairs is None:
            rows = list(texts)
        else:
            rows = [(first + self.separator, second) for first, second in zip(texts, pairs, strict=True)]
        ids, type_ids, truncated = [], [], 0
        for encoding in self._encodings(rows):
            ids.append(np.array(encoding.ids, np.int32))
            type_ids.append(np.zeros_like(ids[-1]) if pairs is None else _type_ids(encoding))
            truncated += bool(encoding.overflowing)
        return ids, type_ids, truncated

    def _encode_apart(self, texts: Sequence[str], pairs: Sequence[str]) -> tuple[list[TokenRow], list[TokenRow], int]:
        firsts, zeros, cut = self.encode(texts)
        seconds, others, cut_too = self.encode(pairs)
        ids = [np.concatenate(both) for both in zip(firsts, seconds, strict=True)]
        type_ids = [np.concatenate([zero, other + 1]) for zero, other in zip(zeros, others, strict=True)]
        return ids, type_ids, cut + cut_too

    def arrays(
        self, ids: Sequence[TokenRow], type_ids: Sequence[TokenRow], names: Sequence[str]
    ) -> dict[str, npt.NDArray[np.int64]]:
        """As `pad_rows`, with this encoder's padding token."""
        return pad_rows(ids, type_ids, names, self.pad_id)

    def _encodings(self, rows: list[str] | list[tuple[str, str]]) -> Iterator[Encoding]:
        # A batch of one never leaves the calling thread.
        size = ROWS_AT_ONCE if self.parallel else 1
        for start in range(0, len(rows), size):
            yield from self.tokenizer.encode_batch_fast(rows[start : start + size])


def _type_ids(encoding: Encoding) -> TokenRow:
    """Type ids from where tokens came from; tokenizers without a pair template tell the texts apart too."""
    origins = encoding.sequence_ids
    types = np.zeros(len(origins), np.int32)
    if 1 in origins:
        types[origins.index(1) :] = 1
    return types


def pad_rows(
    ids: Sequence[TokenRow], type_ids: Sequence[TokenRow], names: Sequence[str], pad_id: int
) -> dict[str, npt.NDArray[np.int64]]:
    """Model inputs for the given names (see INPUT_NAMES), int64 [B, T], padded to the longest row.

    Raises:
        IntegrityError: a name is not one that text can fill.
    """
    shape = (len(ids), max((len(row) for row in ids), default=0))
    fill = {"input_ids": pad_id, "attention_mask": 0, "token_type_ids": 0}
    unknown = [name for name in names if name not in fill]
    if unknown:
        raise IntegrityError(f"the model wants the input {unknown[0]!r}, text gives {', '.join(INPUT_NAMES)}")
    feed = {name: np.full(shape, fill[name], np.int64) for name in names}
    for row, (tokens, types) in enumerate(zip(ids, type_ids, strict=True)):
        for name, array in feed.items():
            filled = array[row, : len(tokens)]
            filled[:] = 1 if name == "attention_mask" else tokens if name == "input_ids" else types
    return feed
