"""`verify` finds damage, and a machine that computes something else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from compress.bundle import write as writer
from compress.bundle.verify import verify_bundle
from compress.bundle.write import write_bundle
from compress.errors import IntegrityError, RecipeError
from compress.runtime.answers import PROBABILITY_TOLERANCE as TOLERANCE
from compress.runtime.answers import Answer, Score
from compress.runtime.archive import pack
from compress.runtime.bundle import GOLDEN, MANIFEST, file_entry, manifest_bytes, manifest_digest, open_bundle
from compress.runtime.predictor import Predictor, Request
from tests.tiny import tiny_deployable, tiny_requests
from tests.tiny_project import kdc


def make(tmp_path: Path, task: str = "classification", **changes: object) -> Path:
    folder = tiny_deployable(tmp_path / "deployable", task, **changes)
    golden = tiny_requests(task)
    return write_bundle(folder, tmp_path / "tiny.kdc", name="tiny", golden=golden, metrics={}, provenance={})


def shift_recorded(monkeypatch: pytest.MonkeyPatch, by: float) -> None:
    """Record golden answers as a machine would that computes the first label's probability higher by `by`."""
    honest = writer._golden_line

    def shifted(request: Request, answer: Answer) -> str:
        first, *_, last = answer.probabilities
        moved = answer.probabilities | {
            first: answer.probabilities[first] + by,
            last: answer.probabilities[last] - by,
        }
        label = max(moved, key=lambda name: moved[name])
        return honest(request, Answer(answer.id, label, moved[label], moved))

    monkeypatch.setattr(writer, "_golden_line", shifted)


@pytest.mark.parametrize("task", ["classification", "pairs"])
def test_an_intact_bundle_passes_on_the_machine_that_made_it(tmp_path: Path, task: str) -> None:
    report = verify_bundle(make(tmp_path, task))
    assert report["ok"] is True
    assert report["files"] == 4
    assert report["golden"]["requests"] == 4
    assert report["golden"]["label_mismatches"] == 0
    assert report["golden"]["max_probability_difference"] < 1e-5


def test_answers_beyond_the_tolerance_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shift_recorded(monkeypatch, 2 * TOLERANCE)
    with pytest.raises(IntegrityError, match="golden request 1 of 4 is answered"):
        verify_bundle(make(tmp_path))


@pytest.mark.parametrize("task", ["classification", "pairs"])
def test_a_golden_request_without_its_text_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    honest = writer._golden_line

    def emptied(request: Request, answer: Answer) -> str:
        line = json.loads(honest(request, answer))
        line["request"]["text"] = None
        return json.dumps(line) + "\n"

    monkeypatch.setattr(writer, "_golden_line", emptied)
    with pytest.raises(IntegrityError, match=r"unreadable golden\.jsonl \(a request has no text\)"):
        verify_bundle(make(tmp_path, task))


def test_answers_within_the_tolerance_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shift_recorded(monkeypatch, TOLERANCE / 2)
    report = verify_bundle(make(tmp_path))
    assert report["golden"]["max_probability_difference"] == pytest.approx(TOLERANCE / 2, abs=1e-5)


def test_a_label_may_flip_only_at_the_threshold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_deployable(tmp_path / "probe", "pairs")
    score = Predictor.from_folder(folder).answer(tiny_requests("pairs"))[0].score
    honest = writer._golden_line

    def flipped(request: Request, answer: Answer) -> str:
        label = {"0": "1", "1": "0"}[answer.label] if request.id == "0" else answer.label
        return honest(request, Answer(answer.id, label, answer.score, answer.probabilities))

    monkeypatch.setattr(writer, "_golden_line", flipped)
    near = verify_bundle(make(tmp_path / "near", "pairs", threshold=score + TOLERANCE / 2))
    assert near["golden"]["label_mismatches"] == 1
    with pytest.raises(IntegrityError, match="golden request 1"):
        verify_bundle(make(tmp_path / "far", "pairs", threshold=score + 2 * TOLERANCE))


@pytest.mark.parametrize("task", ["ranking", "regression"])
def test_numbers_are_compared_by_their_spread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str) -> None:
    """A twentieth of a standard deviation: of the training labels, or of the golden scores."""
    report = verify_bundle(make(tmp_path / "honest", task))["golden"]
    assert report["requests"] == 4
    assert report["max_score_difference"] < report["tolerance"] / 100
    golden = [a.score for a in Predictor.from_folder(tmp_path / "honest/deployable").answer(tiny_requests(task))]
    spread = 20.0 if task == "regression" else float(np.std(golden))
    assert report["tolerance"] == pytest.approx(spread / 20, rel=1e-2)
    honest = writer._golden_line
    for share, passes in ((0.5, True), (2.0, False)):

        def shifted(request: Request, answer: Score, by: float = share * report["tolerance"]) -> str:
            return honest(request, Score(answer.id, answer.score + by))

        monkeypatch.setattr(writer, "_golden_line", shifted)
        path = make(tmp_path / str(share), task)
        if passes:
            assert verify_bundle(path)["ok"]
        else:
            with pytest.raises(IntegrityError, match="golden request 1 of 4 is answered with"):
                verify_bundle(path)


def test_a_changed_byte_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError):
        verify_bundle(path)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_golden_requests_that_are_none_are_damage(tmp_path: Path, task: str) -> None:
    """Hashes can be right for anything; a NaN would differ from nothing."""
    members = dict(open_bundle(make(tmp_path, task)).members)
    line = json.loads(members[GOLDEN].split(b"\n")[0])
    answer = line["answer"]
    odd = [{"request": 1}, {"request": {"text": 5}}, {"answer": None}, {"answer": answer | {"score": float("nan")}}, {}]
    odd += [{"answer": answer | {"score": 10**400}}, {"request": {"words": "red"}}]
    if task == "classification":
        odd += [{"answer": answer | {"probabilities": {"shoes": 1.0}}}, {"answer": answer | {"label": "other"}}]
    for change in odd:
        members[GOLDEN] = json.dumps(line | change).encode() if change else b"\n"
        manifest = json.loads(members[MANIFEST])
        manifest["files"][GOLDEN] = file_entry(members[GOLDEN]).model_dump()
        manifest["digest"] = manifest_digest(manifest)
        members[MANIFEST] = manifest_bytes(manifest)
        (tmp_path / "odd.kdc").write_bytes(pack(members))
        with pytest.raises(IntegrityError, match=r"unreadable golden\.jsonl"):
            verify_bundle(tmp_path / "odd.kdc")


# ---------------------------------------------------------------- certificate


def test_a_bundle_without_a_certificate_says_so(tmp_path: Path) -> None:
    """Bundles of a model alone have none, and neither have those from before there were any."""
    bundle = make(tmp_path)
    assert b'"certificate"' not in open_bundle(bundle).members[MANIFEST]
    assert open_bundle(bundle).manifest.certificate is None
    with pytest.raises(RecipeError, match=r"tiny\.kdc is intact but has no certificate"):
        verify_bundle(bundle, certificate=True)
    for more in ([], ["--json"]):
        refused = kdc("verify", bundle, "--certificate", *more)
        assert (refused.exit_code, refused.stdout == "") == (2, not more)
        assert "has no certificate" in refused.stderr + refused.stdout
    assert kdc("verify", bundle).exit_code == 0


def test_a_certificate_is_part_of_what_the_digest_covers(tmp_path: Path) -> None:
    folder, told = tiny_deployable(tmp_path / "deployable"), {"rows": 3, "comparisons": []}
    golden = tiny_requests()
    out = write_bundle(folder, tmp_path / "t.kdc", name="t", golden=golden, metrics={}, provenance={}, certificate=told)
    assert verify_bundle(out, certificate=True)["certificate"] == told
    raw = out.read_bytes()
    assert raw.count(b'"rows": 3') == 1
    out.write_bytes(raw.replace(b'"rows": 3', b'"rows": 4'))
    with pytest.raises(IntegrityError):
        verify_bundle(out, certificate=True)
