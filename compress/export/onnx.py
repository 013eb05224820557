"""ONNX from torch modules and Hugging Face teachers: dynamic batch and sequence, the same bytes each time."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress import artifacts
from compress.errors import RecipeError
from compress.export.quiet import quiet
from compress.extras import require

if TYPE_CHECKING:
    import torch

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
AXES = ("batch", "sequence")
TEACHER_MAX_OPSET = 20
"""Optimum traces with TorchScript, whose exporter ends at this operator set."""
SINGLE_FILE_BYTES = 2_000_000_000
"""A protobuf message must stay under 2 GiB: beyond this the weights go to `<name>.data` beside the model."""


def export_module(
    module: torch.nn.Module,
    path: Path,
    *,
    inputs: Sequence[str],
    outputs: Sequence[str] = (artifacts.LOGITS,),
    opset: int = 20,
    vocabulary: int,
) -> None:
    """Write a module as one ONNX file with the output `logits` [batch, C], and maybe others.

    Args:
        module: its forward takes int64 [B, T] tensors in the order of `inputs` and returns logits [B, C],
            or a tuple of all outputs.
        path: the .onnx file to write; replaced whole or not at all.
        inputs: among input_ids, attention_mask, token_type_ids.
        outputs: names of what the module returns.
        opset: ONNX operator set, 17 to 24.
        vocabulary: number of token ids the module knows; example ids stay below it.

    Raises:
        RecipeError: an input name is unknown.
    """
    import torch

    unknown = [name for name in inputs if name not in INPUTS]
    if unknown:
        raise RecipeError(f"the student asks for the input {unknown[0]!r}, known are {', '.join(INPUTS)}")
    # Sizes 0 and 1 would be burnt into the graph, so the example has 2 rows of 8 tokens.
    ids = torch.arange(16).reshape(2, 8) % vocabulary
    examples = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": torch.zeros_like(ids),
    }
    training = module.training
    module.eval()
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                module,
                tuple(examples[name] for name in inputs),
                dynamo=True,
                opset_version=opset,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=_dynamic_shapes(module, len(inputs)),
                verbose=False,
            )
    finally:
        module.train(training)
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    _finish(program.model_proto, path, outputs)


def _dynamic_shapes(module: torch.nn.Module, count: int) -> tuple[Any, ...]:
    """Free axes for each input, in the form of the forward's signature: named arguments, or one `*inputs`."""
    shapes = tuple(dict(enumerate(AXES)) for _ in range(count))
    first = next(iter(inspect.signature(module.forward).parameters.values()))
    return (shapes,) if first.kind is inspect.Parameter.VAR_POSITIONAL else shapes


def export_teacher(folder: Path, path: Path, *, opset: int = 18) -> tuple[str, ...]:
    """Write a Hugging Face sequence classifier as ONNX with the output `logits` [batch, C], through optimum.

    Args:
        folder: config.json and safetensors of anything that AutoModelForSequenceClassification opens.
        path: the .onnx file to write; weights above 2 GB go to `<name>.data` beside it.
        opset: ONNX operator set; cut to 20, the last that optimum's exporter knows.

    Returns:
        The names of the inputs, in order, each int64 [batch, sequence].

    Raises:
        EnvironmentProblem: optimum is not installed.
        RecipeError: optimum does not know the architecture, or a decoder has no padding token.
    """
    import onnx

    require("optimum", extra="optimum", why="exporting the teacher")
    model = _load_teacher(folder)
    from optimum.exporters.onnx import onnx_export_from_model

    with tempfile.TemporaryDirectory(prefix="kdc-export-") as temporary, quiet():
        try:
            onnx_export_from_model(
                model,
                output=temporary,
                opset=min(opset, TEACHER_MAX_OPSET),
                task="text-classification",
                monolith=True,
                do_validation=False,
            )
        except ValueError as error:
            raise RecipeError(
                f"teacher.model: optimum cannot export {folder}, architecture {model.config.model_type!r} "
                f"({str(error).split('. ')[0]}); choose another teacher or give its scores as a file"
            ) from error
        proto = onnx.load(Path(temporary) / "model.onnx")
    names = tuple(value.name for value in proto.graph.input)
    if not set(names) <= set(INPUTS):
        raise RecipeError(
            f"teacher.model: {folder} needs the inputs {', '.join(names)}, "
            f"only {', '.join(INPUTS)} can be given; choose another teacher or give its scores as a file"
        )
    _finish(proto, path, (artifacts.LOGITS,))
    return names


def _load_teacher(folder: Path) -> Any:
    """The classifier of a folder in float32, with attention that the tracer can follow."""
    import torch
    from transformers import AutoModelForSequenceClassification

    with quiet():
        model = AutoModelForSequenceClassification.from_pretrained(
            folder,
            dtype=torch.float32,
            attn_implementation="eager",
            use_safetensors=True,
            local_files_only=True,
        )
    if model.config.pad_token_id is None:
        raise RecipeError(
            f"teacher.model: {folder / 'config.json'} has no pad_token_id, without which a batch of texts "
            "cannot be told from its padding; set it to the tokenizer's padding (or end-of-text) token"
        )
    return model.eval()


def _finish(model: Any, path: Path, expected: Sequence[str]) -> None:
    """Name the axes, drop what depends on this machine, infer shapes, check, write."""
    import onnx

    _strip(model)
    graph = model.graph
    _keep_normalisation_apart(graph)
    for value in graph.input:
        for axis, name in zip(value.type.tensor_type.shape.dim, AXES, strict=True):
            if not axis.dim_param:
                raise RuntimeError(f"the exporter fixed the axis {name!r} of {value.name!r} to {axis.dim_value}")
    renamed = {d.dim_param: name for d, name in zip(graph.input[0].type.tensor_type.shape.dim, AXES, strict=True)}
    for value in [*graph.input, *graph.output, *graph.value_info]:
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param in renamed:
                axis.dim_param = renamed[axis.dim_param]
    outputs = [value.name for value in graph.output]
    if outputs != list(expected):
        raise RuntimeError(f"the exported graph gives {outputs}, expected {list(expected)}")
    if sum(len(tensor.raw_data) for tensor in graph.initializer) < SINGLE_FILE_BYTES:
        inferred = onnx.shape_inference.infer_shapes(model)
        onnx.checker.check_model(inferred, full_check=True)
        write_onnx(inferred, path)
    else:
        write_onnx(model, path)
        onnx.checker.check_model(str(path))


def write_onnx(model: Any, path: Path) -> None:
    """Write an onnx.ModelProto by rename, always as the same bytes.

    Weights of 2 GB and more go to `<name>.data` beside it.
    """
    import onnx

    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) >= SINGLE_FILE_BYTES:
        data = path.with_name(path.name + ".data")
        data.unlink(missing_ok=True)  # onnx appends to a file that is there
        onnx.external_data_helper.convert_model_to_external_data(model, location=data.name, size_threshold=1024)
        onnx.external_data_helper.write_external_data_tensors(model, str(path.parent))
    with artifacts.publishing(path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))


def _keep_normalisation_apart(graph: Any) -> None:
    """Write residual and bias additions as Sum, which is the same but not what onnxruntime fuses.

    Teachers get it too, or the speed-up would flatter the student.

    It would turn Add + LayerNormalization into SkipLayerNormalization and Add + Gelu into BiasGelu, whose CPU
    kernels are several times slower than the two operators (onnxruntime 1.32; 3-layer MiniLM cut, batch 32:
    10.7 of 39 ms of an int8 model went into 6 SkipLayerNormalizations, 1.8 ms without the fusion).
    """
    before = {name for node in graph.node if node.op_type in ("LayerNormalization", "Gelu") for name in node.input}
    for node in graph.node:
        if node.op_type == "Add" and node.output[0] in before:
            node.op_type = "Sum"


def _strip(model: Any) -> None:
    """Remove stack traces, source paths and module names of this machine, which stand in no other export."""
    graph = model.graph
    del model.metadata_props[:]
    for item in [
        model,
        graph,
        *graph.node,
        *graph.input,
        *graph.output,
        *graph.value_info,
        *graph.initializer,
    ]:
        item.doc_string = ""
        if item is not model and hasattr(item, "metadata_props"):
            del item.metadata_props[:]
    for node in graph.node:
        for attribute in node.attribute:
            attribute.doc_string = ""
