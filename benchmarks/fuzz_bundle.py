"""Damaged and forged bundles by the million: the reader may refuse or open them, and nothing else.

    python -m benchmarks.fuzz_bundle --inputs 1000000

Each input is a real bundle, changed in one of the ways of `bundle_mutations.py` by a generator whose seed is `--seed`
and the input's number, so that any of them can be made again (`--first NUMBER --inputs 1`). It must end in a
`KdcError`, or open; changed bytes open only where they give an honest bundle, and what opens is asked its golden
requests. Meanwhile nothing may be written, by the audit events of Python, and the process may not have more than
`BOUND_MIB` of address space beyond what it had after opening the honest bundles. Adds a row to
benchmarks/results/fuzz.jsonl; an input that breaks a rule is kept beside it, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.bundle_mutations import BYTES, KINDS, Honest
from benchmarks.common import RESULTS, append, origin
from compress.artifacts import Similarity
from compress.bundle.verify import verify_bundle
from compress.errors import KdcError
from compress.runtime.bundle import open_bundle

BOUND_MIB = 256
"""Address space for a bundle of some kilobytes: what it may become is bounded by its size, not by what it claims."""


@dataclass
class Watch:
    """Counts what is written, while it looks; there is one for the process, since audit hooks stay."""

    looking: bool = False
    written: list[str] = field(default_factory=list)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.looking:
            return
        writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & writing
        changes = event.startswith(("os.", "shutil.", "subprocess.", "socket.")) and event not in (
            "os.scandir",
            "os.listdir",
        )
        if opened or changes:
            self.written.append(f"{event} {arguments[0]!r}")


def read(path: Path) -> str:
    """Open a bundle and verify it, its golden requests included; how it ended.

    Raises:
        Exception: anything but a KdcError, which would be a bug of the reader.
    """
    try:
        open_bundle(path)
    except KdcError as error:
        return type(error).__name__
    try:
        verify_bundle(path)
    except KdcError as error:
        return f"opened, {type(error).__name__}"
    return "opened"


@dataclass
class Fuzz:
    """Changes honest bundles and reads them from one file in a folder of its own."""

    honest: list[Honest]
    folder: Path
    seed: int
    watch: Watch
    ends: Counter[str] = field(default_factory=Counter)

    def content(self, number: int) -> tuple[str, bytes]:
        """Kind and bytes of one input."""
        rng = random.Random(f"{self.seed} {number}")  # noqa: S311  # inputs must be the same each time
        mutation = KINDS[number % len(KINDS)]
        return mutation.__name__, mutation(rng, self.honest[number // len(KINDS) % len(self.honest)])

    def one(self, number: int) -> str | None:
        """Read one input; the rule that it breaks, or None."""
        kind, content = self.content(number)
        path = self.folder / "input.kdc"
        path.write_bytes(content)
        self.watch.looking = True
        try:
            end = read(path)
        except Exception as error:  # that nothing but a KdcError comes out is what is tested
            return f"{kind} {number} ends in {type(error).__name__}: {str(error)[:200]}"
        finally:
            self.watch.looking = False
        self.ends[f"{kind}: {end}"] += 1
        if self.watch.written:
            return f"{kind} {number} wrote: {self.watch.written[0]}"
        forged = end.startswith("opened") and KINDS[number % len(KINDS)] in BYTES
        if forged and content not in [honest.raw for honest in self.honest]:
            return f"{kind} {number} was opened, though its bytes are nobody's"
        return None


def honest_bundles(folder: Path) -> list[Honest]:
    """Small bundles: of two texts with items, as tokens and as embeddings; of a class, signed, with a certificate."""
    from compress.bundle.sign import load_signer, make_keys
    from compress.bundle.write import write_bundle
    from tests.tiny import tiny_deployable, tiny_requests

    make_keys(folder / "key")
    signer = load_signer(folder / "key.key")
    found = []
    items = folder / "items.jsonl"
    items.write_text("".join(f'{{"id": "{name}", "text": "{name} shoes"}}\n' for name in ("red", "blue")), "utf-8")
    kinds: dict[str, dict[str, Any]] = {
        "pairs": {"items": items},
        "ranking": {"items": items},
        "classification": {"signer": signer, "certificate": {"rows": 3}, "licenses": {"MIT.txt": "free"}},
    }
    for task, more in kinds.items():
        spec = {"similarity": Similarity(scale=5.0, bias=0.0)} if task == "ranking" else {}
        model, out = tiny_deployable(folder / task, task, **spec), folder / f"{task}.kdc"
        common: dict[str, Any] = {"name": task, "golden": tiny_requests(task), "metrics": {"f1": 0.5}, "provenance": {}}
        found.append(Honest.at(write_bundle(model, out, **common, **more)))
    return found


def peak_mib() -> float:
    """Largest resident memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def bound_memory() -> None:
    """No more address space than now and BOUND_MIB."""
    now = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    limit = now + BOUND_MIB * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def fuzz(inputs: int, first: int, seed: int, kept: Path) -> dict[str, Any]:
    """Read so many inputs; the row of results, with `broken`, the rules that were broken (at most ten)."""
    watch = Watch()
    sys.addaudithook(watch.hook)
    warnings.simplefilter("ignore")  # zipfile's, of the archives that are made here
    broken: list[str] = []
    with tempfile.TemporaryDirectory(prefix="kdc-fuzz-") as folder:
        run = Fuzz(honest_bundles(Path(folder)), Path(folder, "inputs"), seed, watch)
        run.folder.mkdir()
        for honest in run.honest:
            (run.folder / "input.kdc").write_bytes(honest.raw)
            read(run.folder / "input.kdc")
        before, last = peak_mib(), first
        start, worked = time.perf_counter(), time.process_time()
        bound_memory()
        for last in range(first, first + inputs):
            rule = run.one(last)
            if rule is not None:
                broken.append(rule)
                (kept / f"fuzz-{last}.kdc").write_bytes(run.content(last)[1])
                watch.written.clear()
            if len(broken) == 10:
                break
        seconds, worked = time.perf_counter() - start, time.process_time() - worked
        left = sorted(path.name for path in run.folder.iterdir())
    if left != ["input.kdc"]:
        broken.append(f"files were left in the folder: {left}")
    return {
        "benchmark": "fuzz_bundle",
        "inputs": last - first + 1,
        "first": first,
        "seed": seed,
        "seconds": round(seconds, 1),
        "processor_s": round(worked, 1),
        "ends": dict(sorted(run.ends.items())),
        "peak_mib": round(peak_mib(), 1),
        "growth_mib": round(peak_mib() - before, 1),
        "bound_mib": BOUND_MIB,
        "broken": broken,
    }


def main() -> None:
    """Parse, fuzz, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--results", type=Path, default=RESULTS / "fuzz.jsonl", metavar="FILE")
    arguments = parser.parse_args()
    about = origin()
    row = fuzz(arguments.inputs, arguments.first, arguments.seed, arguments.results.parent) | about
    append(arguments.results, [row])
    print(json.dumps(row))
    if row["broken"]:
        sys.exit("\n".join(row["broken"]))


if __name__ == "__main__":
    main()
