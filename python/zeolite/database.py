"""Owns the database as programs have it: connecting, transactions that are repeated, snapshots.

    connect ──> Database ── transaction() ──> a decorator: begun, called, committed; again after a conflict
                                              a ``with``: once
                            snapshot("2h") ─> what was there two hours ago
"""

from __future__ import annotations

import functools
import random
import re
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from . import _zeolite
from .address import check_options, native
from .errors import AskOutcome, BadValue, Deadline, Nested, ReopenSnapshot, Retry, Wait
from .typed.encoding import encoded
from .typed.keepers import Keeper, Thread
from .typed.space import Snapshot
from .typed.transaction import Transaction

P = ParamSpec("P")
R = TypeVar("R")

#: Attempts of a transaction unless told otherwise. With jittered pauses between them, 64 writers of one object all come through.
ATTEMPTS = 100
#: The longest pause between two attempts, in seconds.
PAUSE_MAX = 0.2
COMMIT_KEY_BYTES = 16

_AGES = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}


def options_of(options: Callable[P, Any]) -> Callable[[Callable[..., R]], Callable[P, R]]:
    """Says that a function has the arguments of another one."""
    return lambda function: cast("Callable[P, R]", function)


@options_of(native)
def connect(*address: Any, **options: Any) -> Database:
    """Connects to ``host:port``, or to the first of several. The options: ``database``, ``role``, ``token``, ``token_file``, ``ca``,
    ``cert``, ``key``, ``cache_size`` in bytes, ``cache_dir`` with ``cache_file_size`` in bytes, ``client_label``, ``wait`` and
    ``wait_timeout`` in seconds. A token and certificates that are not said come from the environment or the credentials file
    (docs/security.md)."""
    check_options(options)
    return Database(native(*address, **options))


def now() -> datetime:
    """What ages are counted from."""
    return datetime.now(timezone.utc)


def moment(at: str | int | datetime | timedelta | None) -> tuple[int | None, int | None]:
    """A tid, or a time in nanoseconds since 1970, of what a snapshot is opened with."""
    if at is None:
        return None, None
    if isinstance(at, int) and not isinstance(at, bool):
        return at, None
    if isinstance(at, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|min|m|h|d|w)\s*", at)
        if found is None:
            raise BadValue(f'{at!r} is no age like "90s", "30m", "2h", "1d"; for a time give a datetime, for a commit its tid')
        at = timedelta(seconds=float(found[1]) * _AGES[found[2]])
    if isinstance(at, timedelta):
        at = now() - at
    if not isinstance(at, datetime):
        raise BadValue(f"{at!r} is neither an age, a datetime nor a tid")
    since = at.astimezone(timezone.utc) - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return None, (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000


class Database:
    """A database of a server. Any number of threads may share it; the last of its handles that is closed ends the connection."""

    def __init__(self, native: _zeolite.Database, keeper: Keeper | None = None):
        self._native = native
        self._keeper = keeper or Thread()
        #: The transactions that are open, by who has begun them.
        self._begun: dict[object, Transaction] = {}

    def transaction(
        self,
        *,
        note: str = "",
        user: str = "",
        deadline: float | None = None,
        attempts: int = ATTEMPTS,
        serializable: bool = False,
        fresh: bool = False,
        batch: bool = False,
    ) -> Transactions:
        """A decorator, for functions that are called with a transaction in front of their arguments, and again when another commit was
        in the way; or a ``with``, which is not repeated. ``note`` and ``user`` are what the log says; ``deadline`` the seconds that it
        may take with all repetitions; ``serializable`` checks what was read as well; ``fresh`` sees whatever anybody was told is
        committed; ``batch`` gives way to the site's own traffic."""
        if attempts < 1:
            raise BadValue("a transaction has at least one attempt")
        for text in (note, user):
            encoded(text)  # what UTF-8 does not have is refused here
        return Transactions(self, note, user, deadline, attempts, serializable, fresh, batch)

    def snapshot(self, at: str | int | datetime | timedelta | None = None) -> Snapshot:
        """The database as it was: an age ("2h"), a time, a tid; without one as it is now. Use it in a ``with``, or close it."""
        self._keeper.may_wait()
        tid, nanos = moment(at)
        answer = _zeolite.Tx.at(self._native, tid, nanos, self._keeper.bridge)
        return Snapshot(self._waited(answer), self._keeper)

    def outcome(self, of: AskOutcome | bytes, *, since: int = 0) -> int | None:
        """What became of a commit, by the error that did not know it, or by its ``commit_key`` and ``since``: the tid under which it has
        happened; None: it has not happened so far. ``Wait``: it is under way; ``AskOutcome``: the server has forgotten keys as old as this
        one."""
        key, since = (of.commit_key, of.since) if isinstance(of, AskOutcome) else (of, since)
        if len(key) != COMMIT_KEY_BYTES:
            raise BadValue(f"a commit is asked for by the {COMMIT_KEY_BYTES} bytes of its key, not {key!r:.100}; look at the data instead")
        self._keeper.may_wait()
        word, tid = self._waited(_zeolite.Tx.outcome(self._native, key, since, self._keeper.bridge))
        if word == "in flight":
            raise Wait("the commit is still under way; ask again")
        if word == "forgotten":
            raise AskOutcome("the server has forgotten keys as old as this one: look at the data before it is done again")
        return tid if word == "committed" else None

    def _waited(self, answer: Any) -> Any:
        return self._keeper.wait(answer) if type(answer) is _zeolite.Pending else answer

    def close(self) -> None:
        """Lets go of the connection."""
        self._native.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Of the transactions

    def _begin(self, options: tuple[Any, ...]) -> Transaction:
        self._keeper.may_wait()
        here = self._keeper.here()
        if here in self._begun:
            raise Nested("a transaction of this thread or task is open on this database already; hand that one on (its tx)")
        tx = Transaction(self._waited(_zeolite.Tx.begin(self._native, options, self._keeper.bridge)), self._keeper)
        self._begun[here] = tx
        return tx

    def _end(self, tx: Transaction) -> None:
        self._begun.pop(tx._by, None)

    def _caught_up(self, tx: Transaction, newest: int) -> bool:
        self._keeper.may_wait()
        return bool(self._waited(tx._native.caught_up(self._native, newest)))


class Transactions:
    """How transactions are done; made by ``Database.transaction``."""

    def __init__(
        self,
        database: Database,
        note: str,
        user: str,
        deadline: float | None,
        attempts: int,
        serializable: bool,
        fresh: bool,
        batch: bool,
    ):
        self._database = database
        self._texts = (user, note)
        self._deadline = deadline
        self._attempts = attempts
        self._serializable, self._fresh, self._batch = serializable, fresh, batch
        self._entered: Transaction | None = None

    def __call__(self, function: Callable[Concatenate[Transaction, P], R]) -> Callable[P, R]:
        """The function in a transaction of its own, each time that it is called."""

        @functools.wraps(function)
        def called(*arguments: P.args, **keywords: P.kwargs) -> R:
            return self.run(function, *arguments, **keywords)

        return called

    def run(self, function: Callable[Concatenate[Transaction, P], R], *arguments: P.args, **keywords: P.kwargs) -> R:
        """Calls the function in a transaction, and commits; again when another commit was in the way. What it raises undoes everything."""
        until = None if self._deadline is None else time.monotonic() + self._deadline
        fresh, attempt = self._fresh, 1
        while True:
            tx = self._begin(fresh, until)
            try:
                result = function(tx, *arguments, **keywords)
                self._commit(tx, until)
                return result
            except (Retry, ReopenSnapshot) as error:
                tx.give_up()
                if attempt >= self._attempts:
                    raise
                again: Retry | ReopenSnapshot = error
            except BaseException:
                tx.give_up()
                raise
            finally:
                self._database._end(tx)
            self._pause(attempt, until, again)
            fresh = self._fresh or not self._database._caught_up(tx, getattr(again, "newest", 0))
            attempt += 1

    def _begin(self, fresh: bool, until: float | None) -> Transaction:
        left = None if until is None else max(1, int((until - time.monotonic()) * 1000))
        return self._database._begin((self._serializable, fresh, self._batch, *self._texts, left))

    def _commit(self, tx: Transaction, until: float | None) -> None:
        if until is not None and time.monotonic() >= until:
            raise Deadline(f"the transaction took longer than its {self._deadline} s; nothing of it was committed")
        tx.end()

    def _pause(self, attempt: int, until: float | None, because: Exception) -> None:
        # The first repetition comes at once: most conflicts are with one other commit, which is over.
        pause = 0.0 if attempt == 1 else min(PAUSE_MAX, 0.001 * 2 ** min(attempt, 16)) * random.uniform(0.5, 1)
        if until is not None and time.monotonic() + pause >= until:
            text = f"after {attempt} attempts the {self._deadline} s of the transaction are over; nothing of it was committed"
            raise Deadline(text) from because
        if pause:
            self._database._keeper.sleep(pause)

    def __enter__(self) -> Transaction:
        if self._entered is not None:
            raise Nested("this `with` is entered already; make another by db.transaction()")
        self._until = None if self._deadline is None else time.monotonic() + self._deadline
        self._entered = self._begin(self._fresh, self._until)
        return self._entered

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        tx, self._entered = self._entered, None
        assert tx is not None
        try:
            if kind is None:
                self._commit(tx, self._until)
        except BaseException:
            kind = BaseException
            raise
        finally:
            if kind is not None:
                tx.give_up()
            self._database._end(tx)
