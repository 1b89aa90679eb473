"""GenericSetup: the upgrade step of docs/zodb.md, run by the setup tool beside a visitor."""

from __future__ import annotations

import functools
import threading

import pytest
import scripts
import transaction
from pages import Page, seed
from Products.GenericSetup import EXTENSION, profile_registry
from Products.GenericSetup.upgrade import UpgradeStep, _registerUpgradeStep
from serving import Server
from ZODB import DB
from ZODB.POSException import ConflictError

from zeolite.zodb import Storage

PAGES = 300


def test_an_upgrade_step_beside_a_visitor(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts.evolve, "each", functools.partial(scripts.evolve.each, **scripts.ANY_DISK))
    database = DB(Storage(server.address))
    with database.transaction() as connection:
        seed(connection.root(), PAGES)
    profile_registry.registerProfile("default", "Pages", "", "profiles", "pages", EXTENSION)
    _registerUpgradeStep(UpgradeStep("Titles", "pages:default", "1", "2", "", scripts.upgrade_step))
    running, over, lost, seen = threading.Event(), threading.Event(), [], []

    def visit() -> None:
        manager = transaction.TransactionManager()
        connection = database.open(manager)
        while not over.is_set():
            manager.begin()
            page = connection.root()["Application"].pages[f"page-{len(seen) % PAGES}"]
            page.views += 1
            try:
                manager.commit()
                seen.append(page.id)
            except ConflictError as error:
                manager.abort()
                lost.append(error)
            running.set()
        connection.close()

    visitor = threading.Thread(target=visit)
    visitor.start()
    assert running.wait(60)
    connection = database.open()
    tool = connection.root()["Application"].portal_setup
    tool.setLastVersionForProfile("pages:default", "1")
    tool.upgradeProfile("pages:default")
    assert tool.getLastVersionForProfile("pages:default") == ("2",)
    transaction.commit()
    over.set()
    visitor.join()
    assert not lost
    transaction.begin()
    app = connection.root()["Application"]
    found = app.portal_catalog.uniqueValuesFor("title")
    assert sorted(found) == sorted(f"Page {number}" for number in range(PAGES))
    pages = [app.pages[f"page-{number}"] for number in range(PAGES)]
    assert all(isinstance(page, Page) for page in pages) and sum(page.views for page in pages) == len(seen)
    connection.close()
    database.close()
