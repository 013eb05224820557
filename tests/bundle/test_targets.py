"""`kdc package BUNDLE --target NAME`: what is written is valid, and says what the bundle says."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import kubernetes_validate
import numpy as np
import onnxruntime
import pytest
import yaml

from compress.artifacts import MANIFEST, Artifact, list_files
from compress.bundle.docker import image_name
from compress.bundle.triton_server import Engine, pbtxt, write_repository
from compress.bundle.write import write_bundle
from compress.runtime.bundle import open_bundle
from compress.runtime.triton_steps import LENGTHS, Answers, Tokens
from tests.tiny import tiny_deployable, tiny_requests
from tests.tiny_project import kdc, kdc_json

TASKS = ["classification", "pairs", "ranking", "regression"]


def bundle_of(folder: Path, task: str) -> Path:
    model = tiny_deployable(folder / "model", task)
    return write_bundle(
        model, folder / "Tiny_1.kdc", name="Tiny_1", golden=tiny_requests(task), metrics={}, provenance={}
    )


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return bundle_of(tmp_path, "pairs")


def server_schema() -> ModuleType:
    """The server's own model_config.proto, as tritonclient has it; the package around it would need grpc."""
    found = importlib.metadata.distribution("tritonclient")
    path = Path(str(found.locate_file("tritonclient/grpc/model_config_pb2.py")))
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules.get("model_config_pb2") or importlib.util.module_from_spec(spec)
    if "model_config_pb2" not in sys.modules:
        sys.modules["model_config_pb2"] = module
        spec.loader.exec_module(module)
    return module


class FakeTensor:
    def __init__(self, name: str, array: Any) -> None:
        self.name, self.array = name, array

    def as_numpy(self) -> Any:
        return self.array


@pytest.fixture
def server_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the steps use of the module that only the server has."""
    module: Any = ModuleType("triton_python_backend_utils")
    module.Tensor = FakeTensor
    module.TritonError = str
    module.InferenceResponse = lambda output_tensors=(), error=None: SimpleNamespace(
        tensors={tensor.name: tensor.array for tensor in output_tensors}, error=error
    )
    module.get_input_tensor_by_name = lambda request, name: FakeTensor(name, request[name])
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", module)


def step(repository: Path, model: str) -> Any:
    """The class that a model.py names, opened as the server does."""
    names: dict[str, Any] = {}
    exec((repository / model / "1" / "model.py").read_text(), names)  # noqa: S102  # what was written just now
    made = names["TritonPythonModel"]()
    made.initialize({"model_repository": str(repository / model), "model_version": "1"})
    return made


def column(texts: list[str]) -> Any:
    return np.array([[text.encode()] for text in texts], np.object_)


@pytest.mark.usefixtures("server_module")
@pytest.mark.parametrize("task", TASKS)
def test_the_steps_of_the_repository_answer_as_the_bundle(task: str, tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path, task)
    out = tmp_path / "repository"
    assert kdc_json("package", bundle, "--target", "triton-server", "-o", out)["not_run"].startswith("not run: ")
    asked = tiny_requests(task)
    opened = open_bundle(bundle).predictor(runtime="onnxruntime")
    tokens, answers = step(out, "tiny-1_tokens"), step(out, "tiny-1_answers")
    assert (type(tokens), type(answers)) == (Tokens, Answers)
    given = {"TEXT": column([each.text for each in asked])}
    if opened.spec.two_texts:
        given["TEXT_PAIR"] = column([each.text_pair or "" for each in asked])
    (said,) = tokens.execute([given])
    lengths = {array.shape[1] for array in said.tensors.values()}
    assert lengths <= {*range(0, opened.spec.max_length, LENGTHS), opened.spec.max_length}
    session = onnxruntime.InferenceSession(out / "tiny-1_onnx" / "1" / "model.onnx")
    logits = session.run(["logits"], said.tensors)[0]
    np.testing.assert_allclose(logits, opened.logits(asked), atol=1e-5)
    (answered,) = answers.execute([{"logits": logits}])
    wanted = opened.answer(asked)
    np.testing.assert_allclose(answered.tensors["SCORE"][:, 0], [each.score for each in wanted], atol=1e-5)
    labelled = task in ("classification", "pairs")
    assert answered.tensors.keys() == {"SCORE"} | ({"LABEL", "PROBABILITIES"} if labelled else set())
    if labelled:
        assert [label.decode() for label in answered.tensors["LABEL"][:, 0]] == [each.label for each in wanted]
        np.testing.assert_allclose(answered.tensors["PROBABILITIES"].sum(1), 1, atol=1e-6)


@pytest.mark.usefixtures("server_module")
def test_a_request_that_cannot_be_read_is_refused_alone(pairs: Path, tmp_path: Path) -> None:
    kdc_json("package", pairs, "--target", "triton-server", "-o", tmp_path / "out")
    good = {"TEXT": column(["red"]), "TEXT_PAIR": column(["blue"])}
    broken = {"TEXT": np.array([[b"\xff"]], np.object_), "TEXT_PAIR": column(["blue"])}
    empty = {"TEXT": column([" "]), "TEXT_PAIR": column(["blue"])}
    first, second, third = step(tmp_path / "out", "tiny-1_tokens").execute([broken, good, empty])
    assert "utf-8" in first.error
    assert second.error is None
    assert "request 1 has an empty text" in third.error


@pytest.mark.parametrize("task", TASKS)
def test_the_configs_are_the_servers(task: str, tmp_path: Path) -> None:
    """Parsed by the server's own schema: names, types and the wiring of the ensemble."""
    from google.protobuf import text_format

    schema = server_schema()
    bundle = open_bundle(bundle_of(tmp_path, task))
    engine = tmp_path / "tensorrt-fp16.engine"
    engine.write_bytes(b"plan")
    large = tmp_path / "tensorrt-bf16.engine"
    large.write_bytes(b"another")
    models = write_repository(bundle, tmp_path / "out", [Engine(engine, 8), Engine(large, 64)])
    configs = {
        name: text_format.Parse((tmp_path / "out" / name / "config.pbtxt").read_text(), schema.ModelConfig())
        for name in models
    }
    assert models[:3] == ["tiny-1", "tiny-1_tensorrt_fp16_ensemble", "tiny-1_tensorrt_bf16_ensemble"]
    assert [configs[name].max_batch_size for name in models[:3]] == [32, 8, 32]  # each engine's own, at most the steps'
    assert all(name == config.name for name, config in configs.items())
    assert configs["tiny-1_onnx"].dynamic_batching.max_queue_delay_microseconds == 500
    assert [item.name for item in configs["tiny-1_onnx"].input] == [item.name for item in bundle.manifest.inputs]
    assert configs["tiny-1_tensorrt_fp16"].max_batch_size == configs[models[1]].max_batch_size == 8
    assert (tmp_path / "out" / "tiny-1_tensorrt_fp16" / "1" / "model.plan").read_bytes() == b"plan"
    for ensemble in models[:3]:
        known = {item.name for item in configs[ensemble].input}
        for each in configs[ensemble].ensemble_scheduling.step:
            model = configs[each.model_name]
            assert set(each.input_map) == {item.name for item in model.input}
            assert set(each.output_map) == {item.name for item in model.output}
            assert set(each.input_map.values()) <= known
            known |= set(each.output_map.values())
        assert {item.name for item in configs[ensemble].output} <= known


def test_a_run_gives_the_engines_that_the_server_can_load(pairs: Path, tmp_path: Path) -> None:
    run, longest = tmp_path / "run", open_bundle(pairs).manifest.spec.max_length
    for folder in ("bundle", "engines"):
        (run / folder).mkdir(parents=True)
    (run / "recipe.yaml").write_text("name: tiny\n")
    (run / "bundle" / pairs.name).write_bytes(pairs.read_bytes())
    figures = {
        "tensorrt-fp16": {"to": "tensorrt", "max_length": longest},
        "tensorrt-int8": {"to": "tensorrt", "max_length": longest - 1},
        "tensorrt-rtx-fp16": {"to": "tensorrt-rtx", "max_length": longest},
    }
    for name, each in figures.items():
        (run / "engines" / f"{name}.engine").write_bytes(name.encode())
        each |= {"file": f"{name}.engine", "max_batch": 16, "profile": "dynamic"}
    stage = Artifact(
        kind="engines", key="k", recipe_digest="r", files=list_files(run / "engines"), metrics=dict(figures)
    )
    (run / "engines" / MANIFEST).write_text(stage.model_dump_json())
    made = kdc_json("package", run, "--target", "triton-server", "-o", tmp_path / "out")
    assert [name for name in made["files"] if "tensorrt" in name] == [
        "tiny-1_tensorrt_fp16_ensemble",
        "tiny-1_tensorrt_fp16",
    ]
    assert [note.split(":")[0] for note in made["notes"][1:]] == [
        "tensorrt-int8 is left out",
        "tensorrt-rtx-fp16 is left out",
    ]
    (run / "engines" / "tensorrt-fp16.engine").write_bytes(b"changed")
    assert kdc("package", run, "--target", "triton-server", "-o", tmp_path / "other").exit_code == 6


def test_an_exported_model_is_packed_on_the_way(pairs: Path, tmp_path: Path) -> None:
    made = kdc_json("package", tmp_path / "model", "--target", "docker", "-o", tmp_path / "out")
    assert open_bundle(tmp_path / "out" / "model.kdc").manifest.digest.startswith(made["bundle"])


def test_text_format() -> None:
    assert pbtxt({"a": 'x"y', "b": [1, 2], "c": {"d": -1}}) == 'a: "x\\"y"\nb: 1\nb: 2\nc {\n  d: -1\n}\n'


def test_kubernetes(pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "k8s"
    made = kdc_json("package", pairs, "--target", "kubernetes", "-o", out)
    objects = {name: yaml.safe_load((out / name).read_text()) for name in made["files"]}
    deployment, service, scaler, kustomization = objects.values()
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert deployment["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"] == "tiny-1"
    assert container["image"] == f"tiny-1:kdc-{made['bundle']}"
    assert container["readinessProbe"]["httpGet"] == {"path": "/ready", "port": "http"}
    assert container["livenessProbe"]["httpGet"]["path"] == "/health"
    assert pod["spec"]["securityContext"]["runAsNonRoot"]
    assert kustomization["resources"] == made["files"][:-1]
    assert "no cluster is here" in made["not_run"]


def test_kubernetes_by_its_schemas(pairs: Path, tmp_path: Path) -> None:
    """Strictly: unknown keys are refused, from the oldest version that it is for to the newest known one."""
    made = kdc_json("package", pairs, "--target", "kubernetes", "-o", tmp_path / "k8s")
    for file in made["files"][:-1]:
        content = yaml.safe_load((tmp_path / "k8s" / file).read_text())
        for version in ("1.30", "1.37"):
            kubernetes_validate.validate(content, version, strict=True)


def test_docker(pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "image"
    made = kdc_json("package", pairs, "--target", "docker", "-o", out)
    lines = (out / "Dockerfile").read_text().splitlines()
    assert sum(line.startswith("FROM ") for line in lines) == 2
    assert lines.index("USER 10001:10001") > max(i for i, line in enumerate(lines) if line.startswith("RUN "))
    assert any(line.startswith("HEALTHCHECK") for line in lines)
    entry = json.loads(next(line.removeprefix("ENTRYPOINT ") for line in lines if line.startswith("ENTRYPOINT ")))
    assert entry[:3] == ["kdc", "serve", "/bundle/tiny-1.kdc"]
    assert (out / "tiny-1.kdc").read_bytes() == pairs.read_bytes()
    assert (out / ".dockerignore").read_text().splitlines() == ["*", "!tiny-1.kdc", "!wheels"]
    assert made["not_run"].startswith("not run: ")


def test_what_is_refused(pairs: Path, tmp_path: Path) -> None:
    def refused(*arguments: object) -> str:
        done = kdc("package", *arguments)
        assert done.exit_code == 2
        return done.stderr

    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    assert "there are: web, triton-server, kubernetes, docker" in refused(
        pairs, "--target", "moon", "-o", tmp_path / "x"
    )
    assert "is there already" in refused(pairs, "--target", "docker", "-o", tmp_path / "full")
    assert "-o DIR is missing" in refused(pairs, "--target", "docker")
    assert "--sign has no effect" in refused(pairs, "--target", "docker", "--sign", "key", "-o", tmp_path / "x")
    assert not (tmp_path / "x").exists()
    damaged = tmp_path / "damaged.kdc"
    damaged.write_bytes(pairs.read_bytes()[:-1] + b"x")
    assert kdc("package", damaged, "--target", "docker", "-o", tmp_path / "x").exit_code == 6


def test_names() -> None:
    assert [image_name(name) for name in ("../../etc", "Ünder_1", "7up", "-")] == ["etc", "nder-1", "kdc-7up", "kdc"]
    assert len(image_name("a" * 200)) == 59
