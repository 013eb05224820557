"""How fast this machine can be at best: square matrix products in each arithmetic, and reading of memory.

The roof that a latency is held against (roofline model, Williams et al. 2009, https://doi.org/10.1145/1498765.1498785).
Each figure is the best of what the installed libraries reach, in a fresh process with so many threads.

`python -m compress.bench.limits THREADS` prints the figures as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from compress.bench.fresh import run_fresh
from compress.extras import available

SIDE = 1024
"""Rows and columns of the matrices: large enough that calls cost nothing, small enough for the caches of a core."""
ARRAY_BYTES = 2**28
"""Read from memory in one go: more than any cache holds."""
SECONDS = 0.6
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Call = Callable[[], object]


@dataclass(frozen=True)
class Limit:
    """One roof; `value` is None where nothing here can measure it, and `reason` says why."""

    name: str
    unit: str
    value: float | None
    by: str | None = None
    reason: str | None = None


def measure_limits(threads: int) -> list[dict[str, Any]]:
    """The roofs of this machine with so many threads, as plain data.

    Raises:
        EnvironmentProblem: the measuring process ended badly or took over two minutes.
    """
    found: list[dict[str, Any]] = json.loads(
        run_fresh(
            "compress.bench.limits",
            [str(threads)],
            "measuring the machine's limits",
            environment=os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads)),
        )
    )
    return found


def _limits(threads: int) -> list[Limit]:
    work = 2.0 * SIDE**3 / 1e9
    return [
        _best("fp32 GEMM", "GFLOP/s", work, {"numpy": _numpy_product(), **_torch_products(threads, "float32")}),
        _best("bf16 GEMM", "GFLOP/s", work, _torch_products(threads, "bfloat16")),
        _best("int8 GEMM", "GOP/s", work, {**_torch_products(threads, "int8"), **_onnxruntime_int8(threads)}),
        _best("memory read", "GB/s", ARRAY_BYTES / 1e9, {"numpy": _memory_read()}),
    ]


def _best(name: str, unit: str, work: float, calls: dict[str, Call]) -> Limit:
    """The highest rate among several ways to do the same work."""
    if not calls:
        return Limit(name, unit, None, reason="not run: needs torch; pip install 'kdc[train]'")
    rates = {library: work / _least_seconds(call) for library, call in calls.items()}
    by = max(rates, key=rates.__getitem__)
    return Limit(name, unit, round(rates[by], 1), by)


def _least_seconds(call: Call) -> float:
    """The quickest of the calls that fit into SECONDS, after one untimed."""
    call()
    took: list[float] = []
    while sum(took) < SECONDS:
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return min(took)


def _numpy_product() -> Call:
    matrix = np.random.default_rng(0).standard_normal((SIDE, SIDE), dtype=np.float32)
    out = np.empty_like(matrix)
    return lambda: np.matmul(matrix, matrix, out=out)


def _memory_read() -> Call:
    array = np.ones(ARRAY_BYTES // 4, np.float32)
    return lambda: np.dot(array, array)  # two operands, one stream: both are the same bytes


def _torch_products(threads: int, arithmetic: str) -> dict[str, Call]:
    if not available("torch"):
        return {}
    import torch

    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    if arithmetic == "int8":
        codes = torch.randint(-127, 128, (SIDE, SIDE), dtype=torch.int8, generator=generator)
        return {"torch": lambda: torch._int_mm(codes, codes)}
    matrix = torch.randn(SIDE, SIDE, generator=generator).to(getattr(torch, arithmetic))
    return {"torch": lambda: matrix @ matrix}


def _onnxruntime_int8(threads: int) -> dict[str, Call]:
    if not available("onnx"):
        return {}
    from onnx import TensorProto, helper, numpy_helper

    from compress.runtime.engine import ModelBytes, open_engine

    rng = np.random.default_rng(0)
    weight = numpy_helper.from_array(rng.integers(-127, 128, (SIDE, SIDE)).astype(np.int8), "weight")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "weight"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [SIDE, SIDE])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    engine = open_engine(ModelBytes(model.SerializeToString()), threads=threads)
    feed = {"x": rng.integers(0, 256, (SIDE, SIDE)).astype(np.uint8)}
    return {"onnxruntime": lambda: engine.run(feed)}


if __name__ == "__main__":
    sys.stdout.write(json.dumps([asdict(limit) for limit in _limits(int(sys.argv[1]))]))
