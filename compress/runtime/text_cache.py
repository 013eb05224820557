"""Token ids of texts that come again, such as product titles: tokenised once, composed by the tokenizer itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer
from tokenizers.models import BPE, WordLevel

from compress.errors import IntegrityError
from compress.runtime.text import ROWS_AT_ONCE, TextEncoder

CACHED_TEXTS = 2048
"""Texts that are kept where nothing else is said."""
LONGEST = 256
"""Characters of a text that is kept. A token of an encoding takes about 90 bytes, a text hardly has more tokens than
characters: all that is kept takes at most 47 MB, and 4 MB of titles."""

FIRST_CHARACTER = 0x10000
"""From here on every number up to 0x10FFFF is a character of its own."""


class KnownTokens:
    """Texts whose tokens came with the bundle: not tokenised here, and never forgotten.

    The tokenizer library makes an `Encoding` of text alone. So each token id is written as one character, which a
    tokenizer without merges turns back into the id: a quarter of the time that 25 tokens of a title take otherwise.

    Args:
        texts: N different or equal texts.
        tokens: [T] ids of all texts one after the other, without special tokens, not truncated.
        ends: int64 [N], where each text's tokens end.

    Attributes:
        largest: the largest id, -1 where there are no tokens.

    Raises:
        ValueError: there are more different ids than characters.
    """

    def __init__(self, texts: Sequence[str], tokens: npt.NDArray[Any], ends: npt.NDArray[np.int64]) -> None:
        used, places = np.unique(tokens, return_inverse=True)
        if len(used) > 0x110000 - FIRST_CHARACTER:
            raise ValueError(f"its items have {len(used):,} different tokens")
        self.largest = int(used[-1]) if len(used) else -1
        self._rows = {text: row for row, text in enumerate(texts)}
        self._written = (places + FIRST_CHARACTER).astype("<u4").tobytes().decode("utf-32-le")
        self._ends = [0, *ends.tolist()]
        words = {chr(FIRST_CHARACTER + place): int(token) for place, token in enumerate(used)}
        self._reader = Tokenizer(BPE(vocab=words, merges=[], cache_capacity=0))

    def find(self, text: str) -> Encoding | None:
        """A text's tokens, as a tokenizer gives them without special tokens; None for other texts."""
        row = self._rows.get(text)
        if row is None:
            return None
        written = self._written[self._ends[row] : self._ends[row + 1]]
        return self._reader.encode_batch_fast([written], add_special_tokens=False)[0]


def whole_tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """What `KnownTokens` takes: ids of all texts, without special tokens, not truncated; and where each text's end."""
    whole = Tokenizer.from_str(tokenizer.to_str())
    whole.no_truncation()
    whole.no_padding()
    ids: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)]
    for start in range(0, len(texts), ROWS_AT_ONCE):
        found = whole.encode_batch_fast(list(texts[start : start + ROWS_AT_ONCE]), add_special_tokens=False)
        ids += [np.array(each.ids, np.int64) for each in found]
    return np.concatenate(ids), np.cumsum([len(each) for each in ids[1:]], dtype=np.int64)


class CachingEncoder(TextEncoder):
    """A TextEncoder that keeps the encodings of the texts asked last; its answers are the same.

    A tokenizer splits each text of a row by itself; truncation and special tokens come after that, and depend on the
    row. What is kept is the first step, untruncated. The second is done for every row, by a tokenizer without words
    that has the same post-processor. Several threads may ask; rows are tokenised one by one, in the calling thread.

    Args:
        texts: how many texts are kept, those asked last. The other arguments are TextEncoder's.
        known: texts whose tokens came with the bundle.

    Attributes:
        cache_info: how often a text was found, as `functools.lru_cache` tells it.

    Raises:
        IntegrityError: as TextEncoder; or known tokens are none of this tokenizer.
    """

    def __init__(
        self,
        tokenizer_json: str,
        *,
        texts: int,
        max_length: int,
        separator: str = "",
        pad_id: int = 0,
        apart: bool = False,
        known: KnownTokens | None = None,
    ) -> None:
        super().__init__(
            tokenizer_json, max_length=max_length, separator=separator, pad_id=pad_id, apart=apart, parallel=False
        )
        if known is not None and known.largest >= self.tokenizer.get_vocab_size():
            raise IntegrityError(
                f"the items have the token {known.largest}, the tokenizer knows {self.tokenizer.get_vocab_size()}: "
                "they do not belong together; make the bundle again"
            )
        self._known = known
        self._composer = Tokenizer(WordLevel({"": 0}, unk_token=""))
        if self.tokenizer.post_processor is not None:
            self._composer.post_processor = self.tokenizer.post_processor
        self._composer.enable_truncation(**self.tokenizer.truncation)
        self.tokenizer.no_truncation()
        self._kept = lru_cache(maxsize=texts)(self._tokenise)
        self.cache_info = self._kept.cache_info

    def _tokenise(self, text: str) -> Encoding:
        found = None if self._known is None else self._known.find(text)
        return self.tokenizer.encode_batch_fast([text], add_special_tokens=False)[0] if found is None else found

    def _part(self, text: str) -> Encoding:
        return self._kept(text) if len(text) <= LONGEST else self._tokenise(text)

    def _encodings(self, rows: list[str] | list[tuple[str, str]]) -> Iterator[Encoding]:
        for row in rows:
            if isinstance(row, str):
                yield self._composer.post_process(self._part(row))
            else:
                yield self._composer.post_process(self._part(row[0]), self._part(row[1]))
