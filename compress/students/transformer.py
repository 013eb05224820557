"""The `transformer` student: layers cut from the teacher, or a small BERT built anew.

Starting from the teacher's own layers follows DistilBERT (https://arxiv.org/abs/1910.01108) and TinyBERT's
uniform layer map (https://arxiv.org/abs/1909.10351).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compress.errors import RecipeError
from compress.recipe import LayeredStudent
from compress.students.fits import head_count
from compress.students.vocabulary import StudentTokens
from compress.text_model import TransformerClassifier


def cut_from_teacher(teacher: Any, tokens: StudentTokens, layer_map: Sequence[int]) -> TransformerClassifier:
    """Copy the teacher, keep the mapped layers and the student's tokens; as wide as the teacher.

    The result is built from its own configuration, so that it is the same when it is loaded again.

    Raises:
        RecipeError: layers that are not found or not alike.
    """
    config = teacher.model.config
    model = copy.deepcopy(teacher.model)
    owner, attribute = find_layers(model.base_model, teacher.layers)
    layers = getattr(owner, attribute)
    # A layer that is named twice must not be shared.
    setattr(owner, attribute, nn.ModuleList(copy.deepcopy(layers[i - 1]) for i in layer_map))
    model.config.num_hidden_layers = len(layer_map)
    if getattr(config, "layer_types", None):
        model.config.layer_types = [config.layer_types[i - 1] for i in layer_map]
    take_embeddings(model, tokens)
    with torch.random.fork_rng(devices=[]):
        built = type(model)(model.config)
    try:
        built.load_state_dict(model.state_dict())
    except RuntimeError as error:
        raise RecipeError(
            f"student.init: the layers {list(layer_map)} of {type(model).__name__} are not built alike, so they "
            "cannot take each other's places; name others in student.layer_map, or set init: random"
        ) from error
    return TransformerClassifier(built, teacher.input_names)


def find_layers(body: nn.Module, count: int) -> tuple[nn.Module, str]:
    """The module and attribute that hold the `count` layers of a transformer.

    Raises:
        RecipeError: there is no such list.
    """
    for module in body.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == count:
                return module, name
    raise RecipeError(f"student.init: the {count} layers of {type(body).__name__} were not found; set it to random")


def take_embeddings(model: Any, tokens: StudentTokens) -> None:
    """Replace the token embeddings by those of the student's tokens; new tokens start at the mean of all."""
    old = model.get_input_embeddings().weight.data
    known = torch.from_numpy(tokens.teacher_ids >= 0)
    rows = old.mean(0, keepdim=True).repeat(tokens.size, 1)
    rows[known] = old[torch.from_numpy(tokens.teacher_ids[tokens.teacher_ids >= 0])]
    fresh = nn.Embedding(tokens.size, old.shape[1], padding_idx=tokens.pad_id)
    fresh.weight.data.copy_(rows)
    model.set_input_embeddings(fresh)
    model.config.vocab_size = tokens.size
    model.config.pad_token_id = tokens.pad_id


def build_anew(
    section: LayeredStudent,
    tokens: StudentTokens,
    *,
    labels: Sequence[str],
    max_length: int,
    default_width: int,
) -> TransformerClassifier:
    """A BERT of the recipe's sizes with random weights."""
    from transformers import BertConfig, BertForSequenceClassification

    width = section.hidden or default_width
    config = BertConfig(
        vocab_size=tokens.size,
        hidden_size=width,
        num_hidden_layers=section.layers,
        num_attention_heads=head_count(section, width),
        intermediate_size=section.intermediate or 4 * width,
        max_position_embeddings=max_length,
        pad_token_id=tokens.pad_id,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        attn_implementation="eager",
    )
    model = BertForSequenceClassification(config)
    return TransformerClassifier(model, ("input_ids", "attention_mask", "token_type_ids"))


def load_transformer(folder: Path, input_names: Sequence[str]) -> TransformerClassifier:
    """A transformer student as `save_student` wrote it."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(
        folder, attn_implementation="eager", use_safetensors=True, dtype=torch.float32, local_files_only=True
    )
    return TransformerClassifier(model, input_names)
