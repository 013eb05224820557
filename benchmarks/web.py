"""A site in headless Chromium: bytes that are transferred, and the time to the first answer.

    python -m benchmarks.web SITE            # SITE: what `kdc package BUNDLE --target web -o SITE` wrote

Prints one JSON line: medians over `--rounds` fresh browsers with empty caches, served from this machine, so that the
network costs nothing. The limits are 8 MB and 3 s.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

from benchmarks.browser import browsing, chromium, serving
from compress.bench.machine import describe

FIRST = "performance.getEntriesByName('first-answer')"


def once(program: str, site: Path) -> tuple[float, int, str]:
    """Seconds from navigation to the first answer, bytes without headers, and what the page says of the answer."""
    with serving(site) as server, browsing(program) as page:
        page.open(server.url)
        page.until(f"{FIRST}.length > 0")
        seconds = page.evaluate(f"{FIRST}[0].startTime") / 1000
        return seconds, sum(server.sent.values()), page.evaluate("document.getElementById('status').textContent")


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    program = chromium()
    if program is None or not (arguments.site / "site.json").is_file():
        sys.exit(f"web: chromium is {program or 'not installed'}; SITE must be a site of kdc")
    rounds = [once(program, arguments.site) for _ in range(arguments.rounds)]
    seconds = [each[0] for each in rounds]
    row = {
        "benchmark": "web",
        "site": arguments.site.name,
        "rounds": len(rounds),
        "transferred_bytes": rounds[0][1],
        "first_answer_s": round(statistics.median(seconds), 3),
        "first_answer_max_s": round(max(seconds), 3),
        "said": rounds[-1][2],
        "machine": describe(),
        "date": time.strftime("%Y-%m-%d"),
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main()
