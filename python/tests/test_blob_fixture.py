"""A data directory with blobs that was written once and is kept: this program opens it and finds everything."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import transaction
from blob_fixture import CONTENTS, FIXTURE
from serving import PROGRAM, Server
from ZODB import DB

from zeolite.zodb import Storage


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURE, tmp_path / "data"))


@pytest.fixture
def kept(data: Path) -> Iterator[Server]:
    server = Server(data.parent)
    yield server
    server.stop()


def read(database: DB, at: bytes | None = None) -> dict[str, bytes]:
    connection = database.open(before=at)
    told = {}
    for name, blob in connection.root()["files"].items():
        with blob.open() as file:
            told[name] = file.read()
    connection.close()
    return told


def test_a_data_directory_with_blobs_of_format_1(kept: Server, tmp_path: Path) -> None:
    database = DB(Storage(kept.address, blob_dir=str(tmp_path / "cache")))
    assert read(database) == {name: revisions[-1] for name, revisions in CONTENTS.items()}
    newest = database.undoLog(0, 1)[0]
    assert newest["description"] == "revision 1"
    before = database.storage.lastTransaction()
    assert read(database, before) == {name: revisions[0] for name, revisions in CONTENTS.items()}
    # Undone, what was superseded is named again.
    database.undo(newest["id"])
    transaction.commit()
    assert read(database) == {name: revisions[0] for name, revisions in CONTENTS.items()}
    database.close()


def verify(data: Path) -> tuple[int, str]:
    verified = subprocess.run([PROGRAM, "verify", "--data", str(data)], capture_output=True, text=True)
    return verified.returncode, verified.stdout + verified.stderr


def test_its_bytes_are_verified(data: Path) -> None:
    assert verify(data)[0] == 0, verify(data)
    sizes = {path.stat().st_size: path for path in (data / "blobs").rglob("*") if path.is_file()}
    largest = sizes[max(sizes)]
    changed = bytearray(largest.read_bytes())
    changed[len(changed) // 2] ^= 1
    largest.write_bytes(changed)
    code, told = verify(data)
    assert code != 0 and largest.name in told, told
