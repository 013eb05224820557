"""The families of students: how each is built, written and read. One entry here is all that a new one needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from compress.artifacts import ModelSpec
from compress.recipe import LayeredStudent, TokenStudent, TransformerStudent, TwoTowerStudent
from compress.runtime.text import TextEncoder
from compress.students.encoder import TokenEncoder
from compress.students.factored import factor, load_factored
from compress.students.first_token import is_plain_bert
from compress.students.fits import (
    DEFAULT_WIDTH,
    check_factored,
    check_narrow,
    check_towers_origin,
    check_two_tower,
    is_narrower,
)
from compress.students.mobile import MobileEncoder
from compress.students.narrow import narrow
from compress.students.residual import ResidualEncoder
from compress.students.start import Origin
from compress.students.static import StaticEncoder
from compress.students.transformer import build_anew, cut_from_teacher, load_transformer
from compress.students.two_tower import TwoTower
from compress.students.vocabulary import token_counts
from compress.text_model import TextModel, TransformerClassifier

WEIGHTS = "model.safetensors"


class Family(Protocol):
    """A kind of student; `section` is the recipe's section of this kind."""

    def build(self, section: Any, origin: Origin) -> TextModel:
        """A new student, started as the section says."""

    def save(self, module: Any, out: Path) -> None:
        """Write its weights into a folder."""

    def load(self, section: Any, spec: ModelSpec, folder: Path) -> TextModel:
        """The student whose weights `save` wrote."""


class Transformers:
    """Transformers, written as Hugging Face models."""

    def build(self, section: TransformerStudent, origin: Origin) -> TextModel:
        built = _transformer(section, origin)
        if section.embedding_size is not None:
            check_factored(section, built.width)
            counts = token_counts(origin.tokens.tokenizer_json, origin.tokens.size, origin.texts)
            factor(built.model, section.embedding_size, counts)
        return built

    def save(self, module: Any, out: Path) -> None:
        module.model.save_pretrained(out, safe_serialization=True)

    def load(self, section: TransformerStudent, spec: ModelSpec, folder: Path) -> TextModel:
        if section.embedding_size is None:
            return load_transformer(folder, spec.inputs)
        return TransformerClassifier(load_factored(folder, section.embedding_size), spec.inputs)


def _transformer(section: LayeredStudent, origin: Origin) -> TransformerClassifier:
    teacher, tokens = origin.teacher, origin.tokens
    if section.cuts_layers and teacher is not None:
        config = teacher.model.config
        sizes = (config.hidden_size, config.num_attention_heads, getattr(config, "intermediate_size", None))
        check_narrow(section, sizes, model=_named(teacher.model))
        cut = cut_from_teacher(teacher, tokens, origin.layer_map)
        if is_narrower(section, sizes):
            encoder = TextEncoder(tokens.tokenizer_json, max_length=origin.max_length, pad_id=tokens.pad_id)
            return TransformerClassifier(narrow(section, cut.model, encoder, origin.texts), cut.input_names)
        return cut
    width = DEFAULT_WIDTH if teacher is None else teacher.width
    return build_anew(section, tokens, labels=origin.labels, max_length=origin.max_length, default_width=width)


def _named(model: Any) -> str:
    return "bert" if is_plain_bert(model) else type(model).__name__


class TwoTowers:
    """Transformers that read two texts apart, written as one file of weights and the body's configuration."""

    def build(self, section: TwoTowerStudent, origin: Origin) -> TextModel:
        check_two_tower(origin.labels, two_texts=origin.pairs)
        model = _transformer(section, origin).model
        check_towers_origin(section, _named(model))
        model.bert.pooler = None
        positive = 1 if origin.positive is None else origin.labels.index(origin.positive)
        return TwoTower(model.bert, embedding=section.embedding, labels=len(origin.labels), positive=positive)

    def save(self, module: Any, out: Path) -> None:
        module.bert.config.save_pretrained(out)
        save_weights(module, out)

    def load(self, section: TwoTowerStudent, spec: ModelSpec, folder: Path) -> TextModel:
        from safetensors.torch import load_file
        from transformers import BertConfig, BertModel

        config = BertConfig.from_pretrained(folder, attn_implementation="eager")
        positive = 1 if spec.positive is None else spec.labels.index(spec.positive)
        bert = BertModel(config, add_pooling_layer=False)
        module = TwoTower(bert, embedding=section.embedding, labels=len(spec.labels), positive=positive)
        module.load_state_dict(load_file(folder / WEIGHTS))
        return module


def save_weights(module: Any, out: Path) -> None:
    """A module's weights as one file."""
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, out / WEIGHTS)


class TokenEncoders:
    """Students over token embeddings of one class, written as one file of weights."""

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder

    def build(self, section: TokenStudent, origin: Origin) -> TextModel:
        module: TokenEncoder = self.encoder(
            section,
            vocabulary=origin.tokens.size,
            classes=len(origin.labels),
            pairs=origin.pairs,
            special_ids=origin.tokens.special_ids,
        )
        module.start(origin, from_teacher=section.init == "teacher")
        return module

    def save(self, module: Any, out: Path) -> None:
        save_weights(module, out)

    def load(self, section: TokenStudent, spec: ModelSpec, folder: Path) -> TextModel:
        from safetensors.torch import load_file

        built = spec.student or {}
        module: TokenEncoder = self.encoder(
            section,
            vocabulary=built["vocabulary"],
            classes=len(spec.labels),
            pairs=spec.two_texts,
            special_ids=built["special_ids"],
        )
        module.load_state_dict(load_file(folder / WEIGHTS))
        return module


FAMILIES: dict[str, Family] = {
    "transformer": Transformers(),
    "mobile": TokenEncoders(MobileEncoder),
    "residual": TokenEncoders(ResidualEncoder),
    "static": TokenEncoders(StaticEncoder),
    "two-tower": TwoTowers(),
}
