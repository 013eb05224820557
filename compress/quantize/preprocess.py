"""What every quantizer wants first: constants and batch normalisation folded, shapes known."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from compress.errors import DataError
from compress.export.onnx import SINGLE_FILE_BYTES, write_onnx
from compress.export.quiet import quiet


def prepared(source: Path) -> Any:
    """The cleaned onnx.ModelProto of a file.

    Raises:
        DataError: the file is missing or is no valid ONNX model, a weight is NaN, or they are 2 GB or more.
    """
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model, apart = _read(source)
    with tempfile.TemporaryDirectory(prefix="kdc-quantize-") as temporary, quiet():
        path, single = Path(temporary) / "prepared.onnx", source
        if apart:  # quant_pre_process looks for the weights in a folder of its own
            single = Path(temporary) / "float.onnx"
            onnx.save(model, single)
        quant_pre_process(single, path, skip_symbolic_shape=True)
        model = onnx.load(path)
    drop_unused_domains(model)
    return model


def copy_whole(source: Path, target: Path) -> None:
    """Write a model as one file, with the weights that lie beside it.

    Raises:
        DataError: as `prepared`.
    """
    model, apart = _read(source)
    if apart:
        write_onnx(model, target)
    else:
        shutil.copyfile(source, target)


def _read(source: Path) -> tuple[Any, bool]:
    """A model with all its weights, and whether some lay beside the file."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # it ships no types
    from onnx.external_data_helper import load_external_data_for_model, uses_external_data

    if not source.is_file():
        raise DataError(f"{source} does not exist: name an .onnx file")
    try:
        model = onnx.load(source, load_external_data=False)
        apart = any(map(uses_external_data, model.graph.initializer))
        if apart:
            load_external_data_for_model(model, str(source.parent))
        _check_weights(model, source)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{source} is not a valid ONNX model ({reason}): export it again") from error
    return model, apart


def _check_weights(model: Any, source: Path) -> None:
    from onnx import TensorProto, numpy_helper

    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if size >= SINGLE_FILE_BYTES:
        raise DataError(
            f"{source} has {size / 1e9:.1f} GB of weights, less than {SINGLE_FILE_BYTES / 1e9:.0f} GB can be "
            "quantized: take a smaller model"
        )
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and np.isnan(numpy_helper.to_array(tensor)).any():
            raise DataError(f"the weight {tensor.name} of {source} holds NaN: the model is broken, make it anew")


def drop_unused_domains(model: Any) -> None:
    """Remove operator sets that no node is of; onnxruntime's tools declare all that they know."""
    used = {"", "ai.onnx", *(node.domain for node in model.graph.node)}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def require_some(count: int, source: Path, wanted: str) -> None:
    """Refuse to call a model quantized in which nothing was.

    Raises:
        DataError: count is 0.
    """
    if not count:
        raise DataError(
            f"{source} has nothing to quantize: 0 nodes are {wanted} with float32 weights; "
            "give the float model, or choose another method"
        )
