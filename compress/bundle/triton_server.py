"""A bundle as a model repository of NVIDIA's Triton Inference Server.

https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_configuration.html

    NAME/              ensemble: text in, answer out
    NAME_tokens/       Python backend: text to token ids
    NAME_onnx/         onnxruntime backend, on processors; batches are put together by the server
    NAME_answers/      Python backend: logits to label and score
    NAME_tensorrt…/    TensorRT backend, on GPUs, and the ensemble NAME_gpu…, for each engine that was built
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.artifacts import LOGITS, ONNX, TOKENIZER, ModelSpec, write_spec
from compress.bundle.docker import image_name
from compress.errors import IntegrityError
from compress.runtime.bundle import Bundle
from compress.runtime.triton_steps import LABEL, PROBABILITIES, SCORE, TEXT, TEXT_PAIR

MAX_BATCH = 32
"""Rows in one call of the model, as `kdc serve` has it."""
QUEUE_MICROSECONDS = 500
"""How long a request may wait for others: less than what most students take for one."""
DTYPES = {"int64": "TYPE_INT64", "int32": "TYPE_INT32", "float32": "TYPE_FP32"}


class Word(str):
    """A bare word of a config: the name of an enumeration's value."""


@dataclass(frozen=True)
class Engine:
    """A TensorRT engine, and the largest batch that it was built for."""

    path: Path
    max_batch: int


def write_repository(bundle: Bundle, out: Path, engines: Sequence[Engine] = ()) -> list[str]:
    """Write the repository into a new folder `out`; returns the names of its models, the ensembles first.

    Raises:
        IntegrityError: the model's inputs are of a type that the server does not know.
    """
    manifest = bundle.manifest
    name, spec = image_name(manifest.name), manifest.spec  # a name that is no path, whoever made the bundle
    tokens = [(tensor.name, _dtype(tensor.dtype), [-1]) for tensor in manifest.inputs]
    logits = [(LOGITS, "TYPE_FP32", [len(spec.labels)])]
    texts = [(field, "TYPE_STRING", [1]) for field in ((TEXT, TEXT_PAIR) if spec.two_texts else (TEXT,))]
    answers = _answers(spec)
    _python(out / f"{name}_tokens", "Tokens", _model(f"{name}_tokens", "python", texts, tokens), spec)
    (out / f"{name}_tokens" / "1" / TOKENIZER).write_bytes(bundle.members[TOKENIZER])
    _python(out / f"{name}_answers", "Answers", _model(f"{name}_answers", "python", logits, answers), spec)
    _write(out / f"{name}_onnx", _model(f"{name}_onnx", "onnxruntime", tokens, logits))
    (out / f"{name}_onnx" / "1" / ONNX).write_bytes(bundle.members[ONNX])
    models, batches = {name: f"{name}_onnx"}, {name: MAX_BATCH}
    for engine in engines:
        plan = f"{name}_{engine.path.stem.replace('-', '_')}"
        config = _model(plan, "tensorrt", tokens, logits, kind="KIND_GPU", max_batch=engine.max_batch)
        _write(out / plan, config)
        (out / plan / "1" / "model.plan").write_bytes(engine.path.read_bytes())
        models[f"{plan}_ensemble"], batches[f"{plan}_ensemble"] = plan, min(MAX_BATCH, engine.max_batch)
    for ensemble, model in models.items():
        tensors = texts, tokens, logits, answers
        _write(out / ensemble, _ensemble(ensemble, name, model, tensors, batches[ensemble]))
    steps = [f"{name}_tokens", f"{name}_answers"]
    return [*models, *models.values(), *steps]


def pbtxt(fields: Mapping[str, Any]) -> str:
    """A message in protobuf's text format: mappings are messages, lists are repeated fields."""
    return "".join(f"{line}\n" for line in _lines(fields))


def _lines(fields: Mapping[str, Any]) -> Iterator[str]:
    for key, value in fields.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, Mapping):
                yield f"{key} {{"
                yield from (f"  {line}" for line in _lines(each))
                yield "}"
            else:
                yield f"{key}: {each if isinstance(each, Word) else json.dumps(each)}"


Tensors = list[tuple[str, str, list[int]]]


def _answers(spec: ModelSpec) -> Tensors:
    found: Tensors = [(SCORE, "TYPE_FP64", [1])]
    if spec.task in ("classification", "pairs"):
        found += [(LABEL, "TYPE_STRING", [1]), (PROBABILITIES, "TYPE_FP64", [len(spec.labels)])]
    return found


def _dtype(name: str) -> str:
    if name not in DTYPES:
        raise IntegrityError(f"the model's input is {name}, one of {', '.join(DTYPES)} was expected; export it again")
    return DTYPES[name]


def _tensors(tensors: Tensors) -> list[dict[str, Any]]:
    return [{"name": name, "data_type": Word(dtype), "dims": dims} for name, dtype, dims in tensors]


def _model(
    name: str, backend: str, inputs: Tensors, outputs: Tensors, *, kind: str = "KIND_CPU", max_batch: int = MAX_BATCH
) -> dict[str, Any]:
    return {
        "name": name,
        "backend": backend,
        "max_batch_size": max_batch,
        "input": _tensors(inputs),
        "output": _tensors(outputs),
        "instance_group": {"count": 1, "kind": Word(kind)},
        "dynamic_batching": {"max_queue_delay_microseconds": QUEUE_MICROSECONDS if backend != "python" else 0},
    }


def _ensemble(
    ensemble: str, name: str, model: str, tensors: tuple[Tensors, Tensors, Tensors, Tensors], max_batch: int
) -> dict[str, Any]:
    texts, tokens, logits, answers = tensors
    steps = [(f"{name}_tokens", texts, tokens), (model, tokens, logits), (f"{name}_answers", logits, answers)]
    return {
        "name": ensemble,
        "platform": "ensemble",
        "max_batch_size": max_batch,
        "input": _tensors(texts),
        "output": _tensors(answers),
        "ensemble_scheduling": {
            "step": [
                {
                    "model_name": step,
                    "model_version": -1,
                    "input_map": [{"key": tensor, "value": tensor} for tensor, _, _ in given],
                    "output_map": [{"key": tensor, "value": tensor} for tensor, _, _ in made],
                }
                for step, given, made in steps
            ]
        },
    }


def _write(folder: Path, config: Mapping[str, Any]) -> None:
    (folder / "1").mkdir(parents=True)  # the server wants a version folder, for an ensemble an empty one
    (folder / "config.pbtxt").write_text(pbtxt(config), encoding="utf-8")


def _python(folder: Path, step: str, config: Mapping[str, Any], spec: ModelSpec) -> None:
    _write(folder, config)
    code = f"from compress.runtime.triton_steps import {step} as TritonPythonModel\n\n__all__ = ['TritonPythonModel']\n"
    (folder / "1" / "model.py").write_text(code, encoding="utf-8")
    write_spec(folder / "1", spec)
