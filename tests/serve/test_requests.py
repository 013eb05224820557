"""What a server answers: as `kdc predict` does, and a clear refusal for what cannot be meant."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serve.servers import Server, serving, tiny_bundle
from tests.tiny import tiny_requests
from tests.tiny_project import kdc

SECRET = "kettle-zanzibar"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("serve")


@pytest.fixture(scope="module")
def classifier(folder: Path) -> Iterator[Server]:
    with serving(tiny_bundle(folder / "classifier.kdc"), "--max-bytes", 200_000, "--max-rows", 40) as server:
        yield server


@pytest.fixture(scope="module")
def ranker(folder: Path) -> Iterator[Server]:
    columns = {"text_pair": ["title", "brand"]}
    with serving(tiny_bundle(folder / "ranker.kdc", "ranking", columns=columns)) as server:
        yield server


def rows(task: str, count: int) -> list[dict[str, Any]]:
    """Requests of different lengths, so that batches are padded."""
    given = tiny_requests(task)
    return [
        {"id": str(n), "text": " ".join([given[n % 4].text] * (1 + n % 3))}
        | ({"text_pair": given[n % 4].text_pair} if given[n % 4].text_pair else {})
        for n in range(count)
    ]


def predicted(bundle: Path, given: list[dict[str, Any]], batch_size: int) -> list[Any]:
    """What `kdc predict` says."""
    path = bundle.with_suffix(".jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in given), encoding="utf-8")
    result = kdc("predict", bundle, path, "--batch-size", batch_size)
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_answers_are_those_of_predict_to_the_last_digit(classifier: Server, folder: Path) -> None:
    """One request as a batch of one; many as `kdc predict` cuts them, with what is left over."""
    given = rows("classification", 40)
    many = classifier.post("/v1/predict", {"requests": given})
    assert many.status_code == 200
    assert many.json() == {"answers": predicted(folder / "classifier.kdc", given, 32)}
    one = [classifier.post("/v1/predict", row).json() for row in given[:5]]
    assert one == predicted(folder / "classifier.kdc", given[:5], 1)


def test_ranking_is_in_the_order_of_predict(ranker: Server, folder: Path) -> None:
    candidates = [{"id": f"c{n}", "text": row["text_pair"]} for n, row in enumerate(rows("ranking", 4))]
    candidates.append({"id": "columns", "title": "usb charger", "brand": "65"})
    pairs = [{"text": "usb charger", "text_pair": c.get("text", "usb charger 65"), "id": c["id"]} for c in candidates]
    scores = [answer["score"] for answer in predicted(folder / "ranker.kdc", pairs, 32)]
    found = ranker.post("/v1/rank", {"query": "usb charger", "candidates": candidates}).json()["ranking"]
    order = sorted(range(5), key=lambda index: -scores[index])
    assert found == [{"index": i, "id": candidates[i]["id"], "score": scores[i]} for i in order]
    best = ranker.post("/v1/rank", {"query": "usb charger", "candidates": candidates, "top": 2}).json()["ranking"]
    assert best == found[:2]


def test_a_query_alone_is_ranked_over_the_items_of_the_bundle(folder: Path) -> None:
    """As `kdc predict` does; the schema says that candidates may be left out."""
    items = folder / "items.jsonl"
    texts = ["usb charger", "coffee machine", "red shoe"]
    items.write_text("".join(json.dumps({"id": text[:3], "text": text}) + "\n" for text in texts), encoding="utf-8")
    bundle = tiny_bundle(folder / "shipping.kdc", "ranking", items=items)
    (wanted,) = predicted(bundle, [{"text": "running shoes"}], 32)
    with serving(bundle, "--max-rows", 3) as server:
        found = server.post("/v1/rank", {"query": "running shoes"})
        assert found.status_code == 200
        ranking = found.json()["ranking"]
        assert [row["id"] for row in ranking] == [item["id"] for item in wanted["items"]]
        assert [row["score"] for row in ranking] == pytest.approx([item["score"] for item in wanted["items"]])
        assert server.post("/v1/rank", {"query": "running shoes", "top": 1}).json()["ranking"] == ranking[:1]
        refused = server.post("/v1/rank", {"query": "running shoes", "top": 4})
        assert (refused.status_code, refused.json()["error"]["where"]) == (422, "top")
        form = server.get("/openapi.json").json()["components"]["schemas"]["RankRequest"]
        assert form["required"] == ["query"]
        assert "Without candidates the bundle's own items are ranked: 10" in form["description"]


@pytest.mark.parametrize(
    ("body", "status", "code", "where"),
    [
        ({"txt": "shoe"}, 422, "missing_field", "text"),
        ({"text": "shoe", "colour": "red"}, 422, "unknown_field", "colour"),
        ({"text": 3}, 422, "bad_value", "text"),
        ({"text": None}, 422, "bad_value", "text"),
        ({"text": " \t"}, 422, "bad_value", "text"),
        ({"text": "x" * 40_000}, 422, "bad_value", "text"),
        ({"text": "shoe", "id": True}, 422, "bad_value", "id"),
        ({"text": "shoe", "id": [1]}, 422, "bad_value", "id"),
        ({"requests": []}, 422, "bad_value", "requests"),
        ({"requests": {}}, 422, "bad_value", "requests"),
        ({"requests": [{"text": "shoe"}, {"text": ""}]}, 422, "bad_value", "requests[1].text"),
        ({"requests": [{"text": "shoe"}] * 41}, 422, "too_many", "requests"),
        ([], 422, "bad_value", "body"),
        ("shoe", 422, "bad_value", "body"),
        (b"", 400, "bad_json", "body"),
        (b"{", 400, "bad_json", "body"),
        (b'{"text": NaN}', 400, "bad_json", "body"),
        (b'{"text": "\xff"}', 400, "bad_json", "body"),
        (b'{"text": "\\ud800"}', 400, "bad_json", "body"),
        (b"[" * 5000, 400, "bad_json", "body"),
        (b'{"text": "' + b"a" * 1_000_000 + b'"}', 413, "too_large", "body"),
    ],
    ids=lambda value: repr(value)[:30] if not isinstance(value, int | str) else None,
)
def test_bad_bodies_are_told(classifier: Server, body: Any, status: int, code: str, where: str) -> None:
    response = classifier.post("/v1/predict", body)
    assert response.status_code == status
    error = response.json()["error"]
    assert (error["code"], error["where"]) == (code, where)
    assert len(error["message"]) > 10
    assert classifier.post("/v1/predict", {"text": "shoe"}).status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_other_content_types_are_told(classifier: Server, kind: str) -> None:
    response = classifier.post("/v1/predict", {"text": "shoe"}, headers={"content-type": kind})
    assert response.status_code == 415
    assert response.json()["error"]["where"] == "content-type"


def test_unknown_paths_and_methods_are_told_alike(classifier: Server) -> None:
    assert classifier.get("/v2/predict").json()["error"]["code"] == "not_found"
    assert classifier.get("/v1/predict").json()["error"]["code"] == "wrong_method"
    one_text = classifier.post("/v1/rank", {"query": "a", "candidates": [{"text": "b"}]})
    assert (one_text.status_code, one_text.json()["error"]["code"]) == (404, "not_available")


@pytest.mark.parametrize(
    ("body", "code", "where"),
    [
        ({"query": "shoe", "candidates": []}, "bad_value", "candidates"),
        ({"query": "shoe", "candidates": [{"text": "a"}, {}]}, "bad_value", "candidates[1]"),
        ({"query": "shoe", "candidates": [{"title": "a"}]}, "bad_value", "candidates[0]"),
        ({"query": "shoe", "candidates": [{"text": "a"}], "top": 0}, "bad_value", "top"),
        ({"candidates": [{"text": "a"}]}, "missing_field", "query"),
    ],
    ids=str,
)
def test_bad_rankings_are_told(ranker: Server, body: Any, code: str, where: str) -> None:
    response = ranker.post("/v1/rank", body)
    assert response.status_code == 422
    assert (response.json()["error"]["code"], response.json()["error"]["where"]) == (code, where)


def test_what_is_not_http_does_no_harm(classifier: Server) -> None:
    for garbage in (b"\x16\x03\x01\x00\xa5", b"GET\r\n\r\n", b"POST /v1/predict HTTP/1.1\r\ncontent-length: x\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", classifier.port), 10) as raw:
            raw.sendall(garbage + b"\r\n\r\n")
            assert raw.recv(100).startswith(b"HTTP/1.1 400")
    assert classifier.get("/health").json()["status"] == "ok"


def test_no_process_of_a_server_holds_torch(classifier: Server) -> None:
    for pid in (classifier.process.pid, *classifier.workers()):
        assert "libtorch" not in Path(f"/proc/{pid}/maps").read_text()


def test_the_log_holds_no_text_of_requests(classifier: Server) -> None:
    for body in ({"text": SECRET}, {"text": SECRET, SECRET: 1}, b'{"text": "' + SECRET.encode() + b'"'):
        classifier.post("/v1/predict", body)
    assert SECRET not in classifier.said()


def test_metrics_count_texts_and_statuses(classifier: Server) -> None:
    ok = 'kdc_requests_total{route="/v1/predict",status="200"}'
    before, texts = classifier.metric(ok), classifier.metric("kdc_batch_texts_sum")
    classifier.post("/v1/predict", {"requests": rows("classification", 40)})
    assert classifier.metric(ok) == before + 1
    assert classifier.metric("kdc_batch_texts_sum") == texts + 40
    assert classifier.metric("kdc_waiting_texts") == 0
    assert classifier.metric("kdc_workers") == 1


def test_docs_load_nothing_from_elsewhere(ranker: Server) -> None:
    page = ranker.get("/docs").text
    assert "/v1/rank" in page
    assert not any(word in page for word in ("<script", "http://", "https://", "@import", "src="))


def test_schemas_are_the_bundles_own(classifier: Server, ranker: Server) -> None:
    schemas = classifier.get("/openapi.json").json()["components"]["schemas"]
    assert schemas["Answer"]["properties"]["label"]["enum"] == ["shoes", "power", "kitchen"]
    assert schemas["PredictRequest"]["required"] == ["text"]
    assert schemas["PredictManyRequest"]["properties"]["requests"]["maxItems"] == 40
    assert "/v1/rank" not in classifier.get("/openapi.json").json()["paths"]
    candidate = ranker.get("/openapi.json").json()["components"]["schemas"]["Candidate"]
    assert {"required": ["title", "brand"]} in candidate["allOf"][0]["anyOf"]
