"""A reader and writer of Zeolite in Python, from the protocol alone: ``python wiki.py ADDRESS``.

The stubs are made by grpcio-tools, in a package of their own (``zeolite`` is the name of ours)::

    python -m grpc_tools.protoc -I stubs=proto/zeolite/v2 --python_out=. --grpc_python_out=. stubs/zeolite.proto

It keeps pages (objects of the class ``wiki.Page``, data in CBOR) in a map of titles, and counts visits in a counter.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import cbor2
import grpc
import wire
from google.rpc.status_pb2 import Status
from stubs import zeolite_pb2 as pb
from stubs import zeolite_pb2_grpc as services

OBJECT = b""  # the key of an object itself


class Database:
    """Both services that a program needs, and a snapshot at a time."""

    def __init__(self, address: str, token: str | None = None):
        self.channel = grpc.insecure_channel(address)
        self.reader = services.ReaderStub(self.channel)
        self.writer = services.WriterStub(self.channel)
        self.metadata = [("authorization", f"Bearer {token}")] if token else []

    def load(self, *cells: tuple[int, bytes], snapshot: int = 0) -> tuple[int, list[bytes | None]]:
        """The snapshot that was read (0 asks for the newest), and the record of each cell."""
        wanted = [pb.Cell(oid=oid, key=key) for oid, key in cells]
        records: list[bytes | None] = []
        while len(records) < len(wanted):  # an answer has a limit in bytes
            request = pb.LoadRequest(snapshot=snapshot, cells=wanted, continued_from=len(records))
            reply = self.reader.Load(request, metadata=self.metadata)
            snapshot = reply.snapshot
            records += [one.record if one.HasField("record") else None for one in reply.revisions]
        return snapshot, records

    def scan(self, oid: int, snapshot: int, **bounds: Any) -> list[tuple[bytes, bytes]]:
        pages = self.reader.Scan(pb.ScanRequest(oid=oid, snapshot=snapshot, **bounds), metadata=self.metadata)
        return [(entry.key, entry.record) for page in pages for entry in page.entries]

    def new_oid(self) -> int:
        return self.writer.NewOids(pb.NewOidsRequest(count=1), metadata=self.metadata).first

    def commit(self, snapshot: int, writes: list[Any], description: str) -> int:
        """The commit's tid. The key makes it safe to send the same draft again when the answer was lost."""
        note = pb.Note(user=b"wiki", description=description.encode())
        # Since when the key exists: said also where nothing was ever committed, and the snapshot is 0.
        key = {"commit_key": os.urandom(16), "key_since": snapshot}
        draft = pb.Draft(snapshot=snapshot, writes=writes, note=note, **key)
        while True:
            try:
                return self.writer.Commit(draft, metadata=self.metadata, timeout=30).tid
            except grpc.RpcError as error:
                fault = fault_of(error)
                if fault is None and error.code() == grpc.StatusCode.UNAVAILABLE:
                    time.sleep(1)  # the connection was lost; it is made anew by itself
                elif fault is not None and fault.kind in (pb.BUSY, pb.SHUTTING_DOWN):
                    time.sleep(max(fault.retry_after_ms, 100) / 1000)
                else:
                    raise


def put(cell: tuple[int, bytes], record: bytes, snapshot: int) -> Any:
    """A record for a cell, as of the snapshot: who has written it since is in the way. As of 0, of an empty database: it must be new."""
    return pb.Write(cell=pb.Cell(oid=cell[0], key=cell[1]), base=snapshot, put=record)


def apply(cell: tuple[int, bytes], cls: str, operation: bytes) -> Any:
    """What does not conflict: the server applies it to whatever is there then."""
    return pb.Write(cell=pb.Cell(oid=cell[0], key=cell[1]), apply=pb.Apply(**{"class": cls, "operation": operation}))


def fault_of(error: grpc.RpcError) -> Any:
    """A refusal is a Fault, packed into the details of the status; ``None``: it comes from the connection."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            fault, details = pb.Fault(), Status.FromString(value).details
            return fault if details and details[0].Unpack(fault) else None
    return None


def run(db: Database, work: Callable[[int], tuple[list[Any], Any]], description: str) -> Any:
    """Does the work at the newest snapshot and commits; from the beginning when another commit was in the way."""
    for _ in range(20):
        snapshot, _ = db.load((0, OBJECT))
        writes, result = work(snapshot)
        try:
            db.commit(snapshot, writes, description)
            return result
        except grpc.RpcError as error:
            fault = fault_of(error)
            if fault is None or fault.kind not in (pb.CONFLICT, pb.READ_CONFLICT):
                raise
    raise RuntimeError("another commit was in the way 20 times")


def named(db: Database, snapshot: int, name: str, cls: str, data: bytes) -> tuple[int, list[Any]]:
    """The object of a name in the root; made, with the writes that make it, if there is none yet."""
    cell = wire.root_name(name)
    _, (record, root) = db.load(cell, (0, OBJECT), snapshot=snapshot)
    if record is not None:
        return wire.read_named(record)[0], []
    oid = db.new_oid()
    made = wire.encode_record(wire.Record(cls, 1, data))
    writes = [put((oid, OBJECT), made, snapshot), put(cell, wire.named(oid, cls), snapshot)]
    if root is None:
        own = wire.encode_record(wire.Record("zeolite.Map", 1, wire.COLLECTION))
        writes.append(put((0, OBJECT), own, snapshot))
    return oid, writes


def write_page(db: Database, title: str, text: str) -> None:
    def work(snapshot: int) -> tuple[list[Any], None]:
        titles, writes = named(db, snapshot, "titles", "zeolite.Map", wire.COLLECTION)
        cell = (titles, wire.encode_key("str", title))
        _, (entry,) = db.load(cell, snapshot=snapshot)
        page = wire.read_varint(wire.decode_record(entry).data, 1)[0] if entry else db.new_oid()
        data = wire.CBOR + cbor2.dumps({"title": title, "text": text})
        writes.append(put((page, OBJECT), wire.encode_record(wire.Record("wiki.Page", 1, data)), snapshot))
        if entry is None:
            # A reference is the oid as a value, and again in the header: what keeps the page from being collected.
            writes.append(put(cell, wire.entry(wire.varint(page), refs=(page,)), snapshot))
        return writes, None

    run(db, work, f"write {title}")


def visit(db: Database, title: str) -> str:
    def work(snapshot: int) -> tuple[list[Any], str]:
        visits, writes = named(db, snapshot, "visits", "zeolite.Counter", wire.number(1))
        if not writes:  # it was there
            writes.append(apply((visits, OBJECT), "zeolite.Counter", wire.number(1)))
        titles, _ = named(db, snapshot, "titles", "zeolite.Map", wire.COLLECTION)
        _, (entry,) = db.load((titles, wire.encode_key("str", title)), snapshot=snapshot)
        if entry is None:
            raise KeyError(title)
        page = wire.read_varint(wire.decode_record(entry).data, 1)[0]
        _, (record,) = db.load((page, OBJECT), snapshot=snapshot)
        assert record is not None
        return writes, cbor2.loads(wire.decode_record(record).data)["text"]

    return run(db, work, f"visit {title}")


def main(address: str) -> None:
    db = Database(address, os.environ.get("ZEOLITE_TOKEN"))
    write_page(db, "Start", "Welcome")
    write_page(db, "Stone", "A mineral that exchanges ions")
    print(visit(db, "Start"))
    snapshot, (record,) = db.load(wire.root_name("titles"))
    assert record is not None
    for key, entry in db.scan(wire.read_named(record)[0], snapshot):
        print(key.decode(), wire.decode_record(entry).refs)


if __name__ == "__main__":
    main(sys.argv[1])
