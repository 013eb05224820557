"""`kdc package BUNDLE --target web`: the site answers in a browser as the bundle answers in Python."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.browser import browsing, chromium, serving
from compress.artifacts import TOKENIZER
from compress.bundle import web
from compress.bundle.web import CHECK, LOADED, difference, write_site
from compress.bundle.web_packages import fetch_packages
from compress.bundle.write import write_bundle
from compress.errors import EnvironmentProblem
from compress.runtime.bundle import Bundle, open_bundle
from compress.runtime.predictor import Request
from compress.runtime.text import TextEncoder
from tests.tiny import tiny_deployable, tiny_requests, tiny_tokenizer_json
from tests.tiny_project import kdc

ANSWERED = "performance.getEntriesByName('first-answer').length > 0"


def wordpiece_json() -> str:
    """The tiny tokenizer, as a kind that JavaScript reads, too."""
    plain = json.loads(tiny_tokenizer_json())
    plain["model"] |= {"type": "WordPiece", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    return json.dumps(plain)


def make(folder: Path, task: str) -> Path:
    deployable = tiny_deployable(folder / "deployable", task)
    (deployable / TOKENIZER).write_text(wordpiece_json(), encoding="utf-8")
    golden = [
        *tiny_requests(task),
        Request("red " * 20, "blue shoe kettle" * 9 if task in ("pairs", "ranking") else None),
    ]
    return write_bundle(deployable, folder / "tiny.kdc", name="tiny <b>", golden=golden, metrics={}, provenance={})


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("web")
    try:
        fetch_packages(folder)
    except EnvironmentProblem as error:
        pytest.skip(f"not run: {error}")
    return folder


def python_answers(bundle: Bundle, requests: list[Request]) -> list[dict[str, object]]:
    return [asdict(answer) for answer in bundle.predictor(runtime="onnxruntime").answer(requests, batch_size=1)]


@pytest.mark.long
@pytest.mark.parametrize("task", ["classification", "pairs", "ranking", "regression"])
def test_the_site_answers_as_python_does(tmp_path: Path, cache: Path, task: str) -> None:
    program = chromium()
    if program is None:
        pytest.skip("not run: there is no chromium")
    bundle = open_bundle(make(tmp_path, task))
    made = write_site(bundle, tmp_path / "site", cache=cache)
    assert made["golden"] == {"requests": 5, "max_difference": pytest.approx(0, abs=1e-5), "tolerance": 1e-3}
    assert not (tmp_path / "site" / CHECK).exists()
    two = task in ("pairs", "ranking")
    # Longer than the model reads, unknown words, upper case, an accent, half of the room each.
    texts = ["Red running SHOES", "kettle " * 30, "unknown café 65 w", "usb " * 6]
    seconds = ["coffee " * 30, "blue shoe", "machine", "for " * 5]
    requests = [Request(a, b if two else None) for a, b in zip(texts, seconds, strict=True)]
    asked = json.dumps([asdict(request) for request in requests])
    with serving(tmp_path / "site") as server, browsing(program) as page:
        page.open(server.url)
        page.until(ANSWERED)
        said = page.evaluate(
            f"""(async () => {{
              const {{ Model }} = await import("./model.js");
              const json = async (name) => (await fetch(name)).json();
              const bytes = async (name) => new Uint8Array(await (await fetch(name)).arrayBuffer());
              const model = await Model.open(await json("site.json"), await json("tokenizer.json"),
                await bytes("model.onnx"), await bytes("lib/onnxruntime.wasm"));
              const answers = [];
              for (const request of {asked}) answers.push(await model.answer(request));
              return answers;
            }})()"""
        )
        wanted = python_answers(bundle, requests)
        spec = bundle.manifest.spec
        assert max(difference(spec, *pair) for pair in zip(said, wanted, strict=True)) < 1e-5
        assert [answer.get("label") for answer in said] == [answer.get("label") for answer in wanted]
        # The page itself: by keyboard alone, as wide as a phone.
        page.resize(360, 700)
        page.evaluate("document.getElementById('answers').replaceChildren(); document.getElementById('text').focus()")
        page.press("Enter", "\r")
        page.until("document.querySelectorAll('#answers li').length > 0")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert " ms" in page.evaluate("document.getElementById('status').textContent")
        assert page.evaluate("document.title") == "tiny <b>"
        scores = page.evaluate("[...document.querySelectorAll('#answers data')].map((each) => Number(each.value))")
        assert scores == sorted(scores, reverse=True)
        assert page.problems == []
        assert {name.lstrip("/") for name in server.sent} == set(LOADED)
        assert sum(server.sent.values()) < 8_000_000
        page.evaluate("document.getElementById('text').value = ' '; document.getElementById('ask').requestSubmit()")
        page.until("document.getElementById('status').textContent === 'Type a text.'")


@pytest.mark.long
def test_a_catalogue_is_what_the_page_offers(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "catalogue.csv").write_text("text\nred shoe\nblue  shoe\nred shoe\n", encoding="utf-8")
    bundle = open_bundle(make(tmp_path, "ranking"))
    write_site(bundle, tmp_path / "site", cache=cache, catalogue=tmp_path / "catalogue.csv")
    assert json.loads((tmp_path / "site" / "site.json").read_bytes())["candidates"] == ["red shoe", "blue shoe"]
    for name in LOADED:
        assert (tmp_path / "site" / f"{name}.br").is_file()
        assert (tmp_path / "site" / f"{name}.gz").is_file()


def test_special_tokens_are_told_apart_from_text() -> None:
    encoder = TextEncoder(wordpiece_json(), max_length=12)
    frames = web._frames(encoder, [Request("red shoe")])
    assert frames == {"single": [[2], [3]], "pair": [[2], [3], [3]]}


def test_without_npm_one_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = make(tmp_path, "ranking")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    done = kdc("package", str(bundle), "--target", "web", "-o", str(tmp_path / "site"), "--runs", str(tmp_path))
    assert done.exit_code == 4
    assert "needs 'npm', which is not on the path: install Node.js" in done.stderr
    assert not (tmp_path / "site").exists()


def test_what_cannot_be_meant_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "long.jsonl").write_text("".join(f'{{"text": "shoe {n}"}}\n' for n in range(1001)), encoding="utf-8")
    pairs, one = make(tmp_path / "pairs", "pairs"), make(tmp_path / "one", "classification")
    cases = [
        ([str(one), "-o", str(tmp_path / "photos")], 2, "is there already and is no site"),
        ([str(one), "-o", str(tmp_path / "s"), "--catalogue", str(tmp_path / "long.jsonl")], 2, "reads one text"),
        ([str(pairs), "-o", str(tmp_path / "s"), "--catalogue", str(tmp_path / "long.jsonl")], 3, "has 1,001 products"),
        ([str(pairs)], 2, "-o DIR is missing"),
    ]
    for options, code, message in cases:
        done = kdc("package", *options, "--target", "web", "--runs", str(tmp_path / "runs"))
        assert (done.exit_code, message in done.stderr) == (code, True), done.stderr
    assert not (tmp_path / "runs").exists()
