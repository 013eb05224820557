"""A model's answers on a split, in batches of like length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from compress.batch import Encoded, Floats, Ints
from compress.runtime.text import pad_rows
from compress.text_model import TextModel

BATCH_TOKENS = 4096


def model_inputs(
    encoded: Encoded, rows: Sequence[int] | Ints, names: Sequence[str], device: torch.device
) -> list[torch.Tensor]:
    """Inputs of the given rows in the order of `names`, each int64 [B, T]."""
    arrays = pad_rows([encoded.ids[i] for i in rows], [encoded.type_ids[i] for i in rows], names, encoded.pad_id)
    return [torch.from_numpy(arrays[name]).to(device) for name in names]


def forward_batches(encoded: Encoded, order: Ints) -> list[Ints]:
    """Cut rows, sorted by length, into batches of about BATCH_TOKENS tokens."""
    batches, start = [], 0
    lengths = encoded.lengths[order]
    while start < len(order):
        size = max(1, BATCH_TOKENS // int(lengths[min(start + 255, len(order) - 1)]))
        batches.append(order[start : start + size])
        start += size
    return batches


def predict_logits(module: TextModel, encoded: Encoded, device: torch.device, *, bf16: bool = False) -> Floats:
    """Logits float32 [N, C] in the order of the rows; the module is put into evaluation mode."""
    module.eval().to(device)
    order = np.argsort(encoded.lengths, kind="stable")
    result = np.zeros((0, 0), np.float32)
    for batch in forward_batches(encoded, order):
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits = module(*model_inputs(encoded, batch, module.input_names, device))
        if not len(result):
            result = np.empty((len(encoded), logits.shape[1]), np.float32)
        result[batch] = logits.float().cpu().numpy()
    return result
