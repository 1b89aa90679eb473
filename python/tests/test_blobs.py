"""Blobs: what the suites of ZODB do not ask. Where their files are, for how long, who shares them, and that nothing of them is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import transaction
from serving import Server
from ZODB import DB
from ZODB.blob import Blob, is_blob_record
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.interfaces import IBlobStorageRestoreable
from ZODB.POSException import POSKeyError, UndoError, Unsupported

from zeolite.zodb import Storage

Connect = Callable[..., Storage]


def names(directory: Path) -> list[str]:
    """The blobs that are cached there."""
    return sorted(path.name for path in directory.rglob("*.blob"))


def left(directory: Path) -> list[Path]:
    """What is on its way, or was left there."""
    return [
        path
        for kind in ("tmp", "incoming")
        for path in directory.glob(f"zeolite-*/{kind}/*")
        if path.name != ".lock"
    ]


def write(db: DB, name: str, data: bytes) -> None:
    with db.transaction() as connection:
        root = connection.root()
        if name in root:
            with root[name].open("w") as file:
                file.write(data)
        else:
            root[name] = Blob(data)


def read(db: DB, name: str) -> bytes:
    with db.transaction() as connection, connection.root()[name].open() as file:
        return bytes(file.read())


def test_another_client_reads_it(connect: Connect, tmp_path: Path) -> None:
    one = DB(connect(client_label="one", blob_dir=str(tmp_path / "one"), server_sync=True))
    data = os.urandom(9 << 20)
    write(one, "film", data)
    write(one, "nothing", b"")
    other = DB(connect(client_label="other", blob_dir=str(tmp_path / "other"), server_sync=True))
    assert names(tmp_path / "other") == []
    assert read(other, "film") == data
    assert read(other, "nothing") == b""
    assert names(tmp_path / "other") == names(tmp_path / "one") and len(names(tmp_path / "one")) == 2
    write(other, "film", b"cut")
    assert read(one, "film") == b"cut"
    assert left(tmp_path / "one") == left(tmp_path / "other") == []


def test_what_fails_leaves_nothing(connect: Connect, tmp_path: Path) -> None:
    db = DB(connect(blob_dir=str(tmp_path / "blobs")))
    write(db, "kept", b"as it was")
    before = names(tmp_path / "blobs")
    with pytest.raises(ZeroDivisionError), db.transaction() as connection:
        with connection.root()["kept"].open("w") as file:
            file.write(b"never")
        connection.root()["new"] = Blob(b"never")
        connection.transaction_manager.savepoint()
        raise ZeroDivisionError
    with db.transaction() as connection:
        oid = connection.root()["kept"]._p_oid
    storage = db.storage
    meta = TransactionMetaData()
    (tmp_path / "file").write_bytes(b"never")
    data, serial = storage.load(oid)
    storage.tpc_begin(meta)
    storage.storeBlob(oid, serial, data, str(tmp_path / "file"), "", meta)
    assert not (tmp_path / "file").exists()
    storage.tpc_abort(meta)
    assert names(tmp_path / "blobs") == before and left(tmp_path / "blobs") == []
    assert read(db, "kept") == b"as it was"


def test_undo_names_the_same_blob_again(connect: Connect, tmp_path: Path) -> None:
    # As an operator may: his storage has no directory, and what he undoes has blobs.
    db = DB(connect(blob_dir=str(tmp_path / "blobs"), server_sync=True))
    for data in (b"first", b"second", b"third"):
        write(db, "film", data)
    with db.transaction() as connection:
        oid = connection.root()["film"]._p_oid
    bare = connect(client_label="bare", server_sync=True)
    operator = DB(bare)
    operator.undo(operator.undoLog(0, 1)[0]["id"])
    transaction.commit()
    serials = [entry["tid"] for entry in bare.history(oid, 10)]
    assert len(serials) == 4
    named = [bare._blobs.of(oid, serial) for serial in serials]
    assert named[0] == named[2] and len(set(named)) == 3
    assert read(db, "film") == b"second"
    # All have the same pickle; that the third is not current any more is known by its blob.
    operator.undo(operator.undoLog(1, 2)[0]["id"])
    with pytest.raises(UndoError, match="modified by a later transaction"):
        transaction.commit()
    transaction.abort()


def test_without_a_directory_blobs_are_refused(connect: Connect, tmp_path: Path) -> None:
    storage = connect()
    assert not IBlobStorageRestoreable.providedBy(storage)
    with pytest.raises(Unsupported):
        write(DB(storage), "film", b"data")
    assert IBlobStorageRestoreable.providedBy(connect(blob_dir=str(tmp_path / "b")).new_instance())


def test_what_something_else_has_cleaned_away_is_made_anew(connect: Connect, tmp_path: Path) -> None:
    db = DB(connect(blob_dir=str(tmp_path / "blobs")))
    write(db, "one", b"1" * 1000)
    shutil.rmtree(tmp_path / "blobs")
    db.cacheMinimize()
    assert read(db, "one") == b"1" * 1000
    shutil.rmtree(tmp_path / "blobs")
    write(db, "two", b"2" * 1000)
    assert read(db, "two") == b"2" * 1000
    db.close()


def test_a_file_that_cannot_be_written_is_named(connect: Connect, tmp_path: Path) -> None:
    storage = connect(blob_dir=str(tmp_path / "blobs"))
    native = storage._blobs
    with pytest.raises(OSError, match="nowhere/here"):
        native.upload(str(tmp_path / "nowhere/here"))
    (tmp_path / "here").write_bytes(b"data")
    with pytest.raises(OSError, match="nowhere/there"):
        native.download(native.upload(str(tmp_path / "here")), str(tmp_path / "nowhere/there"))


def test_the_cache_has_a_limit(connect: Connect, tmp_path: Path) -> None:
    directory = tmp_path / "blobs"
    writer = DB(connect(client_label="writer", blob_dir=str(tmp_path / "writer")))
    for number in range(12):
        write(writer, str(number), bytes([number]) * 10_000)
    foreign = directory / "foreign.blob"
    directory.mkdir()
    foreign.write_bytes(b"somebody's" * 100_000)
    storage = connect(blob_dir=str(directory), blob_cache_size=50_000, server_sync=True)
    db = DB(storage)
    for number in range(8):
        assert read(db, str(number)) == bytes([number]) * 10_000
    # What was used in the last minute stays, whatever the limit.
    assert len(names(directory)) == 8 + 1
    hour = time.time() - 3600
    for place, path in enumerate(sorted(directory.rglob("0x*.blob"))):
        os.utime(path, (hour + place, hour + place))
    leftover = next(directory.glob("zeolite-*/incoming")) / "leftover"
    leftover.write_bytes(b"of one who was killed")
    os.utime(leftover, (hour - 86400, hour - 86400))
    db.cacheMinimize()
    used = read(db, "0")
    for number in range(8, 12):
        read(db, str(number))
    assert used == bytes(10_000)
    there = sum(path.stat().st_size for path in directory.rglob("0x*.blob"))
    # The one that was used again and the new ones are there, of the old ones some at most.
    assert 50_000 <= there <= 60_000 and not leftover.exists()
    assert foreign.exists()
    with db.transaction() as connection:
        film = connection.root()["0"]
        assert os.path.exists(storage.fshelper.getBlobFilename(film._p_oid, film._p_serial))
        gone = connection.root()["7"]
        with pytest.raises(POSKeyError):
            storage.loadBlob(gone._p_oid, b"\0" * 7 + b"\1")
    assert read(db, "7") == bytes([7]) * 10_000


def test_others_may_make_room_while_it_is_looked_through(connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = connect(blob_dir=str(tmp_path / "shared"))
    db = DB(storage)
    for number in range(3):
        write(db, f"film {number}", b"film")
    helper = storage._files.helper
    found = list(helper.listOIDs())
    assert len(found) == 3
    shutil.rmtree(found[1][1])
    # It was there a moment ago.
    monkeypatch.setattr(helper, "listOIDs", lambda: iter(found))
    assert [oid for oid, _, _ in storage._files._all()] == [found[0][0], found[2][0]]
    storage._files.make_room()


def test_blobs_that_only_pass_through_take_no_more_than_the_limit(connect: Connect, tmp_path: Path) -> None:
    writer = DB(connect(client_label="writer", blob_dir=str(tmp_path / "writer")))
    for number in range(8):
        write(writer, str(number), bytes([number]) * (100_000 if number == 5 else 10_000))
    storage = connect(blob_dir=str(tmp_path / "passing"), blob_cache_size=30_000, server_sync=True)
    storage._files.in_use = 0
    db = DB(storage)
    for number in range(8):
        assert read(db, str(number))[:1] == bytes([number])
        there = [path.stat().st_size for path in (tmp_path / "passing").rglob("0x*.blob")]
        # One that is larger than the limit stays while it is the last.
        assert sum(there) <= 30_000 or there == [100_000]


READER = """
import random, sys
from ZODB import DB
from zeolite.zodb import Storage
from zeolite.zodb import blobfiles
blobfiles._IN_USE = 0
address, directory, seed = sys.argv[1:]
choose = random.Random(int(seed))
connection = DB(Storage(address, blob_dir=directory, blob_cache_size=30_000)).open()
for _ in range(150):
    number = choose.randrange(12)
    blob = connection.root()[str(number)]
    blob._p_deactivate()
    with blob.open() as file:
        assert file.read() == bytes([number]) * 10_000
"""


def test_processes_share_it(connect: Connect, server: Server, tmp_path: Path) -> None:
    writer = DB(connect(blob_dir=str(tmp_path / "writer")))
    for number in range(12):
        write(writer, str(number), bytes([number]) * 10_000)
    readers = [
        subprocess.Popen([sys.executable, "-c", READER, server.address, "shared", str(seed)], cwd=tmp_path)
        for seed in range(3)
    ]
    assert [reader.wait(120) for reader in readers] == [0, 0, 0]
    assert left(tmp_path / "shared") == []


LARGE = """
import resource, sys
from ZODB import DB
from ZODB.blob import Blob, is_blob_record
from ZODB.Connection import TransactionMetaData
from zeolite.zodb import Storage
address, directory = sys.argv[1:]
db = DB(Storage(address, blob_dir=directory))
with db.transaction() as connection:
    connection.root()["small"] = Blob(b"warm")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with db.transaction() as connection:
    connection.root()["large"] = blob = Blob()
    with blob.open("w") as file:
        file.truncate(200 << 20)
db.close()
other = DB(Storage(address, blob_dir=directory + "-other"))
blob = other.open().root()["large"]
with blob.open() as file:
    assert file.seek(0, 2) == 200 << 20
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_large_one_passes_through_little_memory(server: Server, tmp_path: Path) -> None:
    command = [sys.executable, "-c", LARGE, server.address, "blobs"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 60 * 1024, f"{done.stdout} KiB more"


def test_in_and_out_again(connect: Connect, tmp_path: Path) -> None:
    source = FileStorage(str(tmp_path / "Data.fs"), blob_dir=str(tmp_path / "source"), create=True)
    filled = DB(source)
    for number in range(5):
        write(filled, str(number % 3), f"film {number}".encode() * 1000)
    filled.undo(filled.undoLog(0, 1)[0]["id"])
    transaction.commit()
    storage = connect(blob_dir=str(tmp_path / "blobs"))
    storage.copyTransactionsFrom(source)
    back = FileStorage(str(tmp_path / "Back.fs"), blob_dir=str(tmp_path / "back"), create=True)
    back.copyTransactionsFrom(storage)
    blobs = 0
    for transactions in zip(source.iterator(), storage.iterator(), back.iterator(), strict=True):
        for rows in zip(*transactions, strict=True):
            assert len({(row.oid, row.tid, row.data) for row in rows}) == 1
            if is_blob_record(rows[0].data):
                files = [Path(one.loadBlob(rows[0].oid, rows[0].tid)) for one in (source, storage, back)]
                assert len({file.read_bytes() for file in files}) == 1
                blobs += 1
    assert blobs == 6
    source.close()
    back.close()
    # A source with blobs, and without its directory, is not copied without them.
    with pytest.raises(Unsupported, match="directory"):
        connect(client_label="again", database="main").copyTransactionsFrom(FileStorage(str(tmp_path / "Back.fs")))
