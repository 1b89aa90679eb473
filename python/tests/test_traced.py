"""Commits that an application traces with OpenTelemetry are traced by the server; others are not."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transaction
from opentelemetry import trace
from serving import Server
from ZODB import DB

from zeolite.zodb import Storage

CONTEXT = trace.SpanContext(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7, True, trace.TraceFlags(trace.TraceFlags.SAMPLED))


def spans(page: str) -> int:
    """How many the server has made; nobody takes them, so each waits or was dropped."""
    with urllib.request.urlopen(f"{page}/metrics") as answer:
        found = re.findall(r"^zeolite_spans_(waiting|sent_total|dropped_total) (\d+)", answer.read().decode(), re.MULTILINE)
    assert len(found) == 3
    return sum(int(count) for _, count in found)


def test_a_traced_commit_is_traced_by_the_server(tmp_path: Path) -> None:
    server = Server(tmp_path, "traces.endpoint=http://127.0.0.1:9", "metrics.listen=127.0.0.1:0")
    assert server.process.stdout is not None
    found = re.search(r"(http://\S+)/metrics", server.process.stdout.readline())
    assert found is not None
    page, database = found.group(1), DB(Storage(server.address))
    try:
        commits: Callable[[Any], None] = lambda value: set_root(database, value)
        commits(1)
        assert spans(page) == 0
        with trace.use_span(trace.NonRecordingSpan(CONTEXT)):
            commits(2)
        # The request that votes, the one that finishes, and five stages.
        assert spans(page) == 7
        commits(3)
        assert spans(page) == 7
    finally:
        database.close()
        server.stop()


def set_root(database: Any, value: int) -> None:
    with database.transaction(transaction.TransactionManager()) as connection:
        connection.root()["value"] = value
