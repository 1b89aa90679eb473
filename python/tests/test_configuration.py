"""The configuration section, the URI, and read-only in its kinds."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import transaction
import zodburi
from persistent.mapping import PersistentMapping
from serving import Server
from ZODB import DB
from ZODB.blob import Blob
from ZODB.config import databaseFromString, storageFromString
from ZODB.POSException import ReadOnlyError

from zeolite.errors import Disconnected
from zeolite.zodb import Storage
from zeolite.zodb.errors import Refused


def write(storage: Storage, **values: object) -> None:
    db = DB(storage)
    with db.transaction() as connection:
        connection.root().update(values)


def test_a_section_of_zope_conf(server: Server, tmp_path: Path) -> None:
    db = databaseFromString(f"""
        %import zeolite.zodb
        <zodb main>
          <zeolite>
            server {server.address}
            cache-size 16MB
            wait-timeout 5
            client-label web-1
            server-sync on
            blob-dir {tmp_path}/blobs
            blob-cache-size 1MB
          </zeolite>
        </zodb>
    """)
    with db.transaction() as connection:
        connection.root()["a"] = Blob(b"data")
    assert db.storage.getName() == f"zeolite://{server.address}/"
    assert len(db.storage) == 2
    assert len(list((tmp_path / "blobs").rglob("*.blob"))) == 1
    db.close()


def test_a_section_that_only_reads(server: Server) -> None:
    first = Storage(server.address)
    write(first, a=1)
    first.close()
    storage = storageFromString(f"""
        %import zeolite.zodb
        <zeolite>
          server {server.address}
          read-only on
        </zeolite>
    """)
    assert storage.isReadOnly()
    db = DB(storage)
    connection = db.open()
    assert connection.root()["a"] == 1
    connection.root()["a"] = 2
    with pytest.raises(ReadOnlyError):
        transaction.commit()
    transaction.abort()
    db.close()


def test_a_uri(server: Server, tmp_path: Path) -> None:
    factory, keywords = zodburi.resolve_uri(
        f"zeolite://{server.address}/?cache_size=16MB&wait_timeout=5&server_sync=true"
        f"&connection_pool_size=3&database_name=site&blob_dir={tmp_path}/blobs&blob_cache_size=1MB"
    )
    assert keywords["pool_size"] == 3 and keywords["database_name"] == "site"
    db = DB(factory(), **keywords)
    with db.transaction() as connection:
        connection.root()["a"] = Blob(b"data")
    db.close()


@pytest.mark.parametrize("uri", ["zeolite:///main", "zeolite://h:1/?wait=perhaps"])
def test_a_uri_that_cannot_be(uri: str) -> None:
    with pytest.raises(ValueError):
        zodburi.resolve_uri(uri)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("wait=perhaps", "wait: 'perhaps'"),
        ("cache_size=lots", "cache_size: 'lots'"),
        ("wait_timeout=nan", "wait_timeout"),
        ("wait_timeout=-1", "wait_timeout"),
        ("wait_timeout=1e30", "wait_timeout"),
        ("cache_size=99999999999GB", "cache_size"),
    ],
)
def test_a_wrong_value_tells_its_key(words: str, told: str) -> None:
    with pytest.raises((ValueError, Refused), match=told):
        zodburi.resolve_uri(f"zeolite://127.0.0.1:1/?{words}")[0]()


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"wait_timeout": 0}, "wait_timeout"),
        ({"wait_timeout": float("inf")}, "wait_timeout"),
        ({"cache_size": -1}, "cache_size"),
        ({"blob_cache_size": -1}, "blob_cache_size"),
    ],
)
def test_a_number_that_cannot_be_is_refused_by_name(server: Server, tmp_path: Path, keys: dict[str, Any], told: str) -> None:
    with pytest.raises(Refused, match=told):
        Storage(server.address, blob_dir=str(tmp_path / "blobs"), **keys)


def test_a_uri_has_no_user_and_shows_no_password() -> None:
    with pytest.raises(ValueError, match="token_file") as caught:
        zodburi.resolve_uri("zeolite://somebody:hunter2@127.0.0.1:1/")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1", "127.0.0.1:99999", "http://127.0.0.1"])
def test_an_address_without_a_port_asks_no_other_server(address: str) -> None:
    with pytest.raises(Refused, match="names no port"):
        Storage(address, wait_timeout=5)


@pytest.mark.parametrize("place", ["a file", "/proc/blobs"])
def test_a_directory_of_blobs_that_cannot_be(server: Server, tmp_path: Path, place: str) -> None:
    (tmp_path / "a file").write_text("x")
    with pytest.raises(Refused, match="blob_dir .* cannot be used.*name a directory"):
        Storage(server.address, blob_dir=str(tmp_path / place))


def test_another_database_of_the_server(tmp_path: Path) -> None:
    server = Server(tmp_path, f"databases.catalog.data_dir={tmp_path}/catalog")
    try:
        main = Storage(server.address)
        write(main, a=1)
        catalog = zodburi.resolve_uri(f"zeolite://{server.address}/catalog")[0]()
        write(catalog, b=2)
        assert (len(main), len(catalog)) == (1, 1)
        assert main.sortKey() != catalog.sortKey()
        assert "b" not in DB(main).open().root()
        catalog.close()
        main.close()
    finally:
        server.stop()


def test_what_another_database_refers_to_outlives_a_pack(tmp_path: Path) -> None:
    server = Server(tmp_path, f"databases.catalog.data_dir={tmp_path}/catalog")
    try:
        databases: dict[str, DB] = {}
        main = DB(Storage(server.address), databases=databases, database_name="main")
        catalog = DB(Storage(server.address, "catalog"), databases=databases, database_name="catalog")
        connection = main.open()
        there = connection.get_connection("catalog")
        page = PersistentMapping(a=1)
        there.add(page)
        connection.root()["page"] = page
        transaction.commit()
        catalog.storage.pack(time.time() + 1, None)
        there.cacheMinimize()
        assert page["a"] == 1, "nothing in its own database refers to it"
        transaction.abort()
        connection.close()
        assert len(catalog.storage) == 2
        catalog.storage.pack(time.time() + 1, None, gc=True)
        assert len(catalog.storage) == 1, "unless it is said"
        main.close()
        catalog.close()
    finally:
        server.stop()


def test_the_second_address_is_taken_when_the_first_is_not_there(tmp_path: Path, server: Server) -> None:
    gone = Server(tmp_path / "..")
    gone.stop()
    with pytest.raises(Disconnected):
        Storage(gone.address, wait=False)
    storage = Storage([gone.address, server.address], wait=False)
    write(storage, a=1)
    storage.close()


def test_a_server_that_lets_nobody_write(tmp_path: Path) -> None:
    server = Server(tmp_path)
    storage = Storage(server.address)
    write(storage, a=1)
    storage.close()
    server.stop()
    server = Server(tmp_path, "auth.anonymous_role=read")
    try:
        with pytest.raises(ReadOnlyError):
            Storage(server.address)
        storage = Storage(server.address, read_only_fallback=True)
        assert storage.isReadOnly()
        assert DB(storage).open().root()["a"] == 1
        storage.close()
    finally:
        server.stop()
