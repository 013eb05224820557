"""Requests made from the server's own OpenAPI, meant and not meant: it never fails, and answers as it says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode, checks

from tests.serve.servers import Server, serving, tiny_bundle

EXAMPLES = 15
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    bundle = tiny_bundle(tmp_path_factory.mktemp("schema") / "pairs.kdc", "pairs", columns={"text": ["title", "brand"]})
    with serving(bundle) as running:
        yield running


def ask(server: Server, path: str, method: str, mode: GenerationMode, examples: int) -> list[int]:
    """The statuses of so many requests, each of which is checked."""
    operation = schemathesis.openapi.from_url(f"{server.url}/openapi.json")[path][method]
    statuses = []

    @settings(
        max_examples=examples,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def one(case: schemathesis.Case) -> None:
        statuses.append(case.call_and_validate(checks=CHECKS).status_code)

    one()
    return statuses


@pytest.mark.long
@pytest.mark.parametrize("path", ["/v1/predict", "/v1/rank"])
def test_nothing_that_the_schema_allows_or_forbids_breaks_the_server(server: Server, path: str) -> None:
    allowed = ask(server, path, "POST", GenerationMode.POSITIVE, EXAMPLES)
    assert 200 in allowed
    forbidden = ask(server, path, "POST", GenerationMode.NEGATIVE, EXAMPLES)
    assert 422 in forbidden
    assert server.get("/health").status_code == 200


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics", "/docs", "/openapi.json"])
def test_what_is_got_is_as_the_schema_says(server: Server, path: str) -> None:
    assert ask(server, path, "GET", GenerationMode.POSITIVE, 1) == [200]
