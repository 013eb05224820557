"""`compress.load`: what a program gets from a bundle."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import compress
from compress.bundle.write import write_bundle
from compress.errors import DataError, IntegrityError, KdcError, RecipeError
from compress.runtime.bundle import open_bundle
from tests.tiny import tiny_deployable, tiny_requests
from tests.tiny_students import exported_student

TITLES = ["red trainers", "blue canvas shoes", "green running shoes size 42", "red trainers"]


def bundle_of(folder: Path, path: Path, task: str) -> Path:
    golden = tiny_requests(task)
    return write_bundle(folder, path, name=path.stem, golden=golden, metrics={}, provenance={})


@pytest.fixture(scope="module", params=["classification", "pairs", "regression", "ranking"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("load")
    return bundle_of(tiny_deployable(folder / "model", request.param), folder / "tiny.kdc", request.param)


@pytest.fixture(scope="module")
def two_tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("towers")
    return bundle_of(exported_student(folder / "model", "two-tower"), folder / "towers.kdc", "pairs")


def test_answers_are_those_of_the_bundle(bundle: Path) -> None:
    """With and without kept tokens, one and many; typed by the kind of task."""
    asked = tiny_requests(open_bundle(bundle).manifest.task)
    wanted = open_bundle(bundle).predictor(runtime="onnxruntime").answer(asked)
    for cached in (0, 4, 2048):
        model = compress.load(bundle, runtime="onnxruntime", cached_texts=cached)
        for _ in range(2):
            assert model.predict(asked) == wanted
    assert [model.predict_one(each).id for each in asked] == [each.id for each in asked]
    labels = model.manifest.task in ("classification", "pairs")
    assert all(isinstance(answer, compress.Answer if labels else compress.Score) for answer in wanted)


def test_texts_and_pairs_need_no_request(tmp_path: Path) -> None:
    pairs = compress.load(bundle_of(tiny_deployable(tmp_path / "a", "pairs"), tmp_path / "a.kdc", "pairs"))
    assert pairs.predict([("red", "blue")]) == pairs.predict([compress.Request("red", "blue")])
    one = compress.load(
        str(bundle_of(tiny_deployable(tmp_path / "b", "classification"), tmp_path / "b.kdc", "classification"))
    )
    assert one.predict_one("red") == one.predict(["red"])[0]
    assert one.predict([]) == []
    with pytest.raises(DataError, match="predict_one"):
        one.predict("red")
    with pytest.raises(DataError, match="request 2 is 7; give a text"):
        one.predict(["red", 7])
    with pytest.raises(DataError, match="request 1 has one text, this model compares two"):
        pairs.predict(["red"])
    with pytest.raises(DataError, match="request 2 has two texts, this model reads one"):
        one.predict(["red", ("red", "blue")])
    with pytest.raises(RecipeError, match="threads is 0"):
        compress.load(tmp_path / "a.kdc", threads=0)
    with pytest.raises(DataError, match="two-tower"):
        one.index(["red"])


def test_threads_get_the_answers_of_one(bundle: Path) -> None:
    """Several threads that share the kept tokens, with so few of them that they push each other out."""
    asked = tiny_requests(open_bundle(bundle).manifest.task)
    model = compress.load(bundle, cached_texts=2)
    wanted = [model.predict_one(each) for each in asked]
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: [model.predict_one(each) for each in asked], range(64)):
            assert found == wanted


def test_a_damaged_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    content = bytearray(bundle.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "x.kdc").write_bytes(content)
    with pytest.raises(IntegrityError, match="not an intact bundle"):
        compress.load(tmp_path / "x.kdc")


def test_items_are_embedded_once_and_searched_by_a_product(two_tower: Path, tmp_path: Path) -> None:
    model = compress.load(two_tower, runtime="onnxruntime")
    index = model.index([compress.Request(title, id=f"s{i}") for i, title in enumerate(TITLES)])
    query = "red trainers"
    (best,) = index.search([query], top=4)
    pairs = {f"s{i}": answer.score for i, answer in enumerate(model.predict([(query, title) for title in TITLES]))}
    assert {item.id: item.score for item in best} == pytest.approx(pairs, abs=1e-5)
    cosines = dict(zip((f"s{i}" for i in range(4)), index.cosines([query])[0].tolist(), strict=True))
    assert [cosines[item.id or ""] for item in best] == sorted(cosines.values(), reverse=True)
    assert len(index.search([query, "blue"], top=2)[1]) == 2
    assert index.search([]) == []
    np.testing.assert_allclose(index.cosines([query])[0, [0, 3]], 1, atol=1e-5)
    index.save(tmp_path / "items.npz")
    assert model.open_index(tmp_path / "items.npz").search([query], top=4) == [best]
    with pytest.raises(RecipeError, match="top is 0"):
        index.search([query], top=0)
    with pytest.raises(DataError, match="no items"):
        model.index([])
    assert index.cosines([]).shape == (0, 4)
    for ask in (index.search, index.cosines, model.index):
        with pytest.raises(DataError, match="request 2 has two texts; give one"):
            ask(["red", ("red", "blue")])
        with pytest.raises(DataError, match="one request was given where a list is expected"):
            ask("red")


def test_embeddings_that_are_no_numbers_are_refused(two_tower: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else they would be kept, and found last for every query."""
    model = compress.load(two_tower, runtime="onnxruntime")
    honest = model.predictor._engine.run

    def broken(feed: dict[str, Any], names: list[str]) -> list[Any]:
        (vectors,) = honest(feed, names)
        vectors[1, 3] = np.inf
        return [vectors]

    monkeypatch.setattr(model.predictor._engine, "run", broken)
    with pytest.raises(
        IntegrityError, match=r"text_embedding is not a finite number for row 1 of a batch of 4 \(inf\)"
    ):
        model.index(TITLES)


def test_a_damaged_file_of_items_is_refused(two_tower: Path, tmp_path: Path) -> None:
    """Whatever byte is changed: it is refused in a sentence, or the vectors and ids are what they were."""
    model, path = compress.load(two_tower, runtime="onnxruntime"), tmp_path / "items.npz"
    index = model.index(TITLES)
    index.save(path)
    whole, refused = path.read_bytes(), 0
    for position in range(0, len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        try:
            found = model.open_index(path)
        except KdcError:
            refused += 1
            continue
        np.testing.assert_array_equal(found.items.vectors, index.items.vectors)
        assert found.items.ids == index.items.ids
    assert refused > len(whole) // 2
    path.write_text("id,text\n1,red shoe\n")
    with pytest.raises(IntegrityError, match=r"is no readable file of items \(it is no \.npz\); make it anew"):
        model.open_index(path)


def test_loading_imports_no_torch(bundle: Path) -> None:
    code = (
        "import sys, compress; model = compress.load(sys.argv[1]); "
        "sys.exit(str([n for n in ('torch', 'transformers', 'onnx') if n in sys.modules] or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(bundle)], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
