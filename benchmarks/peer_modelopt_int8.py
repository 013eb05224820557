"""ModelOpt's ONNX int8, run in an environment of its own: MODEL.onnx ROWS.json TARGET.onnx; nothing of the project."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from modelopt.onnx.quantization import quantize


class Rows:
    """Rows of a JSON list as onnxruntime's calibrators and ModelOpt read them: inputs int64 [1, T] by name."""

    def __init__(self, path: str) -> None:
        rows = json.loads(Path(path).read_text(encoding="utf-8"))
        self.rows: list[dict[str, Any]] = [
            {name: np.asarray([ids], np.int64) for name, ids in row.items()} for row in rows
        ]
        self.rewind()

    def rewind(self) -> None:
        """Begin again."""
        self.rest = iter(self.rows)

    def get_first(self) -> dict[str, Any]:
        """The first row; the place in the order stays."""
        return self.rows[0]

    def get_next(self) -> dict[str, Any] | None:
        """The next row, or None."""
        return next(self.rest, None)


if __name__ == "__main__":
    model, rows, target = sys.argv[1:]
    # fp32 beside int8: its default of fp16 is for GPUs, and a CPU has no fp16 products.
    quantize(
        model,
        quantize_mode="int8",
        calibration_data_reader=Rows(rows),
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        output_path=target,
    )
