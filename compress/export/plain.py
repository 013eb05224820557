"""A typed ONNX graph as it stands, run by onnxruntime on the CPU: what is said of an engine that nothing here can run.

Without graph optimizations: onnxruntime 1.32 folds Q/DQ around an fp16 Gemm into a kernel that answers otherwise
(a static student's logits all but vanished), and refuses fp8 convolutions that run well unfused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from compress.batch import Floats
from compress.errors import KdcError
from compress.export.typed import TypedGraph

NO_BF16 = "not run: onnxruntime cannot run bf16 on the CPU"
PROVIDERS = ["CPUExecutionProvider"]


class NotRunnable(KdcError):
    """onnxruntime does not load the model; the message begins with `not run`."""


class PlainSession:
    """A model whose operators are run one by one.

    Raises:
        NotRunnable: onnxruntime has no kernels for it.
    """

    def __init__(self, path: Path) -> None:
        import onnxruntime

        if "bf16" in TypedGraph.read(path).arithmetic:
            raise NotRunnable(NO_BF16)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4  # what goes wrong is raised
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=PROVIDERS)
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            reason = str(error).strip().splitlines()[0]
            raise NotRunnable(f"not run: onnxruntime cannot load it on the CPU ({reason})") from error
        self._inputs = {item.name: item.type for item in self._session.get_inputs()}

    def answers(self, feed: Mapping[str, Any]) -> bool:
        """Whether the model can be run on these inputs."""
        try:
            self._first(feed)
        except Exception:  # a shape or an index that does not fit, which onnxruntime tells by several classes
            return False
        return True

    def logits(self, feeds: Iterable[Mapping[str, Any]]) -> Floats:
        """The first output of all rows, float32 [N, C]."""
        return np.concatenate([self._first(feed) for feed in feeds])

    def _first(self, feed: Mapping[str, Any]) -> Floats:
        given = {
            name: np.asarray(array, np.int32 if "int32" in self._inputs[name] else np.int64)
            for name, array in feed.items()
        }
        return np.asarray(self._session.run(None, given)[0], np.float32)
