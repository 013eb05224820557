"""The fused error of projected states: its bodies against the float64 reference, gradients, refusals, memory."""

from __future__ import annotations

from functools import partial
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from compress.kernels import hidden_mse as module
from compress.kernels.hidden_mse import chunked, hidden_mse
from tests.kernels.agreement import Largest, assert_near, generator, loss_and_gradients

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
Inputs = tuple[Tensor, Tensor, Tensor, Tensor]


def inputs(*shape: int, ours: int, theirs: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Inputs:
    """States, weight, bias and the teacher's states."""
    draw = partial(torch.randn, generator=generator(seed), dtype=torch.float64)
    made = draw(*shape, ours), draw(theirs, ours) / ours**0.5, draw(theirs), draw(*shape, theirs)
    return made[0].to(dtype), made[1].to(dtype), made[2].to(dtype), made[3].to(dtype)


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=generator(seed)) < 0.6


def found_by(body: str, given: Inputs, mask: Tensor | None, upstream: float = 1.0) -> list[Tensor]:
    """Loss and gradients for states, weight and bias."""
    *learned, teacher = given
    return loss_and_gradients(
        lambda x, w, b: hidden_mse(x, w, teacher, mask, b, body=body), *learned, upstream=upstream
    )


@pytest.mark.parametrize("body", ["chunked", "triton", "reference"])
@pytest.mark.parametrize("mask", [None, some(3, 5)], ids=["all", "some"])
def test_it_is_torchs_mse_of_a_linear_map(body: str, mask: Tensor | None) -> None:
    given = inputs(3, 5, ours=4, theirs=6, dtype=torch.float64)
    these = torch.ones(3, 5, dtype=torch.bool) if mask is None else mask
    *learned, teacher = given
    expected = loss_and_gradients(
        lambda x, w, b: F.mse_loss(F.linear(x, w, b)[these], teacher[these]), *learned, upstream=0.5
    )
    assert_near(found_by(body, given, mask, 0.5), expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 1), (41, 7, 12), (300, 64, 33), (5, 200, 3000)], ids=str)
def test_chunked_agrees_with_the_reference(dtype: torch.dtype, shape: tuple[int, int, int]) -> None:
    positions, ours, theirs = shape
    given = inputs(positions, ours=ours, theirs=theirs, dtype=dtype)
    for mask in (None, some(positions)):
        expected = found_by("reference", given, mask, -3.0)
        assert_near(found_by("chunked", given, mask, -3.0), expected)
        assert expected[0].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert {one.dtype for one in expected[1:]} == {dtype}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_triton_agrees_with_the_reference(dtype: torch.dtype) -> None:
    given = inputs(41, ours=20, theirs=35, dtype=dtype)
    for mask in (None, some(41)):
        assert_near(found_by("triton", given, mask, -3.0), found_by("reference", given, mask, -3.0))


def test_triton_over_several_blocks_and_pieces() -> None:
    """Two blocks each way, in pieces of one block of rows; the last piece has no position that counts."""
    from compress.kernels import hidden_mse_triton

    given, mask = inputs(150, ours=70, theirs=66), some(150)
    mask[torch.randperm(150, generator=generator(0))[:50]] = False
    assert 0 < mask.sum() < 128
    with patch.object(hidden_mse_triton, "PIECE_BYTES", 1):
        for these in (None, mask):
            assert_near(found_by("triton", given, these), found_by("reference", given, these))


@given(
    sizes=st.tuples(*(st.integers(low, 7) for low in (0, 1, 1, 1))),
    piece=st.sampled_from([1, 10, 2**19]),
    fewest=st.integers(1, 3),
    seed=st.integers(0, 99),
    masked=st.booleans(),
)
@settings(max_examples=60)
def test_any_sizes_in_any_pieces(sizes: tuple[int, ...], piece: int, fewest: int, seed: int, masked: bool) -> None:
    rows, tokens, ours, theirs = sizes
    given = inputs(rows, tokens, ours=ours, theirs=theirs, dtype=torch.float64, seed=seed)
    mask = some(rows, tokens, seed=seed) if masked else None
    with patch.object(module, "PIECE", piece), patch.object(module, "FEWEST_ROWS", fewest):
        found = found_by("chunked", given, mask, 2.0)
    assert_near(found, found_by("reference", given, mask, 2.0))
    assert found[0] >= 0


@pytest.mark.parametrize("body", ["chunked", "triton", "reference"])
def test_nothing_that_counts_is_zero(body: str) -> None:
    for rows, mask in ((0, None), (3, torch.zeros(3, dtype=torch.bool))):
        for found in found_by(body, inputs(rows, ours=4, theirs=5), mask):
            assert not found.any()


@pytest.mark.parametrize("body", ["chunked", "triton", "reference"])
def test_positions_that_do_not_count_are_not_read(body: str) -> None:
    given, mask = inputs(9, ours=4, theirs=5), some(9)
    expected = found_by(body, given, mask)
    given[0][~mask], given[3][~mask] = float("nan"), float("inf")
    for one, other in zip(found_by(body, given, mask), expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("body", ["chunked", "triton"])
def test_projected_states_that_are_the_teachers(body: str) -> None:
    """No loss and no gradient but for the rounding of the product."""
    student, weight, bias, _ = inputs(50, ours=32, theirs=24)
    found = found_by(body, (student, weight, bias, F.linear(student, weight, bias)), None)
    assert found[0] < 1e-12
    assert max(one.abs().max() for one in found[1:]) < 1e-7


@pytest.mark.parametrize("body", ["chunked", "triton"])
def test_inputs_that_do_not_lie_in_order(body: str) -> None:
    student, weight, bias, teacher = inputs(6, 4, ours=5, theirs=7)
    mask = some(6, 8)[:, ::2]
    expected = found_by("reference", (student, weight, bias, teacher), mask)
    apart = torch.stack([bias, -bias], 1)[:, 0]
    turned = student.permute(2, 1, 0).contiguous().permute(2, 1, 0), weight.t().contiguous().t(), apart
    assert not turned[0].is_contiguous()
    wide = torch.zeros(6, 4, 14)
    wide[..., ::2] = teacher
    assert_near(found_by(body, (*turned, wide[..., ::2]), mask), expected)


@pytest.mark.parametrize("body", ["chunked", "triton"])
def test_inputs_of_several_dtypes(body: str) -> None:
    """States of half precision with a projection of float32, and a teacher of either."""
    student, weight, bias, teacher = inputs(20, ours=5, theirs=4)
    for ours, theirs in (
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float16),
        (torch.float32, torch.float64),
    ):
        given = student.to(ours), weight, bias, teacher.to(theirs)
        assert_near(found_by(body, given, None), found_by("reference", given, None))


@pytest.mark.parametrize("body", ["chunked", "triton", "reference"])
@pytest.mark.parametrize("learns", ["student", "weight", "bias", "none"])
def test_only_gradients_that_are_asked_for_are_made(body: str, learns: str) -> None:
    """Each alone is what it is beside the others, and a frozen projection or a missing bias is possible."""
    given = inputs(20, ours=5, theirs=4)
    _, *expected = found_by(body, given, None)
    names = ("student", "weight", "bias")
    student, weight, bias = (
        one.clone().requires_grad_(name == learns) for name, one in zip(names, given, strict=False)
    )
    loss = hidden_mse(student, weight, given[3], None, bias, body=body)
    assert loss.requires_grad == (learns != "none")
    if learns != "none":
        loss.backward()
    for name, one, other in zip(names, (student, weight, bias), expected, strict=True):
        assert (one.grad is None) == (name != learns)
        if one.grad is not None:
            assert_near([one.grad], [other])


@pytest.mark.parametrize("body", ["chunked", "triton", "reference"])
def test_a_projection_without_a_bias(body: str) -> None:
    student, weight, _, teacher = inputs(20, ours=5, theirs=4)
    expected = loss_and_gradients(lambda x, w: F.mse_loss(F.linear(x, w), teacher), student, weight)
    assert_near(loss_and_gradients(lambda x, w: hidden_mse(x, w, teacher, body=body), student, weight), expected)


def test_gradients_are_the_losss_own() -> None:
    student, weight, bias, teacher = inputs(7, ours=3, theirs=4, dtype=torch.float64)
    leaves = tuple(one.clone().requires_grad_() for one in (student, weight, bias))
    with patch.object(module, "PIECE", 1), patch.object(module, "FEWEST_ROWS", 2):
        for mask in (None, some(7)):
            assert torch.autograd.gradcheck(
                lambda x, w, b, mask=mask: hidden_mse(x, w, teacher, mask, b, body="chunked"), leaves
            )


def test_a_gradient_scaler_does_not_come_too_late() -> None:
    """A mean over many positions has gradients below float16's range, which only the upstream factor lifts into it."""
    student, weight, bias, teacher = inputs(3000, ours=4, theirs=40)
    given = 1e-3 * student, weight, 1e-3 * bias, 1e-3 * teacher
    expected = found_by("reference", given, None, 2.0**20)[1]
    assert expected.abs().max() * 2.0**-20 < 1e-6
    half = (given[0].half(), given[1].half(), given[2].half(), given[3].half())
    found = found_by("chunked", half, None, 2.0**20)[1]
    torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.01 * expected.abs().max().item())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_under_autocast_factors_are_rounded_and_sums_are_not(dtype: torch.dtype) -> None:
    given = inputs(41, ours=7, theirs=12)
    student, weight, bias, teacher = given
    rounded = student.to(dtype).float(), weight.to(dtype).float(), bias, teacher
    expected = found_by("reference", rounded, None)
    with torch.autocast("cpu", dtype):
        found = found_by("chunked", given, None)
    assert {one.dtype for one in found} == {torch.float32}
    assert_near(found[:1], expected[:1])
    assert_near(found[1:], expected[1:], dtype=dtype)


def test_it_can_be_compiled() -> None:
    student, weight, bias, teacher = inputs(4, 5, ours=6, theirs=3)
    mask = some(4, 5)

    def loss(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return 2 * hidden_mse(x * 1.5, w, teacher, mask, b)

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    assert_near(loss_and_gradients(compiled, student, weight, bias), loss_and_gradients(loss, student, weight, bias))


def test_it_keeps_to_the_rules_of_an_operator() -> None:
    """What tracing assumes of shapes, dtypes and aliasing is so (torch.library.opcheck)."""
    for dtype, mask, wanted in (
        (torch.float32, None, [True, True, True]),
        (torch.float16, some(9), [True, False, True]),
        (torch.float32, some(9), [False, False, False]),
    ):
        student, weight, bias, teacher = inputs(9, ours=6, theirs=3, dtype=dtype)
        for one, want in zip((student, weight, bias), wanted, strict=True):
            one.requires_grad_(want)
        taken = (student, weight, teacher, mask, bias, "chunked", wanted)
        torch.library.opcheck(torch.ops.kdc.hidden_mse.default, taken, test_utils=("test_schema", "test_faketensor"))


def test_no_projected_states_are_made() -> None:
    """4,096 × 768 projected numbers would be 12 MiB; nothing made is larger than the student's gradient, 4 MiB."""
    student, weight, bias, teacher = inputs(4096, ours=256, theirs=768)
    for mask in (None, some(4096)):
        with Largest(student, weight, teacher) as largest:
            chunked(student, weight, teacher, mask, bias, [True, True, True])
        assert largest.bytes == 4096 * 256 * 4


def test_what_does_not_fit_is_refused() -> None:
    student, weight, bias, teacher = inputs(2, 4, ours=6, theirs=3)
    cases = [
        ((student, weight, teacher[:1]), r"student's states are \(2, 4, 6\) and the teacher's \(1, 4, 3\)"),
        ((student, weight.t(), teacher), r"weight is \(6, 3\), and to map 6 numbers to 3 it must be \(3, 6\)"),
        ((student, weight, teacher, None, bias[:2]), r"bias is \(2,\), and the teacher's states need \(3,\)"),
        (
            (student, weight, teacher, torch.ones(4, 2) > 0),
            r"mask is torch.bool \(4, 2\) .* must be torch.bool \(2, 4\)",
        ),
        ((student, weight, teacher, torch.ones(2, 4)), r"mask is torch.float32 \(2, 4\)"),
    ]
    for taken, sentence in cases:
        with pytest.raises(ValueError, match=sentence):
            hidden_mse(*taken)
    with pytest.raises(ValueError, match="body 'fast' is none of auto, triton, chunked, reference"):
        hidden_mse(student, weight, teacher, body="fast")
