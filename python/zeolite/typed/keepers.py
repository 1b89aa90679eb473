"""Owns who uses a transaction, and how he waits: a thread, or the task of an event loop (``zeolite.aio``)."""

from __future__ import annotations

import os
import threading
import time
from typing import Any, Protocol

from zeolite import _zeolite


class Keeper(Protocol):
    """Who uses a space, and how he waits."""

    #: Where answers are told; none: he waits for each.
    bridge: _zeolite.Bridge | None

    def here(self) -> object:
        """Who asks now."""

    def may_wait(self) -> None:
        """Refuses what could wait where nothing may."""

    def wait(self, answer: _zeolite.Pending, to_the_end: bool = False) -> Any:
        """The answer, when it has come. To the end: also when nobody wants it any more."""

    def sleep(self, seconds: float) -> None:
        """Later."""


class Thread:
    """The keeper of plain programs: a thread, which waits for each answer, without the interpreter's lock."""

    bridge: _zeolite.Bridge | None = None

    def here(self) -> object:
        return os.getpid(), threading.get_ident()

    def may_wait(self) -> None:
        """It may."""

    def wait(self, answer: _zeolite.Pending, to_the_end: bool = False) -> Any:
        raise AssertionError("nothing is told to a thread")

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
