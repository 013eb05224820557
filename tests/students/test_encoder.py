"""Students over token embeddings, each family: no answer depends on padding or neighbours, in torch, ONNX and int8."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compress.export.onnx import export_module
from compress.quantize.dynamic import quantize_dynamic_int8
from compress.quantize.static import quantize_static_int8
from compress.recipe import MobileStudent, ResidualStudent, StaticStudent, TokenStudent
from compress.students.encoder import TokenEncoder
from compress.students.mobile import MobileEncoder
from compress.students.residual import ResidualEncoder
from compress.students.static import StaticEncoder
from tests.students.rows import batch

VOCABULARY = 300
SPECIAL = (0, 1, 2, 3)
KINDS: dict[str, tuple[type[TokenEncoder], TokenStudent]] = {
    "mobile": (MobileEncoder, MobileStudent(kind="mobile", width=16, blocks=3)),
    "residual": (ResidualEncoder, ResidualStudent(kind="residual", width=16, blocks=3)),
    "static": (StaticEncoder, StaticStudent(kind="static", width=16)),
    "static-bigrams": (StaticEncoder, StaticStudent(kind="static", width=16, bigrams=257)),
}
EACH = pytest.mark.parametrize("kind", KINDS)
FEW = settings(max_examples=30, deadline=None)
ORDINARY = st.integers(4, 20)
"""Few tokens, so that texts often share some."""
Row = tuple[list[int], list[int]]
ROWS = st.lists(
    st.tuples(
        st.lists(ORDINARY | st.sampled_from(SPECIAL), min_size=1, max_size=12),
        st.lists(ORDINARY | st.sampled_from(SPECIAL), max_size=12),
    ),
    min_size=1,
    max_size=5,
)


def encoder(kind: str, *, pairs: bool, special_ids: tuple[int, ...] = SPECIAL) -> TokenEncoder:
    """A student that has learned: no statistic, bias or weight of a token is what it starts with."""
    torch.manual_seed(0)
    build, section = KINDS[kind]
    model: Any = build(section, vocabulary=VOCABULARY, classes=3, pairs=pairs, special_ids=special_ids)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight)
    return model.eval()  # type: ignore[no-any-return]  # torch types eval loosely


def said(model: TokenEncoder, rows: list[Row], length: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and hidden states of all layers."""
    with torch.no_grad():
        inputs = batch(rows, length)[: len(model.input_names)]
        logits, hidden = model(*inputs, hidden=tuple(range(1, model.layers + 1)))
    return logits, hidden


@EACH
@pytest.mark.parametrize("pairs", [False, True])
@FEW
@given(rows=ROWS, padding=st.integers(0, 20))
def test_answer_depends_on_the_row_alone(kind: str, pairs: bool, rows: list[Row], padding: int) -> None:
    """More padding, other neighbours: the same logits and hidden states."""
    model = encoder(kind, pairs=pairs)
    longest = max(len(first) + len(second) for first, second in rows)
    together = said(model, rows, longest + padding)
    for place, row in enumerate(rows):
        alone = said(model, [row])
        for found, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(found[place], expected[0], atol=1e-5, rtol=1e-5)


@EACH
def test_what_stands_in_the_padding_does_not_matter(kind: str) -> None:
    """Another padding token, other type ids behind the end."""
    model = encoder(kind, pairs=True)
    ids, mask, segments = batch([([2, 7, 8, 3], [8, 9, 3])], 10)
    expected = model(ids, mask, segments)
    torch.testing.assert_close(model(torch.where(mask == 1, ids, 8), mask, segments), expected)
    torch.testing.assert_close(model(ids, mask, torch.where(mask == 1, segments, 1)), expected)


@EACH
def test_order_of_a_pair_matters(kind: str) -> None:
    """(a, b) is not (b, a): query and title are different things."""
    model = encoder(kind, pairs=True)
    one, _ = said(model, [([2, 7, 8, 3], [9, 3])])
    other, _ = said(model, [([2, 9, 3], [7, 8, 3])])
    assert (one - other).abs().max() > 1e-3


@EACH
def test_agreement_is_seen(kind: str) -> None:
    """One token of the second text changes into one that the first has: another answer than for any other change."""
    model = encoder(kind, pairs=True)
    for table in model.modules():
        if isinstance(table, nn.Embedding) and table.num_embeddings == VOCABULARY:
            table.weight.data[10:13] = table.weight.data[10].clone()  # nothing but agreement tells them apart
    same, _ = said(model, [([2, 10, 3], [10, 3])])
    other, _ = said(model, [([2, 10, 3], [11, 3])])
    another, _ = said(model, [([2, 10, 3], [12, 3])])
    assert (same - other).abs().max() > 1e-3
    torch.testing.assert_close(other, another)


@EACH
def test_texts_with_nothing_in_them(kind: str) -> None:
    """All of the second text cut away, no special tokens at all: finite numbers."""
    assert torch.isfinite(said(encoder(kind, pairs=True), [([2, 7, 3], [])])[0]).all()
    assert torch.isfinite(said(encoder(kind, pairs=True, special_ids=()), [([4, 5], [4, 6])])[0]).all()


@EACH
def test_it_learns_from_a_batch_of_one_row(kind: str) -> None:
    """The last batch of an epoch may hold one row."""
    model = encoder(kind, pairs=True).train()
    model(*batch([([2, 7, 8, 3], [8, 3])])).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


# ---------------------------------------------------------------- the same wherever the graph runs


@dataclass(frozen=True)
class Exported:
    """A student with its float and int8 ONNX files; scale: the largest logit of 64 rows."""

    model: TokenEncoder
    scale: float
    folder: Path
    float32: onnxruntime.InferenceSession
    int8: onnxruntime.InferenceSession


@pytest.fixture(scope="module", params=KINDS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Each family for two texts, quantized by the method that suits it."""
    kind = request.param
    model = encoder(kind, pairs=True)
    folder = tmp_path_factory.mktemp(kind)
    source, target = folder / "float.onnx", folder / "int8.onnx"
    export_module(model, source, inputs=model.input_names, vocabulary=VOCABULARY)
    generator = np.random.default_rng(0)
    rows = [([2, *generator.integers(4, 21, 6)], [*generator.integers(4, 21, 5), 3]) for _ in range(64)]
    if KINDS[kind][1].quantization == "static":
        quantize_static_int8(source, target, [feed(model, rows[i : i + 16]) for i in range(0, 64, 16)])
    else:
        quantize_dynamic_int8(source, target)
    scale = float(said(model, rows)[0].abs().max())
    return Exported(model, scale, folder, onnxruntime.InferenceSession(source), onnxruntime.InferenceSession(target))


def feed(model: TokenEncoder, rows: list[Row], length: int | None = None) -> dict[str, np.ndarray]:
    """The rows as onnxruntime takes them."""
    inputs = batch(rows, length)[: len(model.input_names)]
    return {name: tensor.numpy() for name, tensor in zip(model.input_names, inputs, strict=True)}


@FEW
@given(rows=ROWS, padding=st.integers(0, 5))
def test_the_graph_says_what_torch_says(exported: Exported, rows: list[Row], padding: int) -> None:
    """Overlap, pooling and comparison included, whatever the tokens; int8 stays close and keeps rows apart."""
    model = exported.model
    longest = max(len(first) + len(second) for first, second in rows)
    given_rows = feed(model, rows, longest + padding)
    expected = said(model, rows)[0].numpy()
    np.testing.assert_allclose(exported.float32.run(None, given_rows)[0], expected, atol=1e-4)
    small = exported.int8.run(None, given_rows)[0]
    assert np.abs(small - expected).max() < 0.15 * max(exported.scale, np.abs(expected).max())
    alone = np.concatenate([exported.int8.run(None, feed(model, [row]))[0] for row in rows])
    np.testing.assert_allclose(small, alone, atol=1e-4)


def test_the_embeddings_are_int8(exported: Exported) -> None:
    """Nearly all bytes of these students: a scale for each token is what remains in float."""
    weights = onnx.load(exported.folder / "int8.onnx").graph.initializer
    tables = {tuple(tensor.dims): tensor.data_type for tensor in weights if VOCABULARY in tensor.dims}
    assert tables[VOCABULARY, 16] == onnx.TensorProto.INT8
    assert set(tables) == {(VOCABULARY, 16), (VOCABULARY, 1)}
    pairs = {tensor.data_type for tensor in weights if tuple(tensor.dims) == (257, 16)}
    assert pairs == ({onnx.TensorProto.INT8} if getattr(exported.model, "bigrams", None) else set())
