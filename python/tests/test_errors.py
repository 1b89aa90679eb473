"""Each remedy has a class of its own, which is an error of ZODB's at once; what can be run again is transient."""

from __future__ import annotations

from pathlib import Path

import pytest
from transaction.interfaces import TransientError
from ZODB.POSException import ConflictError, ReadConflictError, ReadOnlyError, StorageError, UndoError
from ZODB.utils import p64, z64

from zeolite import errors
from zeolite.zodb.errors import zodb_error

TABLE = [
    ("prepare lost", "retry", errors.Retry, StorageError, True),
    ("snapshot packed", "reopen snapshot", errors.ReopenSnapshot, ReadConflictError, True),
    ("pin lost", "reopen snapshot", errors.ReopenSnapshot, ReadConflictError, True),
    ("invalid", "fix request", errors.FixRequest, StorageError, False),
    ("too large", "fix request", errors.FixRequest, StorageError, False),
    ("gated", "fix request", errors.Gated, StorageError, False),
    ("forked", "fix request", errors.Forked, StorageError, False),
    ("unscannable", "fix request", errors.Unscannable, StorageError, False),
    ("busy", "wait", errors.Wait, StorageError, True),
    ("disk full", "wait", errors.Wait, StorageError, True),
    ("disconnected", "wait", errors.Disconnected, StorageError, True),
    ("read only", "wait", errors.ReadOnly, ReadOnlyError, False),
    ("poisoned", "give up", errors.GiveUp, StorageError, False),
    ("denied", "give up", errors.GiveUp, StorageError, False),
    ("outcome unknown", "ask outcome", errors.AskOutcome, StorageError, False),
]


@pytest.mark.parametrize(("kind", "remedy", "ours", "zodbs", "transient"), TABLE)
def test_by_remedy(kind: str, remedy: str, ours: type, zodbs: type, transient: bool) -> None:
    error = errors.from_native(kind, remedy, "why, and what to do", retry_after_ms=7)
    assert type(error) is ours and error.kind == kind
    made = zodb_error(error)
    assert isinstance(made, ours) and isinstance(made, zodbs)
    assert isinstance(made, TransientError) is transient
    assert "why, and what to do" in str(made) and made.retry_after_ms == 7  # type: ignore[attr-defined]


@pytest.mark.parametrize(("kind", "zodbs"), [("conflict", ConflictError), ("read conflict", ReadConflictError)])
def test_a_conflict_tells_its_place(kind: str, zodbs: type) -> None:
    native = errors.from_native(kind, "retry", "text", oid=16, class_name="C", base=3, newest=4)
    assert type(native) is errors.Conflict
    made = zodb_error(native)
    assert type(made) is zodbs and isinstance(made, TransientError)
    assert (made.oid, made.serials) == (p64(1), (p64(4), p64(3)))
    root = zodb_error(errors.from_native(kind, "retry", "text", oid=0, class_name="C", base=3, newest=4))
    assert isinstance(root, zodbs) and root.oid == z64  # type: ignore[attr-defined]


def test_each_is_on_the_page_of_errors() -> None:
    page = (Path(__file__).parents[2] / "docs" / "errors.md").read_text()
    known = [name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, errors.ZeoliteError)]
    assert len(known) > 20
    assert [name for name in known if f"`{name}`" not in page and f"`zeolite.errors.{name}`" not in page] == ["ZeoliteError"]


def test_an_undo_that_is_blocked() -> None:
    assert isinstance(zodb_error(errors.from_native("undo blocked", "fix request", "text")), UndoError)
