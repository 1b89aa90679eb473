"""Owns how code that waits runs in an event loop: on a stack of its own (a greenlet), which is left where it would wait.

    task ── run(function) ──> its own stack: plain code ──> asks the server: an answer that has not come
         <─────────────────── awaits it                 <── left
         ── the answer ─────> goes on

So there is one implementation of objects and collections, and no thread stands still. What has come a bridge tells: one file that the loop
watches. Whoever cancels a task cancels what it waits for; a commit alone is waited for to its end, so that nobody has to guess.

When the database is closed, who reads is told so (``Closed``), and commits that are on their way are waited for. Who does not wait for
that either leaves them with ``AskOutcome``: no task waits for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from greenlet import getcurrent, greenlet

from zeolite import _zeolite
from zeolite.errors import AskOutcome, Closed, WouldWait, ZeoliteError

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
        #: Those that wait, each with whether it is to the end.
        self._waiting: dict[int, tuple[asyncio.Future[None], bool]] = {}
        self._closed = False
        loop.add_reader(self._fileno, self._told)

    async def close(self) -> None:
        """Nothing is asked any more; what is on its way to be committed comes to its end."""
        self._closed = True
        self._give_up(False, Closed("the database was closed while this waited for it; connect again"))
        try:
            while commits := [future for future, to_the_end in self._waiting.values() if to_the_end and not future.done()]:
                await asyncio.wait(commits)
        finally:
            self._loop.remove_reader(self._fileno)
            self._give_up(True, AskOutcome("the database was closed while this was committed: look at the data before it is done again"))

    def _give_up(self, to_the_end: bool, why: ZeoliteError) -> None:
        for future, is_commit in self._waiting.values():
            if is_commit == to_the_end and not future.done():
                future.set_exception(why)

    def _told(self) -> None:
        assert self.bridge is not None
        for number in self.bridge.finished():
            future, _ = self._waiting.get(number, (None, False))
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
        if self._closed:
            raise Closed("the database was closed; connect again")

    def wait(self, answer: _zeolite.Pending, to_the_end: bool = False) -> Any:
        future = self._loop.create_future()
        self._waiting[answer.number] = future, to_the_end
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
            if not to_the_end and (not future.done() or future.cancelled() or future.exception() is not None):
                answer.cancel()
        if cancelled is None:
            return answer.result()
        try:
            future.result()
            answer.result()
        except Exception as error:
            raise cancelled from error
        raise asyncio.CancelledError("cancelled while it was committed: it is committed (tx.committed)")

    def sleep(self, seconds: float) -> None:
        waited(asyncio.sleep(seconds))
