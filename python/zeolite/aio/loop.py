"""Owns how code that waits runs in an event loop: on a stack of its own (a greenlet), which is left where it would wait.

    task ── run(function) ──> its own stack: plain code ──> asks the server: an answer that has not come
         <─────────────────── awaits it                 <── left
         ── the answer ─────> goes on

So there is one implementation of objects and collections, and no thread stands still. What has come a bridge tells: one file that the loop
watches. Whoever cancels a task cancels what it waits for; a commit alone is waited for to its end, so that nobody has to guess.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from greenlet import getcurrent, greenlet

from zeolite import _zeolite
from zeolite.errors import WouldWait

P = ParamSpec("P")
R = TypeVar("R")


class _Stack(greenlet):
    """Where plain code runs."""


async def run(function: Callable[P, R], *arguments: P.args, **keywords: P.kwargs) -> R:
    """Calls plain code; where it waits, the task does."""
    stack = _Stack(lambda: function(*arguments, **keywords))
    stack.gr_context = getcurrent().gr_context
    left: Any = stack.switch()
    while not stack.dead:
        try:
            value = await left
        except BaseException as error:
            left = stack.throw(error)
        else:
            left = stack.switch(value)
    result: R = left
    return result


def waited(awaitable: Awaitable[R]) -> R:
    """Waits, in plain code."""
    here = getcurrent()
    if not isinstance(here, _Stack):
        raise WouldWait("in an event loop this would wait for the server: use the verb with `await`, or `await tx.run(function)`")
    result: R = here.parent.switch(awaitable)
    return result


class Task:
    """The keeper of transactions in an event loop: the task that began them."""

    def __init__(self, loop: asyncio.AbstractEventLoop):
        self.bridge: _zeolite.Bridge | None = _zeolite.Bridge()
        self._loop = loop
        self._fileno = self.bridge.fileno()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        loop.add_reader(self._fileno, self._told)

    def close(self) -> None:
        """Nothing is told any more."""
        self._loop.remove_reader(self._fileno)

    def _told(self) -> None:
        assert self.bridge is not None
        for number in self.bridge.finished():
            future = self._waiting.get(number)
            if future is not None and not future.done():
                future.set_result(None)

    def here(self) -> object:
        try:
            return asyncio.current_task()
        except RuntimeError:
            return None

    def may_wait(self) -> None:
        if not isinstance(getcurrent(), _Stack):
            raise WouldWait("in an event loop this may wait for the server: use the verb with `await`, or `await tx.run(function)`")

    def wait(self, answer: _zeolite.Pending, to_the_end: bool = False) -> Any:
        future = self._waiting[answer.number] = self._loop.create_future()
        cancelled: asyncio.CancelledError | None = None
        try:
            while not future.done():
                try:
                    waited(asyncio.shield(future) if to_the_end else future)
                except asyncio.CancelledError as error:
                    if not to_the_end:
                        raise
                    cancelled = error
        finally:
            del self._waiting[answer.number]
            if not future.done() or future.cancelled():
                answer.cancel()
        if cancelled is None:
            return answer.result()
        try:
            answer.result()
        except Exception as error:
            raise cancelled from error
        raise asyncio.CancelledError("cancelled while it was committed: it is committed (tx.committed)")

    def sleep(self, seconds: float) -> None:
        waited(asyncio.sleep(seconds))
