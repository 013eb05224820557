"""The fused relation loss: its bodies against the float64 reference, its gradient, what it refuses and allocates."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from compress.kernels import relation_kd as module
from compress.kernels.relation_kd import chunked, relation_kd
from tests.kernels.agreement import Largest, assert_near, generator, loss_and_gradients
from tests.relations_by_loops import relations_by_loops

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def states(rows: int, tokens: int, width: int, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(
        rows,
        tokens,
        width,
        generator=generator(seed),
        dtype=torch.float64,
    ).to(dtype)


def lengths(tokens: int, *these: int) -> Tensor:
    """Mask of rows with so many real tokens."""
    return torch.arange(tokens) < torch.tensor(these).unsqueeze(-1)


def found_by(body: str, student: Tensor, teacher: Tensor, mask: Tensor, heads: int, upstream: float) -> list[Tensor]:
    return loss_and_gradients(lambda s: relation_kd(s, teacher, mask, heads, body=body), student, upstream=upstream)


def test_two_tokens_by_hand() -> None:
    """One head of one number: x·xᵀ is (1, 0; 0, 0) for the student and nothing for the teacher."""
    chances = torch.softmax(torch.tensor([1.0, 0.0]), 0)
    expected = (0.5 * torch.log(0.5 / chances)).sum().item() / 2
    found = relation_kd(torch.tensor([[[1.0], [0.0]]]), torch.zeros(1, 2, 1), lengths(2, 2), 1)
    assert found.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("body", ["chunked", "reference"])
def test_it_is_the_papers_formula(body: str) -> None:
    """Padding in the middle of a row, a row without a token, widths that differ."""
    student, teacher = states(3, 6, 8, dtype=torch.float64), states(3, 6, 12, seed=1, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0], [1, 0, 1, 1, 0, 0]]).bool()
    for heads in (1, 2, 4):
        found = relation_kd(student, teacher, mask, heads, body=body).item()
        assert found == pytest.approx(relations_by_loops(student, teacher, mask, heads), rel=1e-12)


SHAPES = [(1, 1, 1, 1, 1), (2, 1, 2, 3, 2), (3, 41, 3, 8, 12), (2, 130, 1, 5, 7), (4, 7, 12, 32, 16)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_chunked_agrees_with_the_reference(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    rows, tokens, heads, ours, theirs = shape
    student, teacher = (states(rows, tokens, heads * size, seed=size, dtype=dtype) for size in (ours, theirs))
    mask = lengths(tokens, *(tokens - number for number in range(rows)))
    expected = found_by("reference", student, teacher, mask, heads, -3.0)
    assert_near(found_by("chunked", student, teacher, mask, heads, -3.0), expected)
    assert expected[0].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert expected[1].dtype == dtype


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 3), (2, 41, 2, 8, 20)], ids=str)
def test_triton_agrees_with_the_reference(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    rows, tokens, heads, ours, theirs = shape
    student, teacher = (states(rows, tokens, heads * size, seed=size, dtype=dtype) for size in (ours, theirs))
    mask = lengths(tokens, *(tokens - 20 * number for number in range(rows)))
    expected = found_by("reference", student, teacher, mask, heads, -3.0)
    found = found_by("triton", student, teacher, mask, heads, -3.0)
    assert_near(found, expected)


def test_triton_over_several_blocks() -> None:
    """70 tokens are two blocks of queries and of keys; one row has no token, one has some in the second block alone."""
    student, teacher = states(3, 70, 16), states(3, 70, 16, seed=1)
    mask = lengths(70, 70, 0, 70)
    mask[2, :66] = False
    assert_near(
        found_by("triton", student, teacher, mask, 1, 1.0), found_by("reference", student, teacher, mask, 1, 1.0)
    )


@given(
    sizes=st.tuples(*(st.integers(low, 6) for low in (0, 1, 1, 1, 1))),
    piece=st.sampled_from([1, 20, 100, 2**18]),
    seed=st.integers(0, 99),
    scale=st.sampled_from([0.0, 0.1, 1.0, 30.0]),
)
@settings(max_examples=60)
def test_any_sizes_in_any_pieces(sizes: tuple[int, ...], piece: int, seed: int, scale: float) -> None:
    """However large the pieces are and wherever padding stands, it is the reference's loss and never negative."""
    rows, tokens, heads, ours, theirs = sizes
    student = scale * states(rows, tokens, heads * ours, seed=seed, dtype=torch.float64)
    teacher = states(rows, tokens, heads * theirs, seed=seed + 1, dtype=torch.float64)
    mask = torch.rand(rows, tokens, generator=generator(seed)) < 0.7
    with patch.object(module, "PIECE", piece):
        found = found_by("chunked", student, teacher, mask, heads, 2.0)
    expected = found_by("reference", student, teacher, mask, heads, 2.0)
    assert_near(found, expected)
    assert found[0] > -1e-12
    assert not found[1][~mask].any()


@pytest.mark.parametrize("body", ["chunked", "triton", "reference"])
def test_nothing_to_compare_is_zero(body: str) -> None:
    for rows, real in ((0, 0), (2, 0)):
        student, teacher = states(rows, 5, 4), states(rows, 5, 8)
        mask = torch.full((rows, 5), bool(real))
        loss, gradient = found_by(body, student, teacher, mask, 2, 1.0)
        assert loss == 0
        assert not gradient.any()


@pytest.mark.parametrize("body", ["chunked", "triton", "reference"])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_equal_states_are_exactly_at_rest(body: str, scale: float) -> None:
    """Scores reach ±1e4 at the larger scale."""
    student = scale * states(2, 19, 8)
    loss, gradient = found_by(body, student, student.clone(), lengths(19, 19, 12), 2, 1.0)
    assert loss == 0
    assert not gradient.any()


@pytest.mark.parametrize("body", ["chunked", "triton"])
def test_large_scores_and_padding(body: str) -> None:
    """Scores of ±1e4 in float32: as near as their own rounding, ±5e-4, allows; padding does not count."""
    student, teacher = 60 * states(2, 9, 8), 60 * states(2, 9, 8, seed=1)
    mask = lengths(9, 9, 5)
    expected = found_by("reference", student, teacher, mask, 2, 1.0)
    student[~mask], teacher[~mask] = 500, -500
    found = found_by(body, student, teacher, mask, 2, 1.0)
    assert found[0].item() == pytest.approx(expected[0].item(), rel=1e-5)
    torch.testing.assert_close(found[1], expected[1], rtol=2e-3, atol=2e-3 * expected[1].abs().max().item())


@pytest.mark.parametrize("body", ["chunked", "triton"])
def test_inputs_that_do_not_lie_in_order(body: str) -> None:
    whole = states(8, 2, 7), states(2, 8, 7, seed=1), lengths(14, 14, 9)
    student, teacher, mask = whole[0].permute(1, 2, 0), whole[1].transpose(1, 2), whole[2][:, ::2]
    expected = found_by("reference", student.contiguous(), teacher.contiguous(), mask.contiguous(), 2, 1.0)
    assert_near(found_by(body, student, teacher, mask, 2, 1.0), expected)
    dense = mask.t().contiguous().t()
    assert_near(found_by(body, student, teacher, dense, 2, 1.0), expected)


@pytest.mark.parametrize("body", ["chunked", "triton"])
def test_student_and_teacher_of_two_dtypes(body: str) -> None:
    for ours, theirs in (
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float16),
        (torch.float32, torch.float64),
    ):
        student, teacher, mask = states(2, 9, 8, dtype=ours), states(2, 9, 4, seed=1, dtype=theirs), lengths(9, 9, 6)
        expected = found_by("reference", student, teacher, mask, 2, 1.0)
        assert_near(found_by(body, student, teacher, mask, 2, 1.0), expected)


def test_gradient_is_the_losss_own() -> None:
    student, teacher = states(2, 5, 6, dtype=torch.float64), states(2, 5, 4, seed=1, dtype=torch.float64)
    mask = lengths(5, 5, 3)
    for piece in (7, 2**18):
        with patch.object(module, "PIECE", piece):
            assert torch.autograd.gradcheck(
                lambda s: relation_kd(s, teacher, mask, 2, body="chunked"), (student.clone().requires_grad_(),)
            )


def test_the_teacher_learns_nothing_and_no_gradient_is_made_unasked() -> None:
    student, teacher, mask = states(2, 4, 4), states(2, 4, 4, seed=1).requires_grad_(), lengths(4, 4, 2)
    assert not relation_kd(student, teacher, mask, 2).requires_grad
    loss = relation_kd(student.requires_grad_(), teacher, mask, 2)
    loss.backward()
    assert teacher.grad is None
    with torch.no_grad():
        assert torch.equal(relation_kd(student, teacher, mask, 2), loss)


def test_a_gradient_scaler_does_not_come_too_late() -> None:
    """A mean over many tokens has gradients below float16's range, which only the upstream factor lifts into it."""
    student, teacher = (0.01 * states(40, 41, 4, seed=seed) for seed in (0, 1))
    mask = torch.ones(40, 41, dtype=torch.bool)
    expected = found_by("reference", student, teacher, mask, 1, 2.0**24)[1]
    assert 0 < expected.abs().max() * 2.0**-24 < 6e-8
    found = found_by("chunked", student.half(), teacher.half(), mask, 1, 2.0**24)[1]
    torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.05 * expected.abs().max().item())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_under_autocast_factors_are_rounded_and_sums_are_not(dtype: torch.dtype) -> None:
    student, teacher, mask = states(2, 9, 8), states(2, 9, 8, seed=1), lengths(9, 9, 6)
    expected = found_by("reference", student.to(dtype), teacher.to(dtype), mask, 2, 1.0)
    with torch.autocast("cpu", dtype):
        found = found_by("chunked", student, teacher, mask, 2, 1.0)
    assert found[0].dtype == found[1].dtype == torch.float32
    assert_near(found[:1], expected[:1])
    assert_near(found[1:], [expected[1].float()], dtype=dtype)


def test_it_can_be_compiled() -> None:
    student, teacher, mask = states(2, 9, 8), states(2, 9, 8, seed=1), lengths(9, 9, 6)

    def loss(student: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return 2 * relation_kd(student * 1.5, teacher, mask, 2)

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    assert_near(loss_and_gradients(compiled, student), loss_and_gradients(loss, student))


def test_it_keeps_to_the_rules_of_an_operator() -> None:
    """What tracing assumes of shapes, dtypes and aliasing is so (torch.library.opcheck)."""
    for dtype, wanted in ((torch.float32, True), (torch.float16, True), (torch.float32, False)):
        student = states(2, 5, 4, dtype=dtype).requires_grad_(wanted)
        inputs = (student, states(2, 5, 8, dtype=dtype), lengths(5, 5, 3), 2, "chunked", wanted)
        torch.library.opcheck(torch.ops.kdc.relation_kd.default, inputs, test_utils=("test_schema", "test_faketensor"))


def test_no_relation_matrix_is_made() -> None:
    """Of 384 matrices of 128², 24 MiB, the largest made is the gradient, 6 MiB; of 2048², 16 MiB, a piece of 1 MiB."""
    student, teacher = states(32, 128, 384), states(32, 128, 384, seed=1)
    with Largest(student, teacher) as largest:
        chunked(student, teacher, torch.ones(32, 128, dtype=torch.bool), 12, True)
    assert largest.bytes == student.nbytes
    student, teacher, mask = states(1, 2048, 32), states(1, 2048, 48), torch.ones(1, 2048, dtype=torch.bool)
    with Largest(student, teacher) as largest:
        chunked(student, teacher, mask, 2, True)
    assert largest.bytes <= 2**20


def test_what_does_not_fit_is_refused() -> None:
    student, teacher, mask = states(2, 4, 6), states(2, 4, 8), lengths(4, 4, 2)
    cases = [
        ((student, states(2, 5, 8), mask, 2), r"student's states are \(2, 4, 6\) and the teacher's \(2, 5, 8\)"),
        ((student[0], teacher[0], mask, 2), r"must be \[B, T, width\]"),
        ((student, teacher, mask[:1], 2), r"mask is torch.bool \(1, 4\) .* must be torch.bool \(2, 4\)"),
        ((student, teacher, mask.long(), 2), r"mask is torch.int64 \(2, 4\)"),
        ((student, teacher, mask, 4), r"4 heads do not divide the student's width, which is 6"),
        ((student, teacher, mask, 3), r"3 heads do not divide the teacher's width, which is 8"),
        ((student, teacher, mask, 0), r"0 heads do not divide"),
    ]
    for inputs, sentence in cases:
        with pytest.raises(ValueError, match=sentence):
            relation_kd(*inputs)
    with pytest.raises(ValueError, match="body 'fast' is none of auto, triton, chunked, reference"):
        relation_kd(student, teacher, mask, 2, body="fast")
    with pytest.raises(ValueError, match="heads of up to 256 numbers, and these have 300: use more heads"):
        relation_kd(states(1, 2, 300), states(1, 2, 300), lengths(2, 2), 1, body="triton")
