"""Builders of the smallest things that behave like real ones: tokenizer, ONNX model, deployable folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from compress.artifacts import EMBEDDING, ONNX, SPEC, TOKENIZER, ModelSpec, Standard, write_json
from compress.runtime.predictor import Request

WORDS = (
    "red",
    "blue",
    "shoe",
    "shoes",
    "running",
    "charger",
    "usb",
    "65",
    "w",
    "kettle",
    "coffee",
    "machine",
    "for",
)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
WIDTH = 8


def tiny_tokenizer_json(*, template: bool = True) -> str:
    """A word-level tokenizer; with a BERT template, or with no special tokens at all."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = {word: index for index, word in enumerate((*SPECIAL, *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL[1]))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if template:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
        )
    return str(tokenizer.to_str())


def tiny_onnx(path: Path, classes: int, *, pairs: bool = False, embedding: bool = False, seed: int = 0) -> Path:
    """Embeddings, mean over the attention mask, a linear layer; `pairs` subtract the second text.

    embedding: whether the mean, of length 1, is a second output.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(seed)
    vocabulary = len(SPECIAL) + len(WORDS)
    weights = {
        "embeddings": generator.normal(size=(vocabulary, WIDTH)).astype(np.float32),
        "weight": 3 * generator.normal(size=(WIDTH, classes)).astype(np.float32),
        "bias": np.zeros(classes, np.float32),
        "last": np.array([2], np.int64),
        "tokens": np.array([1], np.int64),
    }
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if pairs else [])]
    nodes = [
        helper.make_node("Gather", ["embeddings", "input_ids"], ["embedded"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),
        helper.make_node("Mul", ["embedded", "mask3"], ["kept"]),
    ]
    if pairs:
        weights["two"] = np.array(2, np.float32)
        weights["one"] = np.array(1, np.float32)
        nodes += [
            helper.make_node("Cast", ["token_type_ids"], ["types"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["types", "last"], ["types3"]),
            helper.make_node("Mul", ["types3", "two"], ["doubled"]),
            helper.make_node("Sub", ["one", "doubled"], ["sign"]),
            helper.make_node("Mul", ["kept", "sign"], ["signed"]),
        ]
    nodes += [
        helper.make_node("ReduceSum", ["signed" if pairs else "kept", "tokens"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "tokens"], ["count"], keepdims=1),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("Gemm", ["mean", "weight", "bias"], ["logits"]),
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])]
    if embedding:
        nodes.append(helper.make_node("LpNormalization", ["mean"], [EMBEDDING], axis=1))
        outputs.append(helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, ["batch", WIDTH]))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in names],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def tiny_spec(task: str, **changes: Any) -> ModelSpec:
    """The spec of `tiny_deployable`: three classes, a match with a threshold, a score, or a price."""
    fields: dict[str, Any] = {
        "task": task,
        "labels": ("shoes", "power", "kitchen"),
        "max_length": 12,
        "inputs": ("input_ids", "attention_mask"),
    }
    if task == "pairs":
        fields |= {
            "labels": ("0", "1"),
            "positive": "1",
            "threshold": 0.4,
            "inputs": ("input_ids", "attention_mask", "token_type_ids"),
        }
    if task in ("ranking", "regression"):
        fields["labels"] = ("score",)
    if task == "ranking":
        fields["inputs"] = ("input_ids", "attention_mask", "token_type_ids")
    if task == "regression":
        fields["standard"] = Standard(mean=50.0, std=20.0)
    return ModelSpec(**(fields | changes))


def tiny_deployable(folder: Path, task: str = "classification", **changes: Any) -> Path:
    """A folder with model.onnx, tokenizer.json and model.json for any kind of task."""
    spec = tiny_spec(task, **changes)
    folder.mkdir(parents=True, exist_ok=True)
    embedding = spec.similarity is not None
    tiny_onnx(folder / ONNX, len(spec.labels), pairs="token_type_ids" in spec.inputs, embedding=embedding)
    (folder / TOKENIZER).write_text(tiny_tokenizer_json(), encoding="utf-8")
    write_json(folder / SPEC, spec.model_dump(mode="json"))
    return folder


def tiny_requests(task: str = "classification") -> list[Request]:
    """A few requests that `tiny_deployable` can answer."""
    texts = ["red running shoes", "usb charger 65 w", "coffee machine", "blue kettle for coffee"]
    seconds = ["blue shoe", "charger", "kettle", "kettle"]
    return [
        Request(text, second if task in ("pairs", "ranking") else None, str(number))
        for number, (text, second) in enumerate(zip(texts, seconds, strict=True))
    ]
