"""`student`: what to build."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal, Self

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


class StudentSection(Section):
    """What all students have; a family says how deep it is and what suits it."""

    quantization: ClassVar[Literal["dynamic", "static"]] = "dynamic"
    """Method of quantization that suits the family; static only where there are convolutions to measure."""

    kind: str
    """The kind of student."""
    vocabulary: Vocabulary = Vocabulary()
    """The student's tokens; the teacher's when empty."""
    init: Literal["teacher", "random"] = "teacher"
    """Started from the teacher, or drawn at random."""
    layer_map: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    """Teacher layer (from 1) behind each student layer; evenly spread and ending at the last when absent."""
    max_length: Annotated[int, Field(ge=4, le=8192)] | None = None
    """Tokens of an input at the most; the teacher's when absent."""

    @property
    @abstractmethod
    def depth(self) -> int:
        """Layers that the hidden-state loss can see."""

    @property
    def cuts_layers(self) -> bool:
        """Whether its layers are the teacher's own, so that it has neither more of them nor more positions."""
        return False

    @abstractmethod
    def embedding_width(self, teacher_width: int) -> int:
        """Numbers in a token's embedding."""

    @property
    def further_embeddings(self) -> int:
        """Embeddings of the same width that are not a token's."""
        return 0

    @abstractmethod
    def body_parameters(self, teacher_width: int) -> int:
        """Parameters outside the embeddings, about; what `kdc check` reckons with."""

    @model_validator(mode="after")
    def _map_fits(self) -> Self:
        if self.layer_map is not None and len(self.layer_map) != self.depth:
            raise ValueError(f"layer_map names {len(self.layer_map)} layers, but the student has {self.depth}")
        return self


class LayeredStudent(StudentSection):
    """Transformer layers, cut from the teacher or built anew."""

    layers: Annotated[int, Field(ge=1, le=48)] = 3
    """Transformer layers."""
    hidden: Annotated[int, Field(ge=8, le=8192)] | None = None
    """Width; the teacher's when absent. A BERT teacher's layers are projected onto fewer principal directions."""
    heads: Annotated[int, Field(ge=1, le=128)] | None = None
    """Attention heads; when absent as many of the teacher's as make the width, or one for each 32 of it."""
    intermediate: Annotated[int, Field(ge=8)] | None = None
    """Width of the feed-forward layer; when absent four times the width, and no more than the teacher's."""
    init: Literal["teacher", "random"] = "teacher"
    """Cut from the teacher's layers, or drawn at random."""

    @property
    def depth(self) -> int:
        return self.layers

    @property
    def cuts_layers(self) -> bool:
        return self.init == "teacher"

    def embedding_width(self, teacher_width: int) -> int:
        return self.hidden or teacher_width

    def body_parameters(self, teacher_width: int) -> int:
        width = self.hidden or teacher_width
        return self.layers * (4 * width**2 + 2 * width * (self.intermediate or 4 * width))


class TransformerStudent(LayeredStudent):
    """A small BERT; two texts stand side by side and attend to each other."""

    kind: Literal["transformer"]
    """The kind of student."""
    embedding_size: Annotated[int | None, Field(ge=8, le=8192, exclude_if=lambda size: size is None)] = None
    """Numbers in a token's embedding, fewer than the width, to which one matrix takes them; the width when absent."""

    def embedding_width(self, teacher_width: int) -> int:
        return self.embedding_size or super().embedding_width(teacher_width)


class TwoTowerStudent(LayeredStudent):
    """A small BERT that reads two texts apart; their cosine is the answer, so items can be embedded beforehand."""

    kind: Literal["two-tower"]
    """The kind of student."""
    embedding: Annotated[int, Field(ge=8, le=8192)] = 128
    """Numbers in a text's embedding."""
    max_length: Annotated[int, Field(ge=8, le=8192)] | None = None
    """Tokens of both texts at the most, half of them for each; the teacher's when absent."""


class TokenStudent(StudentSection):
    """A student over token embeddings, without attention; two texts are compared by features."""

    width: Annotated[int, Field(ge=8, le=4096)] = 128
    """Numbers in a token's embedding, and in every state that is made from it."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout on the embeddings and in the head."""
    init: Literal["teacher", "random"] = "teacher"
    """Token embeddings: each token alone through the teacher, reduced to the width by PCA, or drawn at random."""

    def embedding_width(self, teacher_width: int) -> int:
        return self.width


class ConvolutionStudent(TokenStudent):
    """1-D convolutions over token embeddings."""

    quantization: ClassVar[Literal["dynamic", "static"]] = "static"

    blocks: Annotated[int, Field(ge=1, le=64)] = 4
    """Residual blocks; each is one layer for the hidden-state loss."""
    kernel: Annotated[int, Field(ge=1, le=31)] = 5
    """Tokens that a convolution sees; odd."""

    @property
    def depth(self) -> int:
        return self.blocks

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, not {self.kernel}")
        return self


class MobileStudent(ConvolutionStudent):
    """MobileNet-style inverted residual 1-D convolutions over token embeddings; pairs are compared by features."""

    kind: Literal["mobile"]
    """The kind of student."""
    expansion: Annotated[int, Field(ge=1, le=8)] = 2
    """Channels inside a block, as a multiple of the width."""

    def body_parameters(self, teacher_width: int) -> int:
        return self.blocks * self.expansion * self.width * (2 * self.width + self.kernel) + 8 * self.width**2


class ResidualStudent(ConvolutionStudent):
    """ResNet-style 1-D convolutions over token embeddings, two to a block; pairs are compared by features."""

    kind: Literal["residual"]
    """The kind of student."""
    blocks: Annotated[int, Field(ge=1, le=64)] = 3
    """Residual blocks of two convolutions; each is one layer for the hidden-state loss."""
    kernel: Annotated[int, Field(ge=1, le=31)] = 3
    """Tokens that a convolution sees; odd."""

    def body_parameters(self, teacher_width: int) -> int:
        return self.blocks * 2 * self.kernel * self.width**2 + 8 * self.width**2


class StaticStudent(TokenStudent):
    """Token embeddings and their weighted mean, no layer that sees a token's neighbours; pairs by features."""

    kind: Literal["static"]
    """The kind of student."""
    width: Annotated[int, Field(ge=8, le=4096)] = 256
    """Numbers in a token's embedding."""
    layer_map: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    """One teacher layer (from 1), which embeddings start from and the hidden-state loss compares a row's weighted mean
    with; the last when absent."""
    embedding_std: Annotated[float, Field(gt=0, le=10, exclude_if=lambda std: std == 0.05)] = 0.05
    """Standard deviation of the embeddings at the start. A step of training is as long whatever it is: the larger, the
    nearer they stay to the teacher's."""
    bigrams: Annotated[int | None, Field(ge=256, le=2**20, exclude_if=lambda buckets: buckets is None)] = None
    """Buckets of embeddings for pairs of neighbouring tokens, which share one where their hashes are equal; none when
    absent. Each has `width` numbers."""

    @property
    def depth(self) -> int:
        return 1

    @property
    def further_embeddings(self) -> int:
        return self.bigrams or 0

    def body_parameters(self, teacher_width: int) -> int:
        return 8 * self.width**2


Student = Annotated[
    TransformerStudent | MobileStudent | ResidualStudent | StaticStudent | TwoTowerStudent, Field(discriminator="kind")
]
