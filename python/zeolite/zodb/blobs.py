"""Owns what a storage does about blobs: they are ``IBlobStorageRestoreable``'s methods, for a storage that has a ``blob_dir``.

A record of ``ZODB.blob.Blob`` says nothing of its bytes. What it names is told by the record's header, and with the record it goes through
log, undo, pack and copies; so undo names the same blob again, and no byte is copied. A storage without a directory takes no blobs, and
undoes and packs those of others like any other object.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ZODB.blob import is_blob_record
from ZODB.interfaces import IBlobStorage, IBlobStorageRestoreable
from ZODB.POSException import POSKeyError, StorageTransactionError, Unsupported
from ZODB.utils import p64
from zope.interface import alsoProvides

from zeolite import _zeolite
from zeolite.errors import ZeoliteError

from .blobfiles import Files
from .errors import zodb_error


class Taken:
    """The files that one transaction has taken, by their objects."""

    def __init__(self, files: Files | None):
        self._files = files
        self._taken: dict[bytes, str] = {}

    def add(self, oid: bytes, path: str) -> bytes:
        """Moves a file here and uploads it; its id."""
        assert self._files is not None
        blob, taken = self._files.take(path)
        self.forget(oid)
        self._taken[oid] = taken
        return blob

    def forget(self, oid: bytes) -> None:
        """The object is written otherwise."""
        taken = self._taken.pop(oid, None)
        if taken is not None and self._files is not None:
            self._files.drop(taken)

    def committed(self, tid: bytes) -> None:
        """They are the blobs of that transaction."""
        while self._taken and self._files is not None:
            oid, taken = self._taken.popitem()
            self._files.keep(oid, tid, taken)

    def dropped(self) -> None:
        """Nothing of it is committed."""
        for oid in list(self._taken):
            self.forget(oid)


class WithBlobs:
    """The part of a storage that is about blobs."""

    _blobs: _zeolite.Blobs
    _files: Files | None = None

    def _keep_blobs(self, database: _zeolite.Database, directory: str | None, limit: int) -> None:
        self._blobs = _zeolite.Blobs(database)
        if directory:
            self._files = Files(directory, limit, database)
            alsoProvides(self, IBlobStorage, IBlobStorageRestoreable)

    @property
    def fshelper(self) -> Any:
        """Names of the files in the directory."""
        return self._with_files().helper

    def _with_files(self) -> Files:
        if self._files is None:
            raise Unsupported("this storage has no directory for blobs; give it one (blob-dir)")
        return self._files

    def temporaryDirectory(self) -> str:
        """Where files are made that are to be stored."""
        return self._with_files().temporary()

    def loadBlob(self, oid: bytes, serial: bytes) -> str:
        """The file of a revision's blob."""
        try:
            return self._with_files().load(oid, serial)
        except ZeoliteError as error:
            raise zodb_error(error) from error

    def openCommittedBlobFile(self, oid: bytes, serial: bytes, blob: Any = None) -> Any:
        """The same, opened; for a blob it is a ``BlobFile``."""
        try:
            return self._with_files().open(oid, serial, blob)
        except ZeoliteError as error:
            raise zodb_error(error) from error

    def storeBlob(
        self, oid: bytes, oldserial: bytes, data: bytes, blobfilename: str, version: str, transaction: Any
    ) -> None:
        """Stages a record with its blob. The file is moved away."""
        staged = self._staged(transaction)  # type: ignore[attr-defined]
        if version:
            raise Unsupported("versions are not supported")
        self._with_files()
        staged.store_blob(oid, oldserial, data, blobfilename)

    def restoreBlob(
        self, oid: bytes, serial: bytes, data: bytes, blobfilename: str, prev_txn: bytes | None, transaction: Any
    ) -> None:
        """Stages a record of a transaction as it was, with its blob. The file is moved away."""
        staged = self._staged(transaction)  # type: ignore[attr-defined]
        self._with_files()
        if not hasattr(staged, "restore_blob"):
            raise StorageTransactionError("restoreBlob needs a transaction that was begun with its tid")
        staged.restore_blob(oid, data, prev_txn, blobfilename)

    def blob_of(self, oid: bytes, tid: int, data: bytes | None) -> bytes | None:
        """The id of the blob that a revision names."""
        return self._blobs.of(oid, p64(tid)) if is_blob_record(data) else None


#: Is told of a blob whose file is not there.
Lost = Callable[[POSKeyError], None]


def uploaded(
    source: Any, blobs: _zeolite.Blobs, oid: bytes, tid: bytes, data: bytes | None, lost: Lost
) -> bytes | None:
    """Uploads what a revision of another storage has as its blob, if it has one; the id."""
    if not is_blob_record(data):
        return None
    if not hasattr(source, "loadBlob"):
        raise Unsupported("the source has blobs and does not say where; open it with its directory of blobs")
    try:
        path = source.loadBlob(oid, tid)
    except POSKeyError as error:
        # The record stays what it is.
        lost(error)
        return None
    except TypeError as error:
        raise Unsupported("the source has blobs; open it with its directory of blobs") from error
    return blobs.upload(path)
