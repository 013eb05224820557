"""`linear_kd` against the float64 reference: both bodies, whole rows and columns that stream by, dense and sparse."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from compress.kernels import streaming
from compress.kernels.formula import DIVERGENCES, Formula
from compress.kernels.kd_kl import kd_kl
from compress.kernels.linear_kd import Head, Largest, linear_kd
from compress.kernels.streaming_largest import stream_largest
from compress.teachers.largest import largest, merge_rest
from tests.kernels.agreement import Largest as Watch
from tests.kernels.agreement import assert_near, assert_same, slopes_of

BODIES = ("chunked", "triton")
FORMULAS = [Formula(name, 2.0, 0.7, hard) for name in DIVERGENCES for hard in (0.0, 0.3)]


def heads(
    count: int, columns: int, widths: tuple[int, int] = (5, 8), dtype: torch.dtype = torch.float32, seed: int = 0
) -> tuple[list[Tensor], Head, Tensor]:
    """A student's states, weight and bias, a teacher's head, and labels."""
    torch.manual_seed(seed)
    made = [
        torch.randn(*shape).to(dtype) for width in widths for shape in ((count, width), (columns, width), (columns,))
    ]
    return made[:3], Head(*made[3:]), torch.randint(0, columns, (count,))


def kept(teacher: Head, top_k: int) -> Largest:
    """What a cache of the largest logits would hold of a head."""
    logits, columns = largest(teacher.logits(), top_k)
    return Largest(columns, logits.to(teacher.states.dtype))


def run(student: Sequence[Tensor], teacher: Head | Largest, formula: Formula, **given: object) -> Tensor:
    return linear_kd(Head(*student), teacher, formula, **given)  # type: ignore[arg-type]


@pytest.fixture(params=["rows", "columns"])
def tiling(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Tiles of a few whole rows, or of a few columns."""
    monkeypatch.setattr(streaming, "CPU_TILE", 700 if request.param == "rows" else 420)
    monkeypatch.setattr(streaming, "FEWEST_ROWS", 1 if request.param == "rows" else 10_000)
    return str(request.param)


@pytest.mark.parametrize("formula", FORMULAS, ids=lambda f: f"{f.divergence}-{f.hard}")
@pytest.mark.parametrize("sparse", [False, True], ids=["head", "largest"])
@pytest.mark.parametrize("body", BODIES)
def test_losses_and_gradients(body: str, sparse: bool, formula: Formula, tiling: str) -> None:
    student, teacher, labels = heads(13, 137)
    labels[3], weights = -100, torch.rand(13)
    weights[5] = 0
    said = kept(teacher, 6) if sparse else teacher
    rows, columns = streaming.plan(13, 137, torch.device("cpu"))
    assert (columns == 137 and rows < 13) if tiling == "rows" else columns < 137
    found, wanted = (
        slopes_of(lambda *s: run(s, said, formula, labels=labels, weights=weights, body=one), student, 2.5)
        for one in (body, "reference")
    )
    assert_same(found, wanted, torch.float32)


@pytest.mark.parametrize(("count", "columns"), [(1, 17), (41, 1), (1271, 17), (3, 30_522)])
@pytest.mark.parametrize("body", BODIES)
def test_odd_shapes(body: str, count: int, columns: int) -> None:
    student, teacher, _ = heads(count, columns)
    for divergence in DIVERGENCES:
        formula = Formula(divergence, 2.0)
        found = slopes_of(lambda *s: run(s, teacher, formula, body=body), student)
        assert_same(found, slopes_of(lambda *s: run(s, teacher, formula, body="reference"), student), torch.float32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("sparse", [False, True], ids=["head", "largest"])
def test_dtypes(sparse: bool, dtype: torch.dtype, tiling: str) -> None:
    student, teacher, labels = heads(13, 137, dtype=dtype)
    said = kept(teacher, 6) if sparse else teacher
    formula = Formula("kl", 1.5, 1.0, 0.3)
    wanted = slopes_of(lambda *s: run(s, said, formula, labels=labels, body="reference"), student)
    for body in BODIES if dtype != torch.float64 else ("chunked",):
        found = slopes_of(lambda *s: run(s, said, formula, labels=labels, body=body), student)
        assert_same(found, wanted, dtype)


def test_it_is_kd_kl_of_the_logits(tiling: str) -> None:
    student, teacher, labels = heads(13, 137)
    formula = Formula("reverse_kl", 3.0, 1.0, 0.2)
    logits = student[0] @ student[1].T + student[2]
    wanted = kd_kl(logits, teacher.logits().float(), formula, labels=labels)
    torch.testing.assert_close(run(student, teacher, formula, labels=labels), wanted)


def test_the_largest_are_compared_as_the_cache_merges_them(tiling: str) -> None:
    student, teacher, _ = heads(13, 137)
    said = kept(teacher, 9)
    merged = merge_rest(student[0] @ student[1].T + student[2], said.indices)
    torch.testing.assert_close(
        run(student, said, Formula("kl", 2.0)), kd_kl(merged, said.logits.float(), Formula("kl", 2.0))
    )


def test_all_columns_kept_is_the_whole_teacher(tiling: str) -> None:
    student, teacher, _ = heads(13, 20)
    logits, columns = torch.sort(teacher.logits().float(), descending=True)
    everything = Largest(columns, torch.cat([logits, torch.full((13, 1), -torch.inf)], 1))
    found = slopes_of(lambda *s: run(s, everything, Formula()), student)
    assert_same(found, slopes_of(lambda *s: run(s, teacher, Formula()), student), torch.float32)


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("body", BODIES)
def test_agreement_costs_nothing(body: str, divergence: str, tiling: str) -> None:
    student, _, _ = heads(13, 137)
    loss, slopes = slopes_of(lambda *s: run(s, Head(*student), Formula(divergence, 2.0), body=body), student)
    allowed = 0 if divergence != "jensen_shannon" else 1e-6  # whose log ½(p + p) is rounded
    assert abs(loss) <= allowed
    assert max(one.abs().max() for one in slopes) <= allowed


def test_agreement_with_the_largest_costs_nothing(tiling: str) -> None:
    """To the rounding of the log-sum-exp of the rest."""
    student, _, _ = heads(13, 137)
    loss, slopes = slopes_of(lambda *s: run(s, kept(Head(*student), 6), Formula("kl", 2.0)), student)
    assert abs(loss) < 1e-6
    assert max(one.abs().max() for one in slopes) < 1e-6


@pytest.mark.parametrize("body", BODIES)
def test_columns_ruled_out_by_the_bias_and_large_logits(body: str, tiling: str) -> None:
    student, teacher, _ = heads(6, 50)
    assert teacher.bias is not None
    student[2][7:11] = teacher.bias[7:11] = -torch.inf
    student[0][0] *= 3e3
    teacher.states[1] *= 3e3
    found, wanted = (
        slopes_of(lambda *s: run(s, teacher, Formula("kl", 2.0), body=one), student) for one in (body, "reference")
    )
    assert_same(found, wanted, torch.float32)


@pytest.mark.parametrize("sparse", [False, True], ids=["head", "largest"])
@pytest.mark.parametrize("body", BODIES)
def test_rows_that_do_not_count_may_hold_anything(body: str, sparse: bool, tiling: str) -> None:
    student, teacher, labels = heads(13, 137)
    said = kept(teacher, 6) if sparse else teacher
    labels[4] = -100
    formula = Formula("kl", 1.0, 1.0, 0.5)
    clean = slopes_of(lambda *s: run(s, said, formula, labels=labels, body=body), student)
    student[0][4] = torch.nan
    found = slopes_of(lambda *s: run(s, said, formula, labels=labels, body=body), student)
    assert_same(found, clean, torch.float32)
    assert not found[1][0][4].any()


def test_nothing_to_learn_from() -> None:
    student, teacher, labels = heads(4, 30)
    nobody = torch.full_like(labels, -100)
    for said in (teacher, kept(teacher, 3)):
        loss, slopes = slopes_of(lambda *s: run(s, said, Formula(hard=0.1), labels=nobody), student)
        assert loss == 0
        assert not any(one.any() for one in slopes)
    states, weight, bias = student
    loss, slopes = slopes_of(
        lambda w, b: run((states[:0], w, b), Head(teacher.states[:0], *teacher[1:]), Formula()), [weight, bias]
    )
    assert loss == 0
    assert not any(one.any() for one in slopes)


def test_only_what_is_asked_for_gets_a_gradient(tiling: str) -> None:
    student, teacher, _ = heads(13, 137)
    states = student[0].requires_grad_()
    run((states, *student[1:]), teacher, Formula()).backward()
    assert states.grad is not None
    assert student[1].grad is None
    assert not run([one.detach() for one in student], teacher, Formula()).requires_grad


@pytest.mark.parametrize("sparse", [False, True], ids=["head", "largest"])
def test_inputs_that_are_not_contiguous(sparse: bool, tiling: str) -> None:
    student, teacher, _ = heads(13, 137)
    said = kept(teacher, 6) if sparse else teacher
    wanted = slopes_of(lambda *s: run(s, said, Formula()), student)
    states, weight, bias = student
    wide = [states.T.contiguous(), weight.repeat(1, 2), bias.repeat_interleave(2)]
    found = slopes_of(lambda x, w, b: run((x.T, w[:, :5], b[::2]), said, Formula()), wide)
    assert_near([found[0]], [wanted[0]])
    assert_near([found[1][0].T], [wanted[1][0]])
    assert_near([found[1][1][:, :5]], [wanted[1][1]])
    assert_near([found[1][2][::2]], [wanted[1][2]])


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("sparse", [False, True], ids=["head", "largest"])
def test_gradcheck(sparse: bool, divergence: str, tiling: str) -> None:
    student, teacher, labels = heads(6, 11, (2, 3), torch.float64)
    said = kept(teacher, 4) if sparse else teacher
    formula, weights = Formula(divergence, 1.7, 0.6, 0.4), torch.rand(6, dtype=torch.float64)
    leaves = [one.requires_grad_() for one in student]
    assert torch.autograd.gradcheck(
        lambda *s: run(s, said, formula, labels=labels, weights=weights), leaves, fast_mode=True
    )


@given(
    st.integers(1, 20),
    st.integers(1, 60),
    st.integers(1, 9),
    st.floats(0.5, 8),
    st.sampled_from(DIVERGENCES),
    st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_any_sizes(count: int, columns: int, width: int, temperature: float, divergence: str, seed: int) -> None:
    student, teacher, labels = heads(count, columns, (width, 3), seed=seed)
    formula = Formula(divergence, temperature, 1.0, 0.5)
    for said in (teacher, kept(teacher, min(5, columns))):
        found, wanted = (run(student, said, formula, labels=labels, body=body) for body in ("chunked", "reference"))
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_memory_is_a_tile_and_the_gradients(divergence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "CPU_TILE", 1 << 14)
    (states, weight, bias), teacher, labels = heads(64, 3_000, (4, 4))
    shares, need = torch.full((64,), 1 / 64), [True, True, True]
    said, formula = kept(teacher, 5), Formula(divergence, 2.0, 1.0, 0.5)
    with Watch(states, weight, bias, *teacher) as watch:
        streaming.stream((states, weight, bias), tuple(teacher), shares, labels, formula, need, "chunked")
    assert 0 < watch.bytes <= 4 * (1 << 14) < 4 * 64 * 3_000
    with Watch(states, weight, bias, *said) as watch:
        stream_largest((states, weight, bias), tuple(said), shares, labels, formula, need, "chunked")
    assert 0 < watch.bytes <= max(4 * (1 << 14), weight.nbytes)


def test_a_large_factor_does_not_overflow_fp16() -> None:
    """One row has nearly all the weight, and large states."""
    student, teacher, _ = heads(120, 40, dtype=torch.float16)
    student[0][0], weights = 900.0, torch.full((120,), 1e-6)
    weights[0] = 1.0
    for body in BODIES:
        found = slopes_of(lambda *s: run(s, teacher, Formula(), weights=weights, body=body), student)
        wanted = slopes_of(lambda *s: run(s, teacher, Formula(), weights=weights, body="reference"), student)
        assert_same(found, wanted, torch.float16)


@pytest.mark.parametrize("sparse", [False, True], ids=["head", "largest"])
def test_a_gradient_scaler_comes_in_time_for_fp16(sparse: bool) -> None:
    student, teacher, _ = heads(400, 50, dtype=torch.float16)
    said = kept(teacher, 5) if sparse else teacher
    found, wanted = (
        slopes_of(lambda *s: run(s, said, Formula(), body=body), student, 2.0**15) for body in ("chunked", "reference")
    )
    assert_same(found, wanted, torch.float16)


def test_they_are_well_formed_operators() -> None:
    student, teacher, labels = heads(4, 12)
    said = kept(teacher, 3)
    leaves = [one.requires_grad_() for one in student]
    rest = (*leaves, torch.full((4,), 0.25), labels, "kl", [2.0, 1.0, 0.1], [True] * 3, "chunked")
    torch.library.opcheck(torch.ops.kdc.linear_kd.default, (*teacher, *rest))
    torch.library.opcheck(torch.ops.kdc.linear_kd_largest.default, (*said, *rest))


def test_compiled_it_is_the_same() -> None:
    student, teacher, labels = heads(4, 30)
    for said in (teacher, kept(teacher, 3)):
        loss = lambda x, w, b: run((x * 2, w, b), said, Formula("kl", 2.0, 1.0, 0.1), labels=labels) * 3
        compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
        assert_same(slopes_of(compiled, student), slopes_of(loss, student), torch.float32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_under_autocast_products_are_in_its_dtype(dtype: torch.dtype) -> None:
    student, teacher, _ = heads(7, 60)
    with torch.autocast("cpu", dtype):
        found = slopes_of(lambda *s: run(s, teacher, Formula()), student)
    rounded = [*(one.to(dtype).float() for one in student[:2]), student[2]]
    theirs = Head(*(one.to(dtype).float() for one in teacher[:2]), teacher[2])
    wanted = slopes_of(lambda *s: run(s, theirs, Formula()), rounded)
    assert found[0].dtype == torch.float32
    torch.testing.assert_close(found[0], wanted[0])
    assert_same(found, wanted, dtype)


def test_tiles_are_of_bounded_size() -> None:
    cpu = torch.device("cpu")
    for rows, columns in ((1, 1), (2048, 30_000), (2048, 100_000), (8, 10_000_000), (100_000, 1_000_000)):
        height, width = streaming.plan(rows, columns, cpu)
        assert 0 < height * width <= streaming.CPU_TILE
    assert streaming.plan(2048, 1000, cpu)[1] == 1000


def test_bad_input() -> None:
    student, teacher, labels = heads(4, 30)
    with pytest.raises(ValueError, match=r"4 rows and 30 columns, and the teacher 4 and 29"):
        run(student, Head(teacher.states, teacher.weight[:29]), Formula())
    with pytest.raises(ValueError, match=r"student's states have the shape \(4, 5\) and its weight \(30, 4\)"):
        run((student[0], student[1][:, :4]), teacher, Formula())
    with pytest.raises(ValueError, match=r"teacher's bias has the shape \(3,\), and its weight 30 rows"):
        run(student, Head(teacher.states, teacher.weight, torch.zeros(3)), Formula())
    with pytest.raises(ValueError, match=r"indices have the shape \(4, 3\), their logits \(4, 3\)"):
        run(student, Largest(torch.zeros(4, 3, dtype=torch.int64), torch.zeros(4, 3)), Formula())
    with pytest.raises(ValueError, match="keeps 31 logits of a row, and the student has 30"):
        run(student, Largest(torch.zeros(4, 31, dtype=torch.int64), torch.zeros(4, 32)), Formula())
    with pytest.raises(ValueError, match="labels of row 2: 30 is not within the 30"):
        run(student, teacher, Formula(hard=1.0), labels=labels.index_fill(0, torch.tensor([2]), 30))
    outside = Largest(torch.tensor([[0], [1], [-1], [2]]), torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"indices of row 2: \[-1\] is not within the 30 columns"):
        run(student, outside, Formula())
    with pytest.raises(ValueError, match="triton computes in fp32"):
        run([one.double() for one in student], teacher, Formula(), body="triton")
