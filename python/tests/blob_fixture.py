"""Owns the data directory with blobs that is kept in ``tests/fixtures/blobs-1``, as one server of that time wrote it: what stands in it. Run
as a program it writes one, which is done once for each format of blobs.

    python blob_fixture.py DIRECTORY
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import transaction
from BTrees.OOBTree import OOBTree
from ZODB import DB
from ZODB.blob import Blob

FIXTURE = Path(__file__).parents[2] / "tests/fixtures/blobs-1"

#: The bytes of each blob, revision by revision: none, one, a frame, one more, several frames.
CONTENTS = {
    "empty": [b""],
    "one": [b"1"],
    "frame": [b"f" * 65_536],
    "more": [b"m" * 65_537],
    "frames": [bytes(n % 251 for n in range(150_000)), b"written anew"],
}


def write(storage: Any, staged: Path) -> None:
    """All of it: blobs where a sweep has moved them, and beside them those of the last commit, and one that no commit names."""
    database = DB(storage)
    files = database.open().root()["files"] = OOBTree()
    for revision in range(2):
        for name, revisions in CONTENTS.items():
            if revision < len(revisions):
                blob = files.setdefault(name, Blob())
                with blob.open("w") as file:
                    file.write(revisions[revision])
        transaction.get().note(f"revision {revision}")
        transaction.commit()
        while revision == 0 and any(staged.iterdir()):
            time.sleep(0.1)
    with tempfile.NamedTemporaryFile() as upload:
        upload.write(b"nobody's")
        upload.flush()
        storage._blobs.upload(upload.name)
    transaction.abort()
    database.close()


def main() -> None:
    from serving import Server

    from zeolite.zodb import Storage

    with tempfile.TemporaryDirectory() as directory:
        server = Server(directory)
        write(Storage(server.address, blob_dir=f"{directory}/cache"), Path(directory, "data/blobs/staged"))
        server.stop()
        for part in ("log", "blobs"):
            shutil.copytree(f"{directory}/data/{part}", f"{sys.argv[1]}/{part}")


if __name__ == "__main__":
    main()
