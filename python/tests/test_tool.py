"""``zeolite-zodb``: a database goes in and out, also when it is interrupted, also while it is written; and a changed byte is found."""

from __future__ import annotations

import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import transaction
import ZEO
from persistent.mapping import PersistentMapping
from serving import Server
from ZODB import DB
from ZODB.blob import Blob
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.utils import p64, tid_repr, z64

from zeolite.zodb import Storage

PROGRAM = [str(Path(sys.executable).with_name("zeolite-zodb"))]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def program(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*PROGRAM, *map(str, arguments)], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == code, (done.stdout, done.stderr)
        return done

    return program


def fill(storage: Any, count: int, begin: int = 0) -> None:
    db = DB(storage)
    for number in range(begin, begin + count):
        with db.transaction(f"write {number} ä") as connection:
            root = connection.root()
            root[f"film {number % 3}"] = Blob(os.urandom(5000))
            root.setdefault("all", PersistentMapping())[number % 7] = PersistentMapping({"text": os.urandom(300)})
    db.undo(db.undoLog(0, 1)[0]["id"])
    transaction.commit()
    db.close()


def old(storage: Any) -> None:
    """What an old site has in its Data.fs: pickles of Python 2, notes that are no text, extensions as long as they can be."""
    records = [
        # Protocol 0, 1 and 2 of Python 2, references as cPickle wrote them: a string as it is, with a class, without.
        b"cpersistent.mapping\nPersistentMapping\np1\n.(dp1\nS'a'\np2\nS'caf\\xe9'\np3\nsS'b'\np4\n"
        + b"(S'\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02'\np5\nNtp6\nQs.",
        b"cpersistent.mapping\nPersistentMapping\nq\x01.}q\x02(U\x01aq\x03U\x04caf\xe9q\x04U\x01bq\x05"
        + b"(U\x08\x00\x00\x00\x00\x00\x00\x00\x03q\x06cpersistent.mapping\nPersistentMapping\nq\x07tQu.",
        b"\x80\x02cBTrees.OOBTree\nOOBucket\nq\x01.\x80\x02((U\x01aU\x04caf\xe9U\x01bU\x08\x00\x00\x00\x00\x00\x00\x00\x01Qtt.",
        b"\x80\x02(cApp.Old\nThing\nq\x01Nt.\x80\x02}q\x02U\x01xK\x01s.",
    ]
    for number, data in enumerate(records):
        meta = TransactionMetaData(b"\xff\xfe", b"caf\xe9 " * 100, None)
        extension = pickle.dumps({"x": "y" * 65_000}, 2)
        meta.extension_bytes = extension + b" " * (65_535 - len(extension))
        storage.tpc_begin(meta)
        storage.store(p64(number + 1), z64, data, "", meta)
        storage.tpc_vote(meta)
        storage.tpc_finish(meta)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[FileStorage]:
    storage = FileStorage(str(tmp_path / "Data.fs"), blob_dir=str(tmp_path / "films"), create=True)
    fill(storage, 25)
    yield FileStorage(str(tmp_path / "Data.fs"), blob_dir=str(tmp_path / "films"))


def test_in_and_out(run: Any, source: FileStorage, server: Server, tmp_path: Path) -> None:
    source.close()
    uri = f"zeolite://{server.address}/"
    missing = run("import", "Data.fs", uri, code=1)
    assert "--blobs" in missing.stderr
    done = run("import", "Data.fs", uri, "--blobs", "films")
    # The first one has no blob: it was there already.
    assert "going on behind" in done.stderr and "imported 26 transactions" in done.stdout
    again = run("import", "Data.fs", uri, "--blobs", "films")
    assert "going on behind" in again.stderr and "imported 0 transactions" in again.stdout
    assert "the same: 27" in run("verify", "Data.fs", uri, "--a-blobs", "films").stdout
    run("export", uri, "Back.fs", "--blobs", "back")
    assert sorted(path.name for path in tmp_path.glob("Back.fs*")) == ["Back.fs", "Back.fs.index"]
    assert "the same: 27" in run("verify", "Data.fs", "Back.fs", "--a-blobs", "films", "--b-blobs", "back").stdout
    assert "there already" in run("export", uri, "Back.fs", code=1).stderr
    db = DB(FileStorage(str(tmp_path / "Back.fs"), blob_dir=str(tmp_path / "back")))
    root = db.open().root()
    assert sorted(root) == ["all", "film 0", "film 1", "film 2"]
    assert len(root["film 0"].open().read()) == 5000
    db.close()


def test_old_data(run: Any, server: Server, tmp_path: Path) -> None:
    source = FileStorage(str(tmp_path / "Data.fs"), create=True)
    old(source)
    source.close()
    uri = f"zeolite://{server.address}/"
    run("import", "Data.fs", uri)
    # The references too.
    assert "the same: 4" in run("verify", "Data.fs", uri).stdout
    run("export", uri, "Back.fs")
    assert "the same: 4" in run("verify", "Back.fs", "Data.fs").stdout


def test_a_record_that_cannot_be_read_is_told_with_its_place(run: Any, server: Server, tmp_path: Path) -> None:
    storage = FileStorage(str(tmp_path / "Data.fs"), create=True)
    DB(storage)
    meta = TransactionMetaData()
    storage.tpc_begin(meta)
    storage.store(p64(7), z64, zlib.compress(b"x" * 1000), "", meta)
    storage.tpc_vote(meta)
    tid = storage.tpc_finish(meta)
    storage.close()
    told = run("import", "Data.fs", f"zeolite://{server.address}/", code=1).stderr
    assert f"transaction {tid_repr(tid)} of Data.fs: object 16" in told and "n + f" in told


def test_verify_finds_a_changed_byte(run: Any, source: FileStorage, server: Server, tmp_path: Path) -> None:
    tid = source.lastTransaction()
    source.close()
    uri = f"zeolite://{server.address}/"
    run("import", "Data.fs", uri, "--blobs", "films")
    film = next((tmp_path / "films").rglob("0x*.blob"))
    film.chmod(0o600)
    film.write_bytes(b"x" + film.read_bytes()[1:])
    told = run("verify", uri, "Data.fs", "--b-blobs", "films", code=3).stdout
    assert "its blob differs" in told and told.endswith("1 differences in 27 transactions that are in both\n")
    data = (tmp_path / "Data.fs").read_bytes()
    place = data.rindex(b"write 3 ")
    (tmp_path / "Data.fs").write_bytes(data[:place] + b"W" + data[place + 1 :])
    told = run("verify", uri, "Data.fs", "--b-blobs", "films", code=3).stdout
    assert "description is b'write 3" in told and "2 differences" in told
    assert tid == Storage(server.address).lastTransaction()


def test_a_target_that_is_no_copy(run: Any, source: FileStorage, server: Server) -> None:
    source.close()
    DB(Storage(server.address)).close()
    told = run("import", "Data.fs", f"zeolite://{server.address}/", "--blobs", "films", code=1).stderr
    assert "is no copy of Data.fs" in told and "import into an empty database" in told


def test_verify_leaves_nothing_in_the_way(run: Any, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passing = tmp_path / "passing"
    passing.mkdir()
    monkeypatch.setenv("TMPDIR", str(passing))
    assert "there is no file" in run("verify", f"zeolite://{server.address}/", "nothing", code=1).stderr
    assert list(passing.iterdir()) == []


def test_mistakes_are_told(run: Any, tmp_path: Path) -> None:
    assert "there is no file" in run("verify", "nothing", "nothing", code=1).stderr
    (tmp_path / "site.conf").write_text("rubbish")
    assert "no ZConfig file" in run("verify", "site.conf", "site.conf", code=1).stderr
    assert "zeolite://host:port/" in run("import", "site.conf", "Data.fs", code=1).stderr
    assert "check that the server runs" in run("import", "site.conf", "zeolite://127.0.0.1:1/", code=1).stderr
    run("import", code=2)
    assert "The way back" in run("--help").stdout
    (tmp_path / "empty.conf").write_text("")
    assert "no storage in it" in run("verify", "empty.conf", "empty.conf", code=1).stderr
    assert "is a directory" in run("verify", ".", ".", code=1).stderr
    assert "zeolite://host:port/" in run("import", "site.conf", "zeolite://", code=1).stderr


def test_a_word_that_nobody_knows_is_refused(run: Any, source: FileStorage, server: Server) -> None:
    source.close()
    uri = f"zeolite://{server.address}/?blobdir=films"
    for command in (("import", "Data.fs", uri, "--blobs", "films"), ("export", uri, "Back.fs"), ("verify", uri, "Data.fs")):
        assert "blobdir" in run(*command, code=1).stderr
    # A site's own URI has words for its database, too.
    run("import", "Data.fs", f"zeolite://{server.address}/?connection_pool_size=3&database_name=main", "--blobs", "films")


def test_the_wrong_directory_of_blobs_loses_none(run: Any, source: FileStorage, server: Server, tmp_path: Path) -> None:
    source.close()
    uri = f"zeolite://{server.address}/"
    (tmp_path / "other").mkdir()
    told = run("import", "Data.fs", uri, "--blobs", "other", code=1).stderr
    assert "blob" in told and "other/" in told and "--lost-blobs" in told
    run("import", "Data.fs", uri, "--blobs", "films")
    assert "the same: 27" in run("verify", "Data.fs", uri, "--a-blobs", "films").stdout


def test_a_blob_that_is_lost_comes_without_its_file_if_told(run: Any, source: FileStorage, server: Server, tmp_path: Path) -> None:
    source.close()
    film = next((tmp_path / "films").rglob("0x*.blob"))
    film.unlink()
    uri = f"zeolite://{server.address}/"
    assert film.name in run("import", "Data.fs", uri, "--blobs", "films", code=1).stderr
    done = run("import", "Data.fs", uri, "--blobs", "films", "--lost-blobs")
    assert "without 1 lost blobs" in done.stdout
    done = run("verify", "Data.fs", uri, "--a-blobs", "films")
    assert "the same: 27" in done.stdout and "1 blobs have a file in neither" in done.stdout


def test_an_export_that_is_ended_leaves_nothing(run: Any, server: Server, tmp_path: Path) -> None:
    fill(Storage(server.address, blob_dir=str(tmp_path / "live")), 100)
    (tmp_path / "passing").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "passing")}
    command = [*PROGRAM, "export", f"zeolite://{server.address}/", "Back.fs", "--blobs", "back"]
    for ending, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        exporting = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
        while exporting.poll() is None and not list((tmp_path / "back").rglob("*.blob")):
            pass
        server.freeze()
        exporting.send_signal(ending)
        exporting.communicate(timeout=60)
        server.go_on()
        assert exporting.returncode == code, f"it had ended before it was told to, with {exporting.returncode}"
        assert list(tmp_path.glob("Back*")) == [] and not (tmp_path / "back").exists()
        assert list((tmp_path / "passing").iterdir()) == []
    (tmp_path / "a file").write_text("x")
    run("export", command[2], "Back.fs", "--blobs", "a file", code=1)
    assert list(tmp_path.glob("Back*")) == []
    run(*command[1:])


def test_a_configuration_is_a_source(run: Any, source: FileStorage, server: Server, tmp_path: Path) -> None:
    source.close()
    (tmp_path / "site.conf").write_text("<filestorage>\n path Data.fs\n blob-dir films\n</filestorage>\n")
    uri = f"zeolite://{server.address}/"
    run("import", "site.conf", uri)
    assert "the same: 27" in run("verify", "site.conf", uri).stdout
    told = run("verify", f"file://{tmp_path}/Data.fs?blobstorage_dir={tmp_path}/films", uri).stdout
    assert "the same: 27" in told


def test_killed_and_resumed(run: Any, server: Server, tmp_path: Path) -> None:
    storage = FileStorage(str(tmp_path / "Data.fs"), blob_dir=str(tmp_path / "films"), create=True)
    fill(storage, 400)
    uri = f"zeolite://{server.address}/"
    target = Storage(server.address)
    for part in (1, 2):
        importing = subprocess.Popen([*PROGRAM, "import", "Data.fs", uri, "--blobs", "films"], cwd=tmp_path)
        # Killed as soon as something new is there.
        before = target._database.newest()
        while target._database.newest() == before and importing.poll() is None:
            pass
        importing.send_signal(signal.SIGKILL)
        assert importing.wait(60) == -signal.SIGKILL, f"it had ended before it was killed, in part {part}"
    assert "going on behind" in run("import", "Data.fs", uri, "--blobs", "films").stderr
    assert "the same: 402" in run("verify", "Data.fs", uri, "--a-blobs", "films").stdout


def test_a_server_that_dies_meanwhile(run: Any, server: Server, tmp_path: Path) -> None:
    storage = FileStorage(str(tmp_path / "Data.fs"), create=True)
    db = DB(storage)
    for number in range(3000):
        with db.transaction() as connection:
            connection.root()[number % 11] = PersistentMapping({"n": os.urandom(200)})
    db.close()
    uri = f"zeolite://{server.address}/?wait_timeout=1"
    target = Storage(server.address)
    before = target._database.newest()
    importing = subprocess.Popen([*PROGRAM, "import", "Data.fs", uri], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while target._database.newest() == before and importing.poll() is None:
        pass
    server.kill()
    told = importing.communicate(timeout=60)[1]
    assert importing.returncode == 1 and "check that the server runs" in told, told
    server.start_again()
    assert "going on behind" in run("import", "Data.fs", uri).stderr
    assert "the same: 3001" in run("verify", "Data.fs", uri).stdout


def test_a_live_source_is_followed(run: Any, server: Server, tmp_path: Path) -> None:
    address, stop = ZEO.server(str(tmp_path / "Data.fs"), blob_dir=str(tmp_path / "films"), port=("127.0.0.1", 0))
    zeo = f"zeo://127.0.0.1:{address[1]}?blob_dir={tmp_path}/passing&wait_timeout=10"
    uri = f"zeolite://{server.address}/"
    try:
        live = ZEO.client(address, blob_dir=str(tmp_path / "live"))
        fill(live, 10)
        following = subprocess.Popen(
            [*PROGRAM, "import", zeo, uri, "--follow"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
        )
        target = Storage(server.address)
        for begin in (10, 20, 30):
            live = ZEO.client(address, blob_dir=str(tmp_path / "live"))
            fill(live, 10, begin)
            newest = struct.unpack(">Q", _last(address))[0]
            while target._database.newest() < newest:
                assert following.poll() is None
        following.send_signal(signal.SIGINT)
        told = following.communicate(timeout=60)[0]
        # The root, forty and an undo after each ten.
        assert following.returncode == 0 and "imported 45 transactions" in told
        live = ZEO.client(address, blob_dir=str(tmp_path / "live"))
        fill(live, 3, 40)
        done = run("import", zeo, uri, "--follow", "--until-caught-up")
        assert "imported 4 transactions" in done.stdout
        assert "the same: 49" in run("verify", zeo, uri).stdout
    finally:
        stop()


def _last(address: Any) -> bytes:
    client = ZEO.client(address)
    try:
        return bytes(client.lastTransaction())
    finally:
        client.close()


def test_a_file_that_is_being_written_is_followed(run: Any, server: Server, tmp_path: Path) -> None:
    storage = FileStorage(str(tmp_path / "Data.fs"), create=True)
    db = DB(storage)
    uri = f"zeolite://{server.address}/"
    following = subprocess.Popen([*PROGRAM, "import", "Data.fs", uri, "--follow"], cwd=tmp_path)
    target = Storage(server.address)

    def write() -> None:
        for number in range(200):
            with db.transaction() as connection:
                connection.root()[number % 11] = PersistentMapping({"n": os.urandom(200)})

    writing = threading.Thread(target=write)
    writing.start()
    writing.join()
    newest = struct.unpack(">Q", storage.lastTransaction())[0]
    while target._database.newest() < newest:
        assert following.poll() is None
    following.send_signal(signal.SIGINT)
    assert following.wait(60) == 0
    db.close()
    assert "the same: 201" in run("verify", "Data.fs", uri).stdout
