"""Compiles Triton kernels for an H100 on a machine without one: `python -m tests.kernels.compiled`.

The interpreter runs Python, and accepts what Triton's own language, with its fixed types, does not. One line a kernel
and dtype: whether its products are on tensor cores.
"""

from __future__ import annotations

from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from compress.kernels import hidden_mse_triton, kd_kl_triton, relation_kd_triton

H100 = GPUTarget("cuda", 90, 32)
RELATIONS = {"D_S": 32, "D_T": 64, "WIDTH_S": 32, "WIDTH_T": 64, "BLOCK": 64, "NEED_GRAD": True}
ERRORS = {"HAS_BIAS": True, "NEED_WEIGHT": True, "NEED_BIAS": True, "ROWS": 64, "COLUMNS": 64, "INNER": 32}
ROWS = dict.fromkeys(("FIND_STATISTICS", "FIND_TOTALS", "FIND_LOSS", "STORE", "HARD", "SHARED"), True) | {"BLOCK": 4096}
NONE = dict.fromkeys(ROWS, False) | {"BLOCK": 128}
KERNELS: tuple[tuple[Any, dict[str, Any]], ...] = (
    (relation_kd_triton._log_sums, RELATIONS),
    (relation_kd_triton._divergence, RELATIONS),
    (hidden_mse_triton._errors, ERRORS),
    (hidden_mse_triton._student_gradient, ERRORS),
    (hidden_mse_triton._weight_gradient, ERRORS),
    *((kd_kl_triton._rows, ROWS | {"DIVERGENCE": number}) for number in range(3)),
    *((kd_kl_triton._rows, NONE | {"DIVERGENCE": 1, only: True}) for only in ("FIND_STATISTICS", "FIND_TOTALS")),
)
"""With the values of their constants, of which a kernel takes those it has."""
POINTERS = dict.fromkeys(("student", "teacher", "weight", "errors", "gradient"), "*bf16")
POINTERS |= dict.fromkeys(("bias", "shares", "sums_s", "sums_t", "parts", "squares", "scale"), "*fp32")
POINTERS |= dict.fromkeys(("statistics", "totals", "losses"), "*fp32") | {"labels": "*i64"}
POINTERS |= dict.fromkeys(("inverse", "temperature", "soft", "hard", "factor"), "fp32")
POINTERS |= dict.fromkeys(("weight_sums", "bias_sums"), "*fp32") | {"mask": "*u8", "counted": "*i64", "count": "*i64"}
"""Types by the names of arguments; the others are 32-bit numbers."""


def compiled(kernel: Any, constants: dict[str, Any], states: str) -> Any:
    """A kernel of states, weights and logits of a dtype, as Triton calls it."""
    types_of = POINTERS | {name: f"*{states}" for name, kind in POINTERS.items() if kind == "*bf16"}
    fixed = {name: value for name, value in (constants | {"PRECISION": "ieee"}).items() if name in kernel.arg_names}
    types = {name: "constexpr" if name in fixed else types_of.get(name, "i32") for name in kernel.arg_names}
    return triton.compile(ASTSource(kernel, types, fixed), target=H100)


if __name__ == "__main__":
    for kernel, constants in KERNELS:
        for states in ("bf16", "fp32"):
            print(kernel.__name__, states, "wgmma" in compiled(kernel, constants, states).asm["ptx"])
