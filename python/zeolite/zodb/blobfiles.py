"""Owns the files of blobs: on their way up while a transaction is under way, and in the directory where they are cached.

    storeBlob     the file is moved away at once (a savepoint deletes its own), and uploaded; the record names it by its id
    tpc_finish    it goes into the cache under its oid and tid          tpc_abort     it goes away; the server's copy after a day
    loadBlob      from the cache, or downloaded into it, and moved to its name when it is whole

    blob-dir/zeolite-<id of the store>/          made here, of this one database: nothing beside it is touched
        0x00/.../0x2a/0x03ff...blob              the layout of ZODB's own directories
        incoming/                                what goes up or comes down
    blob-dir/tmp/                                ZODB's files of open transactions

Any number of processes may share a directory: a file has its name only once it is whole, and never changes then. Above its limit, what was
used longest ago goes, by the one process that has the lock; what was used in the last minute stays, since somebody may be about to open it.
"""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ZODB.blob import BlobFile, FilesystemHelper, rename_or_copy_blob
from ZODB.POSException import POSKeyError

from zeolite import _zeolite

#: The share of the limit that is given free at once, and that may come in before it is looked at again.
_SHARE = 10
#: Seconds for which a file that was used stays: whoever was told its name is about to open it.
_IN_USE = 60
#: Seconds after which what a process has left of an upload or a download goes.
_LEFT = 24 * 3600


@contextmanager
def _alone(directory: str) -> Iterator[None]:
    """One process at a time: ZODB makes its directories and their marker in steps, and workers start at once."""
    opened = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


class Files:
    """The directory of the blobs of one database."""

    def __init__(self, directory: str, limit: int, database: _zeolite.Database):
        base = os.path.join(os.path.abspath(directory), f"zeolite-{database.store_id():016x}")
        self.helper = FilesystemHelper(base, "bushy")
        os.makedirs(directory, exist_ok=True)
        with _alone(directory):
            self.helper.create()
        # Where ZODB makes its files, which it removes by itself.
        self.helper.temp_dir = os.path.join(os.path.abspath(directory), "tmp")
        os.makedirs(self.helper.temp_dir, exist_ok=True)
        self._incoming = os.path.join(base, "incoming")
        os.makedirs(self._incoming, exist_ok=True)
        if not os.access(self._incoming, os.W_OK | os.X_OK):
            raise PermissionError(f"{self._incoming} belongs to another user")
        self._native = _zeolite.Blobs(database)
        self._limit = limit
        #: Seconds for which a file that was used stays; 0 for who uses one after the other.
        self.in_use = _IN_USE
        #: Bytes that came in since the directory was last looked through; at first nobody knows.
        self._came = limit

    def temporary(self) -> str:
        """Where ZODB makes its files."""
        os.makedirs(self.helper.temp_dir, exist_ok=True)
        return str(self.helper.temp_dir)

    # On the way up

    def take(self, path: str) -> tuple[bytes, str]:
        """Moves a file here and uploads it: its id, and where it is now."""
        taken = self._fresh()
        rename_or_copy_blob(path, taken)
        try:
            return self._native.upload(taken), taken
        except BaseException:
            self.drop(taken)
            raise

    def keep(self, oid: bytes, tid: bytes, taken: str) -> None:
        """What was taken is committed now."""
        try:
            self._enter(oid, tid, taken)
        except OSError:
            # It is committed all the same, and will be downloaded.
            self.drop(taken)

    def drop(self, taken: str) -> None:
        """What was taken is not committed."""
        try:
            os.remove(taken)
        except FileNotFoundError:
            pass

    # On the way down

    def load(self, oid: bytes, tid: bytes) -> str:
        """The file of a revision's blob."""
        path = str(self.helper.getBlobFilename(oid, tid))
        try:
            os.utime(path)
            return path
        except FileNotFoundError:
            pass
        blob = self._native.of(oid, tid)
        if blob is None:
            raise POSKeyError(oid, "this revision names no blob")
        coming = self._fresh()
        try:
            self._native.download(blob, coming)
            os.chmod(coming, 0o400)
            self._enter(oid, tid, coming)
        except BaseException as error:
            self.drop(coming)
            if getattr(error, "kind", "") == "not found":
                raise POSKeyError(oid, "this blob was packed") from error
            raise
        return path

    def open(self, oid: bytes, tid: bytes, blob: Any) -> Any:
        """The same, opened. Another process may have needed the room in between: then it comes once more."""
        while True:
            path = self.load(oid, tid)
            try:
                return open(path, "rb") if blob is None else BlobFile(path, "r", blob)
            except FileNotFoundError:
                continue

    def _fresh(self) -> str:
        # What cleans up caches may have taken it away.
        os.makedirs(self._incoming, exist_ok=True)
        return os.path.join(self._incoming, uuid.uuid4().hex)

    def _enter(self, oid: bytes, tid: bytes, path: str) -> None:
        os.utime(path)
        size = os.path.getsize(path)
        while True:
            self.helper.getPathForOID(oid, create=True)
            try:
                os.replace(path, self.helper.getBlobFilename(oid, tid))
                break
            except FileNotFoundError:
                # Whoever made room has removed the empty directory.
                if not os.path.exists(path):
                    raise
        self._came += size
        if self._limit and self._came * 100 > self._limit * _SHARE:
            self._came = 0
            self.make_room()

    # Room

    def make_room(self) -> None:
        """Removes what was used longest ago, if there is too much; nothing if another process is doing that."""
        with open(os.path.join(self._incoming, ".lock"), "ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            self._remove_left()
            found = sorted((stat.st_mtime, stat.st_size, path) for _, path, stat in self._all())
            there = sum(size for _, size, _ in found)
            if there <= self._limit:
                return
            now = time.time()
            # The last one has come just now.
            for used, size, path in found[:-1]:
                if there * 100 <= self._limit * (100 - _SHARE) or used > now - self.in_use:
                    return
                self._remove(path)
                there -= size

    def packed(self, to: bytes, exist: Callable[[list[bytes]], list[bool]]) -> None:
        """Removes what a pack up to a tid has superseded, and what is of objects that are gone."""
        kept: dict[bytes, list[tuple[bytes, str]]] = {}
        for oid, path, _ in self._all():
            kept.setdefault(oid, []).append((self.helper.splitBlobFilename(path)[1], path))
        oids = list(kept)
        for place in range(0, len(oids), 1000):
            some = oids[place : place + 1000]
            for oid, exists in zip(some, exist(some)):
                revisions = sorted(kept[oid])
                current = max((tid for tid, _ in revisions if tid <= to), default=to)
                for tid, path in revisions:
                    if not exists or tid < current:
                        self._remove(path)

    def _all(self) -> Iterator[tuple[bytes, str, os.stat_result]]:
        for oid, directory in self.helper.listOIDs():
            # Another process may make room meanwhile.
            try:
                names = os.listdir(directory)
            except FileNotFoundError:
                continue
            for name in names:
                path = os.path.join(directory, name)
                if name.endswith(".blob"):
                    try:
                        yield oid, path, os.stat(path)
                    except FileNotFoundError:
                        continue

    def _remove(self, path: str) -> None:
        try:
            os.remove(path)
            # Up to the first that is not empty.
            os.removedirs(os.path.dirname(path))
        except OSError:
            pass

    def _remove_left(self) -> None:
        for name in os.listdir(self._incoming):
            path = os.path.join(self._incoming, name)
            try:
                if name != ".lock" and os.path.getmtime(path) < time.time() - _LEFT:
                    os.remove(path)
            except FileNotFoundError:
                continue
