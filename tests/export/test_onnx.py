"""The ONNX files say what the torch models say, for every batch and length, and are the same each time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    GPT2Config,
    RobertaConfig,
)

from compress.artifacts import ONNX
from compress.errors import RecipeError
from compress.export.onnx import INPUTS, export_module, export_teacher
from compress.steps.shipping import export_student
from tests.tiny_students import exported_student

VOCABULARY = 50
SHAPES = [(1, 1), (1, 7), (3, 5), (4, 30), (2, 38)]
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
COMMON = {"vocab_size": VOCABULARY, "num_labels": 3, "initializer_range": 0.3}
TEACHERS = {
    "bert": BertConfig(**COMMON, **SMALL, max_position_embeddings=40),
    "roberta": RobertaConfig(**COMMON, **SMALL, max_position_embeddings=42, pad_token_id=1),
    "distilbert": DistilBertConfig(**COMMON, dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=40),
    "gpt2": GPT2Config(**COMMON, n_embd=16, n_layer=2, n_head=2, n_positions=40, pad_token_id=0),
}


class Convolution(nn.Module):
    """Embedding, masked depthwise convolution with BatchNorm, mean over the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 16)
        self.convolution = nn.Conv1d(16, 16, 5, padding=2, groups=16)
        self.normalise = nn.BatchNorm1d(16)
        self.head = nn.Linear(16, 3)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        mask = attention_mask.unsqueeze(-1).float()
        x = (self.embedding(input_ids) * mask).transpose(1, 2)
        x = torch.relu(self.normalise(self.convolution(x))).transpose(1, 2)
        return self.head((x * mask).sum(1) / mask.sum(1).clamp(min=1.0))


class Bert(nn.Module):
    """Logits of a tiny BERT from positional inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.model = AutoModelForSequenceClassification.from_config(TEACHERS["bert"])

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=types).logits


def feed(rows: int, length: int, names: Sequence[str], pad: int = 0) -> dict[str, np.ndarray]:
    """Random ids; the first row of a batch is padded."""
    ids = np.random.default_rng(rows * 100 + length).integers(3, VOCABULARY, (rows, length))
    mask = np.ones_like(ids)
    if rows > 1:
        ids[0, -2:], mask[0, -2:] = pad, 0
    arrays = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return {name: arrays[name] for name in names}


@pytest.fixture(scope="module", params=["convolution", "bert"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    torch.manual_seed(0)
    module, names = (Convolution(), INPUTS[:2]) if request.param == "convolution" else (Bert(), INPUTS)
    path = tmp_path_factory.mktemp(request.param) / "model.onnx"
    export_module(module, path, inputs=names, vocabulary=VOCABULARY)
    return module.eval(), names, path


@pytest.mark.parametrize(("rows", "length"), SHAPES)
def test_module_answers_the_same_for_every_shape(exported, rows: int, length: int) -> None:
    module, names, path = exported
    session = onnxruntime.InferenceSession(path)
    given = feed(rows, length, names)
    with torch.no_grad():
        expected = module(*(torch.from_numpy(array) for array in given.values())).numpy()
    np.testing.assert_allclose(session.run(None, given)[0], expected, atol=1e-5)


def test_module_has_the_agreed_names_and_axes(exported) -> None:
    _, names, path = exported
    session = onnxruntime.InferenceSession(path)
    assert [(value.name, value.shape, value.type) for value in session.get_inputs()] == [
        (name, ["batch", "sequence"], "tensor(int64)") for name in names
    ]
    assert [(value.name, value.shape) for value in session.get_outputs()] == [("logits", ["batch", 3])]


def test_module_gives_the_same_bytes_and_no_trace_of_this_machine(exported, tmp_path: Path, capfd) -> None:
    module, names, path = exported
    again = tmp_path / "deeper" / "other.onnx"
    export_module(module, again, inputs=names, vocabulary=VOCABULARY)
    assert again.read_bytes() == path.read_bytes()
    assert list(again.parent.iterdir()) == [again]
    for foreign in (b".py", b"site-packages", b"stack_trace", str(Path(__file__).parent).encode()):
        assert foreign not in again.read_bytes()
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("opset", [17, 24])
def test_module_takes_the_opset_asked_for(opset: int, tmp_path: Path) -> None:
    export_module(Convolution(), tmp_path / "m.onnx", inputs=INPUTS[:2], opset=opset, vocabulary=VOCABULARY)
    assert {entry.version for entry in onnx.load(tmp_path / "m.onnx").opset_import if not entry.domain} == {opset}


def test_training_mode_survives(tmp_path: Path) -> None:
    module = Convolution().train()
    export_module(module, tmp_path / "m.onnx", inputs=INPUTS[:2], vocabulary=VOCABULARY)
    assert module.training


def test_unknown_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="'pixels'"):
        export_module(Convolution(), tmp_path / "m.onnx", inputs=["pixels"], vocabulary=VOCABULARY)


@pytest.mark.parametrize("kind", TEACHERS)
def test_teacher_answers_the_same_for_every_shape(kind: str, tmp_path: Path, capfd) -> None:
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(TEACHERS[kind]).eval()
    model.save_pretrained(tmp_path / "teacher")
    capfd.readouterr()
    names = export_teacher(tmp_path / "teacher", tmp_path / "teacher.onnx", opset=18)
    assert capfd.readouterr().out == ""
    assert names == (INPUTS if kind == "bert" else INPUTS[:2])
    session = onnxruntime.InferenceSession(tmp_path / "teacher.onnx")
    assert session.get_inputs()[0].shape == ["batch", "sequence"]
    assert [(value.name, value.shape) for value in session.get_outputs()] == [("logits", ["batch", 3])]
    for rows, length in SHAPES:
        given = feed(rows, length, names, TEACHERS[kind].pad_token_id)
        with torch.no_grad():
            expected = model(**{name: torch.from_numpy(array) for name, array in given.items()}).logits.numpy()
        np.testing.assert_allclose(session.run(None, given)[0], expected, atol=1e-4)


def test_teacher_beyond_a_protobuf_keeps_its_weights_beside_it(tmp_path: Path, monkeypatch) -> None:
    AutoModelForSequenceClassification.from_config(TEACHERS["bert"]).save_pretrained(tmp_path / "teacher")
    export_teacher(tmp_path / "teacher", tmp_path / "one.onnx")
    monkeypatch.setattr("compress.export.onnx.SINGLE_FILE_BYTES", 1000)
    names = export_teacher(tmp_path / "teacher", tmp_path / "two.onnx")
    assert (tmp_path / "two.onnx.data").stat().st_size > 10_000  # most weights of this tiny model
    given = feed(3, 5, names)
    answers = [onnxruntime.InferenceSession(tmp_path / n).run(None, given)[0] for n in ("one.onnx", "two.onnx")]
    np.testing.assert_allclose(*answers, atol=1e-5)


def test_the_size_of_a_student_counts_weights_beside_its_graph(tmp_path: Path, monkeypatch) -> None:
    folder = exported_student(tmp_path, "transformer")
    whole = (folder / ONNX).stat().st_size
    monkeypatch.setattr("compress.export.onnx.SINGLE_FILE_BYTES", 1000)
    found = export_student(tmp_path / "student", tmp_path / "apart", 20, [])
    files = [path.stat().st_size for path in (tmp_path / "apart").glob(f"{ONNX}*")]
    assert (len(files), found["size_bytes"]) == (2, sum(files))
    assert found["size_bytes"] == pytest.approx(whole, rel=0.1)


def test_decoder_without_padding_token_is_refused(tmp_path: Path) -> None:
    config = GPT2Config(**COMMON, n_embd=16, n_layer=1, n_head=2, n_positions=40)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(RecipeError, match="pad_token_id"):
        export_teacher(tmp_path, tmp_path / "teacher.onnx")


def test_architecture_unknown_to_optimum_is_named(tmp_path: Path) -> None:
    from transformers import CanineConfig

    config = CanineConfig(**SMALL, num_labels=3, num_hash_buckets=16, max_position_embeddings=64)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(RecipeError, match=r"teacher\.model.*'canine'"):
        export_teacher(tmp_path, tmp_path / "teacher.onnx")
