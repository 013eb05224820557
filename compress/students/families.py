"""The families of students: how each is built, written and read. One entry here is all that a new one needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from compress.artifacts import ModelSpec
from compress.recipe import TokenStudent, TransformerStudent
from compress.students.encoder import TokenEncoder
from compress.students.mobile import MobileEncoder
from compress.students.residual import ResidualEncoder
from compress.students.start import Origin
from compress.students.static import StaticEncoder
from compress.students.transformer import build_anew, cut_from_teacher, load_transformer
from compress.text_model import TextModel

DEFAULT_WIDTH = 384
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
        teacher, tokens = origin.teacher, origin.tokens
        if section.cuts_layers and teacher is not None:
            return cut_from_teacher(section, teacher, tokens, origin.layer_map)
        width = DEFAULT_WIDTH if teacher is None else teacher.width
        return build_anew(section, tokens, labels=origin.labels, max_length=origin.max_length, default_width=width)

    def save(self, module: Any, out: Path) -> None:
        module.model.save_pretrained(out, safe_serialization=True)

    def load(self, section: TransformerStudent, spec: ModelSpec, folder: Path) -> TextModel:
        return load_transformer(folder, spec.inputs)


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
        from safetensors.torch import save_file

        save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, out / WEIGHTS)

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
}
