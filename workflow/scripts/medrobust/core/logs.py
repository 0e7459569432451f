"""Logging for jobs: one log file, progress lines, and a readable last line on failure."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from medrobust.core.errors import InputError

Result = TypeVar("Result")

logger = logging.getLogger("medrobust")


def log_to(path: str | Path | None) -> None:
    """Sends the messages of this process to the file ``path`` (or to stderr if None)."""
    handler: logging.Handler
    if path is None:
        handler = logging.StreamHandler(sys.stderr)
    else:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def run_logged(work: Callable[[], Result], log_path: str | Path | None = None) -> Result:
    """Returns the result of ``work``, whose messages go to ``log_path``; exits with 1 on failure.

    An :class:`InputError` is printed as it is, anything else with its traceback in the log
    and one line on stderr, so that the last line a user sees tells what happened.
    """
    log_to(log_path)
    try:
        return work()
    except InputError as error:
        logger.error("%s", error)
        if log_path is not None:
            print(f"medrobust: {error}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        logger.error("%s", traceback.format_exc())
        where = f" (traceback in {log_path})" if log_path else ""
        print(f"medrobust: {type(error).__name__}: {error}{where}", file=sys.stderr)
        sys.exit(1)


class Progress:
    """Writes "done/total, rate, time left" to the log, at most every ``interval`` seconds."""

    def __init__(
        self,
        what: str,
        total: int,
        *,
        unit: str = "",
        interval: float = 10.0,
        done: float | None = None,
    ) -> None:
        self.what, self.total, self.unit, self.interval = what, total, unit, interval
        self._start = self._last = time.monotonic()
        self._first_done = done  # what an earlier job had done; None: one less than is first told

    def update(self, done: float, note: str = "") -> None:
        """Reports that ``done`` units (counted from 0 at the very start) are finished."""
        if self._first_done is None:
            self._first_done = max(done - 1, 0)
        now = time.monotonic()
        if now - self._last < self.interval and done < self.total:
            return
        self._last = now
        elapsed = max(now - self._start, 1e-9)
        per_second = (done - self._first_done) / elapsed
        left = (self.total - done) / per_second if per_second > 0 else float("inf")
        logger.info(
            "%s: %s/%d%s, %.4g per hour, %s left%s",
            self.what,
            f"{done:.1f}" if done % 1 else int(done),
            self.total,
            f" {self.unit}" if self.unit else "",
            per_second * 3600,
            _duration(left),
            f"; {note}" if note else "",
        )


def _duration(seconds: float) -> str:
    if seconds == float("inf"):
        return "unknown time"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
