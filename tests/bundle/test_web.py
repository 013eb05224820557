"""`kdc package BUNDLE --target web`: the site answers in a browser as the bundle answers in Python."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from benchmarks.browser import browsing, serving
from compress.artifacts import TOKENIZER
from compress.bundle import web, web_candidates, web_packages
from compress.bundle.verify import read_golden
from compress.bundle.web import CHECK, LOADED, VECTORS, difference, write_site
from compress.bundle.web_candidates import candidates_of
from compress.bundle.web_packages import fetch_packages
from compress.bundle.write import write_bundle
from compress.errors import EnvironmentProblem
from compress.runtime.bundle import Bundle, open_bundle
from compress.runtime.predictor import Request
from compress.runtime.text import TextEncoder
from tests.tiny import tiny_deployable, tiny_requests, tiny_tokenizer_json
from tests.tiny_project import kdc
from tests.tiny_students import exported_student

ANSWERED = "performance.getEntriesByName('first-answer').length > 0"
SCORES = "[...document.querySelectorAll('#answers data')].map((each) => Number(each.value))"
HOSTILE = "<img src=x onerror=document.title='owned'> " + "W" * 200


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
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("web")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(web_packages, "KEPT_QUALITY", 9)  # the smallest files would take half a minute
        try:
            fetch_packages(folder)
        except EnvironmentProblem as error:
            pytest.skip(f"not run: {error}")
        yield folder


def python_answers(bundle: Bundle, requests: list[Request]) -> list[dict[str, object]]:
    return [asdict(answer) for answer in bundle.predictor(runtime="onnxruntime").answer(requests, batch_size=1)]


@pytest.mark.long
@pytest.mark.parametrize("task", ["classification", "pairs", "ranking", "regression"])
def test_the_site_answers_as_python_does(tmp_path: Path, browser: str, cache: Path, task: str) -> None:
    bundle = open_bundle(make(tmp_path, task))
    made = write_site(bundle, tmp_path / "site", cache=cache)
    near = pytest.approx(0, abs=1e-5)
    assert made["golden"] == {"requests": 5, "shipped_candidates": 0, "max_difference": near, "tolerance": 1e-3}
    assert not (tmp_path / "site" / CHECK).exists()
    two = task in ("pairs", "ranking")
    # Longer than the model reads, unknown words, upper case, an accent, half of the room each.
    texts = ["Red running SHOES", "kettle " * 30, "unknown café 65 w", "usb " * 6]
    seconds = ["coffee " * 30, "blue shoe", "machine", "for " * 5]
    requests = [Request(a, b if two else None) for a, b in zip(texts, seconds, strict=True)]
    asked = json.dumps([asdict(request) for request in requests])
    with serving(tmp_path / "site") as server, browsing(browser) as page:
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
        page.evaluate("document.getElementById('text').focus()")
        for name in ("BUTTON", *(["SUMMARY"] if two else []), "A"):
            page.press("Tab")
            assert page.evaluate("document.activeElement.tagName") == name
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert " ms" in page.evaluate("document.getElementById('status').textContent")
        assert page.evaluate("document.title") == "tiny <b>"
        scores = page.evaluate(SCORES)
        assert scores == sorted(scores, reverse=True)
        # What a screen reader is told, and that a text with markup in it stays a text.
        assert "First: " in page.evaluate("document.querySelector('#status .aloud').textContent")
        assert page.evaluate("document.getElementById('status').getAttribute('aria-busy')") == "false"
        if two:
            page.evaluate(f"document.getElementById('others').value = {json.dumps(HOSTILE)}")
            page.evaluate("document.getElementById('ask').requestSubmit()")
            page.until("document.querySelectorAll('#answers li').length === 1")
            assert page.evaluate("document.querySelector('#answers .name').textContent") == HOSTILE
            assert page.evaluate("document.querySelector('#answers img')") is None
            assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.problems == []
        assert {name.lstrip("/") for name in server.sent} == set(LOADED)
        assert sum(server.sent.values()) < 8_000_000
        page.evaluate("document.getElementById('text').value = ' '; document.getElementById('ask').requestSubmit()")
        page.until("document.getElementById('status').textContent === 'Type a text.'")


@pytest.mark.long
def test_a_two_tower_site_reads_its_candidates_before_it_is_shipped(tmp_path: Path, browser: str, cache: Path) -> None:
    """They come as embeddings; a question runs the model once, and the scores are those of the pairs in Python."""
    deployable = exported_student(tmp_path / "model", "two-tower")
    (deployable / TOKENIZER).write_text(wordpiece_json(), encoding="utf-8")
    golden = tiny_requests("pairs")
    path = write_bundle(deployable, tmp_path / "t.kdc", name="towers", golden=golden, metrics={}, provenance={})
    (tmp_path / "catalogue.csv").write_text("text\nred shoe\nblue  kettle\nusb charger\n", encoding="utf-8")
    bundle, offered = open_bundle(path), ["red shoe", "blue kettle", "usb charger"]
    made = write_site(bundle, tmp_path / "site", cache=cache, catalogue=tmp_path / "catalogue.csv")
    assert made["golden"]["shipped_candidates"] == 3
    assert made["golden"]["max_difference"] < 1e-3
    shipped = np.frombuffer((tmp_path / "site" / VECTORS).read_bytes(), "<i2").reshape(3, -1) / 32767
    wanted = bundle.predictor(runtime="onnxruntime").embed(offered)
    np.testing.assert_allclose(shipped, wanted, atol=0.51 / 32767)
    with serving(tmp_path / "site") as server, browsing(browser) as page:
        page.open(server.url)
        page.until(ANSWERED)
        assert {name.lstrip("/") for name in server.sent} == {*LOADED, VECTORS}
        count = """import("./lib/onnxruntime.js").then(({ InferenceSession: { prototype } }) => {
          const run = prototype.run;
          window.runs = 0;
          prototype.run = function (...given) { window.runs += 1; return run.apply(this, given); };
        })"""
        page.evaluate(count)
        for text, others, runs in (
            ("coffee machine", offered, 1),
            ("coffee machine", [*offered, "red kettle"], 1),  # the query is known, the new candidate is read
            ("red shoes", [*offered, "red kettle"], 1),
        ):
            page.evaluate(
                f"""window.runs = 0; document.getElementById('answers').replaceChildren();
                document.getElementById('others').value = {json.dumps(chr(10).join(others))};
                document.getElementById('text').value = {json.dumps(text)};
                document.getElementById('ask').requestSubmit()"""
            )
            page.until(f"document.querySelectorAll('#answers li').length === {len(others)}")
            pairs = [Request(text, other) for other in others]
            answers = bundle.predictor(runtime="onnxruntime").answer(pairs, batch_size=1)
            assert page.evaluate(SCORES) == pytest.approx(sorted((a.score for a in answers), reverse=True), abs=1e-3)
            assert page.evaluate("window.runs") == runs
        assert page.problems == []


def test_a_large_site_is_told_with_both_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    web._tell_size(web.MAX_TRANSFERRED, 5_000_000)
    assert capsys.readouterr().err == ""
    web._tell_size(10_700_000, 8_800_000)
    told = " ".join(capsys.readouterr().err.split())
    assert "warning: a browser loads 10.7 MB (brotli) to answer, a page should ask for at most 8.0 MB" in told
    assert "it has 8.8 MB" in told


def test_the_page_promises_matches_only_where_a_label_is_one(tmp_path: Path) -> None:
    cases = [("pairs", {}, "most likely match first"), ("pairs", {"positive": None, "threshold": None}, "highest")]
    for place, (task, changes, words) in enumerate(cases):
        folder = tmp_path / str(place)
        deployable = tiny_deployable(folder / "deployable", task, **changes)
        path = write_bundle(
            deployable, folder / "t.kdc", name="t", golden=tiny_requests(task), metrics={}, provenance={}
        )
        (folder / "licenses").mkdir()
        web._write_own(open_bundle(path), folder, {})
        assert words in (folder / "index.html").read_text(encoding="utf-8")


@pytest.mark.long
def test_a_catalogue_is_what_the_page_offers(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "catalogue.csv").write_text("text\nred shoe\nblue  shoe\nred shoe\n", encoding="utf-8")
    bundle = open_bundle(make(tmp_path, "ranking"))
    write_site(bundle, tmp_path / "site", cache=cache, catalogue=tmp_path / "catalogue.csv")
    assert json.loads((tmp_path / "site" / "site.json").read_bytes())["candidates"] == ["red shoe", "blue shoe"]
    for name in LOADED:
        assert (tmp_path / "site" / f"{name}.br").is_file()
        assert (tmp_path / "site" / f"{name}.gz").is_file()


def test_without_a_catalogue_the_page_offers_the_items_of_the_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each text once and on one line; of too many the first, with a warning. A catalogue comes before them."""
    (tmp_path / "items.csv").write_text("id,text\na,red  shoe\nb,blue kettle\nc,red shoe\nd,usb charger\n", "utf-8")
    (tmp_path / "catalogue.csv").write_text("text\ncoffee machine\n", "utf-8")
    path = write_bundle(
        tiny_deployable(tmp_path / "model", "pairs"),
        tmp_path / "t.kdc",
        name="t",
        golden=tiny_requests("pairs"),
        metrics={},
        provenance={},
        items=tmp_path / "items.csv",
    )
    bundle = open_bundle(path)
    golden, _ = read_golden(bundle)
    assert candidates_of(bundle, golden, None) == ["red shoe", "blue kettle", "usb charger"]
    assert candidates_of(bundle, golden, tmp_path / "catalogue.csv") == ["coffee machine"]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(web_candidates, "MAX_CATALOGUE", 2)
    assert candidates_of(bundle, golden, None) == ["red shoe", "blue kettle"]
    told = " ".join(capsys.readouterr().err.split())
    assert "brings 3 items along, a page compares at most 2 and offers the first of them" in told


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
    (tmp_path / "named.csv").write_text("sku,name\n1,red shoe\n", encoding="utf-8")
    pairs, one = make(tmp_path / "pairs", "pairs"), make(tmp_path / "one", "classification")
    cases = [
        (
            [str(pairs), "-o", str(tmp_path / "s"), "--catalogue", str(tmp_path / "named.csv")],
            3,
            "; rename one",
        ),
        ([str(one), "-o", str(tmp_path / "photos")], 2, "is there already and is no site"),
        ([str(one), "-o", str(tmp_path / "s"), "--catalogue", str(tmp_path / "long.jsonl")], 2, "reads one text"),
        ([str(pairs), "-o", str(tmp_path / "s"), "--catalogue", str(tmp_path / "long.jsonl")], 3, "has 1,001 products"),
        ([str(pairs)], 2, "-o DIR is missing"),
    ]
    for options, code, message in cases:
        done = kdc("package", *options, "--target", "web", "--runs", str(tmp_path / "runs"))
        assert (done.exit_code, message in done.stderr) == (code, True), done.stderr
    assert not (tmp_path / "runs").exists()
