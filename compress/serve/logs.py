"""The log on stderr: what the server does, nothing of what it is asked."""

from __future__ import annotations

import logging

FORMAT = "%(asctime)s kdc serve[%(process)d] %(levelname)s %(message)s"


def configure(*, quiet: bool) -> None:
    """One format for all processes; `quiet` leaves warnings and errors."""
    logging.basicConfig(format=FORMAT, level=logging.WARNING if quiet else logging.INFO)
    # uvicorn tells of its own start and end, and warns of each malformed request.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
