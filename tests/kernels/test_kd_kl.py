"""`kd_kl` against the float64 reference, in both bodies."""

from __future__ import annotations

import functools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from compress.distill.losses import DIVERGENCES as OBJECTIVES
from compress.kernels.formula import DIVERGENCES, Formula
from compress.kernels.kd_kl import TILE, _chunked, kd_kl
from tests.kernels.agreement import Largest as Watch
from tests.kernels.agreement import assert_near, assert_same, slopes_of

BODIES = ("chunked", "triton")
FORMULAS = [Formula(name, 2.0, 0.7, hard) for name in DIVERGENCES for hard in (0.0, 0.3)]


def rows(count: int, columns: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of a student and a teacher, and labels."""
    torch.manual_seed(seed)
    logits = torch.randn(2, count, columns) * 3
    labels = torch.randint(0, columns, (count,))
    return logits[0].to(dtype), logits[1].to(dtype), labels


def both(student: Tensor, teacher: Tensor, formula: Formula, body: str, upstream: float = 1.0, **given: object) -> None:
    """The body gives the reference's loss and gradient."""
    run = functools.partial(kd_kl, teacher=teacher, formula=formula, **given)  # type: ignore[arg-type]
    found = slopes_of(lambda x: run(x, body=body), [student], upstream)
    assert_same(found, slopes_of(lambda x: run(x, body="reference"), [student], upstream), student.dtype)


@pytest.mark.parametrize("formula", FORMULAS, ids=lambda f: f"{f.divergence}-{f.hard}")
@pytest.mark.parametrize(("count", "columns"), [(1, 17), (41, 1), (5, 1271)])
@pytest.mark.parametrize("body", BODIES)
def test_odd_shapes(body: str, count: int, columns: int, formula: Formula) -> None:
    student, teacher, labels = rows(count, columns)
    both(student, teacher, formula, body, upstream=-2.5, labels=labels)


@pytest.mark.parametrize("body", BODIES)
def test_many_rows(body: str) -> None:
    student, teacher, labels = rows(1271, 17)
    both(student, teacher, Formula("kl", 2.0, 1.0, 0.5), body, labels=labels)


@pytest.mark.parametrize("columns", [30_522, 100_003])
@pytest.mark.parametrize(
    ("body", "divergence"), [("triton", "jensen_shannon"), *(("chunked", name) for name in DIVERGENCES)]
)
def test_vocabularies(body: str, divergence: str, columns: int) -> None:
    student, teacher, labels = rows(2, columns)
    both(student, teacher, Formula(divergence, 2.0, 1.0, 0.5), body, labels=labels)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_dtypes(divergence: str, dtype: torch.dtype) -> None:
    student, teacher, labels = rows(7, 113, dtype)
    for body in BODIES if dtype != torch.float64 else ("chunked",):
        both(student, teacher, Formula(divergence, 2.0, 1.0, 0.2), body, labels=labels)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0, 8.0])
@pytest.mark.parametrize("body", BODIES)
def test_temperatures(body: str, temperature: float) -> None:
    student, teacher, labels = rows(4, 61)
    for divergence in DIVERGENCES:
        both(student, teacher, Formula(divergence, temperature, 1.0, 0.2), body, labels=labels)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_it_is_the_objective_of_a_recipe(name: str) -> None:
    student, teacher, _ = rows(6, 33)
    weights = torch.rand(6)
    divergence = {"soft": "kl"}.get(name, name)
    found = kd_kl(student, teacher, Formula(divergence, 3.0), weights=weights)
    torch.testing.assert_close(found, OBJECTIVES[name](student, teacher, 3.0, weights))


def test_the_hard_term_is_torchs_cross_entropy() -> None:
    student, teacher, labels = rows(6, 33)
    labels[2] = -100
    found = kd_kl(student, teacher, Formula(soft=0.0, hard=1.0), labels=labels)
    torch.testing.assert_close(found, F.cross_entropy(student, labels))


@pytest.mark.parametrize("body", BODIES)
def test_rows_that_do_not_count_may_hold_anything(body: str) -> None:
    student, teacher, labels = rows(5, 40)
    labels[1], weights = -100, torch.tensor([1.0, 1.0, 0.0, 2.0, 1.0])
    kept = [0, 3, 4]
    formula = Formula("reverse_kl", 2.0, 1.0, 0.5)
    wanted = slopes_of(
        lambda x: kd_kl(x, teacher[kept], formula, labels=labels[kept], weights=weights[kept]), [student[kept]]
    )
    student[1], teacher[2] = torch.nan, torch.inf
    found = slopes_of(lambda x: kd_kl(x, teacher, formula, labels=labels, weights=weights, body=body), [student])
    assert_near([found[0]], [wanted[0]])
    assert_near([found[1][0][kept]], [wanted[1][0]])
    assert not found[1][0][[1, 2]].any()


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_agreement_costs_nothing(divergence: str, body: str) -> None:
    student, _, _ = rows(4, 300)
    loss, (slopes,) = slopes_of(lambda x: kd_kl(x, student, Formula(divergence), body=body), [student])
    exact = divergence != "jensen_shannon"  # whose log ½(p + p) is rounded
    assert loss == 0 if exact else abs(loss) < 1e-6
    assert slopes.abs().max() <= (0 if exact else 1e-7)


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_large_logits_and_columns_ruled_out(divergence: str, body: str) -> None:
    student, teacher, _ = rows(4, 50)
    student[0, 3], teacher[0, 4], student[1], teacher[1] = 1e4, 1e4, student[1] * -3e3, teacher[1] * 3e3
    student[:, 7:11] = teacher[:, 7:11] = -torch.inf
    both(student, teacher, Formula(divergence, 2.0), body)


@pytest.mark.parametrize("body", BODIES)
def test_probability_where_the_student_has_none_is_infinite(body: str) -> None:
    student, teacher, _ = rows(2, 9)
    student[1, 4] = -torch.inf
    assert kd_kl(student, teacher, body=body) == torch.inf
    assert kd_kl(teacher, student, Formula("reverse_kl"), body=body) == torch.inf


@pytest.mark.parametrize("body", BODIES)
def test_inputs_that_are_not_contiguous(body: str) -> None:
    student, teacher, _ = rows(31, 12)
    wanted = slopes_of(lambda x: kd_kl(x, teacher.T.contiguous(), body=body), [student.T.contiguous()])
    found = slopes_of(lambda x: kd_kl(x.T, teacher.T, body=body), [student])
    assert_same((found[0], [found[1][0].T]), wanted, torch.float32)


@pytest.mark.parametrize("body", BODIES)
def test_nothing_to_learn_from(body: str) -> None:
    student, teacher, labels = rows(3, 8)
    for some, given_labels in ((slice(0, 0), labels[:0]), (slice(None), torch.full((3,), -100))):
        loss, (slopes,) = slopes_of(lambda x: kd_kl(x, teacher[some], labels=given_labels, body=body), [student[some]])
        assert loss == 0
        assert not slopes.any()


@pytest.mark.parametrize("body", BODIES)
def test_the_gradient_may_take_the_students_place(body: str) -> None:
    student, teacher, labels = rows(5, 77)
    formula = Formula("kl", 2.0, 1.0, 0.3)
    _, (wanted,) = slopes_of(lambda x: kd_kl(x, teacher, formula, labels=labels), [student], 3.0)
    leaf = student.clone().requires_grad_()
    logits = leaf * 1
    loss = kd_kl(logits, teacher, formula, labels=labels, inplace=True, body=body)
    assert not torch.equal(logits, leaf)
    (loss * 3).backward()
    assert leaf.grad is not None
    assert_near([leaf.grad], [wanted])


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_gradcheck(divergence: str) -> None:
    student, teacher, labels = rows(3, 6, torch.float64)
    formula, weights = Formula(divergence, 1.7, 0.6, 0.4), torch.rand(3, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda x: kd_kl(x, teacher, formula, labels=labels, weights=weights), (student.requires_grad_(),)
    )


@pytest.mark.parametrize("body", BODIES)
def test_labels_and_weights_that_do_not_lie_in_order(body: str) -> None:
    student, teacher, labels = rows(6, 30)
    formula, weights = Formula("kl", 2.0, 1.0, 0.5), torch.rand(6)
    wide = [torch.stack([one, one.flip(0)], 1)[:, 0] for one in (labels, weights)]
    found, wanted = (
        slopes_of(lambda x: kd_kl(x, teacher, formula, labels=one, weights=other, body=body), [student])
        for one, other in (wide, (labels, weights))
    )
    assert_same(found, wanted, torch.float32)


@pytest.mark.parametrize("body", [*BODIES, "reference"])
def test_what_is_not_a_number_is_not_hidden(body: str) -> None:
    student, teacher, _ = rows(3, 40)
    student[1, 7] = torch.nan
    assert kd_kl(student, teacher, body=body).isnan()
    assert kd_kl(torch.full_like(student, torch.nan), teacher, body=body).isnan()


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("inplace", [False, True])
def test_a_gradient_scaler_comes_in_time_for_fp16(inplace: bool, body: str) -> None:
    """The gradient of a mean over many rows is below what fp16 can hold until the scaler lifts it."""
    student, teacher, labels = rows(400, 50, torch.float16)
    labels[3] = -100
    scaler = 2.0**15
    wanted = slopes_of(lambda x: kd_kl(x.float(), teacher.float(), labels=labels), [student], scaler)
    found = slopes_of(lambda x: kd_kl(x * 1, teacher, labels=labels, inplace=inplace, body=body), [student], scaler)
    assert_near(found[1], wanted[1])
    assert not found[1][0][3].any()


def test_a_leaf_is_not_written_over() -> None:
    student, teacher, _ = rows(3, 8)
    with pytest.raises(ValueError, match="over a leaf"):
        kd_kl(student.requires_grad_(), teacher, inplace=True)
    with pytest.raises(ValueError, match=r"strides are \(0, 1\)"):
        kd_kl((student[:1] * 1).expand(3, 8), teacher, inplace=True)


def test_it_is_a_well_formed_operator() -> None:
    student, teacher, labels = rows(3, 8)
    given_ = (
        student.requires_grad_(),
        teacher,
        torch.full((3,), 1 / 3),
        labels,
        "kl",
        [2.0, 1.0, 0.1],
        True,
        "chunked",
    )
    torch.library.opcheck(torch.ops.kdc.kd_kl.default, given_)


@given(
    st.integers(1, 6),
    st.integers(1, 40),
    st.floats(0.5, 8),
    st.sampled_from(DIVERGENCES),
    st.floats(0.01, 1e3),
    st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_any_rows(count: int, columns: int, temperature: float, divergence: str, size: float, seed: int) -> None:
    student, teacher, labels = rows(count, columns, seed=seed)
    student, teacher = student * size, teacher * size
    loss = kd_kl(student, teacher, Formula(divergence, temperature), labels=labels)
    wanted = kd_kl(student, teacher, Formula(divergence, temperature), labels=labels, body="reference")
    torch.testing.assert_close(loss, wanted, rtol=1e-4, atol=1e-4 * max(1.0, size * 1e-2))
    assert loss >= -1e-4


def test_memory_is_a_tile_and_not_a_softmax() -> None:
    student, teacher, _ = rows(64, 20_000)
    gradient, shares = torch.empty_like(student), torch.full((64,), 1 / 64)
    with Watch(student, teacher, gradient) as watch:
        _chunked(student, teacher, shares, None, Formula("jensen_shannon"), gradient)
    assert 0 < watch.bytes <= 4 * TILE < 4 * student.numel()


def test_compiled_it_is_the_same() -> None:
    student, teacher, labels = rows(4, 30)
    formula = Formula("jensen_shannon", 2.0, 1.0, 0.1)
    loss = lambda x: kd_kl(x * 2, teacher, formula, labels=labels, inplace=True) * 3
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    assert_same(slopes_of(compiled, [student]), slopes_of(loss, [student]), torch.float32)


def test_under_autocast_logits_stay_as_they_are() -> None:
    student, teacher, _ = rows(4, 30)
    with torch.autocast("cpu", torch.bfloat16):
        found = kd_kl(student, teacher)
    assert torch.equal(found, kd_kl(student, teacher))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"teacher": torch.zeros(3, 4)}, r"\(3, 5\) and teacher's \(3, 4\)"),
        ({"labels": torch.zeros(2, dtype=torch.int64)}, r"labels have the shape \(2,\), and there are 3 rows"),
        ({"weights": torch.zeros(4)}, r"weights have the shape \(4,\), and there are 3 rows"),
        ({"labels": torch.tensor([0, 5, 1])}, r"labels of row 1: 5 is not within the 5 columns 0\.\.4"),
        ({"weights": torch.tensor([1.0, -0.1, 1.0])}, "weight of row 1 is negative"),
        ({"formula": Formula(hard=0.5)}, "hard is 0.5, and there are no labels"),
        ({"body": "numpy"}, "'numpy' is none of"),
        ({"body": "reference", "inplace": True}, "leave inplace out"),
    ],
)
def test_bad_input(change: dict[str, object], words: str) -> None:
    given_: dict[str, object] = {"student": torch.zeros(3, 5), "teacher": torch.zeros(3, 5)} | change
    with pytest.raises(ValueError, match=words):
        kd_kl(**given_)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        (("cosine",), "'cosine' is none of kl, reverse_kl, jensen_shannon"),
        (("kl", 0.0), "temperature is 0.0"),
        (("kl", 1.0, -1.0), "soft is -1.0"),
    ],
)
def test_a_formula_that_is_none(numbers: tuple[object, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Formula(*numbers)  # type: ignore[arg-type]
