"""What every quantizer wants first: constants and batch normalisation folded, shapes known."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from compress.errors import DataError
from compress.export.quiet import quiet


def prepared(source: Path) -> Any:
    """The cleaned onnx.ModelProto of a file.

    Raises:
        DataError: the file is missing or is no valid ONNX model.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # it ships no types
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if not source.is_file():
        raise DataError(f"{source} does not exist: name an .onnx file")
    try:
        onnx.checker.check_model(onnx.load(source))
    except (DecodeError, onnx.checker.ValidationError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{source} is not a valid ONNX model ({reason}): export it again") from error
    with tempfile.TemporaryDirectory(prefix="kdc-quantize-") as temporary, quiet():
        path = Path(temporary) / "prepared.onnx"
        quant_pre_process(source, path, skip_symbolic_shape=True)
        model = onnx.load(path)
    drop_unused_domains(model)
    return model


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
