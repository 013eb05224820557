"""Trained weights as torch runs them, operator by operator: what a model costs where nothing was exported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from compress.artifacts import LOGITS, SPEC, TOKENIZER, read_spec
from compress.errors import DataError
from compress.runtime import cuda
from compress.runtime.engine import Array, Tensor
from compress.runtime.predictor import Predictor
from compress.text_model import TextModel, TransformerClassifier

CPU = torch.device("cpu")


class EagerEngine:
    """A torch module in evaluation mode on one device; see compress.runtime.engine.Engine. It gives logits alone.

    On a GPU a call copies its inputs there and its logits back, and returns when they are there.
    """

    runtime = "torch"

    def __init__(self, module: TextModel, threads: int, device: torch.device = CPU) -> None:
        self.module = module.eval().to(device)
        self.threads, self.device = threads, device
        self.inputs = tuple(Tensor(name, "int64", ("batch", "sequence")) for name in module.input_names)
        self.outputs: tuple[Tensor, ...] = (Tensor(LOGITS, "float32", ("batch", "labels")),)

    def run(self, feed: Mapping[str, Array], names: Sequence[str] | None = None) -> list[Array]:
        """Logits float32 [B, C]."""
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        with torch.inference_mode():
            inputs = [torch.from_numpy(feed[name]).to(self.device) for name in self.module.input_names]
            logits = self.module(*inputs).cpu()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # what is still computed belongs to this call's time
        return [logits.numpy()]


def cuda_problem() -> str | None:
    """Why torch cannot compute on a GPU here, or None where it can."""
    if torch.cuda.is_available():
        return None
    if torch.version.cuda is None:
        return f"torch {torch.__version__} was built without CUDA"
    return f"torch {torch.__version__} finds no NVIDIA GPU: {cuda.problem() or 'its driver is older than torch asks'}"


def open_eager(folder: Path, threads: int, device: torch.device = CPU) -> Predictor:
    """A student folder, or a Hugging Face classifier's with tokenizer.json and model.json, ready to answer.

    Raises:
        DataError: a file is missing, or nothing says how it reads text.
        IntegrityError: a file is damaged.
    """
    missing = [name for name in (TOKENIZER, SPEC) if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{folder} has no {' and no '.join(missing)}, which say how it reads text")
    spec = read_spec(folder)
    module = _student(folder) if spec.student is not None else _classifier(folder, spec.inputs)
    return Predictor(spec, (folder / TOKENIZER).read_text(encoding="utf-8"), EagerEngine(module, threads, device))


def _student(folder: Path) -> TextModel:
    from compress.students.build import load_student

    return load_student(folder)[0]


def _classifier(folder: Path, inputs: Sequence[str]) -> TextModel:
    from transformers import AutoModelForSequenceClassification

    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, attn_implementation="eager", use_safetensors=True, dtype=torch.float32, local_files_only=True
        )
    except (OSError, ValueError, RuntimeError) as error:  # missing or damaged weights; another kind of model
        raise DataError(f"{folder} could not be loaded by torch: {str(error).splitlines()[0]}") from error
    return TransformerClassifier(model, inputs)
