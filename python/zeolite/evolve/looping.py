"""Owns ``each``: the loop of an upgrade script that exists already, in small chunks beside the live site.

    for doc in docs.values():          evolve.each(docs.values(), lower)
        lower(doc)

    a storage of Zeolite's     a job over the oids of what is gone over: paced, yielding, in the ledger like any other (docs/evolve.md)
    any other storage          chunks with plain commits, made again after a conflict (``plainly``)

The steps run where the caller is: on his thread, in his connection, with his transaction manager, so that what his program keeps for
them (a site, a request, a queue of indexing that its hooks empty) is there. For a chunk of a job his connection is *lent*: it reads at
the chunk's snapshot, and what each step commits stays in this process until the worker commits the chunk as a whole.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

from transaction.interfaces import NoTransaction
from ZODB.utils import p64

from zeolite import _zeolite
from zeolite.errors import ZeoliteError
from zeolite.zodb import Storage
from zeolite.zodb.errors import zodb_error

from .chunk import COLLECT, Asked, Stepping
from .overlay import Overlay
from .steps import PASSING, Step, texts

log = logging.getLogger("zeolite.evolve")

#: Between two looks at how far it is, in seconds.
LOOK = 1.0
#: Between two lines in the log.
LINE = 10.0
#: States that are told at once: nothing else says why so little happens.
TOLD = ("paused", "throttled")
#: Phases in which a job goes on no more.
OVER = ("cancelled", "undoing", "undone")
#: Of a step's name, what a job keeps.
STEP_CHARS_MAX = 500

Progress = Callable[[int, int], object]


@dataclass
class Report:
    """What ``each`` did: objects, those of them that were stepped more than once since live code was faster, commits."""

    done: int
    stepped_again: int
    chunks: int


class Unfinished(Exception):
    """Not all objects were stepped. ``failed`` has the oids of those whose step raised, of the first 1000, with the ends of their
    tracebacks; nothing of these steps is committed."""

    def __init__(self, text: str, failed: list[tuple[bytes, str]]):
        first = f"; the first of them, {failed[0][0].hex()}: {failed[0][1]}" if failed else ""
        super().__init__(text + first)
        self.failed = failed


def each(
    iterable: Iterable[Any],
    step: Callable[[Any], object],
    *,
    get: Callable[[Any], Any] | None = None,
    connection: Any = None,
    name: str | None = None,
    take_back: Callable[[Any], object] | None = None,
    progress: Progress | None = None,
    **settings: object,
) -> Report:
    """Calls ``step`` for each object, in chunks that are committed one by one. What the running transaction has written is committed
    before the first of them, and a new one is begun behind the last. See docs/zodb.md.

    ``get`` makes an object of what the iterable has (a brain, a path); for oids alone say the ``connection``. ``take_back`` takes away
    what the step has made elsewhere, when a live transaction has gone over the object. ``progress(done, all)`` is called about once a
    second. The other keywords are settings of a job."""
    from .plainly import plainly

    items = iter(iterable)
    first = next(items, None)
    if first is None:
        return Report(0, 0, 0)
    if connection is None:
        connection = getattr(first if get is None else get(first), "_p_jar", None)
    if connection is None:
        raise ValueError("what is gone over is in no database yet: commit it first; for oids say connection=")
    manager = connection.transaction_manager
    manager.commit()
    manager.begin()
    try:
        wanted = Wanted(connection, get, chain([first], items))
        if not isinstance(connection._normal_storage, Storage):
            return plainly(wanted, step, progress)
        return _Each(wanted, step, take_back, progress).run(name, texts(settings))
    finally:
        ended(manager)
        manager.begin()


class Wanted:
    """What is to be stepped: oids, each once, and how the step's objects are made of them."""

    def __init__(self, connection: Any, get: Callable[[Any], Any] | None, items: Iterable[Any]):
        self.connection = connection
        self._get = get
        self._items: dict[bytes, Any] = {}
        self.oids: list[bytes] = []
        seen: set[bytes] = set()
        for place, item in enumerate(items):
            oid = item if isinstance(item, bytes) and self._get is None else self._oid(item)
            if oid not in seen:
                seen.add(oid)
                self.oids.append(oid)
                # A wrapper of Acquisition knows where the object was reached.
                if self._get is not None or getattr(item, "aq_base", item) is not item:
                    self._items[oid] = item
            if place % COLLECT == COLLECT - 1:
                self.connection.cacheGC()

    def _oid(self, item: Any) -> bytes:
        obj = item if self._get is None else self._get(item)
        oid = getattr(obj, "_p_oid", None)
        if oid is None or getattr(obj, "_p_jar", None) is not self.connection:
            raise ValueError(f"{item!r} is no object of this connection's database that was committed; give get= to make one of it")
        return bytes(oid)

    def object(self, oid: bytes) -> Any:
        """What the step is given."""
        item = self._items.get(oid)
        if item is None:
            return self.connection.get(oid)
        return item if self._get is None else self._get(item)


class _Each(Stepping):
    """Steps chunks in the caller's connection."""

    def __init__(
        self, wanted: Wanted, step: Callable[[Any], object], take_back: Callable[[Any], object] | None, progress: Progress | None
    ):
        made = Step(lambda obj, tx: step(obj), "", 0, getattr(step, "__qualname__", type(step).__name__))
        if take_back is not None:
            made.taking_back = lambda obj, tx: take_back(obj)
        self._wanted = wanted
        self._storage: Storage = wanted.connection._normal_storage
        # What live traffic feels is told to those who connect for evolves.
        try:
            self._database = self._storage._database.for_evolves()
        except ZeoliteError as error:
            raise zodb_error(error) from error
        super().__init__(self._database, made, self._storage._files)
        self._progress = progress
        self._looked = self._told = time.monotonic()
        self._word = ""
        #: What the connection remembers is of this one; none: of whatever.
        self._last: Overlay | None = None

    def run(self, name: str | None, settings: dict[str, str]) -> Report:
        """Plans the job, unless there is one of that name, and works on it until it ends."""
        try:
            kept = name or f"each {self._step.name} {uuid.uuid4().hex[:8]}"
            self._name = kept
            self._job = self._found(kept) or self._planned(kept, settings)
            shown = self._job.show()
            self._remembers = not shown["atomic"]
            log.info("each %r: %d objects", kept, shown["total"])
            report = self._worked(name is not None)
            # The caller's next transaction sees the last chunk.
            self._storage._database.newest()
            return report
        except ZeoliteError as error:
            raise zodb_error(error) from error
        finally:
            self._storage.anew()
            self._database.close()

    def _found(self, name: str) -> _zeolite.Job | None:
        job = _zeolite.Job.find(self._database, name)
        if job is None:
            return None
        shown, own = job.show(), self._step.name[:STEP_CHARS_MAX]
        if shown["phase"] != "done" and shown["step"] not in ("", own):
            begun = f"each {name!r} was begun with the step {shown['step']!r}, not with {own!r}"
            raise ValueError(f"{begun}; take another name for another step")
        if shown["phase"] == "failed":
            job.resume()
        return job

    def _planned(self, name: str, settings: dict[str, str]) -> _zeolite.Job:
        return _zeolite.Job.plan_these(self._database, name, self._wanted.oids, settings)

    def _worked(self, is_kept: bool) -> Report:
        name = self._name
        with interrupts(self._job.stop) as interrupted:
            done = self._job.run_here(self._step.name, self, self._look)
        shown = self._job.show()
        self._tell(shown)
        if shown["phase"] != "done":
            raise self._unfinished(shown, bool(interrupted))
        if not is_kept:
            try:
                self._job.forget()
            except ZeoliteError as error:
                log.info("each %r stays in the ledger: %s", name, error)
        log.info("each %r: done, %d of the %d objects again, %d chunks", name, done["stepped_again"], shown["total"], done["chunks"])
        return Report(done["changed"] + done["kept"], done["stepped_again"], done["chunks"])

    def _unfinished(self, shown: dict[str, Any], is_interrupted: bool) -> BaseException:
        """What is said of a job that is not done."""
        name, is_over, count = self._name, shown["phase"] in OVER, f"{shown['done']} of {shown['total']} objects"
        if is_over:
            told = f"{count} were done; take another name, or forget it first (zeolite evolve forget {name!r})"
        else:
            told = f"{count} are done; each(..., name={name!r}) goes on with the others"
        if is_interrupted and shown["phase"] != "failed":
            return KeyboardInterrupt(told)
        failed = sorted((p64(oid), why) for oid, _, _, why in self._job.quarantine() if oid is not None)
        if failed and not is_over:
            told = f"the step failed on {shown['bad']} of {shown['total']}; mended, each(..., name={name!r}) tries these again"
        return Unfinished(f"each is {shown['state']}: {told}", failed)

    def __call__(self, snapshot: _zeolite.Snapshot, asked: list[Asked]) -> Any:
        self._look()
        return super().__call__(snapshot, asked)

    def _look(self) -> None:
        """Tells how far it is, about once a second: before a chunk, and while there is none."""
        if time.monotonic() - self._looked < LOOK:
            return
        self._looked = time.monotonic()
        try:
            shown = self._job.show()
        except PASSING:
            return
        self._tell(shown)

    def _tell(self, shown: dict[str, Any]) -> None:
        now, before = time.monotonic(), self._word
        # Without the reason: its figures change all the time.
        self._word = shown["state"].partition(" ")[0]
        if self._word in TOLD and self._word != before:
            log.warning("each %r: %s; %d of %d objects are done", self._name, shown["state"], shown["done"], shown["total"])
        elif now - self._told >= LINE:
            self._told = now
            log.info("each %r: %d of %d objects, %s", self._name, shown["done"], shown["total"], shown["state"])
        if self._progress is not None:
            # It is the caller's code: it sees what is committed now, and what it has loaded is for no chunk, which reads at a snapshot.
            self._last = None
            self._storage.anew()
            ended(self._wanted.connection.transaction_manager)
            self._progress(shown["done"], shown["total"])

    @contextmanager
    def _connected(self, overlay: Overlay) -> Iterator[Any]:
        """The caller's, lent to the chunk as ZODB lends it to a savepoint. It keeps what it remembers, but for what has changed since, and
        what the last chunk has made of it; nothing where ``progress`` was called in between."""
        connection = self._wanted.connection
        self._remind(overlay, self._last)
        connection._storage = connection._normal_storage = overlay
        try:
            # Behind the lending: what hooks of the program load as a transaction ends is of this snapshot.
            ended(connection.transaction_manager)
            yield connection
        finally:
            ended(connection.transaction_manager)
            connection._storage = connection._normal_storage = self._storage
            self._last = overlay

    def _object(self, connection: Any, oid: bytes) -> Any:
        return self._wanted.object(oid)


def ended(manager: Any) -> None:
    """No transaction runs any more; where they are begun explicitly none may run already."""
    try:
        manager.abort()
    except NoTransaction:
        pass


@contextmanager
def interrupts(stop: Callable[[], object]) -> Iterator[list[int]]:
    """Ctrl-C asks to stop, where nobody else has an idea about it; once more, and it is raised. What was asked is in the list."""
    asked: list[int] = []

    def ask(number: int, _: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        stop()
        log.warning("each: stopping after this chunk")

    is_ours = threading.current_thread() is threading.main_thread()
    if not is_ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield asked
        return
    signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
