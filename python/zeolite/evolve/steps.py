"""Owns the step: what an application makes of one object, of which class, and up to which version."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from zeolite import _zeolite
from zeolite.errors import ReopenSnapshot, Retry, Wait

from .tried import Sample

Function = Callable[[Any, Any], Any]
#: Who evolves, unless the URI says otherwise.
ROLE = "evolve"
#: Of a traceback, for the quarantine: its end.
TRACEBACK_CHARS_MAX = 2000
#: What passes by itself is no object's fault.
PASSING = (Wait, Retry, ReopenSnapshot)


def told(error: Exception) -> str:
    """An exception for the quarantine: what it is, and the end of its traceback."""
    notes = sum(str(note).count("\n") + 1 for note in getattr(error, "__notes__", ()))
    lines = traceback.format_exception_only(error)
    first = lines[-1 - notes][: TRACEBACK_CHARS_MAX // 4]
    return first + traceback.format_exc()[len(first) - TRACEBACK_CHARS_MAX :]


class Side(Protocol):
    """What the objects of a job are."""

    is_typed: bool
    database: _zeolite.Database

    def stepping(self, step: Step, *, tried: bool = False, remembers: bool = True) -> AbstractContextManager[Any]:
        """What the worker calls; for a dry run nothing of it is to stay."""

    def sample(self, oid: int | None, old: bytes, new: bytes | None) -> Sample:
        """What is different, of the data of a record."""

    def close(self) -> None:
        """Lets go of the connection."""


class Step:
    """A function on one object, made by ``step``. Calling it calls the function."""

    def __init__(self, function: Function, class_name: str, to: int, name: str):
        self.function = function
        self.class_name = class_name
        self.to = to
        self.name = name
        self.taking_back: Function | None = None

    def __call__(self, obj: Any, tx: Any) -> Any:
        return self.function(obj, tx)

    def take_back(self, function: Function) -> Function:
        """Decorates what takes away what the step has made elsewhere. It is called with the object as the step had left it, when
        a live transaction has gone over the object since, just before it is stepped anew. Without one the step itself has to
        replace what it made before."""
        self.taking_back = function
        return function

    def check(self) -> None:
        """Refuses a step that cannot come to its end here."""
        from zeolite.zodb.versions import version_of

        if not self.to:
            return
        wanted = f"the step {self.name} is to bring {self.class_name} to version {self.to}"
        # The first object would import it as well.
        try:
            importlib.import_module(self.class_name.rpartition(".")[0])
        except (ImportError, ValueError) as error:
            raise ValueError(f"{wanted}, but its class cannot be imported here ({error}); put the application on the path") from error
        declared = version_of(self.class_name)
        if declared < self.to:
            raise ValueError(
                f"{wanted}, but the class that is imported here "
                f"declares _zeolite_version_ = {declared}; import the new code, and let it declare {self.to}"
            )


def texts(settings: dict[str, object]) -> dict[str, str]:
    """Settings of a job as it takes them."""
    return {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in settings.items()}
