"""Owns the storage: what ZODB asks for, on one connection that the whole process shares.

    storage ("root")         opened by the application; floats: it reads what is newest
      new_instance()         one for each of ZODB's connections; reads at a snapshot, moved by poll_invalidations()

    tpc_begin   store ...    staged in this process, nothing is sent
    tpc_vote                 one round trip: everything is held; conflicts are resolved here and sent once more (``resolve``)
    tpc_finish               one round trip: durable when it returns

Not here: blobs (``blobs``), undo (``undo``), walks over the log and over all records (``walks``), resolving conflicts (``resolve``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from persistent.TimeStamp import TimeStamp
from ZODB import interfaces
from ZODB.ConflictResolution import ConflictResolvingStorage
from ZODB.POSException import POSKeyError, ReadOnlyError, StorageTransactionError, Unsupported
from ZODB.UndoLogCompatible import UndoLogCompatible
from ZODB.utils import p64, u64, z64
from zope.interface import implementer

from zeolite import _zeolite
from zeolite.address import check_size, native
from zeolite.errors import ZeoliteError

from . import resolve, undo, walks
from .blobs import WithBlobs
from .errors import Refused, zodb_error
from .staged import Copied, Staged
from .traced import traced

MAXTID = b"\x7f\xff\xff\xff\xff\xff\xff\xff"


@implementer(
    interfaces.IMVCCPrefetchStorage,
    interfaces.IMVCCAfterCompletionStorage,
    interfaces.IMultiCommitStorage,
    interfaces.IStorageUndoable,
    interfaces.IStorageRestoreable,
    interfaces.IStorageIteration,
    interfaces.IStorageCurrentRecordIteration,
    interfaces.ReadVerifyingStorage,
    interfaces.IExternalGC,
)
class Storage(WithBlobs, ConflictResolvingStorage, UndoLogCompatible):
    """A ZODB storage on a database of a Zeolite server; see docs/zodb.md for the keywords."""

    def __init__(
        self,
        servers: str | Sequence[str],
        database: str = "",
        *,
        name: str | None = None,
        client_label: str | None = None,
        cache_size: int = 64 << 20,
        cache_dir: str | None = None,
        cache_file_size: int = 256 << 20,
        wait: bool = True,
        wait_timeout: float = 30,
        read_only: bool = False,
        read_only_fallback: bool = False,
        server_sync: bool = False,
        pack_gc: bool | None = None,
        role: str = "",
        token: str | None = None,
        token_file: str | None = None,
        ca: str | None = None,
        cert: str | None = None,
        key: str | None = None,
        blob_dir: str | None = None,
        blob_cache_size: int = 0,
    ):
        addresses = [servers] if isinstance(servers, str) else list(servers)
        try:
            check_size("blob_cache_size", blob_cache_size)
            self._database = native(
                addresses,
                database=database,
                role="read" if read_only else role,
                client_label=client_label,
                cache_size=cache_size,
                cache_dir=cache_dir,
                cache_file_size=cache_file_size,
                wait=wait,
                wait_timeout=wait_timeout,
                token=token,
                token_file=token_file,
                ca=ca,
                cert=cert,
                key=key,
            )
            self._read_only = read_only or not self._database.may_write()
        except ZeoliteError as error:
            raise zodb_error(error) from error
        if self._read_only and not (read_only or read_only_fallback):
            self._database.close()
            raise ReadOnlyError(
                "the server lets this client read only; say read_only or read_only_fallback if that is enough"
            )
        self._objects = _zeolite.Objects(self._database)
        try:
            self._keep_blobs(self._database, blob_dir, blob_cache_size)
        except OSError as error:
            self._database.close()
            raise Refused(f"blob_dir {blob_dir} cannot be used ({error}); name a directory that this user may write to") from error
        self._server_sync = server_sync
        self._pack_gc = pack_gc
        self._name = name or f"zeolite://{','.join(addresses)}/{database}"
        self.__name__ = self._name
        # Before files (their paths) and all that names itself otherwise: a finish that fails here, because the server was restarted since
        # the vote, fails before another database has finished, and then none has.
        self._sort_key = f"!{self._database.store_id():016x}/{database}"
        self._is_root = True
        self._snapshot: _zeolite.Snapshot | None = None
        self._under_way: dict[int, Staged | Copied] = {}

    # Instances

    def new_instance(self) -> Storage:
        """One for another of ZODB's connections, on the same connection to the server."""
        instance = Storage.__new__(type(self))
        instance.__dict__.update(self.__dict__)
        instance._is_root = False
        instance._snapshot = _zeolite.Snapshot(self._database)
        instance._under_way = {}
        return instance

    def release(self) -> None:
        """The instance is not used any more."""
        if self._snapshot is not None:
            self._snapshot.completed()

    def close(self) -> None:
        """Ends the connection, if nobody else in this process has it. Instances end with the storage that they are of."""
        self.release()
        if self._is_root:
            self._database.close()

    def sync(self, force: bool = True) -> None:
        """With ``server_sync``: what anybody has been told is committed is seen by the next transaction."""
        if force and self._server_sync:
            try:
                self._database.newest()
            except ZeoliteError as error:
                raise zodb_error(error) from error

    def poll_invalidations(self) -> list[bytes] | None:
        """Moves to the newest snapshot; what others wrote on the way, or None: everything may be different."""
        if self._snapshot is None:
            self._snapshot = _zeolite.Snapshot(self._database)
        try:
            return self._snapshot.poll()
        except ZeoliteError as error:
            raise zodb_error(error) from error

    def afterCompletion(self) -> None:
        """Nothing is kept from pack until the next load."""
        if self._snapshot is not None:
            self._snapshot.completed()

    def anew(self) -> None:
        """The next poll says that everything may be different."""
        self.release()
        self._snapshot = None

    # Reading

    def load(self, oid: bytes, version: str = "") -> tuple[bytes, bytes]:
        """Data and serial."""
        if self._snapshot is None:
            data, serial, _ = self.loadBefore(oid, MAXTID) or (None, z64, None)
            if data is None:
                raise POSKeyError(oid)
            return data, serial
        try:
            found = self._snapshot.load(oid)
        except ZeoliteError as error:
            raise zodb_error(error) from error
        if found is None:
            raise POSKeyError(oid)
        return found

    def prefetch(self, oids: Iterable[bytes]) -> None:
        """Brings objects into the process's cache, in one round trip."""
        if self._snapshot is not None:
            try:
                self._snapshot.prefetch(list(oids))
            except ZeoliteError as error:
                raise zodb_error(error) from error

    def loadBefore(self, oid: bytes, tid: bytes) -> tuple[bytes, bytes, bytes | None] | None:
        """The newest revision before a tid; None if the object is newer."""
        try:
            data, serial, end = self._objects.before(oid, tid)
            if data is None and not (newest := self._objects.history(oid, 1)):
                raise POSKeyError(oid)
        except ZeoliteError as error:
            raise zodb_error(error) from error
        if data is None:
            if newest[0][4]:
                raise POSKeyError(oid)
            return None
        return data, p64(serial), None if end is None else p64(end)

    def loadSerial(self, oid: bytes, serial: bytes) -> bytes:
        """The data of one revision."""
        try:
            data = self._objects.exact(oid, serial)
        except ZeoliteError as error:
            raise zodb_error(error) from error
        if data is None:
            raise POSKeyError(oid)
        return data

    def getTid(self, oid: bytes) -> bytes:
        """The serial of the newest revision."""
        try:
            data, serial = self._objects.newest([oid])[0]
        except ZeoliteError as error:
            raise zodb_error(error) from error
        if data is None:
            raise POSKeyError(oid)
        return p64(serial)

    def lastTransaction(self) -> bytes:
        """The newest commit that this process knows of."""
        return p64(self._database.position())

    def history(
        self, oid: bytes, size: int = 1, filter: Callable[[dict[str, Any]], bool] | None = None
    ) -> list[dict[str, Any]]:
        """Revisions of an object, the newest first."""
        try:
            found = self._objects.history(oid, size if filter is None else 1 << 31)
        except ZeoliteError as error:
            raise zodb_error(error) from error
        if not found:
            raise POSKeyError(oid)
        told = [
            {
                "time": TimeStamp(p64(serial)).timeTime(),
                "user_name": user,
                "description": description,
                "tid": p64(serial),
                "size": length,
            }
            for serial, length, user, description, _ in found
        ]
        return [entry for entry in told if filter is None or filter(entry)][:size]

    # Writing

    def new_oid(self) -> bytes:
        """Never given out before."""
        if self._read_only:
            raise ReadOnlyError
        try:
            return self._objects.new_oid()
        except ZeoliteError as error:
            raise zodb_error(error) from error

    def tpc_begin(self, transaction: Any, tid: bytes | None = None, status: str = " ") -> None:
        """Begins; with a tid what follows is a copy of a transaction as it was."""
        if self._read_only:
            raise ReadOnlyError
        if id(transaction) in self._under_way:
            raise StorageTransactionError("this transaction has begun already")
        if tid is None:
            self._under_way[id(transaction)] = Staged(self, transaction, self._snapshot)
        else:
            self._under_way[id(transaction)] = Copied(self, transaction, tid)

    def tpc_transaction(self) -> Any:
        """The transaction that began last and has not ended."""
        return next((staged.transaction for staged in reversed(list(self._under_way.values()))), None)

    def _staged(self, transaction: Any) -> Any:
        if self._read_only:
            raise ReadOnlyError
        staged = self._under_way.get(id(transaction))
        if staged is None or staged.transaction is not transaction:
            raise StorageTransactionError(self, transaction)
        return staged

    def store(self, oid: bytes, serial: bytes | None, data: bytes, version: str, transaction: Any) -> None:
        """Stages a record."""
        staged = self._staged(transaction)
        if version:
            raise Unsupported("versions are not supported")
        staged.store(oid, serial or z64, data)

    def restore(
        self, oid: bytes, serial: bytes, data: bytes | None, version: str, prev_txn: bytes | None, transaction: Any
    ) -> None:
        """Stages a record of a transaction as it was; None: it is deleted."""
        self._staged(transaction).restore(oid, data, prev_txn)

    def checkCurrentSerialInTransaction(self, oid: bytes, serial: bytes, transaction: Any) -> None:
        """Demands that an object is current, from the vote on until the transaction ends."""
        self._staged(transaction).check(oid, serial)

    def deleteObject(self, oid: bytes, serial: bytes, transaction: Any) -> None:
        """Stages a deletion, for garbage collection from outside."""
        self._staged(transaction).delete(oid, serial)

    def tpc_vote(self, transaction: Any) -> list[bytes]:
        """From here on it cannot fail; the oids whose records are not what was stored."""
        staged = self._staged(transaction)
        try:
            with traced():
                return resolve.vote(self, staged)
        except ZeoliteError as error:
            raise zodb_error(error) from error

    def tpc_finish(self, transaction: Any, f: Callable[[bytes], Any] | None = None) -> bytes:
        """Commits; the tid."""
        staged = self._staged(transaction)
        try:
            with traced():
                tid = p64(staged.finish())
            staged.taken.committed(tid)
        except ZeoliteError as error:
            raise zodb_error(error) from error
        finally:
            del self._under_way[id(transaction)]
            staged.taken.dropped()
        if f is not None:
            f(tid)
        return tid

    def tpc_abort(self, transaction: Any) -> None:
        """Gives everything up; of a transaction that is not known, nothing."""
        staged = self._under_way.get(id(transaction))
        if staged is not None and staged.transaction is transaction:
            del self._under_way[id(transaction)]
            staged.taken.dropped()
            staged.abort()

    # Undo, walks, copies

    def supportsUndo(self) -> bool:
        """Whether transactions can be undone."""
        return True

    def undo(self, transaction_id: bytes, transaction: Any) -> tuple[bytes | None, list[bytes]]:
        """Stages what takes a transaction back; the tid is not known before it is committed."""
        staged = self._staged(transaction)
        if isinstance(staged, Copied):
            raise Unsupported("a transaction that is copied, with its tid, cannot undo another one")
        try:
            return None, undo.stage(self, staged, transaction_id)
        except ZeoliteError as error:
            raise zodb_error(error) from error

    def undoLog(
        self, first: int = 0, last: int = -20, filter: Callable[[dict[str, Any]], bool] | None = None
    ) -> list[dict[str, Any]]:
        """Transactions that can be undone, the newest first."""
        try:
            return undo.log(self._database, first, last, filter)
        except ZeoliteError as error:
            raise zodb_error(error) from error

    def iterator(self, start: bytes | None = None, stop: bytes | None = None) -> walks.Transactions:
        """All transactions between two tids, inclusive."""
        return walks.Transactions(self._database, start, stop)

    def record_iternext(self, next: Any = None) -> tuple[bytes, bytes, bytes, Any]:
        """The current record of one object, the first from an oid on, and where the next one is (None: that was the last)."""
        try:
            return walks.record(self._database, self._objects, next)
        except ZeoliteError as error:
            raise zodb_error(error) from error

    def copyTransactionsFrom(self, other: Any, verbose: bool = False) -> None:
        """Copies all transactions of another storage behind those that are here, in one stream."""
        if self._read_only:
            raise ReadOnlyError
        try:
            walks.copy(other, self._database, self._blobs, verbose)
        except ZeoliteError as error:
            raise zodb_error(error) from error

    # The whole

    def pack(self, t: float, referencesf: Any = None, gc: bool | None = None) -> None:
        """Removes what was superseded before a time; and, with ``gc`` (``pack_gc``), what nobody refers to any more.

        Where neither says so, what nobody refers to stays if the server has other databases: they may refer into this one.
        """
        if self._read_only:
            raise ReadOnlyError
        collect = self._pack_gc if gc is None else gc
        stamp = TimeStamp(*time.gmtime(t)[:5] + (t % 60,))
        try:
            if collect is None:
                collect = self._database.status()["databases"] <= 1
            self._database.pack(u64(stamp.raw()), keep_garbage=not collect)
            if self._files is not None:
                self._files.packed(stamp.raw(), self._objects.exist)
        except ZeoliteError as error:
            raise zodb_error(error) from error

    def isReadOnly(self) -> bool:
        """Whether this client only reads, or the database takes no writes now."""
        return self._read_only or self._database.mode()[0] == "read-only"

    def getName(self) -> str:
        """For people."""
        return self._name

    def sortKey(self) -> str:
        """The same for everybody who has this database open."""
        return self._sort_key

    def getSize(self) -> int:
        """Bytes of the log."""
        return int(self._database.status()["log_bytes"])

    def __len__(self) -> int:
        return sum(count for name, _, count in self._database.kinds() if not name.startswith("zeolite."))

    def __bool__(self) -> bool:
        return True
