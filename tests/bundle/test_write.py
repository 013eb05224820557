"""Writing a bundle: same input, same bytes; all that it needs to explain itself is inside."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from compress.bundle.write import MAX_GOLDEN, write_bundle
from compress.errors import DataError, EnvironmentProblem, RecipeError
from compress.runtime.bundle import open_bundle
from compress.runtime.predictor import Request
from tests.tiny import tiny_deployable, tiny_requests
from tests.tiny_project import kdc


def write(deployable: Path, out: Path, **changes: Any) -> Path:
    options: dict[str, Any] = {
        "name": "tiny",
        "golden": tiny_requests("pairs"),
        "metrics": {"shipped": {"f1": 0.912345}, "teacher": {"f1": 0.95}},
        "provenance": {"recipe": "abc", "versions": {"torch": "2.13"}},
        "notes": ["simulated data"],
    }
    return write_bundle(deployable, out, **(options | changes))


@pytest.fixture
def deployable(tmp_path: Path) -> Path:
    return tiny_deployable(tmp_path / "deployable", "pairs")


def test_same_input_same_bytes(deployable: Path, tmp_path: Path) -> None:
    first = write(deployable, tmp_path / "a.kdc").read_bytes()
    assert write(deployable, tmp_path / "deep/er/b.kdc").read_bytes() == first
    assert write(deployable, tmp_path / "c.kdc", notes=[]).read_bytes() != first


def test_nothing_else_is_left_beside_it(deployable: Path, tmp_path: Path) -> None:
    out = write(deployable, tmp_path / "out/tiny.kdc")
    assert [path.name for path in out.parent.iterdir()] == ["tiny.kdc"]


def test_the_card_explains_the_model(deployable: Path, tmp_path: Path) -> None:
    card = open_bundle(write(deployable, tmp_path / "a.kdc")).members["README.md"].decode()
    for expected in (
        "# tiny",
        "`0`, `1`",
        "at least 0.4000",
        "| shipped f1 | 0.9123 |",
        "| versions torch | 2.13 |",
        "- simulated data",
        "kdc predict tiny.kdc",
        '"text_pair": "blue shoe"',
    ):
        assert expected in card


def test_a_bundle_reads_rows_with_the_columns_of_its_training_data(deployable: Path, tmp_path: Path) -> None:
    """`kdc predict` joins them as training did, or says which is missing; the card names them."""
    columns = {"text": ("query",), "text_pair": ("title", "brand")}
    bundle = write(deployable, tmp_path / "a.kdc", columns=columns)
    opened = open_bundle(bundle)
    assert opened.manifest.columns == columns
    assert "(`query` for text, `title`, `brand` for text_pair)" in opened.members["README.md"].decode()
    (tmp_path / "parts.csv").write_text("query,title,brand\nred shoe,running shoes,blue\n")
    (tmp_path / "whole.csv").write_text("text,text_pair\nred shoe,running shoes blue\n")
    (tmp_path / "short.csv").write_text("query,title\nred shoe,running shoes\n")
    said = kdc("predict", bundle, tmp_path / "parts.csv")
    assert (said.exit_code, said.stdout) == (0, kdc("predict", bundle, tmp_path / "whole.csv").stdout)
    assert json.loads(said.stdout)["label"] in {"0", "1"}
    refused = kdc("predict", bundle, tmp_path / "short.csv")
    assert refused.exit_code == 3
    assert "short.csv:2 has no 'brand' (for text_pair, made of 'title' and 'brand' as in training)" in refused.stderr


def test_golden_answers_are_spread_over_what_was_given(deployable: Path, tmp_path: Path) -> None:
    many = [Request("red shoe", "blue shoe", str(number)) for number in range(100)]
    golden = open_bundle(write(deployable, tmp_path / "a.kdc", golden=many)).members["golden.jsonl"]
    ids = [int(json.loads(line)["request"]["id"]) for line in golden.splitlines()]
    assert len(ids) == MAX_GOLDEN
    assert ids[0] == 0
    assert ids[-1] > 95


def test_without_data_there_are_golden_answers_too(deployable: Path, tmp_path: Path) -> None:
    assert open_bundle(write(deployable, tmp_path / "a.kdc", golden=())).members["golden.jsonl"].count(b"\n") >= 3


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no model\.onnx"):
        write(tmp_path, tmp_path / "a.kdc")


def test_a_licence_name_must_be_plain(deployable: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="licence file name"):
        write(deployable, tmp_path / "a.kdc", licenses={"../MIT": "text"})


def test_a_full_disk_leaves_no_half_bundle(deployable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = write(deployable, tmp_path / "out/a.kdc")
    before = out.read_bytes()

    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as stream:
            stream.write(content[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(EnvironmentProblem, match="disk is full"):
        write(deployable, out, name="other")
    monkeypatch.undo()
    assert out.read_bytes() == before
    assert [path.name for path in out.parent.iterdir()] == ["a.kdc"]


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("ranking", ("the documents of a query are put in order", "Scores of different queries do not compare")),
        ("regression", ("Reads a text and answers with a number", "in the unit of the labels")),
    ],
)
def test_the_card_of_a_number_says_what_it_means(tmp_path: Path, task: str, words: tuple[str, ...]) -> None:
    path = write(tiny_deployable(tmp_path / "deployable", task), tmp_path / "a.kdc", golden=tiny_requests(task))
    card = open_bundle(path).members["README.md"].decode()
    assert all(word in card for word in (*words, "answers with a number, even for a text unlike"))
    assert "label" not in card.replace("labels that it learned from", "")
    golden = [json.loads(line) for line in open_bundle(path).members["golden.jsonl"].decode().splitlines()]
    assert [line["answer"].keys() for line in golden] == [{"id", "score"}] * 4
