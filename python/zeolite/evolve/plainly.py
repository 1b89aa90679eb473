"""Owns ``each`` where the storage is not Zeolite's: chunks with plain commits, made again after a conflict, without a ledger or a pace.

    chunk commits        the next one is as large as takes a quarter of a second
    a conflict           half of it again
    a step raises        the chunk again, each object in a transaction of its own: the one that raises is told at the end
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from transaction.interfaces import TransientError

from .looping import LOOK, Progress, Report, Unfinished, Wanted, ended, interrupts
from .steps import told

#: Objects of the first chunk, and of any.
START, MOST = 50, 1000
#: How long a chunk takes, in seconds.
TARGET = 0.25
#: Conflicts of one object, one after the other, that are taken for bad luck.
TRIES = 20


def plainly(wanted: Wanted, step: Callable[[Any], object], progress: Progress | None) -> Report:
    """Steps all of it, in the order of the iterable."""
    loop = _Loop(wanted, step)
    looked = time.monotonic()
    with interrupts(lambda: None) as interrupted:
        while loop.place < len(wanted.oids) and not interrupted:
            loop.chunk()
            if progress is not None and (time.monotonic() - looked >= LOOK or loop.place == len(wanted.oids)):
                looked = time.monotonic()
                progress(loop.place, len(wanted.oids))
    text = f"{loop.place} of {len(wanted.oids)} objects are done"
    if loop.place < len(wanted.oids):
        raise KeyboardInterrupt(text)
    if loop.failed:
        raise Unfinished(f"{text}, and the step failed on {len(loop.failed)} of them", loop.failed)
    return loop.report


class _Loop:
    def __init__(self, wanted: Wanted, step: Callable[[Any], object]):
        self._wanted = wanted
        self._step = step
        self._manager = wanted.connection.transaction_manager
        self._size = START
        self._alone_until = self._tries = 0
        self.place = 0
        self.failed: list[tuple[bytes, str]] = []
        self.report = Report(0, 0, 0)

    def chunk(self) -> None:
        """One transaction; nothing of it where something is in the way."""
        size = 1 if self.place < self._alone_until else self._size
        oids, begun = self._wanted.oids[self.place : self.place + size], time.monotonic()
        ended(self._manager)
        self._manager.begin()
        try:
            for oid in oids:
                self._step(self._wanted.object(oid))
            self._manager.commit()
        except TransientError:
            self._manager.abort()
            self._tries += 1
            if self._tries == TRIES:
                raise
            self._size = max(1, len(oids) // 2)
            self.report.stepped_again += len(oids)
            return
        except Exception as error:
            self._manager.abort()
            if len(oids) > 1:
                self._alone_until = self.place + len(oids)
                return
            self.failed.append((oids[0], told(error)))
        else:
            self.report.done += len(oids)
            self.report.chunks += 1
        self.place += len(oids)
        self._tries = 0
        took = max(time.monotonic() - begun, 0.001)
        if len(oids) == self._size:
            self._size = min(MOST, max(1, int(self._size * min(2.0, TARGET / took))))
