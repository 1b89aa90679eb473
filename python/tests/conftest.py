"""The fixtures of all tests: a server for each test, and storages on it that are closed with it."""

from __future__ import annotations

import faulthandler
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import transaction
from serving import Server

from zeolite.zodb import Storage

faulthandler.enable()
# A shell that runs the tests in the background has told them to ignore Ctrl-C, and what they start would ignore it with them.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def transactions() -> None:
    """A manager of its own for each test: connections that a former one left open are none of its business."""
    transaction.manager.manager = transaction.TransactionManager()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path)
    yield running
    running.stop()


@pytest.fixture
def connect(server: Server) -> Iterator[Callable[..., Storage]]:
    opened: list[Storage] = []

    def storage(**keywords: object) -> Storage:
        opened.append(Storage(server.address, **keywords))  # type: ignore[arg-type]
        return opened[-1]

    yield storage
    for one in opened:
        one.close()
