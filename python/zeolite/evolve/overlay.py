"""Owns the storage of one chunk: it reads at the chunk's snapshot, and keeps what its steps write for one commit of the worker.

    load       what a step has written ── else what came with the chunk ── else the snapshot
    commit     of a step: kept here, under a serial of its own that nobody else sees

Blobs are uploaded as they are stored, if there is a directory for them; what no commit names is removed by the server.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ZODB import interfaces
from ZODB.blob import BlobFile
from ZODB.POSException import ConflictError, POSKeyError, ReadConflictError, Unsupported
from ZODB.utils import p64, z64
from zope.interface import alsoProvides, implementer

from zeolite import _zeolite
from zeolite.zodb.blobfiles import Files


@implementer(interfaces.IMVCCStorage)
class Overlay:
    """A storage that reads at a snapshot, and keeps what is written."""

    def __init__(
        self,
        snapshot: _zeolite.Snapshot,
        objects: _zeolite.Objects,
        ahead: dict[bytes, tuple[bytes, bytes]],
        files: Files | None = None,
    ):
        self.snapshot = snapshot
        self._objects = objects
        self._ahead = ahead
        self._tid = snapshot.tid()
        self._stored: dict[bytes, bytes] = {}
        self._checked: set[bytes] = set()
        #: What was committed so far: data and serial.
        self.records: dict[bytes, tuple[bytes, bytes]] = {}
        #: What the last commit has written.
        self.share: list[bytes] = []
        self.checks: set[bytes] = set()
        #: The object that is stepped, and what was loaded beside it, by any step so far: the connection remembers it for all.
        self.own = b""
        self.read: set[bytes] = set()
        #: What its connection remembers of another snapshot and must not any more; None: everything.
        self.stale: list[bytes] | None = None
        #: Its connection remembers more than what is loaded here.
        self.is_warm = False
        self._files = files
        if files is not None:
            alsoProvides(self, interfaces.IBlobStorage)
        self._coming: dict[bytes, tuple[bytes, str]] = {}
        #: The blobs that were committed so far, by their objects: id, and the file.
        self.blobs: dict[bytes, tuple[bytes, str]] = {}

    def new_instance(self) -> Overlay:
        return self

    def release(self) -> None:
        pass

    def close(self) -> None:
        self.snapshot.completed()

    def sync(self, force: bool = True) -> None:
        pass

    def poll_invalidations(self) -> list[bytes] | None:
        stale, self.stale = self.stale, []
        return stale

    def load(self, oid: bytes, version: str = "") -> tuple[bytes, bytes]:
        if oid != self.own:
            self.read.add(oid)
        return self._load(oid)

    def _found(self, oid: bytes) -> tuple[bytes, bytes] | None:
        return self.records.get(oid) or self._ahead.get(oid) or self.snapshot.load(oid)

    def _load(self, oid: bytes) -> tuple[bytes, bytes]:
        found = self._found(oid)
        if found is None:
            raise POSKeyError(oid)
        return found

    def loadBefore(self, oid: bytes, tid: bytes) -> tuple[bytes, bytes, None]:
        return (*self.load(oid), None)

    def may_know_more(self) -> bool:
        """Whether the step that was committed last may have read more than its object and what it wrote."""
        own = {self.own, *self.share}
        return self.is_warm or any(oid not in own for oid in self.read)

    def prefetch(self, oids: Any) -> None:
        self.snapshot.prefetch([oid for oid in oids if oid not in self.records])

    def new_oid(self) -> bytes:
        return self._objects.new_oid()

    def tpc_begin(self, transaction: Any, tid: bytes | None = None, status: str = " ") -> None:
        self._forget()

    def store(self, oid: bytes, serial: bytes, data: bytes, version: str, transaction: Any) -> None:
        self._of_this_snapshot(oid, serial)
        self._stored[oid] = data

    def _of_this_snapshot(self, oid: bytes, serial: bytes) -> None:
        """What a step has made of another revision would go over this one, and nobody would see it."""
        here = self._found(oid)
        if serial != (here[1] if here is not None else z64):
            told = "the step knows this object from outside its chunk; let it load what it changes, and let nobody else use its connection"
            raise ConflictError(told, oid=oid, serials=(here[1] if here is not None else z64, serial))

    def checkCurrentSerialInTransaction(self, oid: bytes, serial: bytes, transaction: Any) -> None:
        newest = self._load(oid)[1]
        if newest != serial:
            raise ReadConflictError(oid=oid, serials=(newest, serial))
        self._checked.add(oid)

    def tpc_vote(self, transaction: Any) -> list[bytes]:
        return []

    def tpc_finish(self, transaction: Any, f: Any = None) -> bytes:
        self._tid += 1
        tid = p64(self._tid)
        self.records.update((oid, (data, tid)) for oid, data in self._stored.items())
        self.checks |= self._checked
        self.share = list(self._stored)
        coming, self._coming = self._coming, {}
        self._drop(self.blobs[oid] for oid in coming if oid in self.blobs)
        self.blobs.update(coming)
        if f is not None:
            f(tid)
        return tid

    def tpc_abort(self, transaction: Any) -> None:
        self._forget()

    def _forget(self) -> None:
        self._stored, self._checked = {}, set()
        self._drop(self._coming.values())
        self._coming = {}

    # Blobs, of a storage that has a directory for them

    def _with_files(self) -> Files:
        if self._files is None:
            raise Unsupported("blobs need a storage with a directory for them (blob-dir)")
        return self._files

    def temporaryDirectory(self) -> str:
        return str(self._with_files().helper.temp_dir)

    def storeBlob(self, oid: bytes, serial: bytes, data: bytes, path: str, version: str, transaction: Any) -> None:
        self._of_this_snapshot(oid, serial)
        self._stored[oid] = data
        self._coming[oid] = self._with_files().take(path)

    def loadBlob(self, oid: bytes, serial: bytes) -> str:
        written = self.blobs.get(oid)
        return written[1] if written else self._with_files().load(oid, serial)

    def openCommittedBlobFile(self, oid: bytes, serial: bytes, blob: Any = None) -> Any:
        path = self.loadBlob(oid, serial)
        return open(path, "rb") if blob is None else BlobFile(path, "r", blob)

    def ended(self) -> None:
        """The chunk is made: nothing is kept from pack, and whoever needs its blobs downloads them."""
        self.snapshot.completed()
        self._ahead = {}
        self._drop(self.blobs.values())

    def _drop(self, blobs: Iterable[tuple[bytes, str]]) -> None:
        for _, path in blobs:
            self._with_files().drop(path)

    def lastTransaction(self) -> bytes:
        return p64(self._tid)

    def isReadOnly(self) -> bool:
        return False

    def getName(self) -> str:
        return "a chunk of an evolve"

    def sortKey(self) -> str:
        return f"evolve {id(self)}"

    def getSize(self) -> int:
        return 0

    def __len__(self) -> int:
        return 0
