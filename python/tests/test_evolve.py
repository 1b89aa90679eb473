"""Evolves of persistent objects: beside live writers, killed, failing, taken back."""

from __future__ import annotations

from typing import Any

import cms
import pytest
import evolving
from evolving import catalog_is_exact, every_edit_is_kept, live, opened, stored
from serving import Server

from zeolite import evolve

DOCS = 300
#: Where the disk of the machine is nearly full, a job would wait.
ANY_DISK = {"disk_pause_percent": 0, "disk_stop_percent": 0}


@evolve.step("cms.Doc", to=2)
def lower(doc: Any, tx: evolve.Tx) -> None:
    doc.title_lower = doc.title.lower()


@evolve.step("cms.Doc")
def index(doc: Any, tx: evolve.Tx) -> None:
    tx.root()["catalog"].add(doc)


@index.take_back
def unindex(doc: Any, tx: evolve.Tx) -> None:
    tx.root()["catalog"].remove(doc)


@pytest.fixture
def uri(server: Server) -> str:
    seed = evolving.process("-c", f"import cms; cms.seed({server.address!r}, {DOCS})", release=1)
    assert seed.wait(60) == 0
    return f"zeolite://{server.address}/"


def kinds(connection: Any) -> dict[int, int]:
    return {v: n for name, v, n in connection._storage._database.kinds() if name == "cms.Doc"}


def test_an_attribute_beside_live_writers(server: Server, uri: str) -> None:
    with live(server.address) as site:
        report = evolve.run(uri, "lower", lower, gate=True, **ANY_DISK)
    assert report["phase"] == "done"
    assert site.conflicts == []
    with opened(server.address) as connection:
        every_edit_is_kept(connection, site)
        assert kinds(connection) == {2: DOCS}
        for doc in connection.root()["docs"].values():
            assert stored(connection, doc)["title_lower"] == doc.title.lower()


def test_an_index_beside_live_writers(server: Server, uri: str) -> None:
    with live(server.address, "index") as site:
        report = evolve.run(uri, "index", index, **ANY_DISK)
    assert report["phase"] == "done"
    with opened(server.address) as connection:
        every_edit_is_kept(connection, site)
        catalog_is_exact(connection)
    print(len(site.conflicts), "conflicts of", sum(done["commits"] for done in site.done), set(site.conflicts))


def test_what_fails_is_in_the_quarantine_with_its_traceback(server: Server, uri: str) -> None:
    @evolve.step("cms.Doc", name="index")
    def fails(doc: Any, tx: evolve.Tx) -> None:
        tx.root()["catalog"].add(doc)
        if doc.number % 100 == 7:
            raise ValueError(f"no {doc.number}")

    report = evolve.run(uri, "index", fails, **ANY_DISK)
    assert (report["phase"], report["bad"], report["changed"] + report["kept"]) == ("failed", 3, DOCS - 3)
    with evolve.Job.find(uri, "index") as job:
        bad = job.quarantine()
        assert len(bad) == 3
        for _, name, version, why in bad:
            assert (name, version) == ("cms.Doc", 0)
            assert "in fails" in why and "ValueError: no " in why
        with opened(server.address) as connection:
            # Nothing of a step that failed is there.
            assert connection.root()["catalog"].count() == DOCS - 3
        job.resume()
        assert job.run(index)["phase"] == "done"
    with opened(server.address) as connection:
        catalog_is_exact(connection)
