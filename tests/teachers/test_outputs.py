"""Teacher outputs: in the order of the rows, resumable shard by shard, refused where there is no room."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress.batch import Encoded
from compress.data.encode import encode_examples
from compress.errors import DataError, EnvironmentProblem, IntegrityError
from compress.predict import BATCH_TOKENS, forward_batches, model_inputs, predict_logits
from compress.recipe import HuggingFaceTeacher
from compress.teachers import outputs
from compress.teachers.arrays import estimate_bytes, kept_classes, read_outputs
from compress.teachers.huggingface import Teacher, load_teacher
from compress.teachers.outputs import compute_outputs, write_scores
from tests.tiny_models import bert_folder, examples

CPU = torch.device("cpu")
ROWS, LAYERS = 50, (2, 4)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    """Four BERT layers of width 32."""
    folder = bert_folder(tmp_path_factory.mktemp("bert"))
    return load_teacher(
        HuggingFaceTeacher(model=str(folder), max_length=32),
        folder,
        task="classification",
        labels=("a", "b", "c"),
        positive=None,
        trained=True,
    )


@pytest.fixture
def encoded(teacher: Teacher) -> Encoded:
    """Fifty titles of unlike length."""
    return encode_examples(teacher.encoder, examples(ROWS))


def ask(teacher: Teacher, encoded: Encoded, folder: Path, **options: Any) -> None:
    """Compute the outputs into `folder/out`, shards in `folder/work`."""
    (folder / "work").mkdir(exist_ok=True)
    defaults = {"layers": LAYERS, "device": CPU, "bf16": False}
    compute_outputs(teacher, encoded, work=folder / "work", out=folder / "out", **(defaults | options))


def direct(teacher: Teacher, encoded: Encoded, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits and hidden states of one row, asked alone."""
    inputs = model_inputs(encoded, [row], teacher.module.input_names, CPU)
    with torch.no_grad():
        logits, hidden = teacher.module.eval()(*inputs, hidden=LAYERS)
    return logits[0].numpy(), hidden[0].numpy()


def test_rows_stand_in_their_own_order(
    teacher: Teacher, encoded: Encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards are sorted by length; what is read is not. Half precision, nothing lost beyond it."""
    monkeypatch.setattr(outputs, "SHARD_ROWS", 16)
    ask(teacher, encoded, tmp_path)
    said = read_outputs(tmp_path / "out")
    assert said.hidden is not None
    assert (said.logits.shape, said.hidden.shape) == ((ROWS, 3), (ROWS, 2, 32))
    assert said.logits.dtype == said.hidden.dtype == np.float16
    for row in range(ROWS):
        logits, hidden = direct(teacher, encoded, row)
        np.testing.assert_allclose(said.logits[row], logits, atol=5e-3)
        np.testing.assert_allclose(said.hidden[row], hidden, atol=5e-3)


def test_goes_on_after_an_interruption(
    teacher: Teacher, encoded: Encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finished shards are not asked again, and the result has the same bytes as without the interruption."""
    monkeypatch.setattr(outputs, "SHARD_ROWS", 16)
    (tmp_path / "whole").mkdir()
    ask(teacher, encoded, tmp_path / "whole")
    real, asked = outputs._answer, []

    def answer(*args: Any) -> Any:
        asked.append(len(args[2]))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(outputs, "_answer", answer)
    with pytest.raises(KeyboardInterrupt):
        ask(teacher, encoded, tmp_path)
    ask(teacher, encoded, tmp_path)
    assert asked == [16, 16, 16, 16, 2]
    for name in ("logits.npy", "hidden.npy"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / "out" / name).read_bytes()
    assert not list(tmp_path.rglob(".tmp-*"))


def test_without_layers_only_logits(teacher: Teacher, encoded: Encoded, tmp_path: Path) -> None:
    """No stage wants hidden states: none are kept."""
    ask(teacher, encoded, tmp_path, layers=())
    said = read_outputs(tmp_path / "out")
    assert said.hidden is None
    np.testing.assert_allclose(said.logits, predict_logits(teacher.module, encoded, CPU), atol=5e-3)


def test_the_largest_logits_alone(
    teacher: Teacher, encoded: Encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two largest of three with their classes, and the third; hidden states as always; as large as estimated."""
    monkeypatch.setattr(outputs, "SHARD_ROWS", 16)
    ask(teacher, encoded, tmp_path, top_k=2)
    said = read_outputs(tmp_path / "out")
    assert said.classes is not None
    assert said.hidden is not None
    assert (said.logits.dtype, said.classes.dtype) == (np.float16, np.int32)
    for row in range(ROWS):
        logits, hidden = direct(teacher, encoded, row)
        order = np.argsort(-logits)
        assert said.classes[row].tolist() == order[:2].tolist()
        np.testing.assert_allclose(said.logits[row], logits[order], atol=5e-3)
        np.testing.assert_allclose(said.hidden[row], hidden, atol=5e-3)
    sizes = {path.name: path.stat().st_size - 128 for path in (tmp_path / "out").iterdir()}  # a header each
    assert sizes == {"logits.npy": ROWS * 3 * 2, "classes.npy": ROWS * 2 * 4, "hidden.npy": ROWS * 2 * 32 * 2}
    assert sum(sizes.values()) == estimate_bytes(ROWS, 3, 2, 32, top_k=2)
    assert kept_classes(2, 3) == 2
    assert kept_classes(3, 3) is kept_classes(9, 3) is kept_classes(None, 3) is None


def as_process(rank: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be one of several processes that never wait for each other."""
    monkeypatch.setenv("WORLD_SIZE", str(count))
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setattr(outputs.parallel, "wait", lambda: None)


def test_shards_are_dealt_to_processes(
    teacher: Teacher, encoded: Encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each asks about its own, the first puts all together; the bytes are those of one process."""
    monkeypatch.setattr(outputs, "SHARD_ROWS", 8)
    alone, together = tmp_path / "alone", tmp_path / "together"
    for folder in (alone, together):
        folder.mkdir()
    ask(teacher, encoded, alone)
    asked: list[int] = []
    answer = outputs._answer
    monkeypatch.setattr(outputs, "_answer", lambda *given: asked.append(len(given[2])) or answer(*given))
    for rank in (2, 1, 0):
        as_process(rank, 3, monkeypatch)
        ask(teacher, encoded, together)
        made = len(list((together / "work").glob("shard-*.npz")))
        assert len(asked) == made == {2: 2, 1: 4, 0: 7}[rank]
        assert (together / "out").exists() == (rank == 0)
    assert sum(asked) == ROWS
    files = sorted(path.name for path in (alone / "out").iterdir())
    assert files == ["hidden.npy", "logits.npy"]
    for name in files:
        assert (together / "out" / name).read_bytes() == (alone / "out" / name).read_bytes()


def test_shards_of_another_process_that_are_nowhere(
    teacher: Teacher, encoded: Encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine with a disk of its own: said with the processes, and what is there serves the next attempt."""
    monkeypatch.setattr(outputs, "SHARD_ROWS", 8)
    as_process(0, 3, monkeypatch)
    with pytest.raises(EnvironmentProblem, match=r"4 of 7 shards .* those of the processes 1, 2, .*--runs"):
        ask(teacher, encoded, tmp_path)
    assert not (tmp_path / "out").exists()
    assert len(list((tmp_path / "work").glob("shard-*.npz"))) == 3
    monkeypatch.setenv("WORLD_SIZE", "1")
    ask(teacher, encoded, tmp_path)
    assert len(read_outputs(tmp_path / "out").logits) == ROWS


@pytest.mark.parametrize("left", [0, 300])
def test_a_damaged_shard_is_no_answer(teacher: Teacher, encoded: Encoded, tmp_path: Path, left: int) -> None:
    ask(teacher, encoded, tmp_path)
    shard = tmp_path / "work" / "shard-00000.npz"
    shard.write_bytes(shard.read_bytes()[:left])
    with pytest.raises(IntegrityError, match=r"shard-00000\.npz is damaged .*; delete it, and its rows"):
        ask(teacher, encoded, tmp_path)


def test_no_room(teacher: Teacher, encoded: Encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before the first row, with both numbers."""
    monkeypatch.setattr(outputs, "free_bytes", lambda folder: 1000)
    needed = 2 * ROWS * 2 * (3 + 2 * 32)
    with pytest.raises(EnvironmentProblem, match=f"need {needed:,} bytes, but only 1,000 are free"):
        ask(teacher, encoded, tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_teacher_that_says_nonsense(
    teacher: Teacher, encoded: Encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NaN is not a teacher's opinion; numbers beyond half precision are cut to its range."""
    bias = teacher.module.model.classifier.bias
    kept = bias.detach().clone()
    try:
        with torch.no_grad():
            bias[0] = 1e6
        ask(teacher, encoded, tmp_path, layers=())
        assert (read_outputs(tmp_path / "out").logits[:, 0] == 65504).all()
        with torch.no_grad():
            bias[0] = float("nan")
        (tmp_path / "other").mkdir()
        with pytest.raises(DataError, match=r"not finite"):
            ask(teacher, encoded, tmp_path / "other", layers=())
    finally:
        with torch.no_grad():
            bias.copy_(kept)


def test_scores_become_outputs(tmp_path: Path) -> None:
    """A file of scores is read like a model's answers."""
    write_scores(np.array([[1.5, -2.0], [1e9, -1e9]], np.float32), tmp_path / "out")
    said = read_outputs(tmp_path / "out")
    assert said.hidden is None
    assert said.logits.tolist() == [[1.5, -2.0], [65504.0, -65504.0]]
    write_scores(np.log(np.array([[1, 4, 2, 1]], np.float32)), tmp_path / "large", top_k=1)
    said = read_outputs(tmp_path / "large")
    assert said.classes is not None
    assert said.classes.tolist() == [[1]]
    np.testing.assert_allclose(said.logits, [[np.log(4), np.log(4)]], rtol=1e-3)


def test_batches_hold_like_lengths() -> None:
    """Every row once, never much more than BATCH_TOKENS tokens, one row at least."""
    lengths = np.sort(np.random.default_rng(0).integers(1, 300, 1000))
    rows = [np.zeros(length, np.int32) for length in [*lengths, 10_000]]
    encoded = Encoded(ids=rows, type_ids=rows, lengths=np.array([len(row) for row in rows]), pad_id=0)
    batches = forward_batches(encoded, np.arange(len(rows)))
    assert np.concatenate(batches).tolist() == list(range(len(rows)))
    assert all(len(batch) * encoded.lengths[batch].max() <= BATCH_TOKENS for batch in batches[:-1])
    assert len(batches[-1]) == 1
