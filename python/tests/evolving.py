"""Owns what the evolve tests share: processes of the live site beside a job, and looks at what became of everything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cms
import transaction
from ZODB import DB

from zeolite.zodb import Storage

HERE = Path(__file__).parent


def process(*arguments: object, release: int = 2) -> subprocess.Popen[str]:
    """A Python of its own, with the application's release."""
    environment = {**os.environ, "CMS_RELEASE": str(release), "PYTHONPATH": str(HERE)}
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=HERE,
        env=environment,
    )


class Site:
    """Processes that write while a job runs; what they did is there when they have ended."""

    def __init__(self, address: str, what: str, count: int, release: int):
        self.running = [process("cms.py", address, what, number, count, release=release) for number in range(count)]
        self.done: list[dict[str, Any]] = []

    def begin(self) -> None:
        for one in self.running:
            assert one.stdout is not None and one.stdout.readline() == "running\n"

    def end(self) -> None:
        for one in self.running:
            told, _ = one.communicate("", timeout=60)
            if one.returncode == 0:
                self.done.append(json.loads(told))

    def of_all(self, what: str) -> dict[int, Any]:
        return {int(number): value for done in self.done for number, value in done[what].items()}

    @property
    def conflicts(self) -> list[str]:
        return [conflict for done in self.done for conflict in done["conflicts"]]


@contextmanager
def live(address: str, what: str = "edit", count: int = 2, release: int = 2) -> Iterator[Site]:
    """The live site."""
    site = Site(address, what, count, release)
    try:
        site.begin()
        yield site
    finally:
        site.end()
    assert len(site.done) == count


@contextmanager
def opened(address: str) -> Iterator[Any]:
    """A connection that sees whatever anybody was told is committed."""
    database = DB(Storage(address, server_sync=True, client_label="the test"))
    connection = database.open(transaction_manager=transaction.TransactionManager())
    try:
        yield connection
    finally:
        connection.transaction_manager.abort()
        connection.close()
        database.close()


def every_edit_is_kept(connection: Any, site: Site) -> None:
    """What the site has committed is there."""
    docs = connection.root()["docs"]
    titles, views = site.of_all("titles"), site.of_all("views")
    assert sum(done["commits"] for done in site.done) > 0
    for number, doc in docs.items():
        assert doc.title == titles.get(number, f"Title {number}")
        assert doc.views == views.get(number, 0), number


def stored(connection: Any, obj: Any) -> dict[str, Any]:
    """The state of an object as it is stored, without what its class makes of it."""
    from ZODB.serialize import ObjectReader

    data, _ = connection._storage.load(obj._p_oid)
    state = ObjectReader(connection, connection._cache, connection.db().classFactory).getState(data)
    assert isinstance(state, dict)
    return state


def catalog_is_exact(connection: Any) -> None:
    """Each document is in the index once, under its title, and the length is right."""
    docs, catalog = connection.root()["docs"], connection.root()["catalog"]
    assert dict(catalog.titles) == {doc.title: number for number, doc in docs.items()}
    assert catalog.count() == len(docs)
    catalog.titles._check()


__all__ = ["catalog_is_exact", "cms", "every_edit_is_kept", "live", "opened", "process", "stored"]
