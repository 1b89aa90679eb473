"""Owns the places that the copy tool reads from and writes to, and how they are told on its command line.

    Data.fs             a file of FileStorage; it is only read, and may be written by its own process meanwhile
    zeolite://h:p/db    a database of a Zeolite server
    zeo://h:p, file://  whatever zodburi knows
    site.conf           a file of ZConfig with one storage in it, with its %import lines
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import ZConfig
import zodburi
from ZODB.blob import FilesystemHelper
from ZODB.config import getStorageSchema
from ZODB.FileStorage import FileIterator
from ZODB.FileStorage.FileStorage import packed_version
from ZODB.POSException import POSKeyError, Unsupported
from ZODB.utils import p64

from zeolite import _zeolite

from . import uri
from .storage import Storage
from .walks import Transactions


class Mistake(Exception):
    """Something on the command line, or where it points to; the text says what to do."""


class Place:
    """A storage of any kind."""

    def __init__(self, name: str, storage: Any):
        self.name = name
        self.storage = storage

    def transactions(self, start: bytes | None = None, references: bool = False) -> Iterator[Any]:
        """The transactions from a tid on; what there is now."""
        if isinstance(self.storage, Storage):
            self.storage._database.newest()
            return Transactions(self.storage._database, start, None, references)
        if hasattr(self.storage, "sync"):
            self.storage.sync()
        return iter(self.storage.iterator(start))

    def loadBlob(self, oid: bytes, tid: bytes) -> str:
        """The file of a revision's blob."""
        if not hasattr(self.storage, "loadBlob"):
            raise Unsupported(f"{self.name} has blobs: say where they are with --blobs, or with blob_dir in its URI")
        return str(self.storage.loadBlob(oid, tid))

    def newest(self) -> bytes | None:
        """The newest transaction of a database of Zeolite."""
        told = _zeolite.Log(self.storage._database, with_records=False, reverse=True).next()
        return None if told is None else p64(told[0])

    def close(self) -> None:
        """Nothing more is asked of it."""
        self.storage.close()


class OnServer(Place):
    """A database of Zeolite; its blobs pass through a directory that is gone afterwards, unless the URI names one."""

    def __init__(self, name: str):
        self._passing = tempfile.mkdtemp(prefix="zeolite-zodb-")
        try:
            uri.check_words(name)
            factory, _ = uri.resolve(
                name, blob_dir=self._passing, blob_cache_size=64 << 20, client_label="zeolite-zodb", wait=False
            )
            super().__init__(name, factory())
            if self.storage.temporaryDirectory().startswith(self._passing):
                self.storage._files.in_use = 0
        except BaseException:
            shutil.rmtree(self._passing)
            raise

    def close(self) -> None:
        super().close()
        shutil.rmtree(self._passing, ignore_errors=True)


class DataFile(Place):
    """A Data.fs. No lock is taken and no index is read, so that it may be in use; a transaction that is being written is not there yet."""

    def __init__(self, path: str, blobs: str | None):
        super().__init__(path, None)
        self._path = path
        self._blobs = FilesystemHelper(blobs) if blobs else None
        #: Which file it was, and up to where it was read.
        self._read: tuple[int, int] | None = None

    def transactions(self, start: bytes | None = None, references: bool = False) -> Iterator[Any]:
        """Where it was read to its end before, it goes on there, whatever the start is."""
        there = os.stat(self._path)
        if self._read is not None and self._read[0] == there.st_ino and self._read[1] <= there.st_size:
            walk = FileIterator(self._path, None, None, self._read[1])
        else:
            walk = FileIterator(self._path, start)
        yield from walk
        self._read = (there.st_ino, walk._pos)
        walk.close()

    def loadBlob(self, oid: bytes, tid: bytes) -> str:
        """The file of a revision's blob."""
        if self._blobs is None:
            raise Unsupported(f"{self.name} has blobs: say where they are with --blobs DIR (of verify --a-blobs, --b-blobs)")
        path = str(self._blobs.getBlobFilename(oid, tid))
        if not os.path.exists(path):
            raise POSKeyError(oid, f"there is no {path}")
        return path

    def close(self) -> None:
        """Nothing is open."""


def opened(name: str, blobs: str | None = None) -> Place:
    """What is told on the command line."""
    if "://" in name:
        return _of_uri(name, blobs)
    if not os.path.exists(name):
        raise Mistake(f"there is no file {name}; name a Data.fs, a ZConfig file, or a URI like zeolite://127.0.0.1:7878/")
    if os.path.isdir(name):
        raise Mistake(f"{name} is a directory; name the Data.fs in it")
    with open(name, "rb") as file:
        is_data = file.read(4) == packed_version
    if blobs is not None and not os.path.isdir(blobs):
        raise Mistake(f"there is no directory {blobs}; name the one with the blobs of {name}")
    if is_data:
        return DataFile(name, blobs)
    try:
        config, _ = ZConfig.loadConfig(getStorageSchema(), name)
        if config.storage is None:
            raise Mistake("there is no storage in it")
        return Place(name, config.storage.open())
    except Exception as error:
        raise Mistake(f"{name} is no Data.fs, and no ZConfig file with one storage in it: {error}") from error


def _of_uri(name: str, blobs: str | None) -> Place:
    if blobs is not None:
        raise Mistake(f"{name} says in itself where its blobs are (blob_dir=..., with file:// blobstorage_dir=...), not --blobs")
    if name.startswith("zeolite://"):
        return OnServer(name)
    try:
        factory, _ = zodburi.resolve_uri(name)
    except (KeyError, ValueError) as error:
        raise Mistake(f"{name} is no URI of a storage that is installed here: {error}") from error
    return Place(name, factory())


def target(name: str) -> OnServer:
    """A database of Zeolite that is written to."""
    if not name.startswith("zeolite://"):
        raise Mistake(f"{name} is no database of Zeolite; write zeolite://host:port/, or zeolite://host:port/database")
    place = OnServer(name)
    if place.storage.isReadOnly():
        with suppress(Exception):
            place.close()
        raise Mistake(f"{name} takes no writes now; see `zeolite mode`")
    return place
