"""Adds up what functions take on the processor: shared by benchmarks of trainings."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any


class Stopwatch:
    """Adds up the CPU time of functions, and for those that contain passes that of the passes."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._inside = False

    def passes(self, owner: Any, name: str) -> None:
        """Counts a method as passes; what it calls itself is not counted twice."""
        self._replace(owner, name, self._pass)

    def whole(self, owner: Any, name: str, label: str) -> None:
        """Counts a method as ``label``, and its passes as ``label passes``."""

        def timed(work: Callable[[], Any]) -> Any:
            begin, before = time.process_time(), self.seconds["passes"]
            result = work()
            self.seconds[label] += time.process_time() - begin
            self.seconds[f"{label} passes"] += self.seconds["passes"] - before
            return result

        self._replace(owner, name, timed)

    def _pass(self, work: Callable[[], Any]) -> Any:
        if self._inside:
            return work()
        self._inside, begin = True, time.process_time()
        try:
            return work()
        finally:
            self.seconds["passes"] += time.process_time() - begin
            self._inside = False

    @staticmethod
    def _replace(owner: Any, name: str, timed: Callable[[Callable[[], Any]], Any]) -> None:
        plain = getattr(owner, name)
        setattr(owner, name, lambda *a, **more: timed(lambda: plain(*a, **more)))
