"""A Hugging Face sequence classifier as teacher: loaded, checked, asked."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from compress.artifacts import TWO_TEXTS, ModelSpec, Standard, write_spec
from compress.errors import DataError, EnvironmentProblem
from compress.recipe import HuggingFaceTeacher
from compress.runtime.text import INPUT_NAMES, TextEncoder
from compress.teachers.head import change_standard, fit_labels, standard_of
from compress.teachers.load import check_positions, resolve, safetensors_parameters, weight_files
from compress.text_model import TransformerClassifier

PAIR_SEPARATOR = "\n"


@dataclass
class Teacher:
    """A loaded teacher.

    Its head is put in the order of the task's labels when it is loaded, so logits [B, C] mean what
    `spec.labels` says.
    """

    module: TransformerClassifier
    tokenizer: Any
    spec: ModelSpec

    @property
    def tokenizer_json(self) -> str:
        """The fast tokenizer as JSON."""
        return str(self.tokenizer.backend_tokenizer.to_str())

    @property
    def encoder(self) -> TextEncoder:
        """Text to tokens as the teacher wants them."""
        return TextEncoder(
            self.tokenizer_json,
            max_length=self.spec.max_length,
            separator=self.spec.separator,
            pad_id=self.spec.pad_id,
        )


def load_teacher(
    section: HuggingFaceTeacher,
    folder: Path,
    *,
    task: str,
    labels: Sequence[str],
    positive: str | None,
    trained: bool,
    two_texts: bool | None = None,
    standard: Standard | None = None,
) -> Teacher:
    """Load a teacher by name; `trained` teachers must bring a complete head that fits the labels.

    two_texts: whether it reads two; None for what the kind of task always has. standard: of number labels; the head
    of a trained teacher is put into it, from the standard in its own model.json, or else from the labels' unit.

    Raises:
        DataError: no weights, damaged files, an untrained head, or a head for other labels.
        RecipeError: teacher.max_length is beyond the model's positions.
        EnvironmentProblem: a hub id that cannot be fetched.
    """
    local = resolve(section.model, folder)
    if local is not None:
        for path in weight_files(local):
            safetensors_parameters(path)
    source = str(local) if local is not None else section.model
    options: dict[str, Any] = {} if trained else {"num_labels": len(labels), "ignore_mismatched_sizes": True}
    try:
        where = {"revision": section.revision, "trust_remote_code": section.trust_remote_code}
        model, info = _open_model(source, where | options)
        tokenizer = _open_tokenizer(source, where)
    except OSError as error:
        text = str(error).splitlines()[0]
        if local is None:
            raise EnvironmentProblem(
                f"teacher.model: {section.model!r} could not be fetched from the hub: {text}"
            ) from error
        raise DataError(f"teacher.model: {local} could not be loaded: {text}") from error
    except (ValueError, RuntimeError) as error:  # another kind of model; weights of another shape than said
        said = " ".join(line.strip() for line in str(error).splitlines()[:2])
        raise DataError(f"teacher.model: {source} could not be loaded: {said}") from error
    if trained and info["missing_keys"]:
        raise DataError(
            f"teacher.model: {source} lacks trained weights for "
            f"{', '.join(sorted(info['missing_keys'])[:4])}; add teacher.train to fine-tune it first"
        )
    check_positions(model.config.to_dict(), section.max_length, key="teacher.max_length")
    _prepare(section, model, tokenizer)
    if trained:
        fit_labels(model, labels, positive, section.model)
    if trained and standard is not None:
        change_standard(model, standard_of(local), standard, section.model)
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: i for i, label in enumerate(labels)}
    names = _input_names(model, tokenizer)
    pairs = task in TWO_TEXTS if two_texts is None else two_texts
    spec = ModelSpec(
        task=task,
        two_texts=pairs,
        labels=tuple(labels),
        positive=positive,
        standard=standard,
        max_length=section.max_length,
        inputs=names,
        pad_id=int(tokenizer.pad_token_id),
        separator=PAIR_SEPARATOR if pairs and not _has_pair_template(tokenizer) else "",
    )
    return Teacher(TransformerClassifier(model, names), tokenizer, spec)


def _open_model(source: str, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    from transformers import AutoModelForSequenceClassification, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model, info = AutoModelForSequenceClassification.from_pretrained(
        source,
        attn_implementation="eager",  # faster than sdpa on the CPU for short texts
        use_safetensors=True,
        output_loading_info=True,
        dtype=torch.float32,
        **options,
    )
    return model, info


def _open_tokenizer(source: str, options: dict[str, Any]) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(source, **options)
    except OSError:
        raise
    except Exception as error:  # transformers and the Rust binding raise all sorts for files they cannot read
        raise DataError(
            f"teacher.model: the tokenizer of {source} could not be loaded ({repr(error).splitlines()[0]}); "
            "save it again with tokenizer.save_pretrained"
        ) from error


def _prepare(section: HuggingFaceTeacher, model: Any, tokenizer: Any) -> None:
    """Settle padding; refuse a tokenizer that cannot be taken along."""
    if not tokenizer.is_fast:
        raise DataError(f"teacher.model: {section.model} has no fast tokenizer (tokenizer.json)")
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token is None:
            raise DataError(
                f"teacher.model: the tokenizer of {section.model} has neither a padding nor an end token; "
                "set its pad_token and save it again"
            )
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.use_cache = False  # a decoder would keep keys and values that nothing reads


def _input_names(model: Any, tokenizer: Any) -> tuple[str, ...]:
    """What the tokenizer gives and the model takes; type ids only where the model tells two of them apart."""
    taken = set(inspect.signature(model.forward).parameters)
    if getattr(model.config, "type_vocab_size", 2) < 2:
        taken.discard("token_type_ids")
    return tuple(name for name in INPUT_NAMES if name in tokenizer.model_input_names and name in taken)


def _has_pair_template(tokenizer: Any) -> bool:
    return int(tokenizer.num_special_tokens_to_add(pair=True)) > int(tokenizer.num_special_tokens_to_add(pair=False))


def save_teacher(teacher: Teacher, out: Path, threshold: float | None) -> None:
    """Write weights, configuration, tokenizer and model.json into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    teacher.module.model.save_pretrained(out, safe_serialization=True)
    teacher.tokenizer.save_pretrained(out)
    write_spec(out, teacher.spec.model_copy(update={"threshold": threshold}))
