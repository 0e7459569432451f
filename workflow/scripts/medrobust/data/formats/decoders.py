"""Processes that decode image files side by side, none a copy of this one.

A copy (fork) of a process with threads has their locks and nobody to free them; multiprocessing's
other ways import the script that was started once more, which not every script bears. So each is a
Python of its own, which reads a task a line and answers with a line. It ends when its input does,
also where whoever started it was killed.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from medrobust.core.errors import InputError

_SCRIPTS = Path(__file__).resolve().parents[3]


def answers(module: str, tasks: Sequence[Any], processes: int) -> Iterator[Any]:
    """Yields the answer to each task, as they come.

    Args:
        module: a module of this library that calls :func:`serve` when it is run.
        tasks: plain JSON values.
        processes: so many are started.

    Raises:
        InputError: a process was killed.
    """
    started = [_started(module) for _ in range(processes)]
    idle: queue.SimpleQueue[subprocess.Popen[str]] = queue.SimpleQueue()
    for process in started:
        idle.put(process)

    def answer(task: Any) -> Any:
        process = idle.get()
        try:
            return _answer(process, task)
        finally:
            idle.put(process)

    try:
        with ThreadPoolExecutor(processes) as pool:
            futures = [pool.submit(answer, task) for task in tasks]
            try:
                for future in as_completed(futures):
                    yield future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in started:
                    process.kill()
                raise
    finally:
        for process in started:
            process.communicate()


def _started(module: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(_SCRIPTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _answer(process: subprocess.Popen[str], task: Any) -> Any:
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(json.dumps(task) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
    except (BrokenPipeError, ValueError):
        line = ""
    if not line:
        raise InputError(
            "A process that was decoding images was killed.",
            remedy="the machine may be short of memory: run with fewer threads.",
        )
    return json.loads(line)


def serve(work: Callable[[Any], Any]) -> None:
    """Answers tasks of the standard input, a line each, with what ``work`` returns."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this one ends it
    for line in sys.stdin:
        print(json.dumps(work(json.loads(line))), flush=True)
