"""`kdc`, and `python -m compress`: Ctrl-C is one sentence from here on, while the commands are imported too."""

from __future__ import annotations

import json
import sys
from typing import NoReturn

from compress.errors import Interrupted


def main() -> None:
    """Entry point of the `kdc` script."""
    try:
        from compress.cli import main as run
    except KeyboardInterrupt:
        _interrupted()
    run()


def _interrupted() -> NoReturn:
    told = "interrupted before anything was begun"
    sys.stderr.write(f"kdc: {told}\n")
    if "--json" in sys.argv:
        sys.stdout.write(json.dumps({"error": told, "exit_code": Interrupted.exit_code}) + "\n")
    sys.exit(Interrupted.exit_code)


if __name__ == "__main__":
    main()
