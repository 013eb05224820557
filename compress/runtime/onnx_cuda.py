"""ONNX models on onnxruntime's CUDA provider: there, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compress.errors import DataError, EnvironmentProblem
from compress.runtime import cuda
from compress.runtime.engine import Model
from compress.runtime.onnx_engine import OnnxEngine, session_options

PROVIDER = "CUDAExecutionProvider"
PLACES = "session.record_ep_graph_assignment_info"
"""Makes a session keep which provider each operator was given to."""
OPTIONS = {
    "use_tf32": "0"  # else float32 products are rounded to 10 bits, and the figures are of another model
}
PRODUCTS = {
    *("MatMul", "Gemm", "Conv", "FusedMatMul", "FusedGemm", "FusedConv", "Attention", "MultiHeadAttention"),
    *("MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv", "QGemm", "QAttention", "MatMulNBits"),
    *("DynamicQuantizeLinear", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"),
}
"""Operators that hold a model's work. onnxruntime computes shapes on the CPU by choice, but these only for want of a
kernel."""


def problem() -> str | None:
    """Why no model can run on CUDA here, or None where it can be tried."""
    import onnxruntime

    if PROVIDER not in onnxruntime.get_available_providers():
        return "this onnxruntime has no CUDA provider: pip install onnxruntime-gpu in the place of onnxruntime"
    return cuda.problem()


class CudaOnnxEngine(OnnxEngine):
    """A session of onnxruntime on the first GPU; see compress.runtime.engine.Engine.

    A call copies its inputs to the GPU and its outputs back, and returns when they are there. Float32 products are not
    rounded to TensorFloat-32.

    Raises:
        IntegrityError: onnxruntime cannot load the model.
        EnvironmentProblem: the session did not get the CUDA provider, for want of a library for example.
        DataError: products of the model have no CUDA kernel, so that it would run on the CPU in part.
    """

    runtime = "onnxruntime-cuda"

    def __init__(self, model: Model, threads: int) -> None:
        super().__init__(model, threads)
        self._session.disable_fallback()
        elsewhere = sorted(
            {
                node.op_type
                for part in self._session.get_provider_graph_assignment_info()
                for node in part.get_nodes()
                if part.ep_name != PROVIDER and node.op_type in PRODUCTS
            }
        )
        if elsewhere:
            name = model.name if isinstance(model, Path) else "the model"
            raise DataError(
                f"onnxruntime has no CUDA kernel for {', '.join(elsewhere)} of {name} and would compute that on the "
                "CPU: time its float form"
            )

    def _open(self, source: str | bytes, threads: int) -> Any:
        import onnxruntime

        onnxruntime.preload_dlls()  # CUDA's libraries, where they were installed as Python packages
        options = session_options(threads)
        options.add_session_config_entry(PLACES, "1")
        return onnxruntime.InferenceSession(
            source, sess_options=options, providers=[(PROVIDER, OPTIONS)], enable_fallback=0
        )

    def _check_provider(self, session: Any) -> None:
        if PROVIDER not in session.get_providers():
            raise EnvironmentProblem(
                f"onnxruntime gave a session on {', '.join(session.get_providers())}, {PROVIDER} was asked for: its "
                "libraries (CUDA, cuDNN) do not load, which `onnxruntime.preload_dlls()` names; install those that it "
                "asks for, or leave --target onnxruntime-cuda out"
            )
