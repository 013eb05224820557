"""Versions never change, tags move whole, and neither several writers nor a kill leave anything between."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compress.bundle import registry as module
from compress.bundle.registry import listed, promote, pull, push, rollback
from compress.bundle.sign import load_signer, make_keys
from compress.bundle.write import write_bundle
from compress.errors import IntegrityError, RecipeError
from tests.tiny import tiny_deployable, tiny_requests
from tests.tiny_project import kdc, kdc_json

processes = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Versions of one bundle; the last is signed by `owner`, beside it."""
    folder = tmp_path_factory.mktemp("bundles")
    model = tiny_deployable(folder / "model")
    make_keys(folder / "owner")
    signers = [None] * 4 + [load_signer(folder / "owner.key")]
    common: dict[str, Any] = {"name": "shop", "golden": tiny_requests(), "metrics": {}, "provenance": {}}
    return [
        write_bundle(model, folder / f"{number}.kdc", notes=[str(number)], signer=signer, **common)
        for number, signer in enumerate(signers)
    ]


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    return tmp_path / "registry"


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def blob(registry: Path, bundle: Path) -> Path:
    return registry / "shop" / "versions" / f"{sha(bundle)}.kdc"


def leftovers(registry: Path) -> list[Path]:
    return [path for path in registry.rglob(".*") if path.name != ".lock"]


# ---------------------------------------------------------------- what a person does


def test_a_candidate_becomes_production_and_is_taken_back(bundles: list[Path], registry: Path, tmp_path: Path) -> None:
    first, second = sha(bundles[0]), sha(bundles[1])
    made = kdc_json("push", bundles[0], registry)
    assert made == {"name": "shop", "version": first, "tag": "candidate", "new": True, "previous": None}
    kdc_json("promote", registry, "shop", "candidate", "--tag", "production")
    assert kdc_json("push", bundles[1], registry)["previous"] == first
    moved = kdc_json("promote", registry, "shop", second[:12], "--tag", "production")
    assert moved == {"name": "shop", "tag": "production", "version": second, "previous": first}
    out = tmp_path / "out" / "shop.kdc"
    assert kdc_json("pull", registry, "shop", "-o", out)["version"] == second
    assert out.read_bytes() == bundles[1].read_bytes()
    back = kdc_json("rollback", registry, "shop", "--tag", "production")
    assert (back["version"], back["previous"]) == (first, second)
    for wanted, expected in (("shop", 0), ("shop@production", 0), ("shop@candidate", 1), (f"shop@{second}", 1)):
        kdc_json("pull", registry, wanted, "-o", out)
        assert out.read_bytes() == bundles[expected].read_bytes(), wanted
    refused = kdc("rollback", registry, "shop", "--tag", "production")
    assert (refused.exit_code, "pointed to none before it" in refused.stderr) == (2, True)
    (found,) = kdc_json("versions", registry)["names"]
    assert found["tags"] == {"candidate": second, "production": first}
    assert list(found["versions"]) == [second, first]  # the newest first
    assert [event["action"] for event in found["events"]] == ["push", "promote", "push", "promote", "rollback"]
    lines = kdc("versions", registry, "shop").stdout.splitlines()
    assert [line.split()[0] for line in lines] == [f"shop@{second[:12]}", f"shop@{first[:12]}"]
    assert lines[0].endswith("not signed  candidate")
    assert leftovers(registry) == []


def test_rollback_goes_back_step_by_step(bundles: list[Path], registry: Path) -> None:
    """As undo does: what was taken back is not returned to, and a new version starts from where the tag is."""
    shas = [sha(bundle) for bundle in bundles]
    for bundle in bundles[:3]:
        push(bundle, registry, tag="production")
    assert rollback(registry, "shop", tag="production")["version"] == shas[1]
    push(bundles[3], registry, tag="production")
    push(bundles[3], registry, tag="production")  # again: nothing to go back to
    assert [rollback(registry, "shop", tag="production")["version"] for _ in range(2)] == [shas[1], shas[0]]
    with pytest.raises(RecipeError, match="pointed to none before it"):
        rollback(registry, "shop", tag="production")


def test_a_version_is_kept_once_and_never_changes(bundles: list[Path], registry: Path) -> None:
    assert push(bundles[0], registry)["new"] is True
    path = blob(registry, bundles[0])
    before = path.stat()
    assert before.st_mode & 0o222 == 0
    assert push(bundles[0], registry, tag="other")["new"] is False
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    (found,) = listed(registry)
    assert (len(found["versions"]), set(found["tags"])) == (1, {"candidate", "other"})


# ---------------------------------------------------------------- what is refused


def test_a_damaged_bundle_goes_neither_in_nor_out(bundles: list[Path], registry: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.kdc"
    content = bytearray(bundles[0].read_bytes())
    content[len(content) // 2] ^= 1
    bad.write_bytes(content)
    assert kdc("push", bad, registry).exit_code == 6
    push(bundles[0], registry)
    path, out = blob(registry, bundles[0]), tmp_path / "out.kdc"
    for wrong in (bytes(content), bundles[1].read_bytes()):
        path.unlink()
        path.write_bytes(wrong)
        assert kdc("pull", registry, "shop@candidate", "-o", out).exit_code == 6
        assert kdc("promote", registry, "shop", "candidate").exit_code == 6
    path.unlink()
    refused = kdc("pull", registry, "shop@candidate", "-o", out)
    assert (refused.exit_code, "is missing" in refused.stderr, out.exists()) == (6, True, False)
    assert listed(registry)[0]["tags"].keys() == {"candidate"}
    assert push(bundles[0], registry)["new"] is False  # mends it
    assert pull(registry, "shop@candidate", out)["version"] == sha(out)


def test_signatures_are_asked_for_where_a_key_is_given(bundles: list[Path], registry: Path, tmp_path: Path) -> None:
    make_keys(tmp_path / "stranger")
    owner, stranger, out = bundles[0].with_name("owner.pub"), tmp_path / "stranger.pub", tmp_path / "out.kdc"
    assert kdc("push", bundles[0], registry, "--key", owner).exit_code == 6
    assert not registry.exists()
    push(bundles[0], registry, tag="production")
    assert kdc("push", bundles[-1], registry, "--key", stranger).exit_code == 6
    kdc_json("push", bundles[-1], registry, "--key", owner)
    for key, wanted, code in ((owner, "production", 6), (stranger, "candidate", 6), (owner, "candidate", 0)):
        assert kdc("promote", registry, "shop", wanted, "--tag", "safe", "--key", key).exit_code == code
        assert kdc("pull", registry, f"shop@{wanted}", "-o", out, "--key", key).exit_code == code
    push(bundles[-1], registry, tag="live")
    push(bundles[1], registry, tag="live")
    for key, code in ((stranger, 6), (owner, 0)):
        assert kdc("rollback", registry, "shop", "--tag", "live", "--key", key).exit_code == code
    assert listed(registry)[0]["tags"]["safe"] == sha(bundles[-1]) == sha(out)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("pull", "REGISTRY", "shop", "-o", "a.kdc"),
            "shop has no tag or version 'production'; its tags are candidate (",
        ),
        (("pull", "REGISTRY", "shop@0123456789", "-o", "a.kdc"), "no tag or version '0123456789'"),
        (("pull", "REGISTRY", "shop@", "-o", "a.kdc"), "shop@ names no tag or version after the @"),
        (("pull", "REGISTRY", "shoe", "-o", "a.kdc"), "no bundles named 'shoe'; it has shop"),
        (("pull", "REGISTRY", "../shop", "-o", "a.kdc"), "no bundles named '../shop'"),
        (("pull", "REGISTRY", "shop@candidate", "-o", "a.zip"), "is no name of a bundle"),
        (("pull", "nowhere", "shop", "-o", "a.kdc"), "nowhere is no registry"),
        (("versions", "REGISTRY", "shoe"), "no bundles named 'shoe'"),
        (("promote", "REGISTRY", "shop", "candidate", "--tag", "deadbeef"), "not like a version"),
        (("promote", "REGISTRY", "shop", "candidate", "--tag", "../x"), "a tag is a word"),
        (("rollback", "REGISTRY", "shop", "--tag", "none"), "no tag or version 'none'"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(
    bundles: list[Path], registry: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    push(bundles[0], registry)
    refused = kdc(*[str(registry) if each == "REGISTRY" else each for each in arguments], "--json")
    assert (refused.exit_code, said in json.loads(refused.stdout)["error"]) == (2, True), refused.stdout


def test_a_folder_of_something_else_is_left_alone(bundles: list[Path], tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").touch()
    refused = kdc("push", bundles[0], tmp_path / "photos")
    assert (refused.exit_code, "holds 'cat.png' and is no registry" in refused.stderr) == (2, True)
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.png"]


@pytest.mark.parametrize(
    "index",
    [
        {"format": 2},
        {"versions": {"../../evil": {"digest": "", "size_bytes": 1, "signed_by": None, "pushed": ""}}},
        {"events": [{"action": "rollback", "tag": "production", "version": "0" * 64, "time": ""}]},
    ],
)
def test_an_index_that_nobody_wrote_is_refused(
    bundles: list[Path], registry: Path, tmp_path: Path, index: dict[str, Any]
) -> None:
    push(bundles[0], registry)
    (registry / "shop" / "index.json").write_text(json.dumps(index))
    for command in (("versions", registry), ("pull", registry, "shop", "-o", tmp_path / "a.kdc")):
        refused = kdc(*command)
        assert (refused.exit_code, "is not a readable index" in refused.stderr) == (6, True)


# ---------------------------------------------------------------- several writers, and kills


def in_a_process(work: Callable[[], object]) -> Any:
    process = processes.Process(target=work)
    process.start()
    return process


def test_several_writers_lose_nothing(bundles: list[Path], registry: Path) -> None:
    def work(bundle: Path) -> None:
        for number in range(4):
            push(bundle, registry, tag=f"t{number}")
            promote(registry, "shop", sha(bundle), tag="production")

    running = [in_a_process(lambda bundle=bundle: work(bundle)) for bundle in bundles[:3]]
    for process in running:
        process.join(120)
    assert [process.exitcode for process in running] == [0, 0, 0]
    (found,) = listed(registry)
    assert set(found["versions"]) == {sha(bundle) for bundle in bundles[:3]}
    pushed = [event for event in found["events"] if event["action"] == "push"]
    assert len(pushed) == 12  # none was written over
    assert leftovers(registry) == []


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("publish", [1, 2, 3])
def test_a_kill_leaves_a_tag_moved_or_not(
    bundles: list[Path], registry: Path, tmp_path: Path, publish: int, after: bool
) -> None:
    """Killed around each rename of a first push (marker, bundle, index); then of a second one (bundle, index)."""
    replace, done = os.replace, 0

    def deadly(source: Any, target: Any) -> None:
        nonlocal done
        done += 1
        if done == publish and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)
        if done == publish:
            os.kill(os.getpid(), signal.SIGKILL)

    def work(bundle: Path) -> None:
        os.replace = deadly
        push(bundle, registry, tag="production")

    def state() -> Any:
        try:
            return listed(registry)[0]["tags"]["production"]
        except (RecipeError, IndexError):
            return None

    for bundle, last in ((bundles[0], 3), (bundles[1], 2)):
        before, done = state(), 0
        process = in_a_process(lambda bundle=bundle: work(bundle))
        process.join(120)
        assert process.exitcode == (-signal.SIGKILL if publish <= last else 0)
        finished = publish > last or (publish == last and after)
        assert state() == (sha(bundle) if finished else before)
        push(bundle, registry, tag="production")  # the same command goes on
        assert pull(registry, "shop", tmp_path / "out.kdc")["version"] == sha(bundle)
        assert leftovers(registry / "shop") == []


def test_who_reads_meanwhile_sees_one_version_or_the_other(bundles: list[Path], registry: Path, tmp_path: Path) -> None:
    push(bundles[0], registry, tag="production")

    def work() -> None:
        for number in range(30):
            push(bundles[number % 2], registry, tag="production")

    writer, seen = in_a_process(work), set()
    while writer.is_alive() or not seen:
        seen.add(pull(registry, "shop", tmp_path / "out.kdc")["version"])
    writer.join()
    assert writer.exitcode == 0
    assert seen <= {sha(bundles[0]), sha(bundles[1])}


def test_a_name_that_is_no_folder_is_refused(
    bundles: list[Path], registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = module.open_bundle(bundles[0])
    forged = opened.manifest.model_copy(update={"name": "../../evil"})
    monkeypatch.setattr(module, "open_bundle", lambda path: module.Bundle(path, forged, opened.members))
    with pytest.raises(RecipeError, match="a registry takes letters"):
        push(bundles[0], registry)
    monkeypatch.undo()
    push(bundles[0], registry)
    other = registry / "boots"
    (registry / "shop").rename(other)
    with pytest.raises(IntegrityError, match="is the bundle of 'shop', kept as 'boots'"):
        pull(registry, "boots@candidate", registry.parent / "a.kdc")
