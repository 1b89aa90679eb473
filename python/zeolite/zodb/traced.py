"""Owns whether somebody traces what a thread does: OpenTelemetry's context, where the application uses OpenTelemetry. The server then tells
its part of a commit to its own collector (docs/operations.md)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from zeolite import _zeolite


#: Nobody traces.
NOBODY = nullcontext()


def traced() -> AbstractContextManager[None]:
    """What is asked of the server meanwhile is a part of the span that is current."""
    # An application that traces has loaded it; nobody else pays for it.
    return _traced() if "opentelemetry.trace" in sys.modules else NOBODY


@contextmanager
def _traced() -> Iterator[None]:
    from opentelemetry import propagate

    headers: dict[str, str] = {}
    propagate.inject(headers)
    _zeolite.trace(headers.get("traceparent", ""))
    try:
        yield
    finally:
        _zeolite.trace("")
