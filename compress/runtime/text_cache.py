"""Token ids of texts that come again, such as product titles: tokenised once, composed by the tokenizer itself."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from tokenizers import Encoding, Tokenizer
from tokenizers.models import WordLevel

from compress.runtime.text import TextEncoder

CACHED_TEXTS = 2048
"""Texts that are kept where nothing else is said."""
LONGEST = 256
"""Characters of a text that is kept. A token of an encoding takes about 90 bytes, a text hardly has more tokens than
characters: all that is kept takes at most 47 MB, and 4 MB of titles."""


class CachingEncoder(TextEncoder):
    """A TextEncoder that keeps the encodings of the texts asked last; its answers are the same.

    A tokenizer splits each text of a row by itself; truncation and special tokens come after that, and depend on the
    row. What is kept is the first step, untruncated. The second is done for every row, by a tokenizer without words
    that has the same post-processor. Several threads may ask; rows are tokenised one by one, in the calling thread.

    Args:
        texts: how many texts are kept, those asked last. The other arguments are TextEncoder's.

    Attributes:
        cache_info: how often a text was found, as `functools.lru_cache` tells it.
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
    ) -> None:
        super().__init__(
            tokenizer_json, max_length=max_length, separator=separator, pad_id=pad_id, apart=apart, parallel=False
        )
        self._composer = Tokenizer(WordLevel({"": 0}, unk_token=""))
        if self.tokenizer.post_processor is not None:
            self._composer.post_processor = self.tokenizer.post_processor
        self._composer.enable_truncation(**self.tokenizer.truncation)
        self.tokenizer.no_truncation()
        self._kept = lru_cache(maxsize=texts)(self._tokenise)
        self.cache_info = self._kept.cache_info

    def _tokenise(self, text: str) -> Encoding:
        return self.tokenizer.encode_batch_fast([text], add_special_tokens=False)[0]

    def _part(self, text: str) -> Encoding:
        return self._kept(text) if len(text) <= LONGEST else self._tokenise(text)

    def _encodings(self, rows: list[str] | list[tuple[str, str]]) -> Iterator[Encoding]:
        for row in rows:
            if isinstance(row, str):
                yield self._composer.post_process(self._part(row))
            else:
                yield self._composer.post_process(self._part(row[0]), self._part(row[1]))
