"""A bundle with a model for OpenVINO answers with it where it can, and with the portable one elsewhere."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

import compress
from compress import extras
from compress.artifacts import IR, IR_WEIGHTS, ONNX, PORTABLE, TOKENIZER, read_spec, write_spec
from compress.bundle import write as writer
from compress.bundle.verify import verify_bundle
from compress.bundle.write import write_bundle
from compress.errors import EnvironmentProblem, IntegrityError, RecipeError
from compress.quantize.openvino import write_float
from compress.runtime import openvino_engine
from compress.runtime.archive import pack
from compress.runtime.bundle import MANIFEST, manifest_bytes, manifest_digest, open_bundle
from compress.runtime.predictor import Predictor
from compress.runtime.shipped import SEARCHES, VECTORS
from tests.tiny import WORDS, tiny_deployable, tiny_requests
from tests.tiny_project import kdc, kdc_json
from tests.tiny_students import exported_student

OTHER_THRESHOLD = 0.7


def shipped(folder: Path) -> Path:
    """A model for OpenVINO with a threshold of its own, and below it the portable one."""
    tiny_deployable(folder, "pairs")
    tiny_deployable(folder / PORTABLE, "pairs")
    write_float(folder / ONNX, folder)
    (folder / ONNX).unlink()
    changes = {"runtime": "openvino", "threshold": OTHER_THRESHOLD}
    write_spec(folder, read_spec(folder).model_copy(update=changes))
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(
        shipped(tmp_path / "shipped"),
        tmp_path / "tiny.kdc",
        name="tiny",
        golden=tiny_requests("pairs"),
        metrics={},
        provenance={},
    )


def test_items_are_there_for_each_runtime(tmp_path: Path) -> None:
    """A two-tower student in both: vectors and golden searches of its own for each, checked by each."""
    folder = tmp_path / "shipped"
    source = exported_student(tmp_path / "student", "two-tower")
    shutil.copytree(source, folder / PORTABLE)
    write_float(source / ONNX, folder)
    shutil.copy(source / TOKENIZER, folder)
    write_spec(folder, read_spec(source).model_copy(update={"runtime": "openvino"}))
    items = tmp_path / "items.jsonl"
    items.write_text("".join(json.dumps({"id": word, "text": word}) + "\n" for word in WORDS), "utf-8")
    bundle = write_bundle(
        folder,
        tmp_path / "tiny.kdc",
        name="tiny",
        golden=tiny_requests("pairs"),
        metrics={},
        provenance={},
        items=items,
    )
    assert {VECTORS, SEARCHES, f"openvino/{VECTORS}", f"openvino/{SEARCHES}"} <= open_bundle(bundle).members.keys()
    found = verify_bundle(bundle)
    for figures in (found["golden"], found["variants"]["openvino"]):
        assert (figures["items"]["searches"], figures["items"]["order_differs"]) == (4, 0)
    for runtime in ("onnxruntime", "openvino"):
        model = compress.load(bundle, runtime=runtime)
        assert model.predictor.runtime == runtime
        assert [item.id for item in model.search(["red"], top=1)[0]] == ["red"]


@pytest.fixture
def without_openvino(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (extras, openvino_engine):
        monkeypatch.setattr(module, "available", lambda package: package != "openvino")


def test_it_holds_both_and_prefers_the_shipped_one(bundle: Path) -> None:
    opened = open_bundle(bundle)
    assert {ONNX, f"openvino/{IR}", f"openvino/{IR_WEIGHTS}", "openvino/golden.jsonl"} <= opened.manifest.files.keys()
    assert opened.manifest.spec.threshold == 0.4
    assert [variant.spec.threshold for variant in opened.manifest.variants] == [OTHER_THRESHOLD]
    auto, portable = opened.predictor(), opened.predictor(runtime="onnxruntime")
    assert (auto.runtime, portable.runtime) == ("openvino", "onnxruntime")
    assert (auto.spec.threshold, portable.spec.threshold) == (OTHER_THRESHOLD, 0.4)
    asked = tiny_requests("pairs")
    np.testing.assert_allclose(auto.logits(asked), portable.logits(asked), atol=1e-5)
    assert "or with openvino where that is installed" in opened.members["README.md"].decode()


@pytest.mark.usefixtures("without_openvino")
def test_without_openvino_the_portable_one_answers_and_verify_says_so(bundle: Path) -> None:
    assert open_bundle(bundle).predictor().runtime == "onnxruntime"
    report = verify_bundle(bundle)
    assert report["ok"]
    assert report["golden"]["label_mismatches"] == 0
    assert report["variants"] == {"openvino": "not run: openvino is not installed: pip install 'kdc[openvino]'"}
    with pytest.raises(EnvironmentProblem, match=r"pip install 'kdc\[openvino\]'"):
        open_bundle(bundle).predictor(runtime="openvino")
    assert kdc("verify", bundle, "--runtime", "openvino").exit_code == 4


def test_verify_asks_every_model_that_can_run_here(bundle: Path) -> None:
    report = kdc_json("verify", bundle)
    assert report["golden"]["requests"] == report["variants"]["openvino"]["requests"] == 4
    assert report["variants"]["openvino"]["label_mismatches"] == 0
    alone = kdc_json("verify", bundle, "--runtime", "openvino")
    assert "golden" not in alone
    assert alone["variants"].keys() == {"openvino"}
    assert "variants" not in kdc_json("verify", bundle, "--runtime", "onnxruntime")


def test_predict_says_which_model_answers(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_text(json.dumps({"text": "red shoes", "text_pair": "blue shoe"}) + "\n")
    for runtime, taken in (("auto", "openvino"), ("openvino", "openvino"), ("onnxruntime", "onnxruntime")):
        said = kdc("predict", bundle, path, "--runtime", runtime)
        assert said.exit_code == 0, said.stderr
        assert f"answering with {taken}" in said.stderr
        assert json.loads(said.stdout)["label"] in ("0", "1")


@pytest.mark.parametrize("member", [f"openvino/{IR}", f"openvino/{IR_WEIGHTS}", "openvino/golden.jsonl"])
def test_a_changed_byte_is_found(bundle: Path, member: str) -> None:
    with zipfile.ZipFile(bundle) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    content = bytearray(members[member])
    content[len(content) // 2] ^= 1
    bundle.write_bytes(pack(members | {member: bytes(content)}))
    assert kdc("verify", bundle).exit_code == 6
    with pytest.raises(IntegrityError, match=member):
        open_bundle(bundle)


def test_golden_answers_of_the_variant_are_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = writer._golden

    def moved(predictor: Predictor, *given: object) -> bytes:
        content = honest(predictor, *given)
        return content if predictor.runtime == "onnxruntime" else content.replace(b'"0": 0', b'"0": 9')

    monkeypatch.setattr(writer, "_golden", moved)
    lying = write_bundle(shipped(tmp_path / "s"), tmp_path / "lying.kdc", name="x", metrics={}, provenance={})
    assert kdc("verify", lying, "--runtime", "onnxruntime").exit_code == 0
    assert kdc("verify", lying).exit_code == 6


def test_a_bundle_without_it_says_what_it_has(tmp_path: Path) -> None:
    plain = tiny_deployable(tmp_path / "plain", "pairs")
    path = write_bundle(plain, tmp_path / "plain.kdc", name="plain", metrics={}, provenance={})
    assert "variants" not in json.loads(open_bundle(path).members[MANIFEST])
    with pytest.raises(RecipeError, match=r"has no model for openvino, it has one for onnxruntime"):
        open_bundle(path).predictor(runtime="openvino")
    for command in ("verify", "predict"):
        refused = kdc(command, path, "--runtime", "openvino")
        assert refused.exit_code == 2
        assert "it has one for onnxruntime" in refused.stderr


def test_a_model_for_openvino_alone_is_not_packed(tmp_path: Path) -> None:
    folder = shipped(tmp_path / "s")
    for file in (folder / PORTABLE).iterdir():
        file.unlink()
    with pytest.raises(RecipeError, match="is for openvino alone, and a bundle must run where there is onnxruntime"):
        write_bundle(folder, tmp_path / "x.kdc", name="x", metrics={}, provenance={})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"runtime": "onnxruntime"}, "its models are for onnxruntime, onnxruntime"),
        ({"labels": ["yes", "no"]}, "its models for onnxruntime and openvino differ in labels"),
        ({"two_texts": False}, "differ in two_texts"),
    ],
)
def test_models_that_do_not_go_together_are_refused(
    changes: dict[str, object], sentence: str, bundle: Path, tmp_path: Path
) -> None:
    """Right hashes, and a model that `kdc verify` would not have asked, or that reads other requests."""
    members = dict(open_bundle(bundle).members)
    manifest = json.loads(members[MANIFEST])
    manifest["variants"][0]["spec"] |= changes
    manifest["digest"] = manifest_digest(manifest)
    (tmp_path / "x.kdc").write_bytes(pack(members | {MANIFEST: manifest_bytes(manifest)}))
    with pytest.raises(IntegrityError, match=sentence):
        open_bundle(tmp_path / "x.kdc")
