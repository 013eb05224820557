"""`student`: what to build."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from compress.recipe.base import Section


class Vocabulary(Section):
    """The student's tokens."""

    keep: Annotated[int, Field(ge=256)] | None = None
    """Keep this many of the teacher's tokens: all characters and special tokens, then the most frequent in the data."""
    train: Annotated[int, Field(ge=256)] | None = None
    """Train a new WordPiece vocabulary of this size on the data, instead of using the teacher's."""

    @model_validator(mode="after")
    def _not_both(self) -> Vocabulary:
        if self.keep is not None and self.train is not None:
            raise ValueError("give at most one of `keep` and `train`")
        return self


class TransformerStudent(Section):
    """A small BERT: layers cut from the teacher, or built anew."""

    kind: Literal["transformer"]
    """The kind of student."""
    layers: Annotated[int, Field(ge=1, le=48)] = 3
    """Transformer layers."""
    hidden: Annotated[int, Field(ge=8, le=8192)] | None = None
    """Width; the teacher's when absent. Another width can only be built anew."""
    heads: Annotated[int, Field(ge=1, le=128)] | None = None
    """Attention heads; when absent the teacher's, or one for each 32 of width."""
    intermediate: Annotated[int, Field(ge=8)] | None = None
    """Width of the feed-forward layer; when absent the teacher's, or four times the width."""
    vocabulary: Vocabulary = Vocabulary()
    """The student's tokens; the teacher's when empty."""
    init: Literal["teacher", "random"] = "teacher"
    """Cut from the teacher's layers, or drawn at random."""
    layer_map: list[Annotated[int, Field(ge=1)]] | None = None
    """Teacher layer (from 1) behind each student layer; evenly spread and ending at the last when absent."""
    max_length: Annotated[int, Field(ge=4, le=8192)] | None = None
    """Tokens of an input at the most; the teacher's when absent."""

    @model_validator(mode="after")
    def _map_fits(self) -> TransformerStudent:
        if self.layer_map is not None and len(self.layer_map) != self.layers:
            raise ValueError(f"layer_map names {len(self.layer_map)} layers, but layers is {self.layers}")
        return self


class MobileStudent(Section):
    """MobileNet-style inverted residual 1-D convolutions over token embeddings; pairs are compared by features."""

    kind: Literal["mobile"]
    """The kind of student."""
    width: Annotated[int, Field(ge=8, le=4096)] = 128
    """Channels."""
    blocks: Annotated[int, Field(ge=1, le=64)] = 4
    """Inverted residual blocks; each is one layer for the hidden-state loss."""
    expansion: Annotated[int, Field(ge=1, le=8)] = 2
    """Channels inside a block, as a multiple of the width."""
    kernel: Annotated[int, Field(ge=1, le=31)] = 5
    """Tokens that a depthwise convolution sees; odd."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout before the head and on the embeddings."""
    vocabulary: Vocabulary = Vocabulary()
    """The student's tokens; the teacher's when empty."""
    init: Literal["teacher", "random"] = "teacher"
    """Token embeddings: the teacher's, reduced to the width by PCA, or drawn at random."""
    layer_map: list[Annotated[int, Field(ge=1)]] | None = None
    """Teacher layer (from 1) behind each block; evenly spread and ending at the last when absent."""
    max_length: Annotated[int, Field(ge=4, le=8192)] | None = None
    """Tokens of an input at the most; the teacher's when absent."""

    @model_validator(mode="after")
    def _shapes(self) -> MobileStudent:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, not {self.kernel}")
        if self.layer_map is not None and len(self.layer_map) != self.blocks:
            raise ValueError(f"layer_map names {len(self.layer_map)} layers, but blocks is {self.blocks}")
        return self


Student = Annotated[TransformerStudent | MobileStudent, Field(discriminator="kind")]
