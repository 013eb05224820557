"""Items that a bundle brings along: what is packed, found, checked and refused."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import compress
from compress.bundle import items as packing
from compress.bundle.verify import verify_bundle
from compress.bundle.write import write_bundle
from compress.errors import DataError, EnvironmentProblem, IntegrityError, KdcError, RecipeError
from compress.paths import package_path
from compress.runtime.archive import pack
from compress.runtime.bundle import MANIFEST, file_entry, manifest_bytes, manifest_digest, open_bundle
from compress.runtime.predictor import Predictor, Request
from compress.runtime.shipped import ENDS, ITEMS, SEARCHES, TOKENS, VECTORS, from_npy, to_npy
from compress.serve.batching import Batcher
from compress.serve.errors import Refused
from compress.serve.model import load_model
from compress.serve.ranking import rank
from compress.serve.settings import Settings
from tests.tiny import WORDS, tiny_deployable, tiny_requests
from tests.tiny_project import kdc
from tests.tiny_students import exported_student

TEXTS = [f"{first} {second}" for first in WORDS[:6] for second in WORDS[6:]]
QUERIES = ["red running shoes", "usb charger 65 w", "coffee machine"]


def items_file(folder: Path, texts: list[str] = TEXTS) -> Path:
    path = folder / "items.jsonl"
    path.write_text("".join(json.dumps({"id": f"s{i}", "text": t}) + "\n" for i, t in enumerate(texts)), "utf-8")
    return path


def written(model: Path, out: Path, items: Path | None, task: str = "pairs", **given: Any) -> Path:
    golden = tiny_requests(task)
    return write_bundle(model, out, name="tiny", golden=golden, metrics={}, provenance={}, items=items, **given)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("items")


@pytest.fixture(scope="module")
def two_tower(folder: Path) -> Path:
    return written(exported_student(folder / "towers", "two-tower"), folder / "towers.kdc", items_file(folder))


@pytest.fixture(scope="module")
def reader(folder: Path) -> Path:
    """Of a model that reads both texts together."""
    return written(tiny_deployable(folder / "reader", "pairs"), folder / "reader.kdc", items_file(folder))


def forged(bundle: Path, out: Path, members: dict[str, bytes] | None = None, **changes: Any) -> Path:
    """A bundle with other members or fields, and right hashes."""
    opened = dict(open_bundle(bundle).members)
    manifest = json.loads(opened.pop(MANIFEST)) | changes
    opened |= members or {}
    manifest["files"] = {name: file_entry(opened[name]).model_dump() for name in sorted(opened)}
    manifest["digest"] = manifest_digest(manifest)
    out.write_bytes(pack({**opened, MANIFEST: manifest_bytes(manifest)}))
    return out


def test_embeddings_are_those_of_the_shipped_model_in_halves(two_tower: Path, folder: Path) -> None:
    """`np.load` reads them; rows are in the order of the file."""
    members = open_bundle(two_tower).members
    vectors = np.load(io.BytesIO(members[VECTORS]), allow_pickle=False)
    own = Predictor.from_folder(folder / "towers" / "onnx").embed(TEXTS)
    assert (vectors.dtype, vectors.shape) == (np.float16, own.shape)
    np.testing.assert_allclose(vectors.astype(np.float32), own, atol=1e-3)
    lines = [json.loads(line) for line in members[ITEMS].decode().splitlines()]
    assert lines == [{"id": f"s{i}", "text": text} for i, text in enumerate(TEXTS)]


def test_search_is_brute_force_over_these_embeddings(two_tower: Path) -> None:
    """Best ten of all cosines in float64; the score is that of the pair, as `predict` gives it, but for rounding."""
    model = compress.load(two_tower)
    vectors = np.load(io.BytesIO(open_bundle(two_tower).members[VECTORS])).astype(np.float64)
    cosines = model.predictor.embed(QUERIES).astype(np.float64) @ vectors.T
    for query, row, found in zip(QUERIES, cosines, model.search(QUERIES), strict=True):
        assert len(found) == 10
        places = [int((item.id or "")[1:]) for item in found]
        np.testing.assert_allclose(row[places], np.sort(row)[::-1][:10], atol=1e-6)
        pairs = model.predict([(query, TEXTS[place]) for place in places])
        assert [item.score for item in found] == pytest.approx([answer.score for answer in pairs], abs=2e-3)


def test_nothing_is_embedded_again(two_tower: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = compress.load(two_tower)
    asked: list[str] = []
    honest = Predictor.embed

    def counted(self: Predictor, texts: list[str], start: int = 0) -> Any:
        asked.extend(texts)
        return honest(self, texts, start)

    monkeypatch.setattr(Predictor, "embed", counted)
    model.search(QUERIES)
    assert asked == QUERIES


def test_a_model_that_reads_pairs_has_their_tokens(reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Search is the order of `predict` over all items, which are not tokenised here."""
    assert {TOKENS, ENDS} <= open_bundle(reader).members.keys()
    with_items, plain = compress.load(reader), open_bundle(reader).predictor()
    encoder = with_items.predictor.encoder
    tokenised: list[str] = []
    honest = encoder.tokenizer.encode_batch_fast

    class Counted:
        def encode_batch_fast(self, texts: list[str], **options: Any) -> Any:
            tokenised.extend(texts)
            return honest(texts, **options)

    monkeypatch.setattr(encoder, "tokenizer", Counted())
    (found,) = with_items.search(QUERIES[:1], top=len(TEXTS))
    assert tokenised == QUERIES[:1]
    scores = [answer.score for answer in plain.answer([Request(QUERIES[0], text) for text in TEXTS])]
    order = sorted(range(len(TEXTS)), key=lambda place: -scores[place])
    assert [item.id for item in found] == [f"s{place}" for place in order]
    assert [item.score for item in found] == [scores[place] for place in order]


def test_an_older_kdc_asks_for_an_upgrade(two_tower: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not know the field, and takes it for no damage."""
    assert open_bundle(two_tower).manifest.runtime_minimum == "0.2.0"
    monkeypatch.setattr("compress.runtime.bundle.__version__", "0.1.0")
    with pytest.raises(EnvironmentProblem, match=r"needs kdc 0\.2\.0 or newer"):
        open_bundle(two_tower)


@pytest.mark.parametrize("kind", ["two_tower", "reader"])
def test_the_same_items_give_the_same_bytes(kind: str, folder: Path, request: pytest.FixtureRequest) -> None:
    bundle: Path = request.getfixturevalue(kind)
    model = folder / {"two_tower": "towers/onnx", "reader": "reader"}[kind]
    again = written(model, folder / "again.kdc", items_file(folder))
    assert again.read_bytes() == bundle.read_bytes()
    csv = folder / "items.csv"
    csv.write_text("id,text\n" + "".join(f"s{i},{text}\n" for i, text in enumerate(TEXTS)), "utf-8")
    assert written(model, folder / "csv.kdc", csv).read_bytes() == bundle.read_bytes()
    without = written(model, folder / "without.kdc", None)
    assert "items" not in json.loads(open_bundle(without).members[MANIFEST])


def test_verify_asks_golden_searches(two_tower: Path, reader: Path, tmp_path: Path) -> None:
    found = verify_bundle(two_tower)["golden"]["items"]
    assert (found["items"], found["searches"], found["order_differs"]) == (len(TEXTS), 4, 0)
    assert found["max_score_difference"] < 1e-5
    lines = [json.loads(line) for line in open_bundle(two_tower).members[SEARCHES].decode().splitlines()]
    assert [len(line["items"]) for line in lines] == [10] * 4
    lines[2]["items"][4]["score"] += 0.05
    wrong = "".join(json.dumps(line) + "\n" for line in lines).encode()
    with pytest.raises(IntegrityError, match=r"golden search 'coffee machine' has a score that differs by 0\.05"):
        verify_bundle(forged(two_tower, tmp_path / "a.kdc", {SEARCHES: wrong}))
    assert verify_bundle(reader)["golden"]["items"] == {"items": len(TEXTS)}
    tokens = np.load(io.BytesIO(open_bundle(reader).members[TOKENS]))
    with pytest.raises(IntegrityError, match="makes other tokens of its items"):
        verify_bundle(forged(reader, tmp_path / "b.kdc", {TOKENS: to_npy(tokens[::-1].copy())}))


def test_a_changed_byte_is_exit_code_6(two_tower: Path, tmp_path: Path) -> None:
    content = bytearray(two_tower.read_bytes())
    vectors = open_bundle(two_tower).members[VECTORS]
    content[bytes(content).index(vectors) + len(vectors) // 2] ^= 1
    (tmp_path / "x.kdc").write_bytes(content)
    result = kdc("predict", tmp_path / "x.kdc", items_file(tmp_path))
    assert result.exit_code == 6
    assert "not an intact bundle" in result.stderr


def edited(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any], dict[str, bytes]], dict[str, bytes]]:
    def apply(entry: dict[str, Any], members: dict[str, bytes]) -> dict[str, bytes]:
        change(entry)
        return {}

    return apply


FORGERIES: dict[str, tuple[Callable[[dict[str, Any], dict[str, bytes]], dict[str, bytes]], str]] = {
    "count": (edited(lambda entry: entry.update(count=5)), "items.jsonl has 42 items of 42 ids, 5 are recorded"),
    "width": (edited(lambda entry: entry.update(width=16)), r"vectors.npy is not the array <f2 \[42, 16\]"),
    "kind": (
        edited(lambda entry: entry.update(width=None, tokens={"count": 3, "dtype": "<u2"})),
        "the member 'ends.npy' is missing",
    ),
    "both": (edited(lambda entry: entry.update(tokens={"count": 3, "dtype": "<u2"})), "or as both"),
    "huge": (edited(lambda entry: entry.update(width=2**31 - 1)), "is not the array"),
    "pickle": (lambda entry, members: {VECTORS: b"\x80\x04N."}, "is not the array"),
    "cut": (lambda entry, members: {VECTORS: members[VECTORS][:-1]}, "is not the array"),
    "nan": (
        lambda entry, members: {VECTORS: to_npy(np.full((42, entry["width"]), np.nan, "<f2"))},
        "has numbers that are not finite",
    ),
    "narrow": (
        lambda entry, members: entry.update(width=3) or {VECTORS: to_npy(np.ones((42, 3), "<f2"))},
        "its items have 3 numbers each, embeddings of its model 32",
    ),
    "twice": (lambda entry, members: {ITEMS: members[ITEMS].replace(b'"s1"', b'"s0"')}, "42 items of 41 ids"),
    "rows": (lambda entry, members: {ITEMS: b'{"id": 1, "text": "a"}\n'}, "items.jsonl:1 is no item"),
    "nested": (lambda entry, members: {ITEMS: b"[" * 100_000}, "items.jsonl:1 is nested too deep"),
    "latin-1": (lambda entry, members: {ITEMS: b"\xff\n"}, "utf-8"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_items_are_refused(name: str, two_tower: Path, tmp_path: Path) -> None:
    """Hashes are right, and the items are not what the manifest says."""
    opened = open_bundle(two_tower)
    entry = json.loads(opened.members[MANIFEST])["items"]
    forge, sentence = FORGERIES[name]
    members = forge(entry, dict(opened.members))
    with pytest.raises(IntegrityError, match=sentence):
        compress.load(forged(two_tower, tmp_path / "x.kdc", members, items=entry))


@pytest.mark.parametrize("name", [SEARCHES, TOKENS])
def test_what_verify_reads_may_be_anything(name: str, two_tower: Path, reader: Path, tmp_path: Path) -> None:
    bundle = two_tower if name == SEARCHES else reader
    honest = open_bundle(bundle).members[name]
    odd = [b"", b"{}", b"[]\n", b"null\n", b'{"query": 5, "items": []}\n', b'{"query": "a", "items": [{"id": [1]}]}\n']
    repeated = {"query": "a", "items": [{"id": "s0", "score": 1.0}] * 50}
    for content in [*odd, honest[:-3], honest[:40] + b"9" + honest[41:], json.dumps(repeated).encode()]:
        with pytest.raises(KdcError):
            verify_bundle(forged(bundle, tmp_path / "x.kdc", {name: content}))


def test_tokens_that_the_tokenizer_does_not_know(reader: Path, tmp_path: Path) -> None:
    tokens = np.load(io.BytesIO(open_bundle(reader).members[TOKENS])).copy()
    tokens[3] = 60_000
    with pytest.raises(IntegrityError, match="the items have the token 60000, the tokenizer knows 17"):
        compress.load(forged(reader, tmp_path / "x.kdc", {TOKENS: to_npy(tokens)}))


def test_arrays_are_read_where_they_stand() -> None:
    array = np.arange(6, dtype="<u2").reshape(2, 3)
    content = to_npy(array)
    np.testing.assert_array_equal(np.load(io.BytesIO(content)), array)
    read = from_npy("x", content, "<u2", (2, 3))
    np.testing.assert_array_equal(read, array)
    assert np.shares_memory(read, np.frombuffer(content, np.uint8))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"id": "a", "text": "x"}\n{"id": "a", "text": "y"}\n', r"jsonl:2 has the id 'a', which stands at \S+:1 too"),
        ('{"id": "1", "text": "x"}\n{"text": "y"}\n', r"jsonl:2 has the id '1', which stands at \S+:1 too"),
        ('{"id": "a", "text": "x"}\n{"id": "b"}\n', r"jsonl:2 has no 'text'"),
        ('{"id": "a", "text": " "}\n', r"jsonl:1 has an empty 'text'"),
        ('{"id": "a", "text": "x"}\nnothing\n', r"jsonl:2 is not JSON"),
        ("", "is empty"),
    ],
)
def test_items_that_cannot_be_used_are_told_by_line(content: str, sentence: str, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(content, "utf-8")
    with pytest.raises(DataError, match=sentence):
        written(tiny_deployable(tmp_path / "m", "pairs"), tmp_path / "x.kdc", path)
    assert not (tmp_path / "x.kdc").exists()


def test_items_need_a_model_that_ranks(tmp_path: Path) -> None:
    items = items_file(tmp_path)
    with pytest.raises(RecipeError, match="and the model reads one text: leave them out"):
        written(tiny_deployable(tmp_path / "one"), tmp_path / "x.kdc", items, "classification")
    grades = tiny_deployable(tmp_path / "grades", "pairs", labels=("a", "b", "c"), positive=None, threshold=None)
    with pytest.raises(RecipeError, match="has several labels and none that means a match"):
        written(grades, tmp_path / "x.kdc", items)
    bare = written(tiny_deployable(tmp_path / "pairs", "pairs"), tmp_path / "bare.kdc", None)
    with pytest.raises(RecipeError, match="came without items"):
        compress.load(bare).search(["red"])
    result = kdc("predict", bare, items, "--top", 3)
    assert (result.exit_code, "came without items" in result.stderr) == (2, True)


def test_columns_of_training_and_ids_by_position(tmp_path: Path) -> None:
    items = tmp_path / "items.csv"
    items.write_text("title,brand\nred shoe,usb\nblue kettle,\n", "utf-8")
    bundle = written(
        tiny_deployable(tmp_path / "m", "pairs"), tmp_path / "x.kdc", items, columns={"text_pair": ["title", "brand"]}
    )
    shipped = compress.load(bundle).items
    assert shipped is not None
    assert list(zip(shipped.ids, shipped.texts, strict=True)) == [("0", "red shoe usb"), ("1", "blue kettle")]
    asked = tmp_path / "asked.jsonl"
    asked.write_text('{"id": "q", "text": "red"}\n{"text": "red", "title": "blue kettle", "brand": ""}\n', "utf-8")
    answers = [json.loads(line) for line in kdc("predict", bundle, asked, "--top", 1).stdout.splitlines()]
    assert [answers[0]["id"], len(answers[0]["items"]), answers[1]["label"] in "01"] == ["q", 1, True]


def test_predict_answers_queries_and_pairs_in_order(two_tower: Path, tmp_path: Path) -> None:
    asked = tmp_path / "asked.jsonl"
    rows = [{"id": "a", "text": QUERIES[0]}, {"id": "b", "text": "red", "text_pair": "blue"}, {"text": QUERIES[1]}]
    asked.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    answers = [json.loads(line) for line in kdc("predict", two_tower, asked, "--top", 3).stdout.splitlines()]
    model = compress.load(two_tower)
    first, last = model.search([QUERIES[0], QUERIES[1]], top=3)
    assert [answer["id"] for answer in answers] == ["a", "b", None]
    for answer, found in ((answers[0], first), (answers[2], last)):
        assert [item["id"] for item in answer["items"]] == [item.id for item in found]
    assert answers[1]["score"] == pytest.approx(model.predict_one(("red", "blue")).score)


@pytest.mark.parametrize("kind", ["two_tower", "reader"])
def test_a_server_ranks_its_own_items(kind: str, request: pytest.FixtureRequest) -> None:
    """A query alone: the top k of the items, as `search` finds them; candidates are ranked as before."""
    bundle: Path = request.getfixturevalue(kind)
    model = load_model(bundle, bundle, Settings())
    wanted = compress.load(bundle).search([QUERIES[0]], top=10)[0]

    async def ask(body: dict[str, Any]) -> list[dict[str, Any]]:
        batcher = Batcher(Settings(), on_batch=lambda model, texts, seconds: None, on_waiting=lambda texts: None)
        queue = asyncio.create_task(batcher.run())
        query, candidates, top = model.forms.ranking(body)
        ranking = await rank(batcher, model, query, candidates)
        queue.cancel()
        batcher.close()
        return ranking[:top]

    for body in ({"query": QUERIES[0]}, {"query": QUERIES[0], "candidates": None}):
        found = asyncio.run(ask(body))
        assert [row["id"] for row in found] == [item.id for item in wanted]
        assert [row["score"] for row in found] == pytest.approx([item.score for item in wanted], abs=1e-6)
        assert all(row["id"] == f"s{row['index']}" for row in found)
    assert asyncio.run(ask({"query": QUERIES[0], "top": 2})) == found[:2]
    assert len(asyncio.run(ask({"query": QUERIES[0], "candidates": [{"text": "red"}]}))) == 1
    with pytest.raises(Refused, match="at most 256 are ranked"):
        model.forms.ranking({"query": "red", "top": 257})


def test_a_server_refuses_more_items_than_a_request_may_have(reader: Path) -> None:
    """A model that reads each with the query; one with embeddings has no such limit."""
    model = load_model(reader, reader, Settings(max_rows=10))
    with pytest.raises(Refused, match="this field is missing"):
        model.forms.ranking({"query": "red"})


def test_packing_a_path_takes_items_and_licences(folder: Path, tmp_path: Path) -> None:
    """As a recipe does; one file may be the licence of teacher and data."""
    model = tiny_deployable(tmp_path / "model", "pairs")
    for name in ("Apache-2.0.txt", "MIT.txt"):
        (tmp_path / name).write_text(f"the text of {name}", "utf-8")
    given = [f"teacher={tmp_path}/Apache-2.0.txt", f"data={tmp_path}/MIT.txt", f"data={tmp_path}/Apache-2.0.txt"]
    options = [part for each in given for part in ("--license", each)]
    result = kdc("package", model, "-o", tmp_path / "x.kdc", "--items", items_file(tmp_path), *options, "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert (told["items"], told["licenses"]) == (len(TEXTS), ["Apache-2.0.txt", "MIT.txt"])
    opened = open_bundle(tmp_path / "x.kdc")
    assert opened.members["LICENSES/MIT.txt"] == b"the text of MIT.txt"
    licenses = {"teacher": "Apache-2.0.txt", "data": "Apache-2.0.txt, MIT.txt"}
    assert opened.manifest.provenance["licenses"] == licenses
    card = opened.members["README.md"].decode()
    assert "Of teacher and data, below `LICENSES/`: `Apache-2.0.txt`, `MIT.txt`." in card
    assert f"It brings {len(TEXTS)} items along" in card
    for wrong, sentence in (
        (f"{tmp_path}/MIT.txt", "is not of the form teacher=FILE or data=FILE"),
        ("model=x", "is not of the form"),
        ("data=", "is not of the form"),
    ):
        with pytest.raises(RecipeError, match=sentence):
            package_path(model, tmp_path / "y.kdc", licenses=[wrong])
    with pytest.raises(DataError, match="cannot be read as text"):
        package_path(model, tmp_path / "y.kdc", licenses=[f"data={tmp_path}/none"])
    assert not (tmp_path / "y.kdc").exists()


def test_few_searches_of_many_queries(two_tower: Path) -> None:
    predictor = open_bundle(two_tower).predictor()
    queries = [f"red {number}" for number in range(30)]
    _, members = packing.pack_items(two_tower.parent / "items.jsonl", {"": predictor}, {}, queries)
    assert members[SEARCHES].count(b"\n") == packing.MAX_SEARCHES
