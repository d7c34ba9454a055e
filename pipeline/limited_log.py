"""Log lines that would come with every frame, let through now and then."""

from __future__ import annotations

import logging
import time


class LimitedLog:
    """Lets one warning through every `every_s` seconds and says how many it held back. Not for use by two threads."""

    def __init__(self, log: logging.Logger, every_s: float = 5.0) -> None:
        self._log = log
        self._every_s = every_s
        self._due = 0.0
        self._held_back = 0

    def warning(self, message: str, *values: object) -> None:
        """Logs `message % values`, or counts it."""
        now = time.monotonic()
        if now < self._due:
            self._held_back += 1
            return
        more = f" ({self._held_back} more like this)" if self._held_back else ""
        self._log.warning(message + "%s", *values, more)
        self._due, self._held_back = now + self._every_s, 0
