"""Owns the processes that do the work: each opens the database for itself, says that it is ready, begins when all are, and tells what it measured."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from typing import Any

from .sides import database

CONTEXT = multiprocessing.get_context("spawn")
#: Longer no measurement takes.
LIMIT = 900.0


class Worker:
    """One process; ``work(db, start, stop, *what)`` is a function of a module, ``start()`` waits for the others."""

    def __init__(self, served: tuple[str, Any], work: Callable[..., Any], *what: Any):
        self._here, there = CONTEXT.Pipe()
        self._stop = CONTEXT.Event()
        self._process = CONTEXT.Process(target=_run, args=(served, work, there, self._stop, what), daemon=True)
        self._process.start()
        there.close()
        self._hear("ready")

    def start(self) -> None:
        self._here.send("start")

    def stop(self) -> None:
        """It ends what it is at."""
        self._stop.set()

    def result(self) -> Any:
        """Waits for it."""
        told = self._hear("done")
        self._process.join(60)
        return told

    def _hear(self, expected: str) -> Any:
        if not self._here.poll(LIMIT):
            raise SystemExit("a worker has said nothing for a quarter of an hour")
        what, told = self._here.recv()
        if what != expected:
            raise SystemExit(f"a worker failed:\n{told}")
        return told


def _run(served: tuple[str, Any], work: Callable[..., Any], there: Any, stop: Any, what: tuple[Any, ...]) -> None:
    import logging
    import traceback

    logging.disable(logging.CRITICAL)

    def start() -> float:
        there.send(("ready", None))
        there.recv()
        return time.monotonic()

    try:
        db = database(*served)
        try:
            told = work(db, start, stop, *what)
        finally:
            db.close()
        there.send(("done", told))
    except BaseException:
        there.send(("failed", traceback.format_exc()))


def together(served: tuple[str, Any], count: int, work: Callable[..., Any], *what: Any) -> list[Any]:
    """Some at the same time, each with its number first; all that they tell."""
    workers = [Worker(served, work, number, *what) for number in range(count)]
    for worker in workers:
        worker.start()
    return [worker.result() for worker in workers]
