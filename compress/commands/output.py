"""Results on stdout, everything else on stderr; with `--json`, stdout is exactly one JSON object."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from compress.progress import reporter


@dataclass
class Output:
    """How the running command answers."""

    json: bool = False
    printed: bool = False

    def begin(self) -> None:
        """Forget what the last command of this process asked for."""
        self.json = self.printed = False
        reporter.quiet = reporter.verbose = False

    def configure(self, *, json: bool = False, verbose: bool = False, quiet: bool = False) -> None:
        """Apply the options that every command has."""
        self.json = json
        reporter.verbose, reporter.quiet = verbose, quiet

    def object(self, value: Mapping[str, Any]) -> None:
        """Print the one JSON object."""
        self.printed = True
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")
        sys.stdout.flush()


output = Output()


@contextlib.contextmanager
def results_only() -> Iterator[None]:
    """While a command works, what libraries print goes to stderr: stdout is for results."""
    with contextlib.redirect_stdout(sys.stderr):
        yield
