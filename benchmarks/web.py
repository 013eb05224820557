"""Sites in headless Chromium: bytes that are transferred, and the time to the first answer.

    python -m benchmarks.web SITE… [--rounds 5] [--check]

SITE is what `kdc package BUNDLE --target web -o SITE` wrote. Each round is a fresh browser with an empty cache, in
which the sites take turns, served from this machine with their compressed files, so that the network costs nothing. A
row for each site is appended to benchmarks/results/web.jsonl: bytes without headers, and medians of the time from
navigation to the first answer and of a further question, as the page tells it. `--check` ends with exit code 5 where a
site transfers more than 8 MB or takes more than 3 s.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.browser import browsing, chromium, serving
from benchmarks.common import append, exit_codes, origin
from benchmarks.web_table import LIMIT_SECONDS, WEB_ROWS
from compress.bundle.web import DESCRIPTION, MAX_TRANSFERRED
from compress.errors import EnvironmentProblem, GateError, RecipeError

FIRST = "performance.getEntriesByName('first-answer')"
STATUS = "document.getElementById('status').textContent"
ASK = """(() => {
  document.getElementById('status').textContent = '';
  document.getElementById('text').value = %s;
  document.getElementById('ask').requestSubmit();
})()"""
MILLISECONDS = f"/ in ([0-9.]+) ms/.exec({STATUS})?.[1]"


@dataclass(frozen=True)
class Seen:
    """One visit: bytes without headers, seconds to the first answer, milliseconds of a further question."""

    transferred: int
    first_answer_s: float
    question_ms: float
    browser: str


def visit(program: str, site: Path) -> Seen:
    """Open a site in a fresh browser, wait for its first answer, and ask a further question."""
    question = json.loads((site / DESCRIPTION).read_bytes())["examples"][-1]
    with serving(site) as server, browsing(program) as page:
        page.open(server.url)
        page.until(f"{FIRST}.length > 0")
        seconds = page.evaluate(f"{FIRST}[0].startTime") / 1000
        page.evaluate(ASK % json.dumps(question))
        asked = float(page.until(MILLISECONDS))
        if page.problems:
            raise EnvironmentProblem(f"{site} has errors in its console: {page.problems[0]}")
        return Seen(sum(server.sent.values()), seconds, asked, page.evaluate("navigator.userAgent").split()[-2])


def measure(program: str, sites: Sequence[Path], rounds: int) -> list[dict[str, Any]]:
    """A row for each site."""
    made = origin()
    seen: dict[Path, list[Seen]] = {site: [] for site in sites}
    for _ in range(rounds):
        for site in sites:
            seen[site].append(visit(program, site))
    return [row_of(site, visits) | made for site, visits in seen.items()]


def row_of(site: Path, visits: Sequence[Seen]) -> dict[str, Any]:
    """What the visits to a site come to."""
    seconds = [each.first_answer_s for each in visits]
    described = json.loads((site / DESCRIPTION).read_bytes())
    return {
        "benchmark": "web",
        "site": site.resolve().name,
        "bundle": described["digest"][:16],
        "model_bytes": (site / "model.onnx").stat().st_size,
        "candidates": len(described["candidates"]) if described["spec"]["two_texts"] else None,
        "rounds": len(visits),
        "transferred_bytes": max(each.transferred for each in visits),
        "first_answer_s": round(statistics.median(seconds), 3),
        "first_answer_max_s": round(max(seconds), 3),
        "question_ms": round(statistics.median(each.question_ms for each in visits), 1),
        "browser": visits[-1].browser,
    }


def check(rows: Sequence[dict[str, Any]]) -> None:
    """Hold the limits.

    Raises:
        GateError: a site transfers or takes more.
    """
    for row in rows:
        if row["transferred_bytes"] > MAX_TRANSFERRED:
            raise GateError(
                f"{row['site']}: {row['transferred_bytes'] / 1e6:.2f} MB are transferred, at most "
                f"{MAX_TRANSFERRED / 1e6:.2f} are allowed: make the model smaller (docs/web.md, Size)"
            )
        if row["first_answer_s"] > LIMIT_SECONDS:
            raise GateError(
                f"{row['site']}: the first answer takes {row['first_answer_s']:.2f} s, at most {LIMIT_SECONDS:g} s are "
                "allowed: measure on a machine without other work, or make the model smaller"
            )


def main() -> None:
    """Parse, measure, append, print, check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sites", nargs="+", type=Path, metavar="SITE")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=WEB_ROWS)
    parser.add_argument("--check", action="store_true", help="hold the limits")
    options = parser.parse_args()
    with exit_codes("web"):
        program = chromium()
        if program is None:
            raise EnvironmentProblem("Chromium is not on the path: install it, then try again")
        wrong = next((site for site in options.sites if not (site / DESCRIPTION).is_file()), None)
        if wrong is not None:
            raise RecipeError(f"{wrong} is no site of kdc: `kdc package BUNDLE --target web -o {wrong}` makes one")
        rows = measure(program, options.sites, options.rounds)
        append(options.out, rows)
        for row in rows:
            print(json.dumps({name: value for name, value in row.items() if name != "machine"}))
        if options.check:
            check(rows)


if __name__ == "__main__":
    main()
