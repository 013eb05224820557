"""A report as a picture: the top of the page in headless Chromium.

python -m benchmarks.picture report.html docs/bench-report.png    # --width 390 --scheme dark: a phone at night
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.browser import browsing, chromium


def main() -> None:
    """Parse, draw, say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=int, default=1000)
    parser.add_argument("--height", type=int, default=1180)
    parser.add_argument("--scheme", choices=("light", "dark"), default="light")
    arguments = parser.parse_args()
    program = chromium()
    if program is None or not arguments.report.is_file():
        sys.exit(f"not run: Chromium is not on the path, or {arguments.report} is no file")
    with browsing(program) as page:
        page.open(arguments.report.resolve().as_uri())
        page.call("Emulation.setScrollbarsHidden", hidden=True)
        page.screenshot(arguments.out, width=arguments.width, height=arguments.height, scheme=arguments.scheme)
    print(f"{arguments.out}: {arguments.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
